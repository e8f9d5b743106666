// Operator tokens and tenants: roles, expiry, nobody gives more than they have, the last owner stays.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "domain/identity/operator.h"
#include "lib/testcore.h"
#include "lib/testcsr.h"
#include "lib/testidentity.h"

#define HOUR_US ((int64_t)3600 * 1000000)

static struct testcore t;
static char token[TESTID_TEXT];

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

static enum status run_create(struct tx *tx, void *arg, struct err *err)
{
    return operator_create(tx, arg, &t.w, err);
}

static enum status create(const char *name, enum role role, int64_t ttl_us)
{
    struct operator_conf conf = {.name = slice_str(name), .role = role, .ttl_us = ttl_us};
    enum status st = testcore_run(&t, run_create, &conf);
    if (st == ST_OK) {
        json_t *doc = testcore_json(&t);
        testid_copy(doc, "token", token);
        assert_string_equal(json_string_value(json_object_get(doc, "role")), role_text(role));
        json_decref(doc);
    }
    return st;
}

static enum status run_revoke(struct tx *tx, void *arg, struct err *err)
{
    return operator_revoke(tx, slice_str(arg), err);
}

struct bearer {
    const char *token;
    struct principal who;
};

static enum status run_bearer(struct tx *tx, void *arg, struct err *err)
{
    struct bearer *b = arg;
    return identity_bearer(tx, slice_str(b->token), &b->who, err);
}

static enum status bearer(const char *text, struct principal *ret)
{
    struct bearer b = {.token = text};
    enum status st = testcore_run(&t, run_bearer, &b);
    *ret = b.who;
    return st;
}

static void tokens_have_their_role(void **state)
{
    (void)state;
    for (int role = 0; role < ROLE__COUNT; role++) {
        struct principal who;
        char name[32];
        snprintf(name, sizeof(name), "t-%s", role_text((enum role)role));
        assert_int_equal(create(name, (enum role)role, 0), ST_OK);
        assert_int_equal(bearer(token, &who), ST_OK);
        assert_true(who.perms == role_perms((enum role)role));
        assert_string_equal(who.name, name);
        assert_int_equal(who.tenant, 1);
        assert_int_equal(who.kind, WHO_OPERATOR);
        assert_false(principal_may(&who, PERM_TENANT_READ));
    }
}

static void wrong_tokens_are_nobody(void **state)
{
    (void)state;
    struct principal who;
    assert_int_equal(create("a", ROLE_VIEWER, 0), ST_OK);
    char cut[TESTID_TEXT];
    snprintf(cut, sizeof(cut), "%.*s", (int)strlen(token) - 1, token);
    assert_int_equal(bearer(cut, &who), ST_UNAUTHENTICATED);
    assert_int_equal(bearer("", &who), ST_UNAUTHENTICATED);
    assert_int_equal(bearer("muster_o_", &who), ST_UNAUTHENTICATED);
    assert_int_equal(bearer(token, &who), ST_OK);
}

static void tokens_expire_and_are_revoked(void **state)
{
    (void)state;
    struct principal who;
    assert_int_equal(create("a", ROLE_VIEWER, HOUR_US), ST_OK);
    t.now_us += HOUR_US - 1;
    assert_int_equal(bearer(token, &who), ST_OK);
    t.now_us += 1;
    assert_int_equal(bearer(token, &who), ST_UNAUTHENTICATED);
    assert_int_equal(create("b", ROLE_VIEWER, 0), ST_OK);
    assert_int_equal(create("b", ROLE_VIEWER, 0), ST_EXISTS);
    assert_string_equal(t.err.where, "/name");
    assert_int_equal(testcore_run(&t, run_revoke, "b"), ST_OK);
    assert_int_equal(bearer(token, &who), ST_UNAUTHENTICATED);
    assert_int_equal(testcore_run(&t, run_revoke, "b"), ST_NOT_FOUND);
    assert_int_equal(create("b", ROLE_VIEWER, 0), ST_OK); // the name is free again
}

static void nobody_gives_more_than_they_have(void **state)
{
    (void)state;
    assert_int_equal(create("the-owner", ROLE_OWNER, 0), ST_OK);
    t.who = testcore_principal(1, ROLE_VIEWER, "viewer");
    assert_int_equal(create("x", ROLE_OWNER, 0), ST_FORBIDDEN);
    assert_int_equal(create("x", ROLE_OPERATOR, 0), ST_FORBIDDEN);
    assert_int_equal(create("x", ROLE_VIEWER, 0), ST_OK);
    assert_int_equal(testcore_run(&t, run_revoke, "the-owner"), ST_FORBIDDEN);
    // Nor does a tenant's owner revoke the system owner.
    t.who = testcore_principal(1, ROLE_OWNER, "owner");
    assert_int_equal(testcore_run(&t, run_revoke, "admin"), ST_FORBIDDEN);
}

static void the_last_system_owner_stays(void **state)
{
    (void)state;
    t.who.perms = perms_all();
    assert_int_equal(testcore_run(&t, run_revoke, "admin"), ST_CONFLICT);
    assert_non_null(strstr(t.err.text, "last"));
}

static void bad_wishes_are_refused(void **state)
{
    (void)state;
    assert_int_equal(create("a b", ROLE_VIEWER, 0), ST_INVALID);
    assert_string_equal(t.err.where, "/name");
    assert_int_equal(create("a", ROLE_VIEWER, 1), ST_INVALID);
    assert_string_equal(t.err.where, "/ttl");
    assert_int_equal(create("a", ROLE_VIEWER, OPERATOR_TTL_MAX_US + 1), ST_INVALID);
}

static enum status run_tenant(struct tx *tx, void *arg, struct err *err)
{
    return tenant_create(tx, slice_str(arg), &t.w, err);
}

static enum status run_tenants(struct tx *tx, void *arg, struct err *err)
{
    const struct slice *cursor = arg;
    return tenant_list(tx, *cursor, 2, &t.w, err);
}

static enum status run_tokens(struct tx *tx, void *arg, struct err *err)
{
    (void)arg;
    return operator_list(tx, (struct slice){NULL, 0}, 100, &t.w, err);
}

static void a_tenant_comes_with_its_owner(void **state)
{
    (void)state;
    struct principal who;
    assert_int_equal(testcore_run(&t, run_tenant, "acme"), ST_OK);
    json_t *doc = testcore_json(&t);
    testid_copy(doc, "token", token);
    json_decref(doc);
    assert_int_equal(testcore_run(&t, run_tenant, "acme"), ST_EXISTS);
    assert_int_equal(testcore_run(&t, run_tenant, "default"), ST_EXISTS);
    assert_int_equal(testcore_run(&t, run_tenant, "a b"), ST_INVALID);
    assert_int_equal(bearer(token, &who), ST_OK);
    assert_int_equal(who.tenant, 2);
    assert_true(who.perms == role_perms(ROLE_OWNER));
    // It sees its own tokens only.
    t.who = who;
    assert_int_equal(testcore_run(&t, run_tokens, NULL), ST_OK);
    assert_null(memmem(t.out.p, t.out.len, "muster_o_", 9));
    doc = testcore_json(&t);
    const json_t *items = json_object_get(doc, "items");
    assert_int_equal(json_array_size(items), 1);
    assert_string_equal(json_string_value(json_object_get(json_array_get(items, 0), "name")), "owner");
    assert_true(json_is_false(json_object_get(json_array_get(items, 0), "system")));
    json_decref(doc);
    assert_int_equal(testcore_run(&t, run_revoke, "admin"), ST_NOT_FOUND);
}

static void tenants_page(void **state)
{
    (void)state;
    struct slice cursor = {NULL, 0};
    char next[400];
    assert_int_equal(testcore_run(&t, run_tenant, "b"), ST_OK);
    assert_int_equal(testcore_run(&t, run_tenant, "a"), ST_OK);
    assert_int_equal(testcore_run(&t, run_tenants, &cursor), ST_OK);
    json_t *doc = testcore_json(&t);
    const json_t *items = json_object_get(doc, "items");
    assert_int_equal(json_array_size(items), 2);
    assert_string_equal(json_string_value(json_object_get(json_array_get(items, 0), "id")), "default");
    assert_string_equal(json_string_value(json_object_get(json_array_get(items, 1), "id")), "b");
    snprintf(next, sizeof(next), "%s", json_string_value(json_object_get(doc, "next")));
    cursor = slice_str(next);
    json_decref(doc);
    assert_int_equal(testcore_run(&t, run_tenants, &cursor), ST_OK);
    doc = testcore_json(&t);
    assert_int_equal(json_array_size(json_object_get(doc, "items")), 1);
    assert_true(json_is_null(json_object_get(doc, "next")));
    json_decref(doc);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(tokens_have_their_role),        TEST(wrong_tokens_are_nobody),
        TEST(tokens_expire_and_are_revoked), TEST(nobody_gives_more_than_they_have),
        TEST(the_last_system_owner_stays),   TEST(bad_wishes_are_refused),
        TEST(a_tenant_comes_with_its_owner), TEST(tenants_page),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
