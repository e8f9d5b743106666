#include "lib/net_harness.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <sys/stat.h>

#include "lib/pki.h"
#include "net/crypto.h"

enum { YEAR_S = 365 * 86400 };

// What all tests share: our CA with a server and some clients, and a CA nobody knows.
static struct {
    struct pki pki;
    struct pki_cert ca, server, client, expired, wrong_use, stranger_ca, stranger;
    const char *ca_file, *cert_file, *key_file, *other_key_file;
} t;
static struct harness h;
static SSL_SESSION *ticket; // of the last client
static unsigned tickets;

static int group_setup(void **state)
{
    (void)state;
    pki_init(&t.pki);
    t.ca = pki_issue(&t.pki, NULL, PKI_CA, "Test CA", YEAR_S);
    t.server = pki_issue(&t.pki, &t.ca, PKI_SERVER, "localhost", YEAR_S);
    t.client = pki_issue(&t.pki, &t.ca, PKI_CLIENT, "device-1", YEAR_S);
    t.expired = pki_issue(&t.pki, &t.ca, PKI_CLIENT, "device-old", -60);
    t.wrong_use = pki_issue(&t.pki, &t.ca, PKI_SERVER, "device-server", YEAR_S);
    t.stranger_ca = pki_issue(&t.pki, NULL, PKI_CA, "Test CA", YEAR_S); // the same name
    t.stranger = pki_issue(&t.pki, &t.stranger_ca, PKI_CLIENT, "device-1", YEAR_S);
    t.ca_file = pki_write_cert(&t.pki, "ca.pem", &t.ca);
    t.cert_file = pki_write_cert(&t.pki, "server.pem", &t.server);
    t.key_file = pki_write_key(&t.pki, "server.key", &t.server);
    t.other_key_file = pki_write_key(&t.pki, "other.key", &t.client);
    return 0;
}

static int group_teardown(void **state)
{
    (void)state;
    struct pki_cert *all[] = {&t.ca, &t.server, &t.client, &t.expired, &t.wrong_use, &t.stranger_ca, &t.stranger};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        pki_cert_release(all[i]);
    }
    pki_release(&t.pki);
    return 0;
}

static struct tls_server_conf server_conf(void)
{
    return (struct tls_server_conf){.cert_file = t.cert_file,
                                    .key_file = t.key_file,
                                    .client_ca_file = t.ca_file,
                                    .alpn = {"mqtt", "http/1.1", NULL}};
}

static void start_with(const struct tls_server_conf *conf)
{
    struct err err = {0};
    h.conf.tls = tls_server_new(conf, &err);
    if (h.conf.tls == NULL) {
        fail_msg("%s", err.text);
    }
    harness_start(&h);
    tls_unref(h.conf.tls); // the listener has its own
}

static int setup(void **state)
{
    (void)state;
    harness_init(&h);
    return 0;
}

// ---- the client ----

struct client {
    SSL_CTX *ctx;
    SSL *ssl;
    int fd;
    int rc; // of SSL_connect
};

static int keep_ticket(SSL *s, SSL_SESSION *session)
{
    (void)s;
    SSL_SESSION_free(ticket);
    ticket = session;
    tickets++;
    return 1;
}

static struct client client_new(const struct pki_cert *cert, int max_version)
{
    struct client c = {.ctx = SSL_CTX_new(TLS_client_method())};
    assert_non_null(c.ctx);
    assert_int_equal(SSL_CTX_load_verify_file(c.ctx, t.ca_file), 1);
    SSL_CTX_set_verify(c.ctx, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_session_cache_mode(c.ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(c.ctx, keep_ticket);
    if (max_version != 0) {
        SSL_CTX_set_min_proto_version(c.ctx, 0);
        SSL_CTX_set_max_proto_version(c.ctx, max_version);
        SSL_CTX_set_security_level(c.ctx, 0);
    }
    if (cert != NULL) {
        assert_int_equal(SSL_CTX_use_certificate(c.ctx, cert->cert), 1);
        assert_int_equal(SSL_CTX_use_PrivateKey(c.ctx, cert->key), 1);
    }
    c.ssl = SSL_new(c.ctx);
    assert_non_null(c.ssl);
    assert_int_equal(SSL_set1_host(c.ssl, "localhost"), 1);
    assert_int_equal(SSL_set_tlsext_host_name(c.ssl, "localhost"), 1);
    return c;
}

static void client_connect(struct client *c)
{
    tickets = 0;
    c->fd = dial(&h);
    assert_int_equal(SSL_set_fd(c->ssl, c->fd), 1);
    ERR_clear_error();
    c->rc = SSL_connect(c->ssl);
}

static struct client client_dial(const struct pki_cert *cert, int max_version)
{
    struct client c = client_new(cert, max_version);
    client_connect(&c);
    return c;
}

static void client_free(struct client *c)
{
    SSL_set_shutdown(c->ssl, SSL_SENT_SHUTDOWN); // sends nothing; or OpenSSL takes the session for a broken one
    SSL_free(c->ssl);
    SSL_CTX_free(c->ctx);
    close(c->fd);
}

static void client_write(struct client *c, const char *p, size_t len)
{
    size_t n = 0;
    assert_int_equal(SSL_write_ex(c->ssl, p, len, &n), 1);
    assert_int_equal(n, len);
}

static void client_say(struct client *c, const char *text)
{
    client_write(c, text, strlen(text));
}

static void client_expect(struct client *c, const char *want)
{
    char got[1024] = "";
    size_t len = strlen(want), off = 0, n = 0;
    assert_true(len < sizeof(got));
    while (off < len) {
        if (SSL_read_ex(c->ssl, got + off, len - off, &n) != 1) {
            fail_msg("TLS ended: %s", ERR_reason_error_string(ERR_peek_error()));
        }
        off += n;
    }
    assert_string_equal(got, want);
}

static size_t client_read_to_end(struct client *c)
{
    static char sink[65536];
    size_t total = 0, n = 0;
    while (SSL_read_ex(c->ssl, sink, sizeof(sink), &n) == 1) {
        total += n;
    }
    return total;
}

// Reads until the alert is there; its text.
static const char *client_alert(struct client *c)
{
    char byte[16];
    size_t n = 0;
    ERR_clear_error();
    assert_int_equal(SSL_read_ex(c->ssl, byte, sizeof(byte), &n), 0);
    const char *text = ERR_reason_error_string(ERR_peek_error());
    return text != NULL ? text : "no alert";
}

static void expect_tls_failure(const char *text)
{
    for (int i = 0; i < 3000; i++) {
        pthread_mutex_lock(&h.lock);
        bool there = strstr(h.tls_failure, text) != NULL;
        pthread_mutex_unlock(&h.lock);
        if (there) {
            return;
        }
        usleep(1000);
    }
    fail_msg("expected '%s', got '%s'", text, h.tls_failure);
}

// ---- contexts ----

static void files_that_do_not_load_are_errors(void **state)
{
    (void)state;
    const char *empty = pki_path(&t.pki, "empty.pem");
    FILE *f = fopen(empty, "w");
    assert_non_null(f);
    fclose(f);
    const char *locked = pki_path(&t.pki, "locked.key"); // with a passphrase: no question may be asked
    f = fopen(locked, "w");
    assert_non_null(f);
    assert_int_equal(
        PEM_write_PrivateKey(f, t.server.key, EVP_aes_128_cbc(), (const unsigned char *)"pw", 2, NULL, NULL), 1);
    fclose(f);
    const struct {
        struct tls_server_conf conf;
        const char *text;
    } bad[] = {
        {.conf = {.cert_file = "/nowhere/cert.pem", .key_file = t.key_file},
         .text = "server certificate from /nowhere/cert.pem: No such file"},
        {.conf = {.cert_file = empty, .key_file = t.key_file}, .text = "server certificate from"},
        {.conf = {.cert_file = t.cert_file, .key_file = "/nowhere/key.pem"},
         .text = "server key from /nowhere/key.pem"},
        {.conf = {.cert_file = t.cert_file, .key_file = locked}, .text = "server key from"},
        {.conf = {.cert_file = t.cert_file, .key_file = t.cert_file}, .text = "server key from"},
        {.conf = {.cert_file = t.cert_file, .key_file = t.other_key_file}, .text = "does not belong"},
        {.conf = {.cert_file = t.cert_file, .key_file = t.key_file, .client_ca_file = "/nowhere/ca.pem"},
         .text = "client CA certificates from /nowhere/ca.pem"},
        {.conf = {.cert_file = t.cert_file, .key_file = t.key_file, .client_ca_file = empty},
         .text = "client CA certificates from"},
        {.conf = {.cert_file = t.cert_file,
                  .key_file = t.key_file,
                  .client_ca_file = t.ca_file,
                  .more_ca_file = "/nowhere/more.pem"},
         .text = "client CA certificates from /nowhere/more.pem"},
        {.conf = {.cert_file = t.cert_file,
                  .key_file = t.key_file,
                  .client_ca_file = t.ca_file,
                  .crl_file = "/nowhere/crl.pem"},
         .text = "revocation lists from /nowhere/crl.pem"},
        {.conf = {.cert_file = t.cert_file, .key_file = t.key_file, .client_ca_file = t.ca_file, .crl_file = t.ca_file},
         .text = "revocation lists from"},
        {.conf = {.cert_file = t.cert_file, .key_file = t.key_file, .ocsp_file = t.ca_file},
         .text = "it cannot be read"},
        {.conf = {.cert_file = t.cert_file, .key_file = t.key_file, .alpn = {""}}, .text = "1 to 127 bytes"},
        {.conf = {.cert_file = t.cert_file, .key_file = t.key_file, .min_version = 0x0302}, .text = "0x0303 (1.2)"},
        {.conf = {.cert_file = t.cert_file, .key_file = t.key_file, .ciphers = "NO-SUCH-SUITE"},
         .text = "no TLS 1.2 cipher suite in 'NO-SUCH-SUITE'"},
        {.conf = {.cert_file = t.cert_file, .key_file = t.key_file, .ciphers = "ECDHE+AESGCM:AES128-SHA"},
         .text = "cipher suite AES128-SHA cannot be used"},
        {.conf = {.cert_file = t.cert_file, .key_file = t.key_file, .ciphers = "AES128-GCM-SHA256"},
         .text = "cipher suite AES128-GCM-SHA256 cannot be used"},
        {.conf = {.cert_file = t.cert_file, .key_file = t.key_file, .ciphersuites = "TLS_NO_SUCH"},
         .text = "unknown TLS 1.3 cipher suite in 'TLS_NO_SUCH'"},
        {.conf = {.cert_file = t.cert_file, .key_file = t.key_file, .ciphersuites = "TLS_AES_128_CCM_SHA256"},
         .text = "cipher suite TLS_AES_128_CCM_SHA256 cannot be used"},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct err err = {0};
        assert_null(tls_server_new(&bad[i].conf, &err));
        if (strstr(err.text, bad[i].text) == NULL) {
            fail_msg("expected '%s', got '%s'", bad[i].text, err.text);
        }
    }
    assert_null(tls_ref(NULL));
    tls_unref(NULL);
}

// ---- handshakes that succeed ----

static void echo_with(int max_version, const char *version)
{
    struct client c = client_dial(NULL, max_version);
    assert_int_equal(c.rc, 1);
    client_say(&c, "echo hello\n");
    client_expect(&c, "hello\n");
    assert_string_equal(h.peer.version, version);
    assert_true(strstr(h.peer.cipher, "GCM") != NULL || strstr(h.peer.cipher, "CHACHA20") != NULL);
    assert_false(h.peer.has_cert);
    assert_false(h.peer.resumed);
    client_say(&c, "close\n");
    client_expect(&c, "bye\n");
    assert_int_equal(client_read_to_end(&c), 0);
    assert_int_equal(SSL_get_shutdown(c.ssl) & SSL_RECEIVED_SHUTDOWN, SSL_RECEIVED_SHUTDOWN); // close_notify came
    client_free(&c);
}

static void both_versions(void **state)
{
    (void)state;
    struct tls_server_conf conf = server_conf();
    start_with(&conf);
    echo_with(TLS1_3_VERSION, "TLSv1.3");
    echo_with(TLS1_2_VERSION, "TLSv1.2");
    assert_true(wait_none_open(&h));
    harness_end(&h);
}

static void client_certificate_is_known(void **state)
{
    (void)state;
    struct tls_server_conf conf = server_conf();
    start_with(&conf);
    struct client c = client_dial(&t.client, 0);
    client_say(&c, "echo x\n");
    client_expect(&c, "x\n");
    assert_true(h.peer.has_cert);
    assert_string_equal(h.peer.subject_cn, "device-1");
    unsigned char *der = NULL;
    uint8_t want[SHA256_LEN];
    int len = i2d_X509(t.client.cert, &der);
    crypto_sha256(slice_make(der, (size_t)len), want);
    assert_memory_equal(h.peer.cert_sha256, want, sizeof(want));
    OPENSSL_free(der);
    der = NULL;
    len = i2d_PUBKEY(t.client.key, &der);
    crypto_sha256(slice_make(der, (size_t)len), want);
    assert_memory_equal(h.peer.spki_sha256, want, sizeof(want));
    OPENSSL_free(der);
    int64_t left_s = h.peer.not_after_us / 1000000 - time(NULL);
    assert_in_range(left_s, YEAR_S - 600, YEAR_S + 600);
    assert_true(slice_eq_str(h.peer.sni, "localhost"));
    client_free(&c);
    harness_end(&h);
}

static void alpn_is_agreed_or_refused(void **state)
{
    (void)state;
    struct tls_server_conf conf = server_conf();
    start_with(&conf);
    static const unsigned char both[] = "\x08http/1.1\x04mqtt", none[] = "\x02h2";
    struct client c = client_new(NULL, 0);
    SSL_set_alpn_protos(c.ssl, both, sizeof(both) - 1);
    client_connect(&c);
    client_say(&c, "echo x\n");
    client_expect(&c, "x\n");
    assert_true(slice_eq_str(h.peer.alpn, "mqtt")); // the server's order
    client_free(&c);
    c = client_new(NULL, 0);
    SSL_set_alpn_protos(c.ssl, none, sizeof(none) - 1);
    client_connect(&c);
    assert_int_equal(c.rc, -1);
    expect_tls_failure("no application protocol (ALPN) in common");
    client_free(&c);
    assert_true(wait_none_open(&h));
    harness_end(&h);
}

// ---- handshakes that fail: the reason is known on both sides, and the slot comes back ----

static void refuse_cert(const struct pki_cert *cert, int version, const char *reason, const char *alert)
{
    struct client c = client_dial(cert, version);
    if (c.rc ==
        1) { // TLS 1.3: the client is through before the server has looked; its first words must not kill the alert
        client_say(&c, "echo early\n");
        assert_string_equal(client_alert(&c), alert);
    } else {
        assert_string_equal(ERR_reason_error_string(ERR_peek_error()), alert);
    }
    expect_tls_failure(reason);
    client_free(&c);
    assert_true(wait_none_open(&h));
}

static void bad_client_certificates(void **state)
{
    (void)state;
    struct tls_server_conf conf = server_conf();
    start_with(&conf);
    for (int v = TLS1_2_VERSION; v <= TLS1_3_VERSION; v++) {
        refuse_cert(&t.expired, v, "client certificate refused: certificate has expired",
                    "sslv3 alert certificate expired");
        refuse_cert(&t.stranger, v, "client certificate refused: ", "tlsv1 alert decrypt error");
        refuse_cert(&t.wrong_use, v, "client certificate refused: unsuitable certificate purpose",
                    "sslv3 alert unsupported certificate");
    }
    assert_int_equal(h.opened, 0);
    struct listener_stats st;
    listener_stats(h.listener, &st);
    assert_int_equal(st.tls_failures, 6);
    echo_with(0, "TLSv1.3"); // a good client is served at once
    harness_end(&h);
}

static void unknown_ca(void **state)
{
    (void)state;
    struct pki_cert other = pki_issue(&t.pki, NULL, PKI_CA, "Another CA", YEAR_S);
    struct pki_cert client = pki_issue(&t.pki, &other, PKI_CLIENT, "device-1", YEAR_S);
    struct pki_cert self = pki_issue(&t.pki, NULL, PKI_CLIENT, "self-made", YEAR_S);
    struct tls_server_conf conf = server_conf();
    start_with(&conf);
    refuse_cert(&client, 0, "client certificate refused: unknown CA", "tlsv1 alert unknown ca");
    refuse_cert(&self, 0, "client certificate refused: unknown CA", "tlsv1 alert unknown ca");
    harness_end(&h);
    pki_cert_release(&other);
    pki_cert_release(&client);
    pki_cert_release(&self);
}

// A certificate from elsewhere than the plain case: who signed, from when, with which key, and the chain that comes along.
static void certificate_matrix(void **state)
{
    (void)state;
    struct pki_cert middle = pki_issue(&t.pki, &t.ca, PKI_CA, "Site CA", YEAR_S);
    struct pki_cert below = pki_issue(&t.pki, &middle, PKI_CLIENT, "device-2", YEAR_S);
    struct pki_cert old_middle = pki_issue(&t.pki, &t.ca, PKI_CA, "Old Site CA", -60);
    struct pki_cert below_old = pki_issue(&t.pki, &old_middle, PKI_CLIENT, "device-3", YEAR_S);
    struct pki_cert no_ca = pki_issue(&t.pki, &t.client, PKI_CLIENT, "device-4", YEAR_S);
    struct pki_cert future = pki_issue_with(&t.pki, &t.ca, PKI_CLIENT, "device-5", 3600, YEAR_S, EVP_EC_gen("P-256"));
    struct pki_cert weak = pki_issue_with(&t.pki, &t.ca, PKI_CLIENT, "device-6", -60, YEAR_S, EVP_RSA_gen(1024));
    struct pki_cert rsa = pki_issue_with(&t.pki, &t.ca, PKI_CLIENT, "device-7", -60, YEAR_S, EVP_RSA_gen(2048));
    struct pki_cert ed =
        pki_issue_with(&t.pki, &t.ca, PKI_CLIENT, "device-8", -60, YEAR_S, EVP_PKEY_Q_keygen(NULL, NULL, "ED25519"));
    const struct {
        struct pki_cert *cert, *chain;
        const char *failure; // NULL: accepted
    } cases[] = {
        {&below, &middle, NULL},
        {&below, NULL, "unknown CA"},
        {&below_old, &old_middle, "certificate has expired"},
        {&no_ca, &t.client, "invalid CA certificate"},
        {&future, NULL, "certificate is not yet valid"},
        {&weak, NULL, "EE certificate key too weak"},
        {&rsa, NULL, NULL},
        {&ed, NULL, NULL},
    };
    struct tls_server_conf conf = server_conf();
    start_with(&conf);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct client c = client_new(NULL, 0);
        SSL_set_security_level(c.ssl, 0);
        assert_int_equal(SSL_use_certificate(c.ssl, cases[i].cert->cert), 1);
        assert_int_equal(SSL_use_PrivateKey(c.ssl, cases[i].cert->key), 1);
        SSL_set_mode(c.ssl, SSL_MODE_NO_AUTO_CHAIN);
        if (cases[i].chain != NULL) {
            assert_int_equal(SSL_add1_chain_cert(c.ssl, cases[i].chain->cert), 1);
        }
        h.tls_failure[0] = '\0';
        client_connect(&c);
        if (cases[i].failure == NULL) {
            client_say(&c, "echo x\n");
            client_expect(&c, "x\n");
            assert_true(h.peer.has_cert);
        } else {
            assert_non_null(strstr(client_alert(&c), "alert"));
            expect_tls_failure(cases[i].failure);
        }
        client_free(&c);
        assert_true(wait_none_open(&h));
    }
    assert_int_equal(h.opened, 3);
    harness_end(&h);
    struct pki_cert *all[] = {&middle, &below, &old_middle, &below_old, &no_ca, &future, &weak, &rsa, &ed};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        pki_cert_release(all[i]);
    }
}

static void client_that_refuses_us(void **state)
{
    (void)state;
    struct tls_server_conf conf = server_conf();
    start_with(&conf);
    struct client c = client_new(NULL, 0);
    X509_STORE *store = X509_STORE_new();
    assert_int_equal(X509_STORE_add_cert(store, t.stranger_ca.cert), 1);
    SSL_CTX_set_cert_store(c.ctx, store);
    SSL_set0_verify_cert_store(c.ssl, X509_STORE_new());
    client_connect(&c);
    assert_int_equal(c.rc, -1);
    expect_tls_failure("the client refused: tlsv1 alert unknown ca");
    client_free(&c);
    assert_true(wait_none_open(&h));
    harness_end(&h);
}

static void old_versions_and_weak_ciphers(void **state)
{
    (void)state;
    struct tls_server_conf conf = server_conf();
    start_with(&conf);
    struct client c = client_dial(NULL, TLS1_1_VERSION);
    assert_int_equal(c.rc, -1);
    expect_tls_failure("TLS 1.2 or 1.3 is needed");
    client_free(&c);
    static const char *const weak[] = {"AES128-SHA", "ECDHE-ECDSA-AES128-SHA256", "DHE-RSA-AES256-GCM-SHA384"};
    for (size_t i = 0; i < sizeof(weak) / sizeof(weak[0]); i++) {
        c = client_new(NULL, TLS1_2_VERSION);
        assert_int_equal(SSL_set_cipher_list(c.ssl, weak[i]), 1);
        h.tls_failure[0] = '\0';
        client_connect(&c);
        assert_int_equal(c.rc, -1);
        expect_tls_failure("no shared cipher");
        client_free(&c);
        assert_true(wait_none_open(&h));
    }
    harness_end(&h);
}

static void only_tls13_when_asked(void **state)
{
    (void)state;
    struct tls_server_conf conf = server_conf();
    conf.min_version = TLS1_3_VERSION;
    start_with(&conf);
    struct client c = client_dial(NULL, TLS1_2_VERSION);
    assert_int_equal(c.rc, -1);
    client_free(&c);
    echo_with(0, "TLSv1.3");
    harness_end(&h);
}

static void not_tls_at_all(void **state)
{
    (void)state;
    struct tls_server_conf conf = server_conf();
    start_with(&conf);
    size_t n = 0;
    int fd = dial(&h);
    say(fd, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    (void)read_to_end(fd, &n);
    expect_tls_failure("plain HTTP on a TLS port");
    close(fd);
    fd = dial(&h);
    send_all_bytes(fd, "\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00", 14); // a CONNECT packet
    (void)read_to_end(fd, &n);
    expect_tls_failure("not TLS");
    close(fd);
    fd = dial(&h);
    say(fd, "\x16\x03");
    close(fd);
    expect_tls_failure("closed by the client during the handshake");
    assert_true(wait_none_open(&h));
    struct listener_stats st;
    listener_stats(h.listener, &st);
    assert_int_equal(st.tls_failures, 3);
    close(dial(&h)); // came and went without a word: nothing to report
    assert_true(wait_none_open(&h));
    listener_stats(h.listener, &st);
    assert_int_equal(st.tls_failures, 3);
    assert_int_equal(h.opened, 0);
    harness_end(&h);
}

struct trickle {
    int inside, outside;
};
// Carries bytes between a client and the server, what the client says one by one.
static void *trickle_hello(void *arg)
{
    const struct trickle *tr = arg;
    char b[4096];
    struct pollfd fds[2] = {{.fd = tr->inside, .events = POLLIN}, {.fd = tr->outside, .events = POLLIN}};
    while (poll(fds, 2, 5000) > 0) {
        if (fds[0].revents != 0) {
            ssize_t n = recv(tr->inside, b, 1, 0);
            if (n <= 0) {
                break;
            }
            send_all_bytes(tr->outside, b, 1);
        }
        if (fds[1].revents != 0) {
            ssize_t n = recv(tr->outside, b, sizeof(b), 0);
            if (n <= 0) {
                break;
            }
            send_all_bytes(tr->inside, b, (size_t)n);
        }
    }
    return NULL;
}

static void slow_handshake_times_out(void **state)
{
    (void)state;
    h.conf.service.open_timeout_ms = 150;
    struct tls_server_conf conf = server_conf();
    start_with(&conf);
    int fd = dial(&h);
    say(fd, "\x16\x03\x01\x01"); // and nothing more
    size_t n = 0;
    (void)read_to_end(fd, &n);
    expect_tls_failure("no TLS handshake within 150 ms");
    close(fd);
    assert_true(wait_none_open(&h));
    harness_end(&h);
}

// A ClientHello in single bytes is fine as long as it comes in time.
static void hello_in_single_bytes(void **state)
{
    (void)state;
    struct tls_server_conf conf = server_conf();
    start_with(&conf);
    struct client c = client_new(NULL, 0);
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    SSL_set_fd(c.ssl, pair[0]);
    c.fd = dial(&h);
    pthread_t th;
    struct trickle tr = {pair[1], c.fd};
    assert_int_equal(pthread_create(&th, NULL, trickle_hello, &tr), 0);
    assert_int_equal(SSL_connect(c.ssl), 1);
    shutdown(pair[0], SHUT_RDWR);
    pthread_join(th, NULL);
    close(pair[0]);
    close(pair[1]);
    client_free(&c);
    assert_string_equal(h.tls_failure, "");
    assert_true(wait_none_open(&h));
    harness_end(&h);
}

// Damaged ciphertext in an open connection.
static void bad_record_closes(void **state)
{
    (void)state;
    struct tls_server_conf conf = server_conf();
    start_with(&conf);
    struct client c = client_dial(NULL, 0);
    client_say(&c, "echo x\n");
    client_expect(&c, "x\n");
    send_all_bytes(c.fd, "\x17\x03\x03\x00\x20zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz", 37);
    assert_string_equal(client_alert(&c), "sslv3 alert bad record mac");
    assert_true(wait_until(&h.causes[CLOSE_TLS], 1));
    assert_non_null(strstr(h.why, "bad record mac"));
    client_free(&c);
    harness_end(&h);
}

static void end_without_close_notify_is_noted(void **state)
{
    (void)state;
    struct tls_server_conf conf = server_conf();
    start_with(&conf);
    struct client c = client_dial(NULL, 0);
    client_say(&c, "echo x\n");
    client_expect(&c, "x\n");
    client_free(&c);
    assert_true(wait_until(&h.causes[CLOSE_EOF], 1));
    assert_string_equal(h.why, "without TLS close_notify");
    c = client_dial(NULL, 0);
    client_say(&c, "echo x\n");
    client_expect(&c, "x\n");
    SSL_shutdown(c.ssl);
    assert_true(wait_until(&h.causes[CLOSE_EOF], 2));
    assert_string_equal(h.why, "");
    client_free(&c);
    harness_end(&h);
}

// ---- tickets ----

static struct client resume_with(SSL_SESSION *session, const struct pki_cert *cert, int version)
{
    struct client c = client_new(cert, version);
    assert_int_equal(SSL_set_session(c.ssl, session), 1);
    client_connect(&c);
    assert_int_equal(c.rc, 1);
    client_say(&c, "echo again\n");
    client_expect(&c, "again\n");
    return c;
}

static void tickets_resume(void **state)
{
    (void)state;
    struct tls_server_conf conf = server_conf();
    start_with(&conf);
    for (int v = TLS1_2_VERSION; v <= TLS1_3_VERSION; v++) {
        struct client c = client_dial(&t.client, v);
        client_say(&c, "echo x\n");
        client_expect(&c, "x\n");
        assert_int_equal(tickets, 1);
        uint8_t spki[32];
        memcpy(spki, h.peer.spki_sha256, sizeof(spki));
        client_free(&c);
        SSL_SESSION *first = ticket;
        ticket = NULL;
        c = resume_with(first, &t.client, v);
        assert_true(h.peer.resumed);
        assert_true(h.peer.has_cert); // the identity comes out of the ticket
        assert_memory_equal(h.peer.spki_sha256, spki, sizeof(spki));
        assert_string_equal(h.peer.subject_cn, "device-1");
        client_free(&c);
        SSL_SESSION_free(first);
    }
    harness_end(&h);
    SSL_SESSION_free(ticket);
    ticket = NULL;
}

// A certificate that runs out between two connections: the ticket is worth nothing then.
static void ticket_of_an_expired_certificate(void **state)
{
    (void)state;
    struct pki_cert brief = pki_issue(&t.pki, &t.ca, PKI_CLIENT, "device-brief", 4);
    struct tls_server_conf conf = server_conf();
    start_with(&conf);
    struct client c = client_dial(&brief, 0);
    client_say(&c, "echo x\n");
    client_expect(&c, "x\n");
    client_free(&c);
    SSL_SESSION *session = ticket;
    ticket = NULL;
    assert_non_null(session);
    usleep(5100000);
    c = client_new(&brief, 0);
    assert_int_equal(SSL_set_session(c.ssl, session), 1);
    client_connect(&c);
    assert_string_equal(client_alert(&c), "sslv3 alert certificate expired");
    expect_tls_failure("certificate has expired");
    client_free(&c);
    SSL_SESSION_free(session);
    pki_cert_release(&brief);
    harness_end(&h);
}

static void reload_applies_to_new_connections(void **state)
{
    (void)state;
    struct tls_server_conf conf = server_conf();
    start_with(&conf);
    struct client before = client_dial(NULL, 0);
    client_say(&before, "echo x\n");
    client_expect(&before, "x\n");
    SSL_SESSION *old = ticket;
    ticket = NULL;

    struct pki_cert renewed = pki_issue(&t.pki, &t.ca, PKI_SERVER, "localhost", YEAR_S);
    conf.cert_file = pki_write_cert(&t.pki, "renewed.pem", &renewed);
    conf.key_file = pki_write_key(&t.pki, "renewed.key", &renewed);
    struct tls_ctx *ctx = tls_server_new(&conf, NULL);
    assert_non_null(ctx);
    listener_set_tls(h.listener, ctx);
    tls_unref(ctx);
    struct client after = resume_with(old, NULL, 0);
    assert_false(h.peer.resumed); // old tickets end with the old context
    X509 *seen = SSL_get1_peer_certificate(after.ssl);
    assert_int_equal(X509_cmp(seen, renewed.cert), 0);
    X509_free(seen);
    client_say(&before, "echo still\n");
    client_expect(&before, "still\n");
    client_free(&before);
    client_free(&after);
    SSL_SESSION_free(old);
    SSL_SESSION_free(ticket);
    ticket = NULL;
    pki_cert_release(&renewed);
    harness_end(&h);
}

// ---- bytes ----

static void long_lines_and_pauses(void **state)
{
    (void)state;
    static char line[60000];
    struct tls_server_conf conf = server_conf();
    start_with(&conf);
    struct client c = client_dial(NULL, 0);
    client_say(&c, "echo ");
    memset(line, 'y', sizeof(line));
    client_write(&c, line, sizeof(line));
    client_say(&c, "\n");
    static char got[60001];
    size_t off = 0, n = 0;
    while (off < sizeof(got)) {
        assert_int_equal(SSL_read_ex(c.ssl, got + off, sizeof(got) - off, &n), 1);
        off += n;
    }
    assert_memory_equal(got, line, sizeof(line));
    for (int i = 0; i < 30; i++) { // records pile up behind each pause
        client_say(&c, "pause\necho a\nyield\necho b\n");
        client_say(&c, "echo c\n");
    }
    for (int i = 0; i < 30; i++) {
        client_expect(&c, "a\nb\nc\n");
    }
    client_free(&c);
    harness_end(&h);
}

static void big_streams(void **state)
{
    (void)state;
    h.conf.service.out_max = 16 * 1024 * 1024;
    struct tls_server_conf conf = server_conf();
    start_with(&conf);
    struct client c = client_dial(NULL, 0);
    client_say(&c, "stream 10000000\n");
    assert_int_equal(client_read_to_end(&c), 10000000);
    client_free(&c);
    c = client_dial(NULL, 0);
    client_say(&c, "flood 12000000\nclose\n");
    assert_int_equal(client_read_to_end(&c), 12000000 / 4096 * 4096 + 4);
    client_free(&c);
    assert_true(wait_none_open(&h));
    harness_end(&h);
}

static void input_limit_holds_behind_tls(void **state)
{
    (void)state;
    static char line[5000];
    memset(line, 'x', sizeof(line));
    h.authenticate = false;
    struct tls_server_conf conf = server_conf();
    start_with(&conf);
    struct client c = client_dial(NULL, 0);
    client_write(&c, line, sizeof(line));
    (void)client_read_to_end(&c);
    assert_true(wait_until(&h.causes[CLOSE_OVERFLOW], 1));
    assert_non_null(strstr(h.why, "4096 bytes allowed before authentication"));
    client_free(&c);
    harness_end(&h);
}

static void key_updates_are_followed(void **state)
{
    (void)state;
    struct tls_server_conf conf = server_conf();
    start_with(&conf);
    struct client c = client_dial(NULL, TLS1_3_VERSION);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(SSL_key_update(c.ssl, SSL_KEY_UPDATE_REQUESTED), 1);
        client_say(&c, "echo x\n");
        client_expect(&c, "x\n");
    }
    client_free(&c);
    harness_end(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(files_that_do_not_load_are_errors, setup),
        cmocka_unit_test_setup(both_versions, setup),
        cmocka_unit_test_setup(client_certificate_is_known, setup),
        cmocka_unit_test_setup(alpn_is_agreed_or_refused, setup),
        cmocka_unit_test_setup(bad_client_certificates, setup),
        cmocka_unit_test_setup(unknown_ca, setup),
        cmocka_unit_test_setup(certificate_matrix, setup),
        cmocka_unit_test_setup(client_that_refuses_us, setup),
        cmocka_unit_test_setup(old_versions_and_weak_ciphers, setup),
        cmocka_unit_test_setup(only_tls13_when_asked, setup),
        cmocka_unit_test_setup(not_tls_at_all, setup),
        cmocka_unit_test_setup(slow_handshake_times_out, setup),
        cmocka_unit_test_setup(hello_in_single_bytes, setup),
        cmocka_unit_test_setup(bad_record_closes, setup),
        cmocka_unit_test_setup(end_without_close_notify_is_noted, setup),
        cmocka_unit_test_setup(tickets_resume, setup),
        cmocka_unit_test_setup(ticket_of_an_expired_certificate, setup),
        cmocka_unit_test_setup(reload_applies_to_new_connections, setup),
        cmocka_unit_test_setup(long_lines_and_pauses, setup),
        cmocka_unit_test_setup(big_streams, setup),
        cmocka_unit_test_setup(input_limit_holds_behind_tls, setup),
        cmocka_unit_test_setup(key_updates_are_followed, setup),
    };
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
