#include "domain/identity/cert.h"

#include <stdlib.h>

#include "base/utf8.h"
#include "core/ids.h"
#include "core/member.h"
#include "core/page.h"
#include "domain/audit/audit.h"
#include "domain/identity/identity_priv.h"
#define SQL_CERTIFICATE_DEFINE
#include "domain/identity/sql/certificate.sql.h"

#define HEX_LEN        ((size_t)2 * SHA256_LEN)
#define AUDIT_TEXT_MAX 2048
#define SCAN_MAX       20000

static const struct slice none = {NULL, 0};

static const char *const state_texts[CERT_STATE__COUNT] = {
    [CERT_ACTIVE] = "active", [CERT_SUPERSEDED] = "superseded", [CERT_REVOKED] = "revoked"};

// steps[from][to]
static const bool steps[CERT_STATE__COUNT][CERT_STATE__COUNT] = {
    [CERT_ACTIVE] = {[CERT_SUPERSEDED] = true, [CERT_REVOKED] = true},
    [CERT_SUPERSEDED] = {[CERT_REVOKED] = true},
    [CERT_REVOKED] = {false},
};

bool cert_state_may(enum cert_state from, enum cert_state to)
{
    return (unsigned)from < CERT_STATE__COUNT && (unsigned)to < CERT_STATE__COUNT && steps[from][to];
}

const char *cert_state_text(enum cert_state s)
{
    return (unsigned)s < CERT_STATE__COUNT ? state_texts[s] : "unknown";
}

bool cert_state_parse(struct slice text, enum cert_state *ret)
{
    for (unsigned i = 0; i < CERT_STATE__COUNT; i++) {
        if (slice_eq_str(text, state_texts[i])) {
            *ret = (enum cert_state)i;
            return true;
        }
    }
    return false;
}

static void hex_text(struct slice bytes, char dst[HEX_LEN + 1])
{
    struct buf b = buf_fixed(dst, HEX_LEN);
    (void)hex_encode(slice_head(bytes, SHA256_LEN), &b);
    dst[b.len] = '\0';
}

static enum status fingerprint_parse(struct slice text, uint8_t ret[SHA256_LEN], struct err *err)
{
    struct buf b = buf_fixed(ret, SHA256_LEN);
    if (text.len != HEX_LEN || !hex_decode(text, &b)) {
        return err_set(err, ST_NOT_FOUND, "no such certificate; a fingerprint is %zu hex digits (SHA-256)", HEX_LEN);
    }
    return ST_OK;
}

// --- what everyone is told ---------------------------------------------------------------------------------------

static enum status record(struct tx *tx, const char *action, const struct device_ref *d, struct slice fingerprint,
                          struct slice reason, int64_t not_after_us, struct err *err)
{
    char hex[HEX_LEN + 1];
    uint8_t mem[AUDIT_TEXT_MAX];
    struct buf text = buf_fixed(mem, sizeof(mem));
    struct jw w;
    hex_text(fingerprint, hex);
    jw_init(&w, &text);
    jw_object(&w);
    jw_member_str(&w, "fingerprint", hex);
    if (reason.p != NULL) {
        jw_member_text(&w, "reason", reason);
    }
    if (not_after_us > 0) {
        jw_member_time(&w, "not_after", not_after_us);
    }
    jw_object_end(&w);
    return audit_write_for(tx, d->tenant, action, "device", slice_str(d->id), none, buf_view(&text), err);
}

static enum status publish(struct tx *tx, const struct device_ref *d, struct slice fingerprint, const char *action,
                           struct err *err)
{
    char hex[HEX_LEN + 1];
    uint8_t mem[AUDIT_TEXT_MAX];
    struct buf text = buf_fixed(mem, sizeof(mem));
    struct jw w;
    hex_text(fingerprint, hex);
    jw_init(&w, &text);
    jw_object(&w);
    jw_member_str(&w, "device", d->id);
    jw_member_str(&w, "fingerprint", hex);
    jw_member_str(&w, "action", action);
    jw_object_end(&w);
    struct event *ev = event_new(EV_CERT, d->tenant, d->row, d->id, tx->now_us, buf_view(&text));
    return tx_event(tx, ev) ? ST_OK : err_set(err, ST_NOMEM, "no memory");
}

// --- issuing -----------------------------------------------------------------------------------------------------

static enum status insert(struct tx *tx, const struct device_ref *d, const struct cert_facts *f, uint64_t claim,
                          uint64_t lineage, struct slice der, struct err *err)
{
    uint64_t row = id_new();
    STMT(s, tx->db, &sql_certificate[SQL_CERTIFICATE_INSERT]);
    stmt_bind_i64(s, 1, (int64_t)row);
    stmt_bind_i64(s, 2, d->tenant);
    stmt_bind_i64(s, 3, (int64_t)d->row);
    stmt_bind_blob(s, 4, slice_make(f->fingerprint, sizeof(f->fingerprint)));
    stmt_bind_blob(s, 5, slice_make(f->spki, sizeof(f->spki)));
    stmt_bind_blob(s, 6, slice_make(f->serial, sizeof(f->serial)));
    if (claim != 0) {
        stmt_bind_i64(s, 7, (int64_t)claim);
    } else {
        stmt_bind_null(s, 7);
    }
    stmt_bind_i64(s, 8, CERT_ACTIVE);
    stmt_bind_i64(s, 9, f->not_before_us);
    stmt_bind_i64(s, 10, f->not_after_us);
    stmt_bind_i64(s, 11, tx->now_us);
    stmt_bind_blob(s, 12, der);
    stmt_bind_i64(s, 13, (int64_t)(lineage != 0 ? lineage : row));
    return stmt_run(s, err);
}

enum status cert_issue(struct tx *tx, const struct csr *csr, const struct device_ref *d, uint64_t claim,
                       uint64_t lineage, struct buf *der, int64_t *ret_not_after_us, struct err *err)
{
    const struct identity *id = identity_of(tx->core);
    struct cert_facts f;
    size_t before = der->len;
    enum status st = ca_issue(id->ca, csr, d->id, tx->now_us, id->cert_validity_us, der, &f, err);
    if (st != ST_OK) {
        return st;
    }
    struct slice fingerprint = slice_make(f.fingerprint, sizeof(f.fingerprint));
    st = insert(tx, d, &f, claim, lineage, slice_from(buf_view(der), before), err);
    if (st == ST_OK) {
        st = record(tx, claim != 0 ? "cert.issue" : "cert.renew", d, fingerprint, none, f.not_after_us, err);
    }
    if (st == ST_OK) {
        st = publish(tx, d, fingerprint, "issued", err);
    }
    if (st == ST_OK) {
        *ret_not_after_us = f.not_after_us;
    }
    return st;
}

enum status cert_waiting(struct tx *tx, const struct csr *csr, uint64_t device, uint64_t claim, struct buf *der,
                         int64_t *ret_not_after_us, bool *ret_found, struct err *err)
{
    uint8_t spki[SHA256_LEN];
    csr_spki(csr, spki);
    *ret_found = false;
    STMT(s, tx->db, &sql_certificate[SQL_CERTIFICATE_WAITING]);
    stmt_bind_i64(s, 1, (int64_t)device);
    stmt_bind_blob(s, 2, slice_make(spki, sizeof(spki)));
    stmt_bind_i64(s, 3, CERT_ACTIVE);
    stmt_bind_i64(s, 4, tx->now_us);
    bool row = false;
    enum status st = stmt_step(s, &row, err);
    uint64_t paid_by = st == ST_OK && row ? (uint64_t)col_i64(s, 2) : 0; // NULL reads as 0: a renewal
    if (st != ST_OK || !row || paid_by != claim) {
        return st;
    }
    if (!buf_slice(der, col_blob(s, 0))) {
        return err_set(err, ST_NOMEM, "no memory");
    }
    *ret_not_after_us = col_i64(s, 1);
    *ret_found = true;
    return ST_OK;
}

// --- being used, ending ------------------------------------------------------------------------------------------

enum status cert_by_fingerprint(struct tx *tx, struct slice sha256, struct cert_row *ret, struct err *err)
{
    STMT(s, tx->db, &sql_certificate[SQL_CERTIFICATE_BY_FINGERPRINT]);
    stmt_bind_blob(s, 1, sha256);
    bool row = false;
    enum status st = stmt_step(s, &row, err);
    if (st == ST_OK && !row) {
        st = err_set(err, ST_NOT_FOUND, "the certificate is not registered");
    }
    if (st == ST_OK) {
        *ret = (struct cert_row){.row = (uint64_t)col_i64(s, 0),
                                 .device = (uint64_t)col_i64(s, 1),
                                 .generation = col_i64(s, 2),
                                 .state = (enum cert_state)col_i64(s, 3),
                                 .not_before_us = col_i64(s, 4),
                                 .not_after_us = col_i64(s, 5),
                                 .used = !col_is_null(s, 6),
                                 .lineage = (uint64_t)col_i64(s, 7)};
    }
    return st;
}

// --- sessions made with a certificate that has ended --------------------------------------------------------------

static void tell_ended(struct core *c, void *arg)
{
    identity_tell_ended(identity_of(c), arg, none);
    free(arg);
}

static void forget_ended(struct core *c, void *arg)
{
    (void)c;
    free(arg);
}

static enum status ended_after_commit(struct tx *tx, struct slice sha256, struct err *err)
{
    uint8_t *copy = calloc(1, SHA256_LEN);
    if (copy != NULL) {
        struct buf b = buf_fixed(copy, SHA256_LEN);
        buf_slice(&b, sha256);
        if (tx_after_commit(tx, tell_ended, forget_ended, copy)) {
            return ST_OK;
        }
        free(copy);
    }
    return err_set(err, ST_NOMEM, "no memory");
}

// Records each certificate that a RETURNING statement has ended. Their number is bounded: a device renews rarely
// (identity_renew), and each renewal ends what waited before.
static enum status record_ended(struct tx *tx, struct stmt *s, const struct device_ref *d, struct err *err)
{
    for (;;) {
        bool row = false;
        enum status st = stmt_step(s, &row, err);
        if (st != ST_OK || !row) {
            return st;
        }
        st = record(tx, "cert.supersede", d, col_blob(s, 0), none, 0, err);
        if (st == ST_OK) {
            st = ended_after_commit(tx, col_blob(s, 0), err);
        }
        if (st != ST_OK) {
            return st;
        }
    }
}

enum status cert_first_use(struct tx *tx, const struct cert_row *c, const struct device_ref *d, struct err *err)
{
    STMT(used, tx->db, &sql_certificate[SQL_CERTIFICATE_SET_USED]);
    stmt_bind_i64(used, 1, (int64_t)c->row);
    stmt_bind_i64(used, 2, tx->now_us);
    enum status st = stmt_run(used, err);
    if (st != ST_OK) {
        return st;
    }
    STMT(s, tx->db, &sql_certificate[SQL_CERTIFICATE_END_OLDER]);
    stmt_bind_i64(s, 1, (int64_t)c->device);
    stmt_bind_i64(s, 2, c->generation);
    stmt_bind_i64(s, 3, tx->now_us);
    stmt_bind_i64(s, 4, CERT_ACTIVE);
    stmt_bind_i64(s, 5, CERT_SUPERSEDED);
    return record_ended(tx, s, d, err);
}

enum status cert_end_unused(struct tx *tx, const struct device_ref *d, struct err *err)
{
    STMT(s, tx->db, &sql_certificate[SQL_CERTIFICATE_END_UNUSED]);
    stmt_bind_i64(s, 1, (int64_t)d->row);
    stmt_bind_i64(s, 2, tx->now_us);
    stmt_bind_i64(s, 3, CERT_ACTIVE);
    stmt_bind_i64(s, 4, CERT_SUPERSEDED);
    return record_ended(tx, s, d, err);
}

enum status cert_revoke(struct tx *tx, struct slice fingerprint, struct slice reason, struct err *err)
{
    uint8_t sha256[SHA256_LEN];
    if (reason.len > CERT_REASON_MAX || !utf8_valid(reason)) {
        return err_at(err, ST_INVALID, "/reason", "a reason is at most %d bytes", CERT_REASON_MAX);
    }
    enum status st = fingerprint_parse(fingerprint, sha256, err);
    if (st != ST_OK) {
        return st;
    }
    struct slice key = slice_make(sha256, sizeof(sha256));
    STMT(find, tx->db, &sql_certificate[SQL_CERTIFICATE_FIND]);
    stmt_bind_i64(find, 1, tx->who->tenant);
    stmt_bind_blob(find, 2, key);
    bool row = false;
    st = stmt_step(find, &row, err);
    if (st == ST_OK && !row) {
        st = err_set(err, ST_NOT_FOUND, "no such certificate");
    }
    if (st != ST_OK || !cert_state_may((enum cert_state)col_i64(find, 2), CERT_REVOKED)) {
        return st;
    }
    struct device_ref d;
    st = device_find_row(tx, (uint64_t)col_i64(find, 1), &d, err);
    if (st != ST_OK) {
        return st;
    }
    STMT(s, tx->db, &sql_certificate[SQL_CERTIFICATE_REVOKE]);
    stmt_bind_i64(s, 1, col_i64(find, 0));
    stmt_bind_i64(s, 2, CERT_REVOKED);
    stmt_bind_text(s, 3, reason);
    stmt_bind_i64(s, 4, tx->now_us);
    st = stmt_run(s, err);
    if (st == ST_OK) {
        st = record(tx, "cert.revoke", &d, key, reason, 0, err);
    }
    if (st == ST_OK) {
        st = publish(tx, &d, key, "revoked", err);
    }
    if (st == ST_OK) {
        st = ended_after_commit(tx, key, err);
    }
    return st == ST_OK ? registry_notify(tx, &d, DEVICE_CHANGE_REVOKED, err) : st;
}

enum status cert_forget_device(struct tx *tx, uint64_t device, struct err *err)
{
    STMT(s, tx->db, &sql_certificate[SQL_CERTIFICATE_DELETE_ALL]);
    stmt_bind_i64(s, 1, (int64_t)device);
    return stmt_run(s, err);
}

// --- counting ----------------------------------------------------------------------------------------------------

static enum status one_number(struct stmt *s, int64_t *ret, struct err *err)
{
    bool row = false;
    enum status st = stmt_step(s, &row, err);
    if (st == ST_OK) {
        *ret = row ? col_i64(s, 0) : 0;
    }
    return st;
}

enum status cert_usable_count(struct tx *tx, uint64_t device, int64_t *ret_n, struct err *err)
{
    STMT(s, tx->db, &sql_certificate[SQL_CERTIFICATE_USABLE_COUNT]);
    stmt_bind_i64(s, 1, (int64_t)device);
    stmt_bind_i64(s, 2, CERT_ACTIVE);
    stmt_bind_i64(s, 3, tx->now_us);
    return one_number(s, ret_n, err);
}

enum status cert_last_event_us(struct tx *tx, uint64_t device, int64_t *ret_us, struct err *err)
{
    STMT(s, tx->db, &sql_certificate[SQL_CERTIFICATE_LAST_EVENT]);
    stmt_bind_i64(s, 1, (int64_t)device);
    stmt_bind_i64(s, 2, tx->now_us);
    return one_number(s, ret_us, err);
}

enum status cert_recent_count(struct tx *tx, uint64_t device, int64_t since_us, int64_t *ret_n, struct err *err)
{
    STMT(s, tx->db, &sql_certificate[SQL_CERTIFICATE_RECENT_COUNT]);
    stmt_bind_i64(s, 1, (int64_t)device);
    stmt_bind_i64(s, 2, since_us);
    return one_number(s, ret_n, err);
}

// --- writing -----------------------------------------------------------------------------------------------------

static void write_members(struct stmt *s, struct jw *out)
{
    char hex[HEX_LEN + 1];
    hex_text(col_blob(s, 1), hex);
    jw_member_str(out, "fingerprint", hex);
    jw_member_text(out, "device", col_text(s, 2));
    hex_text(col_blob(s, 3), hex);
    jw_member_str(out, "serial", hex);
    jw_member_str(out, "state", cert_state_text((enum cert_state)col_i64(s, 4)));
    jw_member_text(out, "reason", col_text(s, 5));
    jw_member_time(out, "not_before", col_i64(s, 6));
    jw_member_time(out, "not_after", col_i64(s, 7));
    jw_member_time(out, "created", col_i64(s, 8));
    jw_member_time_col(out, "first_used", s, 9);
    jw_member_time_col(out, "ended", s, 10);
}

enum status cert_write(struct tx *tx, struct slice fingerprint, struct jw *out, struct err *err)
{
    uint8_t sha256[SHA256_LEN];
    BUF pem = buf_heap(2 * CERT_DER_MAX);
    enum status st = fingerprint_parse(fingerprint, sha256, err);
    if (st != ST_OK) {
        return st;
    }
    STMT(s, tx->db, &sql_certificate[SQL_CERTIFICATE_GET]);
    stmt_bind_i64(s, 1, tx->who->tenant);
    stmt_bind_blob(s, 2, slice_make(sha256, sizeof(sha256)));
    bool row = false;
    st = stmt_step(s, &row, err);
    if (st == ST_OK && !row) {
        st = err_set(err, ST_NOT_FOUND, "no such certificate");
    }
    if (st == ST_OK && !cert_der_to_pem(col_blob(s, 12), &pem)) {
        st = err_set(err, ST_CORRUPT, "the stored certificate cannot be decoded");
    }
    if (st == ST_OK) {
        jw_object(out);
        write_members(s, out);
        jw_member_text(out, "pem", buf_view(&pem));
        jw_object_end(out);
    }
    return st;
}

enum status cert_list(struct tx *tx, const struct cert_filter *f, struct jw *out, struct err *err)
{
    bool all = f->device.p == NULL;
    struct device_ref d = {.row = 0};
    struct page p = {.limit = f->limit,
                     .scan_max = SCAN_MAX,
                     .from = {.kind = all ? PAGE_CERTS : PAGE_CERTS_OF_DEVICE, .a = INT64_MAX}};
    enum status st = page_begin(&p, f->cursor, out, err);
    if (st == ST_OK && !all) {
        st = device_find(tx, f->device, &d, err);
    }
    if (st != ST_OK) {
        return st;
    }
    STMT(s, tx->db, &sql_certificate[all ? SQL_CERTIFICATE_LIST : SQL_CERTIFICATE_LIST_DEVICE]);
    stmt_bind_i64(s, 1, all ? (int64_t)tx->who->tenant : (int64_t)d.row);
    stmt_bind_i64(s, 2, p.from.a);
    while (page_next(&p, s, err)) {
        struct cursor key = {.a = col_i64(s, all ? 0 : 11)};
        if (f->state < 0 || f->state == col_i64(s, 4)) {
            jw_object(out);
            write_members(s, out);
            jw_object_end(out);
            page_wrote(&p, key);
        } else {
            page_skipped(&p, key);
        }
    }
    return page_end(&p, err);
}
