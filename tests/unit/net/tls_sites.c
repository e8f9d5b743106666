// What a server context can be configured to: suites, names with their own certificates and CAs, pre-shared keys, revocation
// lists, stapled OCSP responses, sessions that outlive a reload; and the record of a failed handshake.
#include "lib/net_harness.h"
#include "lib/tls_peer.h"

#include <openssl/ocsp.h>

enum { YEAR_S = 365 * 86400 };

static struct {
    struct pki pki;
    struct pki_cert ca, server, rsa_server, client, other_client, acme_ca, acme_server, acme_client;
    const char *ca_file, *cert_file, *key_file, *acme_ca_file, *acme_cert_file, *acme_key_file;
} t;
static struct harness h;
static SSL_SESSION *ticket;

// ---- set-up ----

static int group_setup(void **state)
{
    (void)state;
    pki_init(&t.pki);
    t.ca = pki_issue(&t.pki, NULL, PKI_CA, "Test CA", YEAR_S);
    t.server = pki_issue(&t.pki, &t.ca, PKI_SERVER, "localhost", YEAR_S);
    t.rsa_server = pki_issue_with(&t.pki, &t.ca, PKI_SERVER, "localhost", -60, YEAR_S, EVP_RSA_gen(2048));
    t.client = pki_issue(&t.pki, &t.ca, PKI_CLIENT, "device-1", YEAR_S);
    t.other_client = pki_issue(&t.pki, &t.ca, PKI_CLIENT, "device-2", YEAR_S);
    t.acme_ca = pki_issue(&t.pki, NULL, PKI_CA, "Acme CA", YEAR_S);
    t.acme_server = pki_issue(&t.pki, &t.acme_ca, PKI_SERVER, "mqtt.acme.example", YEAR_S);
    t.acme_client = pki_issue(&t.pki, &t.acme_ca, PKI_CLIENT, "acme-1", YEAR_S);
    t.ca_file = pki_write_cert(&t.pki, "ca.pem", &t.ca);
    t.cert_file = pki_write_cert(&t.pki, "server.pem", &t.server);
    t.key_file = pki_write_key(&t.pki, "server.key", &t.server);
    t.acme_ca_file = pki_write_cert(&t.pki, "acme-ca.pem", &t.acme_ca);
    t.acme_cert_file = pki_write_cert(&t.pki, "acme.pem", &t.acme_server);
    t.acme_key_file = pki_write_key(&t.pki, "acme.key", &t.acme_server);
    return 0;
}

static int group_teardown(void **state)
{
    (void)state;
    struct pki_cert *all[] = {&t.ca,           &t.server,  &t.rsa_server,  &t.client,
                              &t.other_client, &t.acme_ca, &t.acme_server, &t.acme_client};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        pki_cert_release(all[i]);
    }
    pki_release(&t.pki);
    return 0;
}

static int setup(void **state)
{
    (void)state;
    harness_init(&h);
    return 0;
}

static struct tls_server_conf server_conf(void)
{
    return (struct tls_server_conf){.cert_file = t.cert_file, .key_file = t.key_file, .client_ca_file = t.ca_file};
}

static struct tls_ctx *context(const struct tls_server_conf *conf)
{
    struct err err = {0};
    struct tls_ctx *ctx = tls_server_new(conf, &err);
    if (ctx == NULL) {
        fail_msg("%s", err.text);
    }
    return ctx;
}

static void start_with(const struct tls_server_conf *conf)
{
    h.conf.tls = context(conf);
    harness_start(&h);
    tls_unref(h.conf.tls);
}

static void reload(const struct tls_server_conf *conf)
{
    struct tls_ctx *ctx = context(conf);
    listener_set_tls(h.listener, ctx);
    tls_unref(ctx);
}

static int keep_ticket(SSL *s, SSL_SESSION *session)
{
    (void)s;
    SSL_SESSION_free(ticket);
    ticket = session;
    return 1;
}

// The server's own ticket of a connection with this certificate (NULL: none).
static SSL_SESSION *earn_ticket(const struct pki_cert *cert, int version, const char *sni)
{
    struct peer p = peer_new(version);
    SSL_CTX_sess_set_new_cb(p.ctx, keep_ticket);
    if (cert != NULL) {
        peer_cert(&p, cert);
    }
    SSL_set_tlsext_host_name(p.ssl, sni);
    peer_connect(&p, &h);
    peer_echo(&p);
    peer_free(&p);
    SSL_SESSION *mine = ticket;
    ticket = NULL;
    assert_non_null(mine);
    return mine;
}

static bool resumes(SSL_SESSION *session, const struct pki_cert *cert, int version, const char *sni)
{
    struct peer p = peer_new(version);
    SSL_SESSION *once = SSL_SESSION_dup(session);
    if (cert != NULL) {
        peer_cert(&p, cert);
    }
    SSL_set_tlsext_host_name(p.ssl, sni);
    if (version == TLS1_3_VERSION) { // another hash would not fit the session
        SSL_set_ciphersuites(p.ssl, SSL_CIPHER_get_name(SSL_SESSION_get0_cipher(session)));
    }
    assert_int_equal(SSL_set_session(p.ssl, once), 1);
    peer_connect(&p, &h);
    bool resumed = peer_is_in(&p) && SSL_session_reused(p.ssl) == 1;
    assert_true(!resumed || h.peer.resumed);
    peer_free(&p);
    SSL_SESSION_free(once);
    return resumed;
}

// ---- suites ----

static char out_bytes[200000], in_bytes[200000];

// Lines of many lengths there and back, around the sizes where records change.
static void talk(struct peer *p)
{
    static const size_t lengths[] = {0, 1, 2, 15, 16, 17, 1000, 4095, 16378, 16379, 16384, 16385, 40000, 150000};
    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        size_t n = lengths[i];
        memset(out_bytes, 'a' + (int)i, n);
        peer_write(p, "echo ", 5);
        if (n > 0) {
            peer_write(p, out_bytes, n);
        }
        peer_write(p, "\n", 1);
        peer_read(p, in_bytes, n + 1);
        assert_memory_equal(in_bytes, out_bytes, n);
        assert_int_equal(in_bytes[n], '\n');
    }
}

static void every_suite_both_ways(void **state)
{
    (void)state;
    static const struct {
        int version;
        bool rsa;
        const char *suite;
    } cases[] = {
        {TLS1_3_VERSION, false, "TLS_AES_128_GCM_SHA256"},
        {TLS1_3_VERSION, false, "TLS_AES_256_GCM_SHA384"},
        {TLS1_3_VERSION, false, "TLS_CHACHA20_POLY1305_SHA256"},
        {TLS1_2_VERSION, false, "ECDHE-ECDSA-AES128-GCM-SHA256"},
        {TLS1_2_VERSION, false, "ECDHE-ECDSA-AES256-GCM-SHA384"},
        {TLS1_2_VERSION, false, "ECDHE-ECDSA-CHACHA20-POLY1305"},
        {TLS1_2_VERSION, true, "ECDHE-RSA-AES128-GCM-SHA256"},
        {TLS1_2_VERSION, true, "ECDHE-RSA-AES256-GCM-SHA384"},
        {TLS1_2_VERSION, true, "ECDHE-RSA-CHACHA20-POLY1305"},
    };
    struct tls_server_conf conf = server_conf(), rsa = server_conf();
    rsa.cert_file = pki_write_cert(&t.pki, "rsa.pem", &t.rsa_server);
    rsa.key_file = pki_write_key(&t.pki, "rsa.key", &t.rsa_server);
    h.conf.service.in_max = h.conf.service.out_max = 1 << 20;
    start_with(&conf);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        reload(cases[i].rsa ? &rsa : &conf);
        struct peer p = peer_new(cases[i].version);
        assert_int_equal(cases[i].version == TLS1_3_VERSION ? SSL_set_ciphersuites(p.ssl, cases[i].suite)
                                                            : SSL_set_cipher_list(p.ssl, cases[i].suite),
                         1);
        peer_connect(&p, &h);
        assert_int_equal(p.rc, 1);
        talk(&p);
        assert_string_equal(h.peer.cipher, cases[i].suite);
        if (cases[i].version == TLS1_3_VERSION) {
            assert_int_equal(SSL_key_update(p.ssl, SSL_KEY_UPDATE_REQUESTED), 1);
            talk(&p);
            assert_int_equal(SSL_key_update(p.ssl, SSL_KEY_UPDATE_NOT_REQUESTED), 1);
            talk(&p);
        }
        assert_int_equal(SSL_shutdown(p.ssl), 0);
        assert_int_equal(SSL_shutdown(p.ssl), 1); // our close_notify came
        peer_free(&p);
    }
    assert_true(wait_none_open(&h));
    assert_int_equal(h.causes[CLOSE_TLS], 0);
    harness_end(&h);
}

static void suites_can_be_chosen(void **state)
{
    (void)state;
    struct tls_server_conf conf = server_conf();
    conf.ciphers = "ECDHE-ECDSA-CHACHA20-POLY1305";
    conf.ciphersuites = "TLS_AES_256_GCM_SHA384";
    start_with(&conf);
    for (int v = TLS1_2_VERSION; v <= TLS1_3_VERSION; v++) {
        struct peer p = peer_new(v);
        peer_connect(&p, &h);
        peer_echo(&p);
        assert_string_equal(h.peer.cipher,
                            v == TLS1_2_VERSION ? "ECDHE-ECDSA-CHACHA20-POLY1305" : "TLS_AES_256_GCM_SHA384");
        peer_free(&p);
    }
    harness_end(&h);
}

static void renegotiation_is_declined(void **state)
{
    (void)state;
    struct tls_server_conf conf = server_conf();
    start_with(&conf);
    struct peer p = peer_new(TLS1_2_VERSION);
    peer_connect(&p, &h);
    peer_echo(&p);
    SSL_set_options(p.ssl, SSL_OP_ALLOW_UNSAFE_LEGACY_RENEGOTIATION);
    assert_int_equal(SSL_renegotiate(p.ssl), 1);
    assert_int_equal(SSL_do_handshake(p.ssl), -1);
    assert_string_equal(ERR_reason_error_string(ERR_peek_error()), "no renegotiation");
    peer_free(&p);
    assert_true(wait_none_open(&h));
    harness_end(&h);
}

// ---- names ----

static const struct tls_site_conf *acme(struct tls_site_conf *mem, const char *ca)
{
    *mem = (struct tls_site_conf){.names = "mqtt.acme.example *.iot.acme.example",
                                  .cert_file = t.acme_cert_file,
                                  .key_file = t.acme_key_file,
                                  .client_ca_file = ca,
                                  .tenant = "acme"};
    return mem;
}

// Connects for a name; the common name of the certificate that came, "" when it was refused.
static const char *greeted_by(const char *sni, const struct pki_cert *cert)
{
    static char cn[128];
    struct peer p = peer_new(TLS1_3_VERSION);
    if (sni != NULL) {
        SSL_set_tlsext_host_name(p.ssl, sni);
    }
    if (cert != NULL) {
        peer_cert(&p, cert);
    }
    peer_connect(&p, &h);
    cn[0] = '\0';
    if (peer_is_in(&p)) {
        X509 *seen = SSL_get1_peer_certificate(p.ssl);
        X509_NAME_get_text_by_NID(X509_get_subject_name(seen), NID_commonName, cn, sizeof(cn));
        X509_free(seen);
    }
    peer_free(&p);
    return cn;
}

static void a_name_has_its_certificate_and_ca(void **state)
{
    (void)state;
    struct tls_site_conf site;
    struct tls_server_conf conf = server_conf();
    conf.sites = acme(&site, t.acme_ca_file);
    conf.sites_len = 1;
    start_with(&conf);
    assert_string_equal(greeted_by(NULL, &t.client), "localhost");
    assert_string_equal(h.peer.tenant, "");
    assert_string_equal(greeted_by("localhost", &t.client), "localhost");
    assert_string_equal(greeted_by("MQTT.acme.example", &t.acme_client), "mqtt.acme.example");
    assert_string_equal(h.peer.tenant, "acme");
    assert_string_equal(greeted_by("a.iot.acme.example", NULL), "mqtt.acme.example");
    assert_string_equal(greeted_by("a.b.iot.acme.example", NULL), "localhost");
    assert_string_equal(greeted_by("iot.acme.example", NULL), "localhost");
    // Each name trusts its own CA only.
    assert_string_equal(greeted_by("mqtt.acme.example", &t.client), "");
    assert_string_equal(greeted_by("localhost", &t.acme_client), "");
    assert_true(wait_none_open(&h));
    harness_end(&h);
}

static void a_session_stays_with_its_name(void **state)
{
    (void)state;
    struct tls_site_conf site;
    struct tls_server_conf conf = server_conf();
    conf.sites = acme(&site, NULL); // the same CAs, another tenant
    conf.sites_len = 1;
    start_with(&conf);
    for (int v = TLS1_2_VERSION; v <= TLS1_3_VERSION; v++) {
        SSL_SESSION *s = earn_ticket(&t.client, v, "localhost");
        assert_true(resumes(s, &t.client, v, "localhost"));
        assert_false(resumes(s, &t.client, v, "mqtt.acme.example"));
        SSL_SESSION_free(s);
    }
    harness_end(&h);
}

// ---- pre-shared keys ----

static const uint8_t meter_key[32] = {1, 2, 3, 4, 5};

static size_t find_psk(void *arg, struct slice identity, uint8_t *key)
{
    (void)arg;
    struct buf out = buf_fixed(key, TLS_PSK_MAX);
    return slice_eq_str(identity, "meter-1") && buf_put(&out, meter_key, sizeof(meter_key)) ? out.len : 0;
}

static const char *say_identity;
static uint8_t say_first_byte;
static unsigned say_psk(SSL *ssl, const char *hint, char *identity, unsigned identity_max, unsigned char *key,
                        unsigned key_max)
{
    (void)ssl;
    (void)hint;
    assert_true(key_max >= sizeof(meter_key));
    (void)snprintf(identity, identity_max, "%s", say_identity);
    memcpy(key, meter_key, sizeof(meter_key));
    key[0] = say_first_byte;
    return sizeof(meter_key);
}

static bool psk_is_in(const char *identity, uint8_t first_byte, int version, const char *suites)
{
    struct peer p = peer_new(version);
    say_identity = identity;
    say_first_byte = first_byte;
    SSL_set_psk_client_callback(p.ssl, say_psk);
    assert_int_equal(SSL_set_cipher_list(p.ssl, suites), 1);
    peer_connect(&p, &h);
    bool in = peer_is_in(&p);
    peer_free(&p);
    assert_true(wait_none_open(&h));
    return in;
}

static void pre_shared_keys(void **state)
{
    (void)state;
    static const char *const suites[] = {"ECDHE-PSK-CHACHA20-POLY1305", "PSK-AES128-GCM-SHA256",
                                         "PSK-AES256-GCM-SHA384"};
    struct tls_server_conf conf = server_conf();
    conf.psk = find_psk;
    start_with(&conf);
    for (size_t i = 0; i < 4; i++) {
        int v = i < 3 ? TLS1_2_VERSION : TLS1_3_VERSION;
        const char *list = i < 3 ? suites[i] : suites[0];
        assert_true(psk_is_in("meter-1", 1, v, list));
        assert_string_equal(h.peer.psk_identity, "meter-1");
        assert_false(h.peer.has_cert);
        assert_false(h.peer.resumed);
        assert_string_equal(h.peer.cipher, i < 3 ? list : "TLS_AES_128_GCM_SHA256");
        assert_false(psk_is_in("meter-1", 9, v, list)); // not the key
    }
    assert_false(psk_is_in("meter-2", 1, TLS1_2_VERSION, suites[0]));
    assert_true(psk_is_in("meter-2", 1, TLS1_3_VERSION, suites[0])); // the handshake falls back to the certificate:
    assert_string_equal(h.peer.psk_identity, "");                    // a client without a credential
    harness_end(&h);
}

// A client that names another's identity beside a suite that cannot use it gets nothing from that.
static void a_psk_that_was_not_used_is_not_believed(void **state)
{
    (void)state;
    struct tls_server_conf conf = server_conf();
    conf.psk = find_psk;
    start_with(&conf);
    struct peer p = peer_new(TLS1_3_VERSION);
    say_identity = "meter-1";
    say_first_byte = 77;
    SSL_set_psk_client_callback(p.ssl, say_psk);
    SSL_CTX_sess_set_new_cb(p.ctx, keep_ticket);
    // The key is for SHA-256; with SHA-384 alone the server passes over it.
    assert_int_equal(SSL_set_ciphersuites(p.ssl, "TLS_AES_256_GCM_SHA384"), 1);
    peer_connect(&p, &h);
    if (peer_is_in(&p)) {
        assert_string_equal(h.peer.psk_identity, "");
        assert_non_null(ticket);
        assert_true(resumes(ticket, NULL, TLS1_3_VERSION, "localhost"));
        assert_string_equal(h.peer.psk_identity, ""); // nor does the ticket say so
    }
    peer_free(&p);
    SSL_SESSION_free(ticket);
    ticket = NULL;
    harness_end(&h);
}

static void without_keys_there_is_no_psk(void **state)
{
    (void)state;
    struct tls_server_conf conf = server_conf();
    start_with(&conf);
    assert_false(psk_is_in("meter-1", 1, TLS1_2_VERSION, "PSK-AES128-GCM-SHA256"));
    assert_non_null(strstr(h.tls_failure, "no shared cipher"));
    harness_end(&h);
}

// ---- revocation lists ----

static void add_revoked(X509_CRL *crl, const struct pki_cert *cert)
{
    X509_REVOKED *r = X509_REVOKED_new();
    ASN1_TIME *at = ASN1_TIME_set(NULL, time(NULL) - 60);
    assert_int_equal(X509_REVOKED_set_serialNumber(r, X509_get_serialNumber(cert->cert)), 1);
    assert_int_equal(X509_REVOKED_set_revocationDate(r, at), 1);
    assert_int_equal(X509_CRL_add0_revoked(crl, r), 1);
    ASN1_TIME_free(at);
}

// A list of `ca` with these certificates, valid for so many seconds.
static const char *write_crl(const char *file, const struct pki_cert *ca, const struct pki_cert *revoked, long valid_s)
{
    X509_CRL *crl = X509_CRL_new();
    ASN1_TIME *from = ASN1_TIME_set(NULL, time(NULL) - 3600), *until = ASN1_TIME_set(NULL, time(NULL) + valid_s);
    X509_CRL_set_version(crl, 1);
    X509_CRL_set_issuer_name(crl, X509_get_subject_name(ca->cert));
    X509_CRL_set1_lastUpdate(crl, from);
    X509_CRL_set1_nextUpdate(crl, until);
    if (revoked != NULL) {
        add_revoked(crl, revoked);
    }
    X509_CRL_sort(crl);
    assert_true(X509_CRL_sign(crl, ca->key, EVP_sha256()) > 0);
    const char *path = pki_path(&t.pki, file);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_int_equal(PEM_write_X509_CRL(f, crl), 1);
    fclose(f);
    ASN1_TIME_free(from);
    ASN1_TIME_free(until);
    X509_CRL_free(crl);
    return path;
}

static bool cert_is_in(const struct pki_cert *cert)
{
    struct peer p = peer_new(TLS1_3_VERSION);
    peer_cert(&p, cert);
    h.tls_failure[0] = '\0';
    peer_connect(&p, &h);
    bool in = peer_is_in(&p);
    peer_free(&p);
    assert_true(wait_none_open(&h));
    return in;
}

static void lists_revoke(void **state)
{
    (void)state;
    struct tls_server_conf conf = server_conf();
    conf.more_ca_file = t.acme_ca_file;
    start_with(&conf);
    assert_true(cert_is_in(&t.acme_client));
    SSL_SESSION *s = earn_ticket(&t.acme_client, TLS1_3_VERSION, "localhost");
    SSL_SESSION *own = earn_ticket(&t.client, TLS1_3_VERSION, "localhost");
    assert_true(resumes(s, &t.acme_client, TLS1_3_VERSION, "localhost"));
    conf.crl_file = write_crl("acme.crl", &t.acme_ca, &t.acme_client, 3600);
    struct tls_ctx *ctx = context(&conf);
    assert_true(tls_revoked(ctx, h.peer.issuer_serial));
    listener_set_tls(h.listener, ctx);
    assert_false(cert_is_in(&t.acme_client));
    assert_non_null(strstr(h.tls_failure, "certificate revoked"));
    assert_false(resumes(s, &t.acme_client, TLS1_3_VERSION, "localhost")); // nor by its ticket
    assert_true(cert_is_in(&t.client));                                    // a CA without a list is not asked for one
    tls_unref(ctx);
    SSL_SESSION_free(s);
    SSL_SESSION_free(own);
    conf.crl_file = write_crl("acme2.crl", &t.acme_ca, NULL, 3600);
    reload(&conf);
    assert_true(cert_is_in(&t.acme_client));
    conf.crl_file = write_crl("acme3.crl", &t.acme_ca, NULL, -60);
    reload(&conf);
    assert_false(cert_is_in(&t.acme_client)); // nobody knows what has been revoked since
    assert_non_null(strstr(h.tls_failure, "CRL has expired"));
    assert_true(cert_is_in(&t.client));
    harness_end(&h);
}

static void a_list_of_a_stranger_is_an_error(void **state)
{
    (void)state;
    struct tls_server_conf conf = server_conf();
    struct pki_cert double_ca = pki_issue(&t.pki, NULL, PKI_CA, "Test CA", YEAR_S); // the same name, another key
    const char *const files[] = {write_crl("acme4.crl", &t.acme_ca, NULL, 3600),
                                 write_crl("double.crl", &double_ca, NULL, 3600)};
    for (int i = 0; i < 2; i++) {
        struct err err = {0};
        conf.crl_file = files[i];
        assert_null(tls_server_new(&conf, &err));
        assert_non_null(strstr(err.text, "is not signed by a client CA"));
    }
    pki_cert_release(&double_ca);
}

static void revoked_certificates_are_known_by_issuer_and_serial(void **state)
{
    (void)state;
    struct tls_server_conf conf = server_conf();
    start_with(&conf);
    assert_true(cert_is_in(&t.other_client));
    uint8_t key[16];
    memcpy(key, h.peer.issuer_serial, sizeof(key));
    conf.crl_file = write_crl("own.crl", &t.ca, &t.other_client, 3600);
    struct tls_ctx *ctx = context(&conf);
    assert_true(tls_revoked(ctx, key));
    key[0] ^= 1;
    assert_false(tls_revoked(ctx, key));
    tls_unref(ctx);
    harness_end(&h);
}

// ---- OCSP ----

// A response about `cert` of t.ca, signed by `signer`.
static const char *write_ocsp_by(const char *file, const struct pki_cert *cert, int status, long until_s,
                                 const struct pki_cert *signer)
{
    OCSP_BASICRESP *basic = OCSP_BASICRESP_new();
    OCSP_CERTID *id = OCSP_cert_to_id(EVP_sha1(), cert->cert, t.ca.cert);
    ASN1_TIME *from = X509_gmtime_adj(NULL, -60), *until = X509_gmtime_adj(NULL, until_s);
    ASN1_TIME *revoked = status == V_OCSP_CERTSTATUS_REVOKED ? X509_gmtime_adj(NULL, -30) : NULL;
    assert_non_null(OCSP_basic_add1_status(basic, id, status, 0, revoked, from, until_s != 0 ? until : NULL));
    assert_int_equal(OCSP_basic_sign(basic, signer->cert, signer->key, EVP_sha256(), NULL, 0), 1);
    OCSP_RESPONSE *r = OCSP_response_create(OCSP_RESPONSE_STATUS_SUCCESSFUL, basic);
    const char *path = pki_path(&t.pki, file);
    BIO *out = BIO_new_file(path, "w");
    assert_int_equal(i2d_OCSP_RESPONSE_bio(out, r), 1);
    BIO_free(out);
    OCSP_RESPONSE_free(r);
    OCSP_BASICRESP_free(basic);
    OCSP_CERTID_free(id);
    ASN1_TIME_free(from);
    ASN1_TIME_free(until);
    ASN1_TIME_free(revoked);
    return path;
}

static const char *write_ocsp(const char *file, const struct pki_cert *cert, int status, long until_s)
{
    return write_ocsp_by(file, cert, status, until_s, &t.ca);
}

// The server's certificate with its CA behind it.
static const char *write_chain(const char *file)
{
    const char *path = pki_path(&t.pki, file);
    BIO *out = BIO_new_file(path, "w");
    assert_int_equal(PEM_write_bio_X509(out, t.server.cert), 1);
    assert_int_equal(PEM_write_bio_X509(out, t.ca.cert), 1);
    BIO_free(out);
    return path;
}

static long stapled_bytes(int version)
{
    struct peer p = peer_new(version);
    const unsigned char *staple = NULL;
    SSL_set_tlsext_status_type(p.ssl, TLSEXT_STATUSTYPE_ocsp);
    peer_connect(&p, &h);
    peer_echo(&p);
    long n = SSL_get_tlsext_status_ocsp_resp(p.ssl, &staple);
    peer_free(&p);
    return n;
}

static void a_valid_response_is_stapled(void **state)
{
    (void)state;
    struct tls_server_conf conf = server_conf();
    conf.ocsp_file = write_ocsp("good.ocsp", &t.server, V_OCSP_CERTSTATUS_GOOD, 3600);
    start_with(&conf);
    assert_true(stapled_bytes(TLS1_3_VERSION) > 100);
    assert_true(stapled_bytes(TLS1_2_VERSION) > 100);
    conf.ocsp_file = write_ocsp("old.ocsp", &t.server, V_OCSP_CERTSTATUS_GOOD, -5);
    reload(&conf);
    assert_int_equal(stapled_bytes(TLS1_3_VERSION), -1); // one that has run out is not
    conf.ocsp_file = NULL;
    reload(&conf);
    assert_int_equal(stapled_bytes(TLS1_3_VERSION), -1);
    harness_end(&h);
}

// Certificate and response are renewed by others, one after the other: meanwhile the server goes on without.
static void a_response_that_does_not_fit_is_left_out(void **state)
{
    (void)state;
    struct pki_cert stranger = pki_issue(&t.pki, NULL, PKI_CA, "Another CA", YEAR_S);
    struct pki_cert namesake = pki_issue(&t.pki, NULL, PKI_CA, "Test CA", YEAR_S);
    struct tls_server_conf conf = server_conf();
    const struct {
        const char *file, *text;
    } bad[] = {
        {write_ocsp("other.ocsp", &t.client, V_OCSP_CERTSTATUS_GOOD, 3600), "it is about another certificate"},
        {write_ocsp("revoked.ocsp", &t.server, V_OCSP_CERTSTATUS_REVOKED, 3600), "revoked or unknown"},
        {write_ocsp("endless.ocsp", &t.server, V_OCSP_CERTSTATUS_GOOD, 0), "it has no end"},
        {write_ocsp_by("stranger.ocsp", &t.server, V_OCSP_CERTSTATUS_GOOD, 3600, &stranger), "holds the CA"},
        {write_ocsp_by("namesake.ocsp", &t.server, V_OCSP_CERTSTATUS_GOOD, 3600, &namesake), "holds the CA"},
    };
    start_with(&conf);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct err err = {0};
        conf.ocsp_file = bad[i].file;
        struct tls_ctx *ctx = tls_server_new(&conf, &err);
        assert_non_null(ctx);
        assert_non_null(tls_staple_wrong(ctx));
        if (strstr(tls_staple_wrong(ctx), bad[i].text) == NULL) {
            fail_msg("expected '%s', got '%s'", bad[i].text, tls_staple_wrong(ctx));
        }
        assert_int_equal(tls_staple_until_us(ctx), 0);
        tls_unref(ctx);
        reload(&conf);
        assert_int_equal(stapled_bytes(TLS1_3_VERSION), -1);
    }
    harness_end(&h);
    const struct {
        const char *file, *text;
    } unreadable[] = {{"/nowhere.ocsp", "it cannot be opened"}, {t.ca_file, "it cannot be read"}};
    for (size_t i = 0; i < sizeof(unreadable) / sizeof(unreadable[0]); i++) {
        struct err err = {0};
        conf.ocsp_file = unreadable[i].file;
        assert_null(tls_server_new(&conf, &err));
        assert_non_null(strstr(err.text, unreadable[i].text));
    }
    pki_cert_release(&namesake);
    pki_cert_release(&stranger);
}

// The whole chain is served, so the response need not bring the CA along; a stranger's signature is seen all the same.
static void the_chain_tells_who_may_sign(void **state)
{
    (void)state;
    struct pki_cert stranger = pki_issue(&t.pki, NULL, PKI_CA, "Another CA", YEAR_S);
    struct tls_server_conf conf = server_conf();
    conf.cert_file = write_chain("chain.pem");
    conf.ocsp_file = write_ocsp("chain.ocsp", &t.server, V_OCSP_CERTSTATUS_GOOD, 3600);
    struct tls_ctx *ctx = context(&conf);
    assert_null(tls_staple_wrong(ctx));
    assert_true(tls_staple_until_us(ctx) > 0);
    tls_unref(ctx);
    conf.ocsp_file = write_ocsp_by("forged.ocsp", &t.server, V_OCSP_CERTSTATUS_GOOD, 3600, &stranger);
    ctx = context(&conf);
    assert_non_null(strstr(tls_staple_wrong(ctx), "it is not signed by the CA"));
    tls_unref(ctx);
    pki_cert_release(&stranger);
}

// ---- sessions over a reload ----

static void sessions_outlive_a_new_certificate_but_not_new_rules(void **state)
{
    (void)state;
    struct tls_server_conf conf = server_conf();
    conf.cache = tls_cache_new(100, 3600 * 1000000LL);
    start_with(&conf);
    SSL_SESSION *s = earn_ticket(&t.client, TLS1_3_VERSION, "localhost");
    conf.cert_file = pki_write_cert(&t.pki, "rsa2.pem", &t.rsa_server);
    conf.key_file = pki_write_key(&t.pki, "rsa2.key", &t.rsa_server);
    reload(&conf);
    assert_true(resumes(s, &t.client, TLS1_3_VERSION, "localhost"));
    conf.more_ca_file = t.acme_ca_file;
    reload(&conf);
    assert_false(resumes(s, &t.client, TLS1_3_VERSION, "localhost"));
    SSL_SESSION_free(s);
    s = earn_ticket(&t.client, TLS1_3_VERSION, "localhost");
    assert_true(tls_cache_forget_cert(conf.cache, h.peer.cert_sha256) > 0); // its certificate was revoked
    assert_false(resumes(s, &t.client, TLS1_3_VERSION, "localhost"));
    SSL_SESSION_free(s);
    harness_end(&h);
    tls_cache_unref(conf.cache);
}

// ---- the record of a failure ----

static struct {
    int n;
    char reason[160], sni[64], alpn[64], versions[64], ciphers[256], subject[64], issuer[64], verify[64], addr[64];
    enum tls_alert_way way;
    uint8_t alert;
    bool has_cert;
} noted;
static pthread_mutex_t noted_lock = PTHREAD_MUTEX_INITIALIZER;

static void note(void *arg, const struct tls_failure *f)
{
    (void)arg;
    pthread_mutex_lock(&noted_lock);
    const struct {
        char *dst;
        size_t size;
        const char *text;
    } texts[] = {
        {noted.reason, sizeof(noted.reason), f->reason},    {noted.sni, sizeof(noted.sni), f->sni},
        {noted.alpn, sizeof(noted.alpn), f->alpn},          {noted.versions, sizeof(noted.versions), f->versions},
        {noted.ciphers, sizeof(noted.ciphers), f->ciphers}, {noted.subject, sizeof(noted.subject), f->subject},
        {noted.issuer, sizeof(noted.issuer), f->issuer},    {noted.verify, sizeof(noted.verify), f->verify},
        {noted.addr, sizeof(noted.addr), f->peer_addr}};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        (void)snprintf(texts[i].dst, texts[i].size, "%s", texts[i].text);
    }
    noted.way = f->alert_way;
    noted.alert = f->alert;
    noted.has_cert = f->has_cert;
    noted.n++;
    pthread_mutex_unlock(&noted_lock);
}

static void wait_note(int n)
{
    for (int i = 0; i < 3000; i++) {
        pthread_mutex_lock(&noted_lock);
        bool there = noted.n >= n;
        pthread_mutex_unlock(&noted_lock);
        if (there) {
            return;
        }
        usleep(1000);
    }
    fail_msg("no failure was noted");
}

static void a_failure_tells_what_is_known(void **state)
{
    (void)state;
    struct tls_server_conf conf = server_conf();
    conf.failed = note;
    conf.alpn[0] = "mqtt";
    noted.n = 0;
    start_with(&conf);
    struct peer p = peer_new(TLS1_3_VERSION);
    peer_cert(&p, &t.acme_client);
    SSL_set_tlsext_host_name(p.ssl, "hub.example");
    SSL_set_alpn_protos(p.ssl, (const unsigned char *)"\x04mqtt", 5);
    peer_connect(&p, &h);
    assert_false(peer_is_in(&p));
    peer_free(&p);
    wait_note(1);
    assert_string_equal(noted.sni, "hub.example");
    assert_string_equal(noted.alpn, "mqtt");
    assert_string_equal(noted.subject, "CN=acme-1");
    assert_string_equal(noted.issuer, "CN=Acme CA");
    assert_string_equal(noted.verify, "unable to get local issuer certificate");
    assert_true(noted.has_cert && noted.way == TLS_ALERT_SENT);
    assert_string_equal(tls_alert_name(noted.alert), "unknown_ca");
    assert_string_equal(noted.versions, "");
    assert_int_equal(strncmp(noted.addr, "127.0.0.1:", 10), 0);

    p = peer_new(TLS1_2_VERSION);
    assert_int_equal(SSL_set_cipher_list(p.ssl, "AES128-SHA:ECDHE-RSA-AES128-SHA"), 1);
    peer_connect(&p, &h);
    peer_free(&p);
    wait_note(2);
    assert_string_equal(noted.reason, "no shared cipher");
    assert_string_equal(noted.versions, "TLSv1.2");
    assert_non_null(strstr(noted.ciphers, "ECDHE-RSA-AES128-SHA"));
    assert_string_equal(tls_alert_name(noted.alert), "handshake_failure");
    assert_false(noted.has_cert);

    p = peer_new(TLS1_3_VERSION); // it does not know our CA
    SSL_set_verify(p.ssl, SSL_VERIFY_PEER, NULL);
    peer_connect(&p, &h);
    assert_int_equal(p.rc, -1);
    peer_free(&p);
    wait_note(3);
    assert_int_equal(noted.way, TLS_ALERT_RECEIVED);
    assert_string_equal(tls_alert_name(noted.alert), "unknown_ca");
    assert_string_equal(tls_alert_name(200), "unknown");
    harness_end(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(every_suite_both_ways, setup),
        cmocka_unit_test_setup(suites_can_be_chosen, setup),
        cmocka_unit_test_setup(renegotiation_is_declined, setup),
        cmocka_unit_test_setup(a_name_has_its_certificate_and_ca, setup),
        cmocka_unit_test_setup(a_session_stays_with_its_name, setup),
        cmocka_unit_test_setup(pre_shared_keys, setup),
        cmocka_unit_test_setup(a_psk_that_was_not_used_is_not_believed, setup),
        cmocka_unit_test_setup(without_keys_there_is_no_psk, setup),
        cmocka_unit_test_setup(lists_revoke, setup),
        cmocka_unit_test_setup(a_list_of_a_stranger_is_an_error, setup),
        cmocka_unit_test_setup(revoked_certificates_are_known_by_issuer_and_serial, setup),
        cmocka_unit_test_setup(a_valid_response_is_stapled, setup),
        cmocka_unit_test_setup(a_response_that_does_not_fit_is_left_out, setup),
        cmocka_unit_test_setup(the_chain_tells_who_may_sign, setup),
        cmocka_unit_test_setup(sessions_outlive_a_new_certificate_but_not_new_rules, setup),
        cmocka_unit_test_setup(a_failure_tells_what_is_known, setup),
    };
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
