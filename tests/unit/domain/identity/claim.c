// Claims: making, states, listing, revoking, wrong tokens.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "domain/identity/identity_priv.h"
#include "lib/testcore.h"
#include "lib/testcsr.h"
#include "lib/testidentity.h"

#define HOUR_US ((int64_t)3600 * 1000000)

static struct testcore t;
static char token[TESTID_TEXT], id[TESTID_TEXT];

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
    clock_fake_off();
    testcore_close(&t);
    return 0;
}

static void states_follow_from_the_row(void **state)
{
    (void)state;
    static const struct {
        int64_t uses, uses_max, expires_us, now_us;
        bool revoked;
        enum claim_state want;
    } cases[] = {
        {0, 1, 100, 99, false, CLAIM_USABLE},  {0, 1, 100, 100, false, CLAIM_EXPIRED},
        {1, 1, 100, 99, false, CLAIM_USED_UP}, {1, 1, 100, 100, false, CLAIM_EXPIRED},
        {0, 1, 100, 99, true, CLAIM_REVOKED},  {1, 1, 100, 200, true, CLAIM_REVOKED},
        {4, 5, 100, 0, false, CLAIM_USABLE},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(
            claim_state_at(cases[i].uses, cases[i].uses_max, cases[i].expires_us, cases[i].revoked, cases[i].now_us),
            cases[i].want);
    }
}

static void bad_wishes_are_refused(void **state)
{
    (void)state;
    char model[DEVICE_MODEL_MAX + 2];
    memset(model, 'm', sizeof(model));
    model[DEVICE_MODEL_MAX + 1] = '\0';
    json_t *tags = testcore_doc("{'a b':'x'}");
    const struct {
        struct claim_conf conf;
        const char *where;
    } cases[] = {
        {{.uses = 0, .ttl_us = HOUR_US}, "/uses"},
        {{.uses = CLAIM_USES_MAX + 1, .ttl_us = HOUR_US}, "/uses"},
        {{.uses = 1, .ttl_us = 999999}, "/ttl"},
        {{.uses = 1, .ttl_us = CLAIM_TTL_MAX_US + 1}, "/ttl"},
        {{.uses = 1, .ttl_us = HOUR_US, .device_prefix = SLICE("a/b")}, "/device_prefix"},
        {{.uses = 1, .ttl_us = HOUR_US, .model = slice_str(model)}, "/model"},
        {{.uses = 1, .ttl_us = HOUR_US, .tags = tags}, "/tags"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(testid_claim(&t, cases[i].conf, token, NULL), ST_INVALID);
        assert_string_equal(t.err.where, cases[i].where);
    }
    json_decref(tags);
}

static enum status run_list(struct tx *tx, void *arg, struct err *err)
{
    const struct slice *cursor = arg;
    return claim_list(tx, *cursor, 2, &t.w, err);
}

static enum status run_revoke(struct tx *tx, void *arg, struct err *err)
{
    return claim_revoke(tx, slice_str(arg), err);
}

static enum status run_claim(struct tx *tx, void *arg, struct err *err)
{
    struct principal who;
    return identity_claim(tx, slice_str(arg), SLICE("192.0.2.9:9"), &who, err);
}

static void lists_tell_the_state_and_no_secret(void **state)
{
    (void)state;
    char csr[TESTCSR_MAX];
    size_t seen = 0;
    struct slice cursor = {NULL, 0};
    char next[400];
    testcsr("P-256", NULL, csr);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(testid_claim(&t, (struct claim_conf){.uses = 1, .ttl_us = HOUR_US}, token, id), ST_OK);
    }
    assert_int_equal(testid_enrol(&t, token, csr, "d1"), ST_OK);
    for (int page = 0; page < 3; page++) {
        assert_int_equal(testcore_run(&t, run_list, &cursor), ST_OK);
        assert_null(memmem(t.out.p, t.out.len, "muster_c_", 9));
        json_t *doc = testcore_json(&t);
        const json_t *items = json_object_get(doc, "items");
        if (page == 0) { // newest first
            assert_string_equal(json_string_value(json_object_get(json_array_get(items, 0), "id")), id);
            assert_string_equal(json_string_value(json_object_get(json_array_get(items, 0), "state")), "used_up");
            assert_string_equal(json_string_value(json_object_get(json_array_get(items, 1), "state")), "usable");
        }
        seen += json_array_size(items);
        snprintf(next, sizeof(next), "%s", page < 2 ? json_string_value(json_object_get(doc, "next")) : "");
        assert_int_equal(json_is_null(json_object_get(doc, "next")), page == 2);
        cursor = slice_str(next);
        json_decref(doc);
    }
    assert_int_equal(seen, 5);
}

static void revoked_and_expired_ones_are_refused(void **state)
{
    (void)state;
    assert_int_equal(testid_claim(&t, (struct claim_conf){.uses = 1, .ttl_us = HOUR_US}, token, id), ST_OK);
    assert_int_equal(testcore_run(&t, run_claim, token), ST_OK);
    t.who = testcore_principal(2, ROLE_OWNER, "stranger");
    assert_int_equal(testcore_run(&t, run_revoke, id), ST_NOT_FOUND);
    t.who = testcore_principal(1, ROLE_OWNER, "tester");
    assert_int_equal(testcore_run(&t, run_revoke, id), ST_OK);
    assert_int_equal(testcore_run(&t, run_revoke, id), ST_OK);
    assert_int_equal(testcore_run(&t, run_claim, token), ST_FORBIDDEN);
    assert_non_null(strstr(t.err.text, "revoked"));
    assert_int_equal(testcore_run(&t, run_revoke, "0000000000000001"), ST_NOT_FOUND);
    assert_int_equal(testcore_run(&t, run_revoke, "nonsense"), ST_NOT_FOUND);
    assert_int_equal(testid_claim(&t, (struct claim_conf){.uses = 1, .ttl_us = HOUR_US}, token, id), ST_OK);
    t.now_us += HOUR_US;
    assert_int_equal(testcore_run(&t, run_claim, token), ST_FORBIDDEN);
    assert_non_null(strstr(t.err.text, "expired"));
}

// Between signing in and the request the claim may be revoked: it is looked at again.
static enum status run_revoked_meanwhile(struct tx *tx, void *arg, struct err *err)
{
    struct principal who;
    enum status st = identity_claim(tx, slice_str(token), SLICE("192.0.2.9:9"), &who, err);
    if (st == ST_OK) {
        st = claim_revoke(tx, slice_str(id), err);
    }
    if (st == ST_OK) {
        tx->who = &who;
        st = identity_enroll(tx, slice_str(arg), SLICE("d1"), NULL, &t.w, err);
    }
    return st;
}

static void a_claim_revoked_meanwhile_enrols_nobody(void **state)
{
    (void)state;
    char csr[TESTCSR_MAX];
    testcsr("P-256", NULL, csr);
    assert_int_equal(testid_claim(&t, (struct claim_conf){.uses = 1, .ttl_us = HOUR_US}, token, id), ST_OK);
    assert_int_equal(testcore_run(&t, run_revoked_meanwhile, csr), ST_FORBIDDEN);
}

static void guessing_makes_wait(void **state)
{
    (void)state;
    assert_int_equal(testid_claim(&t, (struct claim_conf){.uses = 9, .ttl_us = HOUR_US}, token, id), ST_OK);
    clock_fake(t.now_us, 1000000);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(testcore_run(&t, run_claim, "muster_c_guess"), ST_UNAUTHENTICATED);
    }
    assert_int_equal(testcore_run(&t, run_claim, token), ST_LIMIT);
    clock_fake(t.now_us, 61 * 1000000);
    assert_int_equal(testcore_run(&t, run_claim, token), ST_OK);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(states_follow_from_the_row),
        TEST(bad_wishes_are_refused),
        TEST(lists_tell_the_state_and_no_secret),
        TEST(revoked_and_expired_ones_are_refused),
        TEST(a_claim_revoked_meanwhile_enrols_nobody),
        TEST(guessing_makes_wait),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
