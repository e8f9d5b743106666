// First start and later ones: key files, their modes, their belonging to the store, the server's certificate.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "lib/testcore.h"

#define DAY_US ((int64_t)24 * 3600 * 1000000)

static struct testcore t;

static int setup(void **state)
{
    (void)state;
    testcore_open(&t);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    clock_fake_off();
    testcore_close(&t);
    return 0;
}

static const char *path_of(const char *name)
{
    static char path[512];
    snprintf(path, sizeof(path), "%s/%s", t.dir, name);
    return path;
}

static unsigned mode_of(const char *name)
{
    struct stat st;
    assert_int_equal(stat(path_of(name), &st), 0);
    return st.st_mode & 0777;
}

static void read_text(const char *name, char *dst, size_t size)
{
    FILE *f = fopen(path_of(name), "r");
    assert_non_null(f);
    size_t n = fread(dst, 1, size - 1, f);
    dst[n] = '\0';
    fclose(f);
}

static void write_text(const char *name, const char *text)
{
    FILE *f = fopen(path_of(name), "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

static void restart(enum status want)
{
    testcore_stop(&t);
    testcore_reopen(&t);
    enum status st = testcore_identity(&t);
    if (st != want) {
        fail_msg("%s: %s", status_text(st), t.err.text);
    }
}

static X509 *load_cert(const char *name)
{
    FILE *f = fopen(path_of(name), "r");
    assert_non_null(f);
    X509 *x = PEM_read_X509(f, NULL, NULL, NULL);
    assert_non_null(x);
    fclose(f);
    return x;
}

struct bearer {
    char token[256];
    struct principal who;
};

static enum status run_bearer(struct tx *tx, void *arg, struct err *err)
{
    struct bearer *b = arg;
    return identity_bearer(tx, slice_str(b->token), &b->who, err);
}

static void the_first_start_makes_everything(void **state)
{
    (void)state;
    static const char *const secret[] = {"ca.key", "server.key", "secret.key", "admin.token"};
    assert_int_equal(testcore_identity(&t), ST_OK);
    for (size_t i = 0; i < sizeof(secret) / sizeof(secret[0]); i++) {
        assert_int_equal(mode_of(secret[i]), 0600);
    }
    assert_int_equal(mode_of("ca.pem"), 0644);
    assert_int_equal(mode_of("server.pem"), 0644);
    struct bearer b;
    read_text("admin.token", b.token, sizeof(b.token));
    b.token[strcspn(b.token, "\n")] = '\0';
    assert_int_equal(testcore_run(&t, run_bearer, &b), ST_OK);
    assert_int_equal(b.who.kind, WHO_OPERATOR);
    assert_int_equal(b.who.tenant, 1);
    assert_true(b.who.perms == perms_all());
    assert_string_equal(b.who.name, "admin");
}

static void later_starts_keep_everything(void **state)
{
    (void)state;
    static const char *const files[] = {"ca.pem", "ca.key", "server.pem", "server.key", "secret.key", "admin.token"};
    char before[6][8192];
    char after[8192];
    assert_int_equal(testcore_identity(&t), ST_OK);
    for (size_t i = 0; i < 6; i++) {
        read_text(files[i], before[i], sizeof(before[i]));
    }
    restart(ST_OK);
    for (size_t i = 0; i < 6; i++) {
        read_text(files[i], after, sizeof(after));
        assert_string_equal(before[i], after);
    }
    // The operator may have taken the token away: it is not made again.
    assert_int_equal(unlink(path_of("admin.token")), 0);
    restart(ST_OK);
    assert_int_not_equal(access(path_of("admin.token"), F_OK), 0);
}

static void the_ca_is_a_ca(void **state)
{
    (void)state;
    assert_int_equal(testcore_identity(&t), ST_OK);
    X509 *ca = load_cert("ca.pem");
    X509 *server = load_cert("server.pem");
    assert_int_equal(X509_check_ca(ca), 1);
    assert_int_equal(X509_verify(ca, X509_get0_pubkey(ca)), 1);
    assert_int_equal(X509_verify(server, X509_get0_pubkey(ca)), 1);
    assert_int_equal(X509_check_ca(server), 0);
    assert_int_equal(X509_check_purpose(server, X509_PURPOSE_SSL_SERVER, 0), 1);
    assert_int_equal(X509_check_purpose(server, X509_PURPOSE_SSL_CLIENT, 0), 0);
    static const char *const hosts[] = {"localhost", "muster.example"};
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(X509_check_host(server, hosts[i], 0, X509_CHECK_FLAG_NEVER_CHECK_SUBJECT, NULL), 1);
    }
    assert_int_equal(X509_check_ip_asc(server, "127.0.0.1", 0), 1);
    assert_int_equal(X509_check_ip_asc(server, "::1", 0), 1);
    assert_int_equal(X509_check_host(server, "evil.example", 0, 0, NULL), 0);
    int days = 0;
    int seconds = 0;
    assert_int_equal(ASN1_TIME_diff(&days, &seconds, NULL, X509_get0_notAfter(server)), 1);
    assert_true(days >= 396 && days <= 397);
    X509_free(ca);
    X509_free(server);
}

static void the_server_certificate_is_renewed(void **state)
{
    (void)state;
    char before[8192];
    char after[8192];
    bool changed = true;
    assert_int_equal(testcore_identity(&t), ST_OK);
    read_text("server.pem", before, sizeof(before));
    assert_int_equal(identity_refresh_server(t.identity, &changed, &t.err), ST_OK);
    assert_false(changed);
    // 368 days on it has 29 left.
    clock_fake(clock_wall_us() + 368 * DAY_US, clock_mono_us());
    assert_int_equal(identity_refresh_server(t.identity, &changed, &t.err), ST_OK);
    assert_true(changed);
    read_text("server.pem", after, sizeof(after));
    assert_string_not_equal(before, after);
    clock_fake_off();
    // A certificate that does not fit its key, as a crash between the two files leaves it.
    write_text("server.pem", before);
    assert_int_equal(identity_refresh_server(t.identity, &changed, &t.err), ST_OK);
    assert_true(changed);
    write_text("server.pem", "rubbish");
    restart(ST_OK);
    X509 *server = load_cert("server.pem");
    X509_free(server);
}

static void a_new_name_makes_a_new_certificate(void **state)
{
    (void)state;
    static const char *const names[] = {"muster.example", "second.example", "203.0.113.9"};
    struct identity_conf conf = {.dir = t.dir, .names = names, .names_len = 3, .cert_validity_us = DAY_US};
    assert_int_equal(testcore_identity(&t), ST_OK);
    testcore_stop(&t);
    testcore_reopen(&t);
    assert_int_equal(identity_open(t.core, &conf, &t.identity, &t.err), ST_OK);
    X509 *server = load_cert("server.pem");
    assert_int_equal(X509_check_host(server, "second.example", 0, X509_CHECK_FLAG_NEVER_CHECK_SUBJECT, NULL), 1);
    assert_int_equal(X509_check_ip_asc(server, "203.0.113.9", 0), 1);
    X509_free(server);
}

static void bad_names_are_refused(void **state)
{
    (void)state;
    static const char *const names[] = {"bad name,IP:1.2.3.4"};
    struct identity_conf conf = {.dir = t.dir, .names = names, .names_len = 1, .cert_validity_us = DAY_US};
    struct err err = {.code = ST_OK};
    assert_int_equal(identity_open(t.core, &conf, &t.identity, &err), ST_INVALID);
    assert_non_null(strstr(err.text, "bad name"));
}

static void readable_secrets_are_refused(void **state)
{
    (void)state;
    static const char *const secret[] = {"ca.key", "server.key", "secret.key"};
    assert_int_equal(testcore_identity(&t), ST_OK);
    for (size_t i = 0; i < sizeof(secret) / sizeof(secret[0]); i++) {
        assert_int_equal(chmod(path_of(secret[i]), 0640), 0);
        restart(ST_FORBIDDEN);
        assert_non_null(strstr(t.err.text, secret[i]));
        assert_non_null(strstr(t.err.text, "0600"));
        assert_int_equal(chmod(path_of(secret[i]), 0600), 0);
    }
    restart(ST_OK);
}

static void missing_or_foreign_files_are_refused(void **state)
{
    (void)state;
    static const char *const needed[] = {"secret.key", "ca.pem", "ca.key"};
    char kept[8192];
    assert_int_equal(testcore_identity(&t), ST_OK);
    for (size_t i = 0; i < sizeof(needed) / sizeof(needed[0]); i++) {
        read_text(needed[i], kept, sizeof(kept));
        assert_int_equal(unlink(path_of(needed[i])), 0);
        testcore_stop(&t);
        testcore_reopen(&t);
        assert_int_not_equal(testcore_identity(&t), ST_OK);
        assert_non_null(strstr(t.err.text, needed[i]));
        assert_int_not_equal(access(path_of(needed[i]), F_OK), 0); // nothing was made in its place
        write_text(needed[i], kept);
        assert_int_equal(chmod(path_of(needed[i]), 0600), 0);
    }
    restart(ST_OK);
    write_text("secret.key", "0000000000000000000000000000000000000000000000000000000000000001\n");
    restart(ST_CONFLICT);
    assert_non_null(strstr(t.err.text, "secret.key"));
    write_text("secret.key", "short\n");
    restart(ST_CORRUPT);
}

static void a_crash_between_the_files_heals(void **state)
{
    (void)state;
    // Key written, certificate not, store not told: nothing was issued, so both are made anew.
    assert_int_equal(testcore_identity(&t), ST_OK);
    char key[8192];
    read_text("ca.key", key, sizeof(key));
    testcore_close(&t);
    testcore_open(&t);
    write_text("ca.key", key);
    assert_int_equal(chmod(path_of("ca.key"), 0600), 0);
    write_text("secret.key.tmp", "half");
    assert_int_equal(testcore_identity(&t), ST_OK);
    char after[8192];
    read_text("ca.key", after, sizeof(after));
    assert_string_not_equal(key, after);
    assert_int_not_equal(access(path_of("secret.key.tmp"), F_OK), 0);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_first_start_makes_everything),
        TEST(later_starts_keep_everything),
        TEST(the_ca_is_a_ca),
        TEST(the_server_certificate_is_renewed),
        TEST(a_new_name_makes_a_new_certificate),
        TEST(bad_names_are_refused),
        TEST(readable_secrets_are_refused),
        TEST(missing_or_foreign_files_are_refused),
        TEST(a_crash_between_the_files_heals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
