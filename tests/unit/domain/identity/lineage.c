// Which credentials of a device follow each other, and when the last of them has ended.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "domain/identity/device_password.h"
#include "domain/identity/device_psk.h"
#include "domain/identity/lineage.h"
#include "lib/testcore.h"
#include "lib/testcsr.h"
#include "lib/testidentity.h"

#define DAY_US ((int64_t)24 * 3600 * 1000000)

static struct testcore t;
static struct testid_auth a;
static char csr[TESTCSR_MAX];

static int setup(void **state)
{
    (void)state;
    testcore_open(&t);
    assert_int_equal(testcore_identity(&t), ST_OK);
    t.now_us = clock_wall_us();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    testcore_close(&t);
    return 0;
}

static struct device_ref device;
static enum status run_find(struct tx *tx, void *arg, struct err *err)
{
    return device_find(tx, slice_str(arg), &device, err);
}

struct make {
    const char *replaces;
    bool psk;
};
static enum status run_make(struct tx *tx, void *arg, struct err *err)
{
    const struct make *m = arg;
    const struct psk_conf conf = {.replaces = slice_str(m->replaces)};
    return m->psk ? device_psk_create(tx, &device, &conf, &t.w, err)
                  : device_token_create(tx, &device, (struct slice){NULL, 0}, slice_str(m->replaces), &t.w, err);
}

struct made {
    char id[TESTID_TEXT], secret[TESTID_TEXT];
};
static struct made make(bool psk, const char *replaces)
{
    struct made m;
    struct make call = {replaces, psk};
    assert_int_equal(testcore_run(&t, run_make, &call), ST_OK);
    json_t *doc = testcore_json(&t);
    testid_copy(doc, "id", m.id);
    testid_copy(doc, psk ? "identity" : "token", m.secret);
    json_decref(doc);
    return m;
}

static uint64_t by_token(const char *token)
{
    assert_int_equal(testid_auth(&t, &a, token, NULL, NULL), ST_OK);
    return a.who.lineage;
}

static uint64_t by_psk(const char *identity)
{
    a = (struct testid_auth){.cred = {.psk_identity = slice_str(identity), .peer_addr = SLICE("192.0.2.60:2000")}};
    assert_int_equal(testcore_run(&t, testid_run_auth, &a), ST_OK);
    return a.who.lineage;
}

static uint64_t by_cert(const uint8_t *sha256)
{
    assert_int_equal(testid_auth(&t, &a, NULL, NULL, sha256), ST_OK);
    return a.who.lineage;
}

static enum status run_revoke(struct tx *tx, void *arg, struct err *err)
{
    return device_token_revoke(tx, &device, slice_str(arg), err);
}

struct usable {
    uint64_t lineage;
    bool yes;
};
static enum status run_usable(struct tx *tx, void *arg, struct err *err)
{
    struct usable *u = arg;
    return lineage_usable(tx, device.row, u->lineage, &u->yes, err);
}

static bool usable(uint64_t lineage)
{
    struct usable u = {.lineage = lineage};
    assert_int_equal(testcore_run(&t, run_usable, &u), ST_OK);
    return u.yes;
}

static void have_device(const char *id)
{
    char desc[64];
    snprintf(desc, sizeof(desc), "{'id':'%s'}", id);
    assert_int_equal(testid_device(&t, desc), ST_OK);
    assert_int_equal(testcore_run(&t, run_find, (void *)(uintptr_t)id), ST_OK);
}

static void what_an_operator_makes_stands_alone_unless_it_replaces(void **state)
{
    (void)state;
    have_device("d1");
    struct made first = make(false, NULL), alone = make(false, NULL), heir = make(false, first.id);
    struct made key = make(true, heir.id), own = make(true, NULL);
    uint64_t lineage = by_token(first.secret);
    assert_true(lineage != 0);
    assert_true(by_token(alone.secret) != lineage);
    assert_true(by_token(heir.secret) == lineage);
    assert_true(by_psk(key.secret) == lineage); // of another kind
    assert_true(by_psk(own.secret) != lineage);
    struct make wrong[] = {{"0123456789abcdef", false}, {"no id", true}, {"00", false}};
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(testcore_run(&t, run_make, &wrong[i]), ST_INVALID);
        assert_string_equal(t.err.where, "/replaces");
    }
    have_device("d2"); // another one's credential cannot be replaced
    struct make theirs = {first.id, false};
    assert_int_equal(testcore_run(&t, run_make, &theirs), ST_INVALID);
}

static void a_lineage_lasts_as_long_as_one_of_its_credentials(void **state)
{
    (void)state;
    have_device("d1");
    struct made first = make(false, NULL), heir = make(false, first.id);
    uint64_t lineage = by_token(first.secret);
    assert_false(usable(lineage + 1));
    assert_true(usable(lineage));
    assert_int_equal(testcore_run(&t, run_revoke, first.id), ST_OK);
    assert_true(usable(lineage));
    assert_int_equal(testcore_run(&t, run_revoke, heir.id), ST_OK);
    assert_false(usable(lineage));
}

static enum status run_renew(struct tx *tx, void *arg, struct err *err)
{
    tx->who = &a.who;
    return identity_renew(tx, slice_str(arg), &t.w, err);
}

static void a_renewed_certificate_follows_what_the_device_came_in_with(void **state)
{
    (void)state;
    char claim[TESTID_TEXT];
    uint8_t old[SHA256_LEN], fresh[SHA256_LEN];
    assert_int_equal(testid_claim(&t, (struct claim_conf){.uses = 2, .ttl_us = DAY_US}, claim, NULL), ST_OK);
    testcsr("P-256", "d1", csr);
    assert_int_equal(testid_enrol(&t, claim, csr, NULL), ST_OK);
    testid_fingerprint(&t, old);
    uint64_t lineage = by_cert(old);
    assert_true(lineage != 0);
    testcsr("P-256", NULL, csr);
    assert_int_equal(testcore_run(&t, run_renew, csr), ST_OK);
    testid_fingerprint(&t, fresh);
    assert_true(by_cert(fresh) == lineage);
    assert_int_equal(testcore_run(&t, run_find, "d1"), ST_OK);
    assert_true(usable(lineage));
    t.now_us += 91 * DAY_US; // it has run out
    assert_false(usable(lineage));

    assert_int_equal(testid_claim(&t, (struct claim_conf){.uses = 1, .ttl_us = DAY_US}, claim, NULL), ST_OK);
    testcsr("P-256", "d1", csr);
    assert_int_equal(testid_enrol(&t, claim, csr, NULL), ST_OK);
    testid_fingerprint(&t, fresh);
    assert_true(by_cert(fresh) != lineage); // enrolled anew

    have_device("d2");
    struct made token = make(false, NULL);
    lineage = by_token(token.secret);
    testcsr("P-256", NULL, csr);
    assert_int_equal(testcore_run(&t, run_renew, csr), ST_OK);
    testid_fingerprint(&t, fresh);
    assert_true(by_cert(fresh) == lineage);
}

static enum status run_password(struct tx *tx, void *arg, struct err *err)
{
    const char *text = arg;
    return text != NULL ? device_password_set(tx, &device, slice_str(text), &t.w, err)
                        : device_password_revoke(tx, &device, err);
}

static uint64_t by_password(const char *text)
{
    struct device_login login = {.state = LOGIN_NONE};
    a = (struct testid_auth){.cred = {.username = slice_str("d1"),
                                      .password = slice_str(text),
                                      .peer_addr = SLICE("192.0.2.60:2000"),
                                      .login = &login}};
    assert_int_equal(testcore_run(&t, testid_run_auth, &a), ST_UNAUTHENTICATED);
    device_password_check(&login, a.cred.password);
    assert_int_equal(testcore_run(&t, testid_run_auth, &a), ST_OK);
    return a.who.lineage;
}

static void a_password_set_over_another_goes_on(void **state)
{
    (void)state;
    have_device("d1");
    assert_int_equal(testcore_run(&t, run_password, "first password"), ST_OK);
    uint64_t lineage = by_password("first password");
    assert_true(lineage != 0 && usable(lineage));
    assert_int_equal(testcore_run(&t, run_password, "second password"), ST_OK);
    assert_true(by_password("second password") == lineage);
    assert_int_equal(testcore_run(&t, run_password, NULL), ST_OK);
    assert_false(usable(lineage));
    assert_int_equal(testcore_run(&t, run_password, "third password"), ST_OK);
    assert_true(by_password("third password") != lineage);
}

// --- a store from before lineages were kept ----------------------------------------------------------------------

static int64_t number(struct db *db, const struct sql_def *ask)
{
    bool row = false;
    STMT(s, db, ask);
    assert_int_equal(stmt_step(s, &row, NULL), ST_OK);
    assert_true(row);
    return col_i64(s, 0);
}

static void run_sql(struct db *db, const struct sql_def *sql)
{
    STMT(s, db, sql);
    assert_int_equal(stmt_run(s, NULL), ST_OK);
}

static void older_certificates_follow_their_enrolment(void **state)
{
    (void)state;
    static const struct sql_def old_device = {
        "old_device",
        "INSERT INTO device (row, tenant, id, state, version, tags, attributes, keys, created_us, updated_us) "
        "VALUES (5, 1, 'd', 1, 1, '{}', '{}', '{}', 0, 0)"};
    static const struct sql_def old_certs = {
        "old_certs", "INSERT INTO certificate (row, tenant, device, generation, fingerprint, spki, serial, claim, "
                     "state, not_before_us, not_after_us, created_us, der) "
                     "SELECT 10 + value, 1, 5, value, CAST('f' || value AS BLOB), x'00', CAST('s' || value AS BLOB), "
                     "iif(value IN (3, 5), 7, NULL), 1, 0, 0, 0, x'00' FROM json_each('[1,2,3,4,5,6]')"};
    static const struct sql_def lineages = {
        "lineages",
        "SELECT sum(lineage * (CASE generation WHEN 1 THEN 1 WHEN 2 THEN 100 WHEN 3 THEN 10000 WHEN 4 THEN 1000000 "
        "WHEN 5 THEN 100000000 ELSE 10000000000 END)) FROM certificate"};
    char path[300];
    struct db *db = NULL;
    snprintf(path, sizeof(path), "%s/older.db", t.dir);
    assert_int_equal(db_open(path, DB_WRITER, &db, NULL), ST_OK);
    assert_int_equal(db_migrate(db, db_migrations, 7, NULL), ST_OK);
    run_sql(db, &old_device);
    run_sql(db, &old_certs);
    assert_int_equal(db_migrate(db, db_migrations, DB_MIGRATIONS_LEN, NULL), ST_OK);
    assert_int_equal(number(db, &lineages), INT64_C(151513131111)); // 1, 2: the first; 3, 4: the third; 5, 6: the fifth
    db_close(db);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_an_operator_makes_stands_alone_unless_it_replaces),
        TEST(a_lineage_lasts_as_long_as_one_of_its_credentials),
        TEST(a_renewed_certificate_follows_what_the_device_came_in_with),
        TEST(a_password_set_over_another_goes_on),
        TEST(older_certificates_follow_their_enrolment),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
