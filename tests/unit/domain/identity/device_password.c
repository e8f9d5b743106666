// Passwords of devices: two steps to come in, unknown names, revocation in between, limits; applications and strangers.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "domain/identity/device_password.h"
#include "domain/identity/device_psk.h"
#include "domain/identity/operator.h"
#include "lib/testcore.h"
#include "lib/testcsr.h"
#include "lib/testidentity.h"
#include "lib/testscram.h"

static struct testcore t;
static unsigned revoked;

static enum status on_change(struct tx *tx, const struct device_ref *d, enum device_change what, struct err *err)
{
    (void)tx;
    (void)d;
    (void)err;
    revoked += what == DEVICE_CHANGE_REVOKED ? 1 : 0;
    return ST_OK;
}

static int setup(void **state)
{
    (void)state;
    testcore_open(&t);
    assert_int_equal(testcore_identity(&t), ST_OK);
    assert_int_equal(registry_watch(t.core, on_change, NULL), ST_OK);
    revoked = 0;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    testcore_close(&t);
    return 0;
}

struct set {
    const char *id, *password;
};

static enum status run_set(struct tx *tx, void *arg, struct err *err)
{
    const struct set *s = arg;
    struct device_ref d;
    enum status st = device_find(tx, slice_str(s->id), &d, err);
    return st == ST_OK ? device_password_set(tx, &d, slice_str(s->password), &t.w, err) : st;
}

static enum status run_list(struct tx *tx, void *arg, struct err *err)
{
    struct device_ref d;
    enum status st = device_find(tx, slice_str(arg), &d, err);
    return st == ST_OK ? device_password_list(tx, &d, &t.w, err) : st;
}

static enum status run_revoke(struct tx *tx, void *arg, struct err *err)
{
    struct device_ref d;
    enum status st = device_find(tx, slice_str(arg), &d, err);
    return st == ST_OK ? device_password_revoke(tx, &d, err) : st;
}

static void set(const char *id, const char *password)
{
    struct set s = {id, password};
    assert_int_equal(testcore_run(&t, run_set, &s), ST_OK);
}

static enum status authenticate(struct testid_auth *a, struct device_login *login, const char *name,
                                const char *password)
{
    *a = (struct testid_auth){.cred = {.username = slice_str(name),
                                       .password = slice_str(password),
                                       .peer_addr = SLICE("192.0.2.61:2000"),
                                       .login = login}};
    return testcore_run(&t, testid_run_auth, a);
}

// Both steps, as a front does them.
static enum status login(const char *name, const char *password, struct testid_auth *a)
{
    struct device_login l = {.state = LOGIN_NONE};
    enum status st = authenticate(a, &l, name, password);
    if (st == ST_UNAUTHENTICATED && l.state == LOGIN_ASKED) {
        device_password_check(&l, slice_str(password));
        st = authenticate(a, &l, name, password);
    }
    return st;
}

static void test_name_and_password(void **state)
{
    (void)state;
    struct testid_auth a;
    struct device_login l = {.state = LOGIN_NONE};
    assert_int_equal(testid_device(&t, "{'id':'d-1','access_token':'a-token-of-d-1-1234'}"), ST_OK);
    assert_int_equal(authenticate(&a, &l, "d-1", "right-password"), ST_UNAUTHENTICATED);
    assert_int_equal(l.state, LOGIN_NONE); // nobody has a password: nothing is asked
    set("d-1", "right-password");
    assert_int_equal(login("d-1", "right-password", &a), ST_OK);
    assert_int_equal(a.who.kind, WHO_DEVICE);
    assert_string_equal(a.device.id, "d-1");
    assert_int_equal(login("d-1", "wrong-password", &a), ST_UNAUTHENTICATED);
    assert_int_equal(login("d-2", "right-password", &a), ST_UNAUTHENTICATED);
    assert_int_equal(login("d-1@default", "right-password", &a), ST_OK);
    assert_int_equal(login("d-1@other", "right-password", &a), ST_UNAUTHENTICATED);
    assert_int_equal(login("d-1", "a-token-of-d-1-1234", &a), ST_OK); // tokens come in as before, in one step
    assert_int_equal(testid_auth(&t, &a, "d-1", "right-password", NULL), ST_UNAUTHENTICATED); // not tried
}

static void test_unknown_names_are_asked_too(void **state)
{
    (void)state;
    struct testid_auth a;
    struct device_login l = {.state = LOGIN_NONE};
    struct device_login again = {.state = LOGIN_NONE};
    assert_int_equal(testid_device(&t, "{'id':'d-1'}"), ST_OK);
    set("d-1", "right-password");
    assert_int_equal(authenticate(&a, &l, "nobody", "guess-guess"), ST_UNAUTHENTICATED);
    assert_int_equal(authenticate(&a, &again, "nobody", "guess-guess"), ST_UNAUTHENTICATED);
    assert_int_equal(l.state, LOGIN_ASKED);
    assert_false(l.known);
    assert_memory_equal(l.verifier.salt, again.verifier.salt, SCRAM_SALT_LEN);
    l.state = LOGIN_PROVED; // nothing can prove it
    assert_int_equal(authenticate(&a, &l, "nobody", "guess-guess"), ST_UNAUTHENTICATED);
}

static void test_replaced_and_revoked_meanwhile(void **state)
{
    (void)state;
    struct testid_auth a;
    struct device_login l = {.state = LOGIN_NONE};
    assert_int_equal(testid_device(&t, "{'id':'d-1'}"), ST_OK);
    set("d-1", "first-password");
    assert_int_equal(revoked, 0);
    assert_int_equal(authenticate(&a, &l, "d-1", "first-password"), ST_UNAUTHENTICATED);
    device_password_check(&l, SLICE("first-password"));
    assert_int_equal(l.state, LOGIN_PROVED);
    set("d-1", "second-password");
    assert_int_equal(revoked, 1);
    assert_int_equal(authenticate(&a, &l, "d-1", "first-password"), ST_UNAUTHENTICATED);
    assert_int_equal(login("d-1", "second-password", &a), ST_OK);
    assert_int_equal(testcore_run(&t, run_revoke, (void *)"d-1"), ST_OK);
    assert_int_equal(revoked, 2);
    assert_int_equal(login("d-1", "second-password", &a), ST_UNAUTHENTICATED);
    assert_int_equal(testcore_run(&t, run_revoke, (void *)"d-1"), ST_NOT_FOUND);
}

static void test_lists_and_makes(void **state)
{
    (void)state;
    struct testid_auth a;
    struct set made = {"d-1", NULL};
    struct set shorter = {"d-1", "1234567"};
    char password[64];
    assert_int_equal(testid_device(&t, "{'id':'d-1'}"), ST_OK);
    assert_int_equal(testcore_run(&t, run_set, &shorter), ST_INVALID);
    assert_int_equal(testcore_run(&t, run_set, &made), ST_OK);
    json_t *doc = testcore_json(&t);
    assert_string_equal(json_string_value(json_object_get(doc, "username")), "d-1");
    snprintf(password, sizeof(password), "%s", json_string_value(json_object_get(doc, "password")));
    json_decref(doc);
    assert_int_equal(strlen(password), 24);
    assert_int_equal(login("d-1", password, &a), ST_OK);
    assert_int_equal(testcore_run(&t, run_list, (void *)"d-1"), ST_OK);
    doc = testcore_json(&t);
    const json_t *item = json_array_get(json_object_get(doc, "items"), 0);
    assert_int_equal(json_integer_value(json_object_get(item, "iterations")), SCRAM_ITERATIONS_MIN);
    assert_null(json_object_get(item, "password"));
    json_decref(doc);
}

struct ask {
    struct credential cred;
    struct device_login login;
};
static enum status run_ask(struct tx *tx, void *arg, struct err *err)
{
    struct ask *a = arg;
    return identity_login(tx, &a->cred, &a->login, err);
}

static void test_scram(void **state)
{
    (void)state;
    struct testid_auth a;
    struct ask ask = {.cred = {.username = SLICE("d-1"), .peer_addr = SLICE("192.0.2.61:2000")}};
    uint8_t mem[1024];
    char challenge[1024];
    char final[1024];
    char want[64];
    struct err err = {.code = ST_OK};
    struct buf out = buf_fixed(mem, sizeof(mem) - 1);
    assert_int_equal(testid_device(&t, "{'id':'d-1'}"), ST_OK);
    set("d-1", "right-password");
    struct scram *s = scram_new();
    assert_int_equal(scram_first(s, SLICE("n,,n=d-1,r=abcdef"), &err), ST_OK);
    assert_int_equal(testcore_run(&t, run_ask, &ask), ST_OK);
    assert_int_equal(ask.login.state, LOGIN_ASKED);
    assert_int_equal(scram_challenge(s, &ask.login.verifier, &out, &err), ST_OK);
    snprintf(challenge, sizeof(challenge), "%.*s", (int)out.len, (const char *)mem);
    testscram_final("right-password", "n,,", "n=d-1,r=abcdef", challenge, final, want);
    buf_clear(&out);
    assert_int_equal(scram_final(s, slice_str(final), &out, &err), ST_OK);
    scram_free(s);
    ask.login.state = LOGIN_PROVED;
    assert_int_equal(authenticate(&a, &ask.login, "d-1", NULL), ST_OK);
    assert_string_equal(a.device.id, "d-1");
}

static enum status run_psk(struct tx *tx, void *arg, struct err *err)
{
    const struct psk_conf conf = {.identity = slice_str(arg)};
    struct device_ref d;
    enum status st = device_find(tx, slice_str(arg), &d, err);
    return st == ST_OK ? device_psk_create(tx, &d, &conf, &t.w, err) : st;
}

// Who began an exchange is who its proof says, whatever key or certificate the connection has: a wrong proof lets nobody in.
static void test_the_proof_decides_alone(void **state)
{
    (void)state;
    struct testid_auth a;
    struct device_login l = {.state = LOGIN_NONE};
    assert_int_equal(testid_device(&t, "{'id':'keyed'}"), ST_OK);
    assert_int_equal(testid_device(&t, "{'id':'named'}"), ST_OK);
    assert_int_equal(testcore_run(&t, run_psk, (void *)"keyed"), ST_OK);
    set("named", "right-password");
    a = (struct testid_auth){.cred = {.psk_identity = SLICE("keyed"), .peer_addr = SLICE("192.0.2.61:2000")}};
    assert_int_equal(testcore_run(&t, testid_run_auth, &a), ST_OK);
    assert_string_equal(a.device.id, "keyed");
    assert_int_equal(authenticate(&a, &l, "named", "right-password"), ST_UNAUTHENTICATED);
    assert_int_equal(l.state, LOGIN_ASKED);
    l.state = LOGIN_WRONG;
    a = (struct testid_auth){.cred = {.username = SLICE("named"),
                                      .psk_identity = SLICE("keyed"),
                                      .peer_addr = SLICE("192.0.2.61:2000"),
                                      .login = &l}};
    assert_int_equal(testcore_run(&t, testid_run_auth, &a), ST_UNAUTHENTICATED);
    l.state = LOGIN_PROVED;
    assert_int_equal(testcore_run(&t, testid_run_auth, &a), ST_OK);
    assert_string_equal(a.device.id, "named");
}

static void test_guessing_is_held_up(void **state)
{
    (void)state;
    struct testid_auth a;
    assert_int_equal(testid_device(&t, "{'id':'d-1'}"), ST_OK);
    set("d-1", "right-password");
    struct ask ask = {.cred = {.username = SLICE("d-1"), .peer_addr = SLICE("192.0.2.61:9")}};
    for (int i = 0; i < 10; i++) {
        assert_int_equal(login("d-9", "guess-guess", &a), ST_UNAUTHENTICATED);
        identity_auth_failed(t.core, a.cred.peer_addr); // as the front does once it is decided
    }
    assert_int_equal(login("d-1", "right-password", &a), ST_LIMIT);
    assert_int_equal(testcore_run(&t, run_ask, &ask), ST_LIMIT);
}

// --- applications, strangers -------------------------------------------------------------------------------------

static enum status run_token(struct tx *tx, void *arg, struct err *err)
{
    return operator_create(tx, arg, &t.w, err);
}

static enum status as_application_at(const char *name, enum role role, bool mqtt, const char *tenant,
                                     struct testid_auth *a)
{
    struct operator_conf conf = {.name = slice_str(name), .role = role};
    char token[128];
    assert_int_equal(testcore_run(&t, run_token, &conf), ST_OK);
    json_t *doc = testcore_json(&t);
    snprintf(token, sizeof(token), "%s", json_string_value(json_object_get(doc, "token")));
    json_decref(doc);
    *a = (struct testid_auth){.cred = {.username = SLICE("whatever"),
                                       .password = slice_str(token),
                                       .tenant = slice_str(tenant),
                                       .peer_addr = SLICE("192.0.2.61:2000"),
                                       .mqtt = mqtt}};
    return testcore_run(&t, testid_run_auth, a);
}

static enum status as_application(const char *name, enum role role, bool mqtt, struct testid_auth *a)
{
    return as_application_at(name, role, mqtt, NULL, a);
}

static void test_applications(void **state)
{
    (void)state;
    struct testid_auth a;
    assert_int_equal(as_application("app", ROLE_OPERATOR, true, &a), ST_OK);
    assert_int_equal(a.who.kind, WHO_OPERATOR);
    assert_string_equal(a.who.name, "app");
    assert_string_equal(a.who.addr, "192.0.2.61:2000");
    assert_true(principal_may(&a.who, PERM_MQTT_CONNECT));
    assert_int_equal(as_application("viewer", ROLE_VIEWER, true, &a), ST_FORBIDDEN);
    // The name asked for in TLS lets in its tenant only.
    assert_int_equal(as_application_at("here", ROLE_OPERATOR, true, "default", &a), ST_OK);
    assert_int_equal(as_application_at("there", ROLE_OPERATOR, true, "nowhere", &a), ST_UNAUTHENTICATED);
    assert_int_equal(as_application("other", ROLE_OPERATOR, false, &a), ST_UNAUTHENTICATED);
}

static void test_anonymous_only_where_it_is_allowed(void **state)
{
    (void)state;
    struct testid_auth a = {.cred = {.peer_addr = SLICE("192.0.2.61:2000"), .anonymous = true}};
    assert_int_equal(testcore_run(&t, testid_run_auth, &a), ST_UNAUTHENTICATED); // not configured
    testcore_stop(&t);
    testcore_reopen(&t);
    const struct identity_conf conf = {
        .dir = t.dir, .cert_validity_us = 86400000000, .auth_failures_per_min = 10, .anonymous = true};
    assert_int_equal(identity_open(t.core, &conf, &t.identity, NULL), ST_OK);
    assert_int_equal(testcore_run(&t, testid_run_auth, &a), ST_OK);
    assert_int_equal(a.who.kind, WHO_ANONYMOUS);
    assert_int_equal(a.who.tenant, 1);
    a.cred.anonymous = false; // a listener with TLS
    assert_int_equal(testcore_run(&t, testid_run_auth, &a), ST_UNAUTHENTICATED);
    a.cred.anonymous = true;
    a.cred.username = SLICE("someone"); // who says a name must prove it
    assert_int_equal(testcore_run(&t, testid_run_auth, &a), ST_UNAUTHENTICATED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_name_and_password, setup, teardown),
        cmocka_unit_test_setup_teardown(test_unknown_names_are_asked_too, setup, teardown),
        cmocka_unit_test_setup_teardown(test_replaced_and_revoked_meanwhile, setup, teardown),
        cmocka_unit_test_setup_teardown(test_lists_and_makes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_scram, setup, teardown),
        cmocka_unit_test_setup_teardown(test_the_proof_decides_alone, setup, teardown),
        cmocka_unit_test_setup_teardown(test_guessing_is_held_up, setup, teardown),
        cmocka_unit_test_setup_teardown(test_applications, setup, teardown),
        cmocka_unit_test_setup_teardown(test_anonymous_only_where_it_is_allowed, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
