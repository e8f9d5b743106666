#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "core/principal.h"

static bool may(enum role r, enum perm p)
{
    struct principal w = {.kind = WHO_OPERATOR, .perms = role_perms(r)};
    return principal_may(&w, p);
}

// The table of roles once more, written independently: a letter for each role that may.
static void test_who_may_what(void **state)
{
    (void)state;
    static const struct {
        const char *perm;
        const char *roles; // O owner, A admin, o operator, i installer, v viewer, u auditor
    } rows[] = {
        {"device:read", "OAoivu"},    {"device:write", "OAoi"},   {"device:delete", "OA"},
        {"claim:read", "OAoivu"},     {"claim:write", "OAoi"},    {"cert:read", "OAoivu"},
        {"cert:revoke", "OA"},        {"twin:read", "OAoivu"},    {"twin:write", "OAo"},
        {"telemetry:read", "OAoivu"}, {"command:read", "OAoivu"}, {"command:send", "OAo"},
        {"presence:read", "OAoivu"},  {"ledger:read", "OAoivu"},  {"audit:read", "OAu"},
        {"settings:read", "OAoivu"},  {"settings:write", "OA"},   {"token:read", "OAoivu"},
        {"token:write", "O"},         {"policy:read", "OAoivu"},  {"policy:write", "OA"},
        {"mqtt:connect", "OAo"},      {"tenant:read", ""},        {"tenant:write", ""},
        {"metrics:read", ""},         {"diag:read", "OAo"},       {"diag:write", "OAo"},
    };
    assert_int_equal(sizeof(rows) / sizeof(rows[0]), PERM__COUNT);
    static const char letters[] = "OAoivu";
    for (size_t i = 0; i < PERM__COUNT; i++) {
        enum perm p;
        assert_true(perm_parse(slice_str(rows[i].perm), &p));
        assert_string_equal(perm_text(p), rows[i].perm);
        for (unsigned r = 0; r < ROLE__COUNT; r++) {
            assert_int_equal(may((enum role)r, p), strchr(rows[i].roles, letters[r]) != NULL);
        }
    }
}

static void test_special_permissions(void **state)
{
    (void)state;
    struct principal nobody = {.kind = WHO_NOBODY};
    assert_true(principal_may(&nobody, PERM_PUBLIC));
    assert_false(principal_may(&nobody, PERM_NONE));
    assert_false(principal_may(&nobody, PERM_DEVICE_READ));
    struct principal system = principal_system();
    assert_int_equal(system.kind, WHO_SYSTEM);
    assert_string_equal(system.name, "system");
    for (unsigned p = 0; p < PERM__COUNT; p++) {
        assert_true(principal_may(&system, (enum perm)p));
    }
    assert_false(principal_may(&system, PERM_NONE));
    assert_false(principal_may(&system, (enum perm)PERM__COUNT));
    assert_true(perms_all() == system.perms);
    enum perm p;
    assert_true(perm_parse(SLICE("public"), &p));
    assert_int_equal(p, PERM_PUBLIC);
    assert_false(perm_parse(SLICE("device:"), &p));
    assert_string_equal(perm_text(PERM_NONE), "none");
}

static void test_roles_have_names(void **state)
{
    (void)state;
    for (unsigned r = 0; r < ROLE__COUNT; r++) {
        enum role back;
        assert_true(role_parse(slice_str(role_text((enum role)r)), &back));
        assert_int_equal(back, r);
    }
    enum role back;
    assert_false(role_parse(SLICE("root"), &back));
    assert_true(role_perms((enum role)99) == 0);
    assert_string_equal(role_text((enum role)99), "none");
}

static void test_ids(void **state)
{
    (void)state;
    char longest[ID_MAX + 1];
    memset(longest, 'x', sizeof(longest));
    assert_true(id_valid(SLICE("a")));
    assert_true(id_valid(SLICE("AZaz09._:-")));
    assert_true(id_valid(slice_make(longest, ID_MAX)));
    assert_false(id_valid(slice_make(longest, ID_MAX + 1)));
    static const char *const bad[] = {"", "a b", "a/b", "a+b", "#", "\xc3\xbc", "a\n", "$a", "a@b"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_false(id_valid(slice_str(bad[i])));
    }
    assert_false(id_valid(slice_make("a\0b", 3)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_who_may_what),
        cmocka_unit_test(test_special_permissions),
        cmocka_unit_test(test_roles_have_names),
        cmocka_unit_test(test_ids),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
