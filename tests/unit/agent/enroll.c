#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include "agent/enroll.h"
#include "base/clock.h"
#include "base/log.h"

struct world {
    char path[64];
    struct statedir dir;
    struct keys keys;
    struct enroll e;
};

static const char *const files[] = {"key.pem", "cert.pem", "next-key.pem", "next-cert.pem"};

static int setup(void **state)
{
    log_set_level(LOG_ERROR);
    struct world *w = calloc(1, sizeof(*w));
    assert_non_null(w);
    snprintf(w->path, sizeof(w->path), "/tmp/muster-enroll-XXXXXX");
    assert_non_null(mkdtemp(w->path));
    struct err err;
    assert_int_equal(statedir_open(&w->dir, w->path, &err), ST_OK);
    w->keys = keys_file(&w->dir);
    *state = w;
    return 0;
}

static void wipe(struct world *w)
{
    for (size_t i = 0; i < 4; i++) {
        statedir_remove(&w->dir, files[i], NULL);
    }
    statedir_remove(&w->dir, "device", NULL);
}

static int teardown(void **state)
{
    struct world *w = *state;
    wipe(w);
    statedir_remove(&w->dir, "lock", NULL);
    statedir_close(&w->dir);
    int r = rmdir(w->path);
    free(w);
    return r;
}

// What a server does: a certificate for the key of the request, 300 s long, signed by a key made for the occasion.
static struct slice sign(struct slice csr_pem, char *dst, size_t size)
{
    BIO *in = BIO_new_mem_buf(csr_pem.p, (int)csr_pem.len);
    X509_REQ *req = PEM_read_bio_X509_REQ(in, NULL, NULL, NULL);
    assert_non_null(req);
    assert_int_equal(X509_REQ_verify(req, X509_REQ_get0_pubkey(req)), 1);
    EVP_PKEY *ca = EVP_EC_gen("P-256");
    X509 *cert = X509_new();
    X509_set_version(cert, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
    X509_gmtime_adj(X509_getm_notBefore(cert), -30);
    X509_gmtime_adj(X509_getm_notAfter(cert), 270);
    X509_set_pubkey(cert, X509_REQ_get0_pubkey(req));
    assert_true(X509_sign(cert, ca, EVP_sha256()) > 0);
    BIO *out = BIO_new(BIO_s_mem());
    PEM_write_bio_X509(out, cert);
    int len = BIO_read(out, dst, (int)size);
    assert_true(len > 0);
    BIO_free(in);
    BIO_free(out);
    X509_REQ_free(req);
    X509_free(cert);
    EVP_PKEY_free(ca);
    return slice_make(dst, (size_t)len);
}

static struct slice cert_for(struct world *w, enum key_slot slot, char *dst, size_t size)
{
    uint8_t mem[4096];
    struct buf csr = buf_fixed(mem, sizeof(mem));
    struct err err;
    assert_int_equal(w->keys.ops->csr(&w->keys, slot, "dev", &csr, &err), ST_OK);
    return sign(buf_view(&csr), dst, size);
}

static void public_key(struct world *w, enum key_slot slot, char *dst, size_t size)
{
    char cert[4096];
    struct slice pem = cert_for(w, slot, cert, sizeof(cert));
    BIO *in = BIO_new_mem_buf(pem.p, (int)pem.len);
    X509 *x = PEM_read_bio_X509(in, NULL, NULL, NULL);
    BIO *out = BIO_new(BIO_s_mem());
    PEM_write_bio_PUBKEY(out, X509_get0_pubkey(x));
    int len = BIO_read(out, dst, (int)size - 1);
    dst[len] = '\0';
    BIO_free(in);
    BIO_free(out);
    X509_free(x);
}

static enum enroll_state reopen(struct world *w)
{
    struct err err;
    assert_int_equal(enroll_open(&w->e, &w->dir, &w->keys, &err), ST_OK);
    return w->e.state;
}

static void table_is_complete(void **state)
{
    (void)state;
    static const char expected[16][16] = {
        "new",      "keyed",        "orphan", "ready",        "leftover",    "leftover",    "orphan",      "renewing",
        "leftover", "promote_cert", "orphan", "promote_cert", "promote_key", "promote_key", "promote_key", "trying"};
    for (unsigned has = 0; has < 16; has++) {
        assert_string_equal(enroll_state_text(enroll_state_of(has)), expected[has]);
    }
}

static void a_device_lives(void **state)
{
    struct world *w = *state;
    struct err err;
    char pem[4096];
    char first[512];
    char second[512];
    char third[512];
    assert_int_equal(reopen(w), ENROLL_KEYED);
    assert_null(enroll_cert_file(&w->e));
    assert_int_equal(reopen(w), ENROLL_KEYED);
    struct stat st;
    char path[STATEDIR_PATH_MAX];
    statedir_path(&w->dir, "key.pem", path);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    public_key(w, KEY_CURRENT, first, sizeof(first));
    struct slice cert = cert_for(w, KEY_CURRENT, pem, sizeof(pem));
    assert_int_equal(enroll_certified(&w->e, "", cert, &err), ST_INVALID);
    assert_int_equal(enroll_certified(&w->e, "dev", SLICE("rubbish"), &err), ST_INVALID);
    assert_int_equal(enroll_renew(&w->e, &err), ST_CONFLICT);
    assert_int_equal(enroll_certified(&w->e, "dev", cert, &err), ST_OK);
    assert_int_equal(reopen(w), ENROLL_READY);
    assert_string_equal(w->e.device, "dev");
    assert_string_equal(enroll_cert_file(&w->e), "cert.pem");
    // Two thirds of the 270 s that were left when it came; the 30 s it was dated back do not count.
    int64_t wait_us = enroll_renew_at_us(&w->e) - clock_wall_us();
    assert_true(wait_us > 170 * INT64_C(1000000) && wait_us <= 180 * INT64_C(1000000));

    // A renewal that is refused leaves everything as it was.
    assert_int_equal(enroll_renew(&w->e, &err), ST_OK);
    assert_int_equal(reopen(w), ENROLL_RENEWING);
    assert_int_equal(enroll_renewed(&w->e, cert, &err), ST_INVALID); // the old key's
    assert_int_equal(enroll_abandon(&w->e, &err), ST_OK);
    assert_int_equal(reopen(w), ENROLL_READY);

    // One that works ends with the new key, and the old one is gone.
    assert_int_equal(enroll_renew(&w->e, &err), ST_OK);
    public_key(w, KEY_NEXT, second, sizeof(second));
    assert_string_not_equal(first, second);
    assert_int_equal(enroll_renewed(&w->e, cert_for(w, KEY_NEXT, pem, sizeof(pem)), &err), ST_OK);
    assert_int_equal(reopen(w), ENROLL_TRYING);
    assert_string_equal(enroll_cert_file(&w->e), "next-cert.pem");
    assert_int_equal(enroll_key_slot(&w->e), KEY_NEXT);
    assert_int_equal(enroll_confirm(&w->e, &err), ST_OK);
    assert_int_equal(reopen(w), ENROLL_READY);
    public_key(w, KEY_CURRENT, third, sizeof(third));
    assert_string_equal(second, third);
    assert_false(statedir_has(&w->dir, "next-key.pem") || statedir_has(&w->dir, "next-cert.pem"));
    assert_int_equal(enroll_confirm(&w->e, &err), ST_CONFLICT);

    assert_int_equal(enroll_forget(&w->e, &err), ST_OK);
    assert_int_equal(reopen(w), ENROLL_KEYED);
    assert_string_equal(w->e.device, "");
    wipe(w);
}

// From every set of files a start comes to rest, and never throws away a pair that belongs together.
static void every_crash_is_repaired(void **state)
{
    struct world *w = *state;
    char pem[4096];
    for (unsigned has = 0; has < 16; has++) {
        wipe(w);
        struct err err;
        char current[512] = "";
        char next[512] = "";
        assert_int_equal(statedir_write(&w->dir, "device", SLICE("dev"), 0644, &err), ST_OK);
        assert_int_equal(w->keys.ops->make(&w->keys, KEY_CURRENT, &err), ST_OK);
        assert_int_equal(w->keys.ops->make(&w->keys, KEY_NEXT, &err), ST_OK);
        public_key(w, KEY_CURRENT, current, sizeof(current));
        public_key(w, KEY_NEXT, next, sizeof(next));
        // After the first half of a promotion key.pem holds the new key.
        enum key_slot owner = (has & 4) == 0 && (has & 8) != 0 ? KEY_CURRENT : KEY_NEXT;
        statedir_write(&w->dir, "cert.pem", cert_for(w, KEY_CURRENT, pem, sizeof(pem)), 0644, &err);
        statedir_write(&w->dir, "next-cert.pem", cert_for(w, owner, pem, sizeof(pem)), 0644, &err);
        for (unsigned i = 0; i < 4; i++) {
            if ((has >> i & 1) == 0) {
                statedir_remove(&w->dir, files[i], NULL);
            }
        }
        enum enroll_state rest = reopen(w);
        static const enum enroll_state expected[16] = {ENROLL_KEYED, ENROLL_KEYED, ENROLL_KEYED, ENROLL_READY,
                                                       ENROLL_KEYED, ENROLL_KEYED, ENROLL_KEYED, ENROLL_RENEWING,
                                                       ENROLL_KEYED, ENROLL_READY, ENROLL_KEYED, ENROLL_READY,
                                                       ENROLL_READY, ENROLL_READY, ENROLL_READY, ENROLL_TRYING};
        assert_int_equal(rest, expected[has]);
        if (rest == ENROLL_READY) {
            SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
            char path[STATEDIR_PATH_MAX];
            statedir_path(&w->dir, enroll_cert_file(&w->e), path);
            assert_int_equal(SSL_CTX_use_certificate_chain_file(ctx, path), 1);
            assert_true(w->keys.ops->use(&w->keys, KEY_CURRENT, ctx));
            assert_int_equal(SSL_CTX_check_private_key(ctx), 1);
            SSL_CTX_free(ctx);
        }
    }
    wipe(w);
}

static void damage_is_told(void **state)
{
    struct world *w = *state;
    struct err err;
    char pem[4096];
    assert_int_equal(reopen(w), ENROLL_KEYED);
    assert_int_equal(enroll_certified(&w->e, "dev", cert_for(w, KEY_CURRENT, pem, sizeof(pem)), &err), ST_OK);
    assert_int_equal(statedir_write(&w->dir, "cert.pem", SLICE("no certificate"), 0644, &err), ST_OK);
    assert_int_equal(enroll_open(&w->e, &w->dir, &w->keys, &err), ST_CORRUPT);
    assert_non_null(strstr(err.text, "cert.pem is not a certificate"));
    char path[STATEDIR_PATH_MAX];
    statedir_path(&w->dir, "key.pem", path);
    assert_int_equal(chmod(path, 0644), 0);
    uint8_t mem[4096];
    struct buf csr = buf_fixed(mem, sizeof(mem));
    assert_int_equal(w->keys.ops->csr(&w->keys, KEY_CURRENT, "dev", &csr, &err), ST_INVALID);
    assert_non_null(strstr(err.text, "0600"));
    wipe(w);
}

static void one_agent_at_a_time(void **state)
{
    struct world *w = *state;
    struct statedir other;
    struct err err;
    assert_int_equal(statedir_open(&other, w->path, &err), ST_CONFLICT);
    assert_int_equal(statedir_open(&other, "/nonexistent/deep", &err), ST_NOT_FOUND);
    char long_path[600];
    memset(long_path, 'a', sizeof(long_path) - 1);
    long_path[sizeof(long_path) - 1] = '\0';
    assert_int_equal(statedir_open(&other, long_path, &err), ST_INVALID);
    struct buf small = buf_fixed(long_path, 3);
    assert_int_equal(statedir_write(&w->dir, "x", SLICE("four"), 0600, &err), ST_OK);
    assert_int_equal(statedir_read(&w->dir, "x", &small, &err), ST_TOO_LARGE);
    assert_int_equal(statedir_read(&w->dir, "y", &small, &err), ST_NOT_FOUND);
    assert_int_equal(statedir_remove(&w->dir, "x", &err), ST_OK);
    assert_int_equal(statedir_remove(&w->dir, "x", &err), ST_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(table_is_complete),       cmocka_unit_test(a_device_lives),
        cmocka_unit_test(every_crash_is_repaired), cmocka_unit_test(damage_is_told),
        cmocka_unit_test(one_agent_at_a_time),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
