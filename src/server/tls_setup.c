#include "server/tls_setup.h"

#include <stdlib.h>
#include <sys/stat.h>

#include "base/log.h"
#include "core/handshakes.h"
#include "core/metrics.h"
#include "core/principal.h"
#include "domain/identity/device_psk.h"
#include "net/crypto.h"

#define SITES_MAX 64
#define ALPN_MAX  3
#define NAMES_MAX 1024

static const struct conf_key tls_keys[] = {
    {.name = "tls.min_version",
     .type = CONF_ENUM,
     .dflt = "1.2",
     .choices = "1.2 1.3",
     .reload = true,
     .help = "Oldest TLS version that is accepted."},
    {.name = "tls.ciphers",
     .type = CONF_STRING,
     .dflt = "",
     .reload = true,
     .help =
         "Cipher suites of TLS 1.2, OpenSSL names separated by ':'; empty: ECDHE (with tls.psk also PSK) with AES-GCM "
         "or ChaCha20-Poly1305. Others are refused."},
    {.name = "tls.ciphersuites",
     .type = CONF_STRING,
     .dflt = "",
     .reload = true,
     .help = "Cipher suites of TLS 1.3, separated by ':'; empty: AES-GCM and ChaCha20-Poly1305."},
    {.name = "tls.cert_file",
     .type = CONF_STRING,
     .dflt = "",
     .reload = true,
     .help = "Certificate of the server with its chain (PEM, leaf first); empty: one of the server's own CA. Needs "
             "tls.key_file."},
    {.name = "tls.key_file",
     .type = CONF_STRING,
     .dflt = "",
     .reload = true,
     .help = "Private key of tls.cert_file (PEM, without passphrase)."},
    {.name = "tls.client_ca_file",
     .type = CONF_STRING,
     .dflt = "",
     .reload = true,
     .help = "Further CAs client certificates may chain to (PEM), beside the server's own."},
    {.name = "tls.crl_file",
     .type = CONF_STRING,
     .dflt = "",
     .reload = true,
     .help =
         "Revocation lists (PEM) of CAs in tls.client_ca_file; a list that has run out refuses its CA's certificates."},
    {.name = "tls.ocsp_file",
     .type = CONF_STRING,
     .dflt = "",
     .reload = true,
     .help =
         "OCSP response (DER) about tls.cert_file, given to clients that ask for it while it is valid. One that is not "
         "about this certificate or not signed by its CA is left out, and logged."},
    {.name = "tls.sni",
     .type = CONF_LIST,
     .dflt = "",
     .reload = true,
     .help = "Names with a certificate of their own, each 'NAME [NAME ...] cert=FILE key=FILE [ca=FILE] [tenant=ID]': "
             "clients that ask for the name get this certificate, must chain to these CAs and can only be devices of "
             "this tenant."},
    {.name = "tls.psk",
     .type = CONF_BOOL,
     .dflt = "false",
     .reload = true,
     .help =
         "Devices may come in with a pre-shared key (`muster device psk create`) in place of a certificate or token."},
    {.name = "tls.ticket_lifetime",
     .type = CONF_DURATION,
     .dflt = "2h",
     .min = 60000000,
     .max = 7LL * 86400 * 1000000,
     .help = "How long a session can be resumed after its handshake."},
    {.name = "tls.sessions_max",
     .type = CONF_INT,
     .dflt = "20000",
     .min = 64,
     .max = 10000000,
     .help =
         "Sessions that can be resumed; about 300 bytes each. A client has at most 4, those without a credential have "
         "a quarter of all."},
    {.name = "tls.handshakes_max",
     .type = CONF_INT,
     .dflt = "256",
     .min = 1,
     .max = 100000,
     .help = "Handshakes at once on each I/O thread; further ones wait, those that resume a session go first."},
    {.name = "tls.watch",
     .type = CONF_DURATION,
     .dflt = "10s",
     .min = 0,
     .max = 86400LL * 1000000,
     .help = "How often the files above are looked at; changed ones are loaded as by SIGHUP. 0s: only by SIGHUP."},
};
const struct conf_module tls_conf_module = {"TLS", tls_keys, sizeof(tls_keys) / sizeof(tls_keys[0])};

struct tls_setup {
    struct tls_cache *cache;
    struct handshakes *failures;
    struct core *core;
    struct identity *id;
    uint8_t seen[SHA256_LEN]; // state of the files
};

// ---- the list of names ----

// One entry cut into pieces; everything in it points into `mem`.
struct site {
    char *mem;
    char names[NAMES_MAX];
    struct tls_site_conf conf;
};

static char *value_of(char *word, const char *key)
{
    size_t n = strlen(key);
    return strncmp(word, key, n) == 0 ? word + n : NULL;
}

// A word is "key=value" or a host name.
static bool take_word(struct site *s, struct buf *names, char *word)
{
    const struct {
        const char *key;
        const char **dst;
    } parts[] = {{"cert=", &s->conf.cert_file},
                 {"key=", &s->conf.key_file},
                 {"ca=", &s->conf.client_ca_file},
                 {"tenant=", &s->conf.tenant}};
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        char *value = value_of(word, parts[i].key);
        if (value != NULL) {
            bool first = *parts[i].dst == NULL;
            *parts[i].dst = value;
            return first && value[0] != '\0';
        }
    }
    for (char *c = word; *c != '\0'; c++) {
        *c = *c >= 'A' && *c <= 'Z' ? (char)(*c - 'A' + 'a') : *c;
    }
    return strchr(word, '=') == NULL && buf_str(names, names->len > 0 ? " " : "") && buf_str(names, word);
}

static enum status parse_site(const char *text, struct site *s, struct err *err)
{
    s->mem = strdup(text);
    if (s->mem == NULL) {
        return err_set(err, ST_NOMEM, "no memory for tls.sni");
    }
    struct buf names = buf_fixed(s->names, sizeof(s->names) - 1);
    bool ok = true;
    char *rest = s->mem;
    for (char *word; ok && (word = strsep(&rest, " ")) != NULL;) {
        ok = word[0] == '\0' || take_word(s, &names, word);
    }
    s->names[names.len] = '\0';
    s->conf.names = s->names;
    ok = ok && (s->conf.tenant == NULL || id_valid(slice_str(s->conf.tenant)));
    if (!ok || names.len == 0 || s->conf.cert_file == NULL || s->conf.key_file == NULL) {
        return err_at(err, ST_INVALID, "tls.sni",
                      "'%.100s': 'NAME [NAME ...] cert=FILE key=FILE [ca=FILE] [tenant=ID]' is allowed", text);
    }
    return ST_OK;
}

static void sites_free(struct site *sites, size_t n)
{
    for (size_t i = 0; sites != NULL && i < n; i++) {
        free(sites[i].mem);
    }
    free(sites);
}

// *ret_n sites, all to be freed with sites_free, also after an error.
static enum status parse_sites(const struct conf *conf, struct site **ret, size_t *ret_n, struct err *err)
{
    const char *const *list = NULL;
    size_t n = conf_list(conf, "tls.sni", &list);
    if (n > SITES_MAX) {
        return err_at(err, ST_INVALID, "tls.sni", "%zu entries; at most %d are allowed", n, SITES_MAX);
    }
    *ret = calloc(n + 1, sizeof(**ret));
    enum status st = *ret != NULL ? ST_OK : err_set(err, ST_NOMEM, "no memory for tls.sni");
    for (size_t i = 0; st == ST_OK && i < n; i++) {
        st = parse_site(list[i], &(*ret)[i], err);
        *ret_n = i + 1;
    }
    return st;
}

// ---- contexts ----

static const char *file_or_null(const struct conf *conf, const char *key)
{
    const char *file = conf_str(conf, key);
    return file[0] != '\0' ? file : NULL;
}

static void on_failed(void *arg, const struct tls_failure *f)
{
    handshakes_add(arg, f);
}

static enum status fill(const struct tls_setup *s, const struct conf *conf, const struct tls_offer *offer,
                        struct tls_server_conf *ret, struct err *err)
{
    struct identity_files own = identity_files(s->id);
    const char *cert = file_or_null(conf, "tls.cert_file"), *key = file_or_null(conf, "tls.key_file");
    if ((cert == NULL) != (key == NULL)) {
        return err_at(err, ST_INVALID, "tls.cert_file", "tls.cert_file and tls.key_file are given together");
    }
    *ret = (struct tls_server_conf){.cert_file = cert != NULL ? cert : own.server_cert,
                                    .key_file = key != NULL ? key : own.server_key,
                                    .client_ca_file = own.ca,
                                    .more_ca_file = file_or_null(conf, "tls.client_ca_file"),
                                    .crl_file = file_or_null(conf, "tls.crl_file"),
                                    .ocsp_file = file_or_null(conf, "tls.ocsp_file"),
                                    .min_version = conf_int(conf, "tls.min_version") == 1 ? 0x0304 : 0x0303,
                                    .ciphers = conf_str(conf, "tls.ciphers"),
                                    .ciphersuites = conf_str(conf, "tls.ciphersuites"),
                                    .cache = s->cache,
                                    .failed = on_failed,
                                    .failed_arg = s->failures,
                                    .psk = conf_bool(conf, "tls.psk") ? device_psk_find : NULL,
                                    .psk_arg = s->id};
    for (int i = 0; i < ALPN_MAX; i++) {
        ret->alpn[i] = offer->alpn[i];
    }
    ret->alpn_certless = offer->alpn_certless;
    ret->certless = offer->certless;
    return ST_OK;
}

// Size, time and number of each file: another content, or another file in its place, gives another digest.
static void look_at_files(const struct tls_server_conf *tc, uint8_t out[SHA256_LEN])
{
    uint8_t mem[(5 + 3 * SITES_MAX) * 32];
    struct buf b = buf_fixed(mem, sizeof(mem));
    const char *files[5 + 3 * SITES_MAX] = {tc->cert_file, tc->key_file, tc->more_ca_file, tc->crl_file, tc->ocsp_file};
    size_t n = 5;
    for (size_t i = 0; i < tc->sites_len; i++) {
        files[n++] = tc->sites[i].cert_file;
        files[n++] = tc->sites[i].key_file;
        files[n++] = tc->sites[i].client_ca_file;
    }
    for (size_t i = 0; i < n; i++) {
        struct stat st;
        if (files[i] == NULL || stat(files[i], &st) != 0) {
            st = (struct stat){.st_size = -1};
        }
        buf_u64(&b, (uint64_t)st.st_size);
        buf_u64(&b, (uint64_t)st.st_ino);
        buf_u64(&b, (uint64_t)st.st_mtim.tv_sec);
        buf_u64(&b, (uint64_t)st.st_mtim.tv_nsec);
    }
    crypto_sha256(buf_view(&b), out);
}

// Calls `fn` with everything the configuration says.
static enum status with_conf(struct tls_setup *s, const struct conf *conf, const struct tls_offer *offer,
                             enum status (*fn)(struct tls_setup *s, const struct tls_server_conf *tc, void *arg,
                                               struct err *err),
                             void *arg, struct err *err)
{
    struct site *sites = NULL;
    struct tls_site_conf list[SITES_MAX];
    struct tls_server_conf tc;
    size_t n = 0;
    enum status st = parse_sites(conf, &sites, &n, err);
    if (st == ST_OK) {
        st = fill(s, conf, offer, &tc, err);
    }
    if (st == ST_OK) {
        for (size_t i = 0; i < n; i++) {
            list[i] = sites[i].conf;
        }
        tc.sites = list;
        tc.sites_len = n;
        st = fn(s, &tc, arg, err);
    }
    sites_free(sites, n);
    return st;
}

static enum status make_context(struct tls_setup *s, const struct tls_server_conf *tc, void *arg, struct err *err)
{
    struct tls_ctx **ret = arg;
    look_at_files(tc, s->seen);
    *ret = tls_server_new(tc, err);
    return *ret != NULL ? ST_OK : ST_INVALID;
}

struct tls_ctx *tls_setup_context(struct tls_setup *s, const struct conf *conf, const struct tls_offer *offer,
                                  struct err *err)
{
    struct tls_ctx *ctx = NULL;
    (void)with_conf(s, conf, offer, make_context, &ctx, err);
    const char *wrong = ctx != NULL ? tls_staple_wrong(ctx) : NULL;
    if (wrong != NULL && !offer->certless) { // once: the listeners' contexts share the file
        log_warn("tls", "the OCSP response is left out", LOGS("file", conf_str(conf, "tls.ocsp_file")),
                 LOGS("error", wrong));
    }
    return ctx;
}

static enum status compare_files(struct tls_setup *s, const struct tls_server_conf *tc, void *arg, struct err *err)
{
    (void)err;
    uint8_t now[SHA256_LEN];
    look_at_files(tc, now);
    *(bool *)arg = !slice_eq(slice_make(now, sizeof(now)), slice_make(s->seen, sizeof(s->seen)));
    struct buf seen = buf_fixed(s->seen, sizeof(s->seen));
    buf_put(&seen, now, sizeof(now));
    return ST_OK;
}

bool tls_setup_changed(struct tls_setup *s, const struct conf *conf)
{
    bool changed = false;
    const struct tls_offer none = {.certless = false};
    return with_conf(s, conf, &none, compare_files, &changed, NULL) == ST_OK && changed;
}

// ---- life ----

// A revoked certificate's tickets are worth nothing, nor are those of a revoked key.
static void on_ended(void *arg, const uint8_t *cert_sha256, struct slice psk_identity)
{
    const struct tls_setup *s = arg;
    if (cert_sha256 != NULL) {
        (void)tls_cache_forget_cert(s->cache, cert_sha256);
    } else {
        (void)tls_cache_forget_psk(s->cache, psk_identity);
    }
}

static void write_metrics(void *arg, struct buf *out)
{
    const struct tls_setup *s = arg;
    struct tls_cache_stats st;
    tls_cache_stats(s->cache, &st);
    const struct {
        const char *name, *help, *type;
        uint64_t value;
    } rows[] = {
        {"muster_tls_sessions", "Sessions that can be resumed", "gauge", st.entries},
        {"muster_tls_sessions_bytes", "Memory of these sessions", "gauge", st.bytes},
        {"muster_tls_resumptions_total", "Sessions found when a client asked for one", "counter", st.hits},
        {"muster_tls_resumptions_missed_total", "Sessions asked for that were not there", "counter", st.misses},
        {"muster_tls_sessions_evicted_total", "Sessions that ended for want of room", "counter", st.evicted},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n%s %llu\n", rows[i].name, rows[i].help, rows[i].name, rows[i].type,
                   rows[i].name, (unsigned long long)rows[i].value);
    }
}

enum status tls_setup_open(struct core *core, struct identity *id, const struct conf *conf, struct tls_setup **ret,
                           struct err *err)
{
    struct tls_setup *s = calloc(1, sizeof(*s));
    if (s == NULL) {
        return err_set(err, ST_NOMEM, "no memory for TLS");
    }
    s->core = core;
    s->id = id;
    s->cache = tls_cache_new((unsigned)conf_int(conf, "tls.sessions_max"), conf_int(conf, "tls.ticket_lifetime"));
    s->failures = handshakes_new();
    if (s->cache == NULL || s->failures == NULL || !metric_collector(write_metrics, s)) {
        tls_setup_free(s);
        return err_set(err, ST_NOMEM, "no memory for TLS");
    }
    core_set_slot(core, CORE_SLOT_HANDSHAKES, s->failures);
    identity_watch_ended(id, on_ended, s);
    *ret = s;
    return ST_OK;
}

void tls_setup_free(struct tls_setup *s)
{
    if (s == NULL) {
        return;
    }
    metric_collector_remove(write_metrics, s);
    identity_watch_ended(s->id, NULL, NULL);
    if (core_slot(s->core, CORE_SLOT_HANDSHAKES) == s->failures) {
        core_set_slot(s->core, CORE_SLOT_HANDSHAKES, NULL);
    }
    handshakes_free(s->failures);
    tls_cache_unref(s->cache);
    free(s);
}
