#include "core/handshakes.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/rate.h"
#include "core/member.h"
#include "core/metrics.h"
#include "core/page.h"
#include "net/crypto.h"

#define SAY_EVERY_US   10000000
#define ENTRY_TEXT_MAX 2048

// Texts of an entry, one after the other in `texts`.
enum text { ADDRESS, REASON, SNI, ALPN, VERSIONS, CIPHERS, SUBJECT, ISSUER, SERIAL, VERIFY, TEXTS };

struct entry {
    uint64_t seq; // 1, 2, ...
    int64_t first_us, last_us;
    uint64_t count;
    uint8_t alert, alert_way;
    bool has_cert;
    uint8_t cert_sha256[32];
    size_t host_len; // of the address
    uint16_t at[TEXTS];
    char texts[];
};

struct handshakes {
    pthread_mutex_t lock;
    uint64_t next_seq;
    struct entry *ring[HANDSHAKES_MAX]; // seq % HANDSHAKES_MAX
    struct rate *said;                  // log lines by host
    _Atomic uint64_t by_alert[3][256];  // enum tls_alert_way
};

static const char *text_of(const struct entry *e, enum text t)
{
    return e->texts + e->at[t];
}

// ---- metrics ----

static void write_metrics(void *arg, struct buf *out)
{
    static const char *const ways[] = {
        [TLS_ALERT_NONE] = "none", [TLS_ALERT_SENT] = "sent", [TLS_ALERT_RECEIVED] = "received"};
    struct handshakes *h = arg;
    buf_str(out, "# HELP muster_tls_handshakes_failed_total TLS handshakes that failed, by alert and who sent it\n"
                 "# TYPE muster_tls_handshakes_failed_total counter\n");
    uint64_t none = 0;
    for (unsigned alert = 0; alert < 256; alert++) {
        none += atomic_load(&h->by_alert[TLS_ALERT_NONE][alert]);
        for (unsigned way = TLS_ALERT_SENT; way <= TLS_ALERT_RECEIVED; way++) {
            uint64_t n = atomic_load(&h->by_alert[way][alert]);
            if (n > 0) {
                buf_printf(out, "muster_tls_handshakes_failed_total{direction=\"%s\",alert=\"%s\",code=\"%u\"} %llu\n",
                           ways[way], tls_alert_name((uint8_t)alert), alert, (unsigned long long)n);
            }
        }
    }
    buf_printf(out, "muster_tls_handshakes_failed_total{direction=\"none\",alert=\"none\",code=\"\"} %llu\n",
               (unsigned long long)none);
}

// ---- life ----

struct handshakes *handshakes_new(void)
{
    struct handshakes *h = calloc(1, sizeof(*h));
    if (h == NULL) {
        return NULL;
    }
    pthread_mutex_init(&h->lock, NULL);
    h->next_seq = 1;
    h->said = rate_new(SAY_EVERY_US, 1);
    if (h->said == NULL || !metric_collector(write_metrics, h)) {
        handshakes_free(h);
        return NULL;
    }
    return h;
}

void handshakes_free(struct handshakes *h)
{
    if (h == NULL) {
        return;
    }
    metric_collector_remove(write_metrics, h);
    for (size_t i = 0; i < HANDSHAKES_MAX; i++) {
        free(h->ring[i]);
    }
    rate_free(h->said);
    pthread_mutex_destroy(&h->lock);
    free(h);
}

// ---- in ----

// Without the port, which changes with every try.
static size_t host_len(struct slice address)
{
    size_t n = address.len;
    while (n > 0 && address.p[n - 1] != ':') {
        n--;
    }
    return n > 0 ? n - 1 : address.len;
}

static struct entry *entry_new(const struct tls_failure *f)
{
    const char *const texts[TEXTS] = {
        [ADDRESS] = f->peer_addr, [REASON] = f->reason,   [SNI] = f->sni,         [ALPN] = f->alpn,
        [VERSIONS] = f->versions, [CIPHERS] = f->ciphers, [SUBJECT] = f->subject, [ISSUER] = f->issuer,
        [SERIAL] = f->serial,     [VERIFY] = f->verify};
    uint8_t mem[ENTRY_TEXT_MAX];
    struct buf all = buf_fixed(mem, sizeof(mem));
    uint16_t at[TEXTS];
    for (int i = 0; i < TEXTS; i++) {
        at[i] = (uint16_t)all.len;
        size_t room = all.max - all.len - (size_t)(TEXTS - i); // every text keeps its terminator
        buf_slice(&all, slice_head(slice_str(texts[i]), room));
        buf_u8(&all, 0);
    }
    struct entry *e = calloc(1, sizeof(*e) + all.len);
    if (e == NULL) {
        return NULL;
    }
    struct buf out = buf_fixed(e->texts, all.len), digest = buf_fixed(e->cert_sha256, sizeof(e->cert_sha256));
    buf_slice(&out, buf_view(&all));
    buf_put(&digest, f->cert_sha256, sizeof(f->cert_sha256));
    for (int i = 0; i < TEXTS; i++) {
        e->at[i] = at[i];
    }
    e->alert = f->alert;
    e->alert_way = (uint8_t)f->alert_way;
    e->has_cert = f->has_cert;
    e->host_len = host_len(slice_str(f->peer_addr));
    return e;
}

static bool same(const struct entry *a, const struct entry *b)
{
    return a->alert == b->alert && a->alert_way == b->alert_way && a->host_len == b->host_len &&
           memcmp(text_of(a, ADDRESS), text_of(b, ADDRESS), a->host_len) == 0 &&
           strcmp(text_of(a, REASON), text_of(b, REASON)) == 0 && strcmp(text_of(a, SNI), text_of(b, SNI)) == 0 &&
           memcmp(a->cert_sha256, b->cert_sha256, sizeof(a->cert_sha256)) == 0;
}

// The entry that already tells of this, or NULL.
static struct entry *find_same(const struct handshakes *h, const struct entry *e)
{
    for (uint64_t seq = h->next_seq - 1; seq > 0 && seq + HANDSHAKES_MERGE >= h->next_seq; seq--) {
        struct entry *old = h->ring[seq % HANDSHAKES_MAX];
        if (old != NULL && same(old, e)) {
            return old;
        }
    }
    return NULL;
}

static void keep(struct handshakes *h, struct entry *e, int64_t now_us)
{
    pthread_mutex_lock(&h->lock);
    struct entry *old = find_same(h, e);
    if (old != NULL) {
        old->count++;
        old->last_us = now_us;
        free(e);
    } else {
        e->seq = h->next_seq++;
        e->first_us = e->last_us = now_us;
        e->count = 1;
        free(h->ring[e->seq % HANDSHAKES_MAX]);
        h->ring[e->seq % HANDSHAKES_MAX] = e;
    }
    pthread_mutex_unlock(&h->lock);
}

void handshakes_add(struct handshakes *h, const struct tls_failure *f)
{
    atomic_fetch_add_explicit(&h->by_alert[f->alert_way][f->alert], 1, memory_order_relaxed);
    if (rate_take(h->said, rate_source(slice_str(f->peer_addr), (struct slice){NULL, 0}), clock_mono_us())) {
        log_info("tls", "TLS handshake failed", LOGS("peer", f->peer_addr), LOGS("error", f->reason),
                 LOGS("alert", f->alert_way != TLS_ALERT_NONE ? tls_alert_name(f->alert) : ""), LOGS("sni", f->sni),
                 LOGS("subject", f->subject));
    }
    struct entry *e = entry_new(f);
    if (e != NULL) { // without memory the metric has it
        keep(h, e, clock_wall_us());
    }
}

// ---- out ----

static void member(struct jw *out, const char *key, const char *text)
{
    jw_key(out, key);
    jw_str(out, text[0] != '\0' ? text : NULL);
}

static void write_alert(const struct entry *e, struct jw *out)
{
    jw_key(out, "alert");
    if (e->alert_way == TLS_ALERT_NONE) {
        jw_null(out);
        return;
    }
    jw_object(out);
    member(out, "name", tls_alert_name(e->alert));
    jw_member_int(out, "code", e->alert);
    member(out, "direction", e->alert_way == TLS_ALERT_SENT ? "sent" : "received");
    jw_object_end(out);
}

static void write_cert(const struct entry *e, struct jw *out)
{
    jw_key(out, "certificate");
    if (!e->has_cert) {
        jw_null(out);
        return;
    }
    uint8_t mem[64];
    struct buf hex = buf_fixed(mem, sizeof(mem));
    (void)hex_encode(slice_make(e->cert_sha256, sizeof(e->cert_sha256)), &hex);
    jw_object(out);
    jw_member_text(out, "fingerprint", buf_view(&hex));
    member(out, "subject", text_of(e, SUBJECT));
    member(out, "issuer", text_of(e, ISSUER));
    member(out, "serial", text_of(e, SERIAL));
    member(out, "problem", text_of(e, VERIFY));
    jw_object_end(out);
}

static void write_entry(const struct entry *e, struct jw *out)
{
    jw_object(out);
    jw_member_time(out, "first", e->first_us);
    jw_member_time(out, "last", e->last_us);
    jw_key(out, "count");
    jw_uint(out, e->count);
    member(out, "address", text_of(e, ADDRESS));
    member(out, "reason", text_of(e, REASON));
    write_alert(e, out);
    member(out, "server_name", text_of(e, SNI));
    member(out, "alpn", text_of(e, ALPN));
    member(out, "offered_versions", text_of(e, VERSIONS));
    member(out, "offered_ciphers", text_of(e, CIPHERS));
    write_cert(e, out);
    jw_object_end(out);
}

static bool wanted(const struct entry *e, const struct handshakes_filter *f)
{
    struct slice address = slice_str(text_of(e, ADDRESS)), host = slice_head(address, e->host_len);
    bool bracketed = host.len > 2 && host.p[0] == '[';
    struct slice bare = bracketed ? slice_make(host.p + 1, host.len - 2) : host;
    return e->last_us >= f->since_us && (f->address.p == NULL || slice_eq(f->address, address) ||
                                         slice_eq(f->address, host) || slice_eq(f->address, bare));
}

enum status handshakes_list(struct handshakes *h, const struct handshakes_filter *f, struct jw *out, struct err *err)
{
    struct page p = {.limit = f->limit, .from = {.kind = PAGE_TLS_FAILURES, .a = INT64_MAX}};
    enum status st = page_begin(&p, f->cursor, out, err);
    if (st != ST_OK) {
        return st;
    }
    pthread_mutex_lock(&h->lock);
    uint64_t seq = h->next_seq - 1, oldest = seq > HANDSHAKES_MAX ? seq - HANDSHAKES_MAX + 1 : 1;
    for (; seq >= oldest; seq--) {
        const struct entry *e = h->ring[seq % HANDSHAKES_MAX];
        if (e == NULL || (int64_t)seq >= p.from.a || !wanted(e, f)) {
            continue;
        }
        if (!page_room(&p)) {
            break;
        }
        write_entry(e, out);
        page_wrote(&p, (struct cursor){.a = (int64_t)seq});
    }
    pthread_mutex_unlock(&h->lock);
    return page_end(&p, err);
}
