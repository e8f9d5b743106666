// Who comes in with what: tokens, certificates, claims; and everything that does not come in, with its reason.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "lib/testcore.h"
#include "lib/testcsr.h"
#include "lib/testidentity.h"

#define DAY_US ((int64_t)24 * 3600 * 1000000)

static struct testcore t;
static struct testid_auth a;

static int setup(void **state)
{
    (void)state;
    testcore_open(&t);
    assert_int_equal(testcore_identity(&t), ST_OK);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    clock_fake_off();
    testcore_close(&t);
    return 0;
}

static enum status run_tenant(struct tx *tx, void *arg, struct err *err)
{
    (void)arg;
    static const struct sql_def insert = {"tenant_insert",
                                          "INSERT INTO tenant (row, id, created_us) VALUES (2, 'other', 0)"};
    return stmt_run(db_stmt(tx->db, &insert), err);
}

struct change {
    const char *id;
    enum device_state to;
};

static enum status run_state(struct tx *tx, void *arg, struct err *err)
{
    const struct change *c = arg;
    struct device_ref d;
    enum status st = device_find(tx, slice_str(c->id), &d, err);
    return st == ST_OK ? device_set_state(tx, &d, c->to, -1, err) : st;
}

static void set_state(const char *id, enum device_state to)
{
    struct change c = {id, to};
    assert_int_equal(testcore_run(&t, run_state, &c), ST_OK);
}

static void tokens_let_in(void **state)
{
    (void)state;
    assert_int_equal(testid_device(&t, "{'id':'d1','access_token':'secret-1'}"), ST_OK);
    assert_int_equal(testid_auth(&t, &a, "d1", "secret-1", NULL), ST_OK);
    assert_int_equal(a.who.kind, WHO_DEVICE);
    assert_int_equal(a.who.tenant, 1);
    assert_string_equal(a.who.name, "d1");
    assert_string_equal(a.who.addr, "192.0.2.60:2000");
    assert_true(a.who.row == a.device.row && a.who.row != 0);
    assert_int_equal(a.device.state, DEVICE_ACTIVE); // the first connection
    assert_int_equal(testid_auth(&t, &a, "secret-1", NULL, NULL), ST_OK);
    assert_string_equal(a.who.name, "d1");
    assert_int_equal(testid_auth(&t, &a, "secret-1", "", NULL), ST_OK);
}

static void wrong_ones_do_not(void **state)
{
    (void)state;
    assert_int_equal(testid_device(&t, "{'id':'d1','access_token':'secret-1'}"), ST_OK);
    assert_int_equal(testid_device(&t, "{'id':'d2','access_token':'secret-2'}"), ST_OK);
    assert_int_equal(testid_auth(&t, &a, "d1", "secret-2", NULL), ST_UNAUTHENTICATED);
    assert_int_equal(testid_auth(&t, &a, "d9", "secret-1", NULL), ST_UNAUTHENTICATED);
    assert_int_equal(testid_auth(&t, &a, "d1", "secret-", NULL), ST_UNAUTHENTICATED);
    assert_int_equal(testid_auth(&t, &a, "d1", NULL, NULL), ST_UNAUTHENTICATED);
    assert_int_equal(testid_auth(&t, &a, "", NULL, NULL), ST_UNAUTHENTICATED);
    assert_int_equal(testid_auth(&t, &a, NULL, NULL, NULL), ST_UNAUTHENTICATED);
    assert_int_equal(testid_auth(&t, &a, NULL, "secret-1", NULL), ST_UNAUTHENTICATED);
    char longest[4096];
    memset(longest, 'x', sizeof(longest) - 1);
    longest[sizeof(longest) - 1] = '\0';
    assert_int_equal(testid_auth(&t, &a, longest, longest, NULL), ST_UNAUTHENTICATED);
    // The refusal does not say whether the device exists.
    char unknown[320];
    assert_int_equal(testid_auth(&t, &a, "d9", "x-wrong", NULL), ST_UNAUTHENTICATED);
    snprintf(unknown, sizeof(unknown), "%s", t.err.text);
    assert_int_equal(testid_auth(&t, &a, "d1", "x-wrong", NULL), ST_UNAUTHENTICATED);
    assert_string_equal(unknown, t.err.text);
}

static void blocked_devices_stay_out(void **state)
{
    (void)state;
    assert_int_equal(testid_device(&t, "{'id':'d1','access_token':'secret-1'}"), ST_OK);
    set_state("d1", DEVICE_SUSPENDED);
    assert_int_equal(testid_auth(&t, &a, "d1", "secret-1", NULL), ST_FORBIDDEN);
    set_state("d1", DEVICE_ACTIVE);
    assert_int_equal(testid_auth(&t, &a, "d1", "secret-1", NULL), ST_OK);
    set_state("d1", DEVICE_RETIRED);
    assert_int_equal(testid_auth(&t, &a, "d1", "secret-1", NULL), ST_FORBIDDEN);
}

// Two tenants may choose equal tokens, and neither may learn of it: both devices come in with their id, and a token that
// stands for two devices stands for none.
static void equal_tokens_of_two_tenants(void **state)
{
    (void)state;
    assert_int_equal(testcore_run(&t, run_tenant, NULL), ST_OK);
    assert_int_equal(testid_device(&t, "{'id':'d1','access_token':'secret-1'}"), ST_OK);
    assert_int_equal(testid_device(&t, "{'id':'d2','access_token':'secret-1'}"), ST_INVALID);
    assert_string_equal(t.err.where, "/access_token");
    t.who = testcore_principal(2, ROLE_OWNER, "stranger");
    assert_int_equal(testid_device(&t, "{'id':'e1','access_token':'secret-1'}"), ST_OK);
    assert_int_equal(testid_auth(&t, &a, "d1", "secret-1", NULL), ST_OK);
    assert_int_equal(a.who.tenant, 1);
    assert_int_equal(testid_auth(&t, &a, "e1", "secret-1", NULL), ST_OK);
    assert_int_equal(a.who.tenant, 2);
    assert_int_equal(testid_auth(&t, &a, "secret-1", NULL, NULL), ST_FORBIDDEN);
    assert_int_equal(testid_device(&t, "{'id':'d1','access_token':'secret-1'}"), ST_INVALID); // taken by e1
}

static void failures_make_wait(void **state)
{
    (void)state;
    assert_int_equal(testid_device(&t, "{'id':'d1','access_token':'secret-1'}"), ST_OK);
    clock_fake(1700000000000000, 1000000);
    for (int i = 0; i < 10; i++) {
        assert_int_equal(testid_auth(&t, &a, "d1", "guess", NULL), ST_UNAUTHENTICATED);
        identity_auth_failed(t.core, SLICE("192.0.2.60:2000"));
    }
    assert_int_equal(testid_auth(&t, &a, "d1", "secret-1", NULL), ST_LIMIT);
    clock_fake(1700000000000000, 1000000 + 60 * 1000000LL);
    assert_int_equal(testid_auth(&t, &a, "d1", "secret-1", NULL), ST_OK);
}

// One device that keeps trying with a wrong token does not shut out its neighbours behind the same address; and the name of a
// neighbour opens no way to guess more.
static void neighbours_stay_in(void **state)
{
    (void)state;
    assert_int_equal(testid_device(&t, "{'id':'good','access_token':'secret-1'}"), ST_OK);
    assert_int_equal(testid_device(&t, "{'id':'late','access_token':'secret-2'}"), ST_OK);
    assert_int_equal(testid_auth(&t, &a, "good", "secret-1", NULL), ST_OK);
    assert_int_equal(testid_auth(&t, &a, "secret-1", NULL, NULL), ST_OK);
    clock_fake(1700000000000000, clock_mono_us());
    for (int i = 0; i < 10; i++) {
        assert_int_equal(testid_auth(&t, &a, "broken", "wrong", NULL), ST_UNAUTHENTICATED);
        identity_auth_failed(t.core, SLICE("192.0.2.60:2000"));
    }
    assert_int_equal(testid_auth(&t, &a, "broken", "wrong", NULL), ST_LIMIT);
    assert_int_equal(testid_auth(&t, &a, "late", "secret-2", NULL), ST_LIMIT); // never seen here
    assert_int_equal(testid_auth(&t, &a, "good", "secret-1", NULL), ST_OK);
    assert_int_equal(testid_auth(&t, &a, "secret-1", NULL, NULL), ST_OK);
    for (int i = 0; i < 10; i++) {
        assert_int_equal(testid_auth(&t, &a, "good", "guess", NULL), ST_UNAUTHENTICATED);
    }
    assert_int_equal(testid_auth(&t, &a, "good", "secret-1", NULL), ST_LIMIT);
    assert_int_equal(testid_auth(&t, &a, "secret-1", NULL, NULL), ST_OK);
}

static void enrolled(const char *device, uint8_t sha256[SHA256_LEN])
{
    char token[TESTID_TEXT];
    char csr[TESTCSR_MAX];
    testcsr("P-256", device, csr);
    assert_int_equal(testid_claim(&t, (struct claim_conf){.uses = 1, .ttl_us = DAY_US}, token, NULL), ST_OK);
    assert_int_equal(testid_enrol(&t, token, csr, NULL), ST_OK);
    testid_fingerprint(&t, sha256);
}

static void certificates_let_in(void **state)
{
    (void)state;
    uint8_t sha256[SHA256_LEN];
    uint8_t stranger[SHA256_LEN] = {1, 2, 3};
    enrolled("d1", sha256);
    assert_int_equal(testid_auth(&t, &a, NULL, NULL, sha256), ST_OK);
    assert_string_equal(a.who.name, "d1");
    assert_int_equal(a.device.state, DEVICE_ACTIVE);
    // A certificate of the same name that is not registered is nobody, whatever else it brings.
    assert_int_equal(testid_device(&t, "{'id':'d2','access_token':'secret-2'}"), ST_OK);
    assert_int_equal(testid_auth(&t, &a, NULL, NULL, stranger), ST_UNAUTHENTICATED);
    assert_int_equal(testid_auth(&t, &a, "d2", "secret-2", stranger), ST_UNAUTHENTICATED);
    set_state("d1", DEVICE_SUSPENDED);
    assert_int_equal(testid_auth(&t, &a, NULL, NULL, sha256), ST_FORBIDDEN);
    set_state("d1", DEVICE_ACTIVE);
    t.now_us = clock_wall_us() + 90 * DAY_US + 1000000;
    assert_int_equal(testid_auth(&t, &a, NULL, NULL, sha256), ST_FORBIDDEN);
    assert_non_null(strstr(t.err.text, "expired"));
}

// A certificate cannot be guessed: failures of others at the same address do not keep it out.
static void certificates_are_not_held_up(void **state)
{
    (void)state;
    uint8_t sha256[SHA256_LEN];
    enrolled("d1", sha256);
    for (int i = 0; i < 20; i++) {
        identity_auth_failed(t.core, SLICE("192.0.2.60:2000"));
    }
    assert_int_equal(testid_auth(&t, &a, "d1", "x", NULL), ST_LIMIT);
    assert_int_equal(testid_auth(&t, &a, NULL, NULL, sha256), ST_OK);
}

static void claims_come_in_to_enrol(void **state)
{
    (void)state;
    char token[TESTID_TEXT];
    char id[TESTID_TEXT];
    assert_int_equal(testid_claim(&t, (struct claim_conf){.uses = 1, .ttl_us = DAY_US}, token, id), ST_OK);
    assert_int_equal(testid_auth(&t, &a, "$claim", token, NULL), ST_OK);
    assert_int_equal(a.who.kind, WHO_CLAIM);
    assert_string_equal(a.who.name, id);
    assert_true(a.who.perms == 0);
    assert_int_equal(testid_auth(&t, &a, "$claim", "wrong", NULL), ST_UNAUTHENTICATED);
    assert_int_equal(testid_auth(&t, &a, token, NULL, NULL), ST_UNAUTHENTICATED); // not an access token
}

// A token of one kind is none of another.
static void kinds_of_tokens_do_not_mix(void **state)
{
    (void)state;
    char token[TESTID_TEXT];
    assert_int_equal(testid_claim(&t, (struct claim_conf){.uses = 1, .ttl_us = DAY_US}, token, NULL), ST_OK);
    char desc[TESTID_TEXT + 64];
    snprintf(desc, sizeof(desc), "{'id':'d1','access_token':'%s'}", token);
    assert_int_equal(testid_device(&t, desc), ST_OK);
    assert_int_equal(testid_auth(&t, &a, token, NULL, NULL), ST_OK);
    assert_int_equal(a.who.kind, WHO_DEVICE);
    assert_int_equal(testid_auth(&t, &a, "$claim", token, NULL), ST_OK);
    assert_int_equal(a.who.kind, WHO_CLAIM);
}

// --- access tokens -----------------------------------------------------------------------------------------------

struct token_call {
    const char *device, *id, *label, *replaces;
};

static enum status run_token_create(struct tx *tx, void *arg, struct err *err)
{
    const struct token_call *c = arg;
    struct device_ref d;
    enum status st = device_find(tx, slice_str(c->device), &d, err);
    return st == ST_OK ? device_token_create(tx, &d, slice_str(c->label), slice_str(c->replaces), &t.w, err) : st;
}

static enum status run_token_revoke(struct tx *tx, void *arg, struct err *err)
{
    const struct token_call *c = arg;
    struct device_ref d;
    enum status st = device_find(tx, slice_str(c->device), &d, err);
    return st == ST_OK ? device_token_revoke(tx, &d, slice_str(c->id), err) : st;
}

static enum status run_token_list(struct tx *tx, void *arg, struct err *err)
{
    const struct token_call *c = arg;
    struct device_ref d;
    enum status st = device_find(tx, slice_str(c->device), &d, err);
    return st == ST_OK ? device_token_list(tx, &d, &t.w, err) : st;
}

static enum device_change noticed;
static unsigned noticed_len;

static enum status notice(struct tx *tx, const struct device_ref *d, enum device_change what, struct err *err)
{
    (void)tx;
    (void)d;
    (void)err;
    noticed = what;
    noticed_len++;
    return ST_OK;
}

static void several_tokens_each_revocable(void **state)
{
    (void)state;
    char first[TESTID_TEXT], first_id[TESTID_TEXT], second[TESTID_TEXT];
    struct token_call c = {.device = "d1", .label = "bench"};
    noticed_len = 0;
    assert_int_equal(registry_watch(t.core, notice, &t.err), ST_OK);
    assert_int_equal(testid_device(&t, "{'id':'d1'}"), ST_OK);
    assert_int_equal(testid_device(&t, "{'id':'d2'}"), ST_OK);
    assert_int_equal(testcore_run(&t, run_token_create, &c), ST_OK);
    json_t *doc = testcore_json(&t);
    testid_copy(doc, "token", first);
    testid_copy(doc, "id", first_id);
    json_decref(doc);
    assert_int_equal(testcore_run(&t, run_token_create, &c), ST_OK);
    doc = testcore_json(&t);
    testid_copy(doc, "token", second);
    json_decref(doc);
    assert_string_not_equal(first, second);
    assert_int_equal(testid_auth(&t, &a, "d1", first, NULL), ST_OK);
    assert_int_equal(testid_auth(&t, &a, "d1", second, NULL), ST_OK);
    c.id = first_id;
    c.device = "d2"; // not its token
    assert_int_equal(testcore_run(&t, run_token_revoke, &c), ST_NOT_FOUND);
    c.device = "d1";
    assert_int_equal(testcore_run(&t, run_token_revoke, &c), ST_OK);
    assert_int_equal(noticed_len, 1);
    assert_int_equal(noticed, DEVICE_CHANGE_REVOKED);
    assert_int_equal(testcore_run(&t, run_token_revoke, &c), ST_NOT_FOUND);
    assert_int_equal(testid_auth(&t, &a, "d1", first, NULL), ST_UNAUTHENTICATED);
    assert_int_equal(testid_auth(&t, &a, "d1", second, NULL), ST_OK);
    // The list tells neither token nor hash.
    assert_int_equal(testcore_run(&t, run_token_list, &c), ST_OK);
    doc = testcore_json(&t);
    json_t *item = json_array_get(json_object_get(doc, "items"), 0);
    assert_int_equal(json_array_size(json_object_get(doc, "items")), 1);
    assert_int_equal(json_object_size(item), 3);
    assert_string_equal(json_string_value(json_object_get(item, "label")), "bench");
    json_decref(doc);
}

static void tokens_have_a_limit(void **state)
{
    (void)state;
    struct token_call c = {.device = "d1"};
    assert_int_equal(testid_device(&t, "{'id':'d1'}"), ST_OK);
    for (int i = 0; i < DEVICE_TOKENS_MAX; i++) {
        assert_int_equal(testcore_run(&t, run_token_create, &c), ST_OK);
    }
    assert_int_equal(testcore_run(&t, run_token_create, &c), ST_LIMIT);
}

static enum status run_delete(struct tx *tx, void *arg, struct err *err)
{
    struct device_ref d;
    enum status st = device_find(tx, slice_str(arg), &d, err);
    return st == ST_OK ? device_delete(tx, &d, -1, err) : st;
}

static void deleted_devices_are_nobody(void **state)
{
    (void)state;
    uint8_t sha256[SHA256_LEN];
    struct token_call c = {.device = "d1"};
    enrolled("d1", sha256);
    assert_int_equal(testcore_run(&t, run_token_create, &c), ST_OK);
    assert_int_equal(testcore_run(&t, run_delete, "d1"), ST_OK);
    assert_int_equal(testid_auth(&t, &a, NULL, NULL, sha256), ST_UNAUTHENTICATED);
    assert_int_equal(testid_device(&t, "{'id':'d1'}"), ST_OK); // its name alone gives nothing back
    assert_int_equal(testid_auth(&t, &a, NULL, NULL, sha256), ST_UNAUTHENTICATED);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(tokens_let_in),
        TEST(wrong_ones_do_not),
        TEST(blocked_devices_stay_out),
        TEST(equal_tokens_of_two_tenants),
        TEST(failures_make_wait),
        TEST(neighbours_stay_in),
        TEST(certificates_let_in),
        TEST(certificates_are_not_held_up),
        TEST(claims_come_in_to_enrol),
        TEST(kinds_of_tokens_do_not_mix),
        TEST(several_tokens_each_revocable),
        TEST(tokens_have_a_limit),
        TEST(deleted_devices_are_nobody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
