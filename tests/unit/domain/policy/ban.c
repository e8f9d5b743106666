// Bans: networks and addresses, client ids and devices of a tenant, expiry, restart, flapping, who may ban what.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "domain/policy/ban.h"
#include "domain/policy/security.h"
#include "lib/testcore.h"

static struct testcore t;
static unsigned closed;
static char closed_id[64];

static enum status on_change(struct tx *tx, const struct device_ref *d, enum device_change what, struct err *err)
{
    (void)tx;
    (void)d;
    (void)err;
    assert_int_equal(what, DEVICE_CHANGE_BANNED); // what it has stays for when the ban ends
    closed++;
    return ST_OK;
}

static enum status on_create(struct tx *tx, const struct ban_whom *whom, void *arg, unsigned *ret_closed,
                             struct err *err)
{
    (void)tx;
    (void)err;
    (void)arg;
    if (whom->kind == BAN_CLIENT_ID) {
        assert_int_equal(whom->tenant, 1);
        assert_true(slice_to_cstr(whom->client_id, closed_id, sizeof(closed_id)));
        *ret_closed = 1;
    }
    return ST_OK;
}

static void start(void)
{
    struct ban_conf conf = {.flapping_connects = 5, .takeovers = 5};
    assert_int_equal(testcore_run(&t, security_start, NULL), ST_OK);
    assert_int_equal(testcore_run(&t, ban_start, &conf), ST_OK);
    assert_int_equal(registry_watch(t.core, on_change, NULL), ST_OK);
    ban_on_create(t.core, on_create, NULL);
}

static void stop(void)
{
    ban_stop(t.core);
    security_stop(t.core);
}

static int setup(void **state)
{
    (void)state;
    testcore_open(&t);
    t.who.perms = perms_all();
    closed = 0;
    closed_id[0] = '\0';
    start();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    stop();
    testcore_close(&t);
    return 0;
}

static enum status run_create(struct tx *tx, void *arg, struct err *err)
{
    return ban_create(tx, arg, &t.w, err);
}

static enum status run_list(struct tx *tx, void *arg, struct err *err)
{
    return ban_list(tx, slice_str(arg), 100, &t.w, err);
}

static enum status run_delete(struct tx *tx, void *arg, struct err *err)
{
    return ban_delete(tx, slice_str(arg), err);
}

static enum status make(enum ban_kind kind, const char *value, int64_t ttl_us, char id[32])
{
    struct ban_make m = {.kind = kind, .value = slice_str(value), .reason = SLICE("a reason"), .ttl_us = ttl_us};
    enum status st = testcore_run(&t, run_create, &m);
    if (st == ST_OK && id != NULL) {
        json_t *doc = testcore_json(&t);
        snprintf(id, 32, "%s", json_string_value(json_object_get(doc, "id")));
        json_decref(doc);
    }
    return st;
}

static size_t listed(void)
{
    assert_int_equal(testcore_run(&t, run_list, NULL), ST_OK);
    json_t *doc = testcore_json(&t);
    size_t n = json_array_size(json_object_get(doc, "items"));
    json_decref(doc);
    return n;
}

static bool address(const char *text)
{
    return ban_address(t.core, slice_str(text));
}

static void test_addresses(void **state)
{
    (void)state;
    char id[32];
    assert_false(address("198.51.100.9:1234"));
    assert_int_equal(make(BAN_ADDRESS, "198.51.100.0/24", 0, id), ST_OK);
    assert_int_equal(make(BAN_ADDRESS, "203.0.113.5", 0, NULL), ST_OK);
    assert_int_equal(make(BAN_ADDRESS, "2001:db8::/32", 0, NULL), ST_OK);
    assert_true(address("198.51.100.9:1234"));
    assert_true(address("198.51.100.255"));
    assert_false(address("198.51.101.0:1"));
    assert_true(address("203.0.113.5:1"));
    assert_false(address("203.0.113.4:1"));
    assert_true(address("[2001:db8:7::1]:1"));
    assert_false(address("[2001:db9::1]:1"));
    assert_true(address("[::ffff:203.0.113.5]:1"));
    assert_false(address("nonsense"));
    assert_int_equal(testcore_run(&t, run_delete, id), ST_OK);
    assert_false(address("198.51.100.9:1234"));
    assert_int_equal(testcore_run(&t, run_delete, id), ST_NOT_FOUND);
    assert_int_equal(make(BAN_ADDRESS, "host", 0, NULL), ST_INVALID);
    assert_int_equal(make(BAN_ADDRESS, "198.51.100.7/24", 0, NULL), ST_INVALID);
    assert_int_equal(make(BAN_ADDRESS, "::/0", 0, NULL), ST_OK); // all of IPv6, nothing of IPv4
    assert_true(address("[2001:db9::1]:1"));
    assert_false(address("198.51.100.9:1234"));
}

static void test_banning_anew_replaces(void **state)
{
    (void)state;
    char first[32];
    char second[32];
    assert_int_equal(make(BAN_ADDRESS, "198.51.100.1", 60000000, first), ST_OK);
    assert_int_equal(make(BAN_ADDRESS, "198.51.100.1/32", 0, second), ST_OK);
    assert_string_not_equal(first, second);
    assert_int_equal(listed(), 1);
    assert_int_equal(testcore_run(&t, run_delete, first), ST_NOT_FOUND);
    assert_true(address("198.51.100.1:5"));
    assert_int_equal(testcore_run(&t, run_delete, second), ST_OK);
    assert_false(address("198.51.100.1:5"));
}

static void test_bans_run_out(void **state)
{
    (void)state;
    t.now_us = clock_wall_us() - 3600000000; // made an hour ago, for half an hour
    assert_int_equal(make(BAN_ADDRESS, "198.51.100.1", 1800000000, NULL), ST_OK);
    assert_int_equal(make(BAN_ADDRESS, "198.51.100.2", 7200000000, NULL), ST_OK);
    t.now_us = 0;
    assert_false(address("198.51.100.1:5"));
    assert_true(address("198.51.100.2:5"));
    assert_int_equal(listed(), 1);
    assert_int_equal(make(BAN_ADDRESS, "198.51.100.3", 1, NULL), ST_INVALID);
    assert_int_equal(make(BAN_ADDRESS, "198.51.100.3", BAN_TTL_MAX_US + 1, NULL), ST_INVALID);
}

struct check {
    struct principal who;
    const char *client_id;
};
static enum status run_check(struct tx *tx, void *arg, struct err *err)
{
    const struct check *c = arg;
    return ban_check(tx, &c->who, slice_str(c->client_id), err);
}

static enum status check(uint32_t tenant, const char *device, const char *client_id)
{
    struct check c = {.who = {.kind = WHO_DEVICE, .tenant = tenant}, .client_id = client_id};
    snprintf(c.who.name, sizeof(c.who.name), "%s", device);
    return testcore_run(&t, run_check, &c);
}

static enum status run_device(struct tx *tx, void *arg, struct err *err)
{
    struct device_ref d;
    json_t *doc = testcore_doc(arg);
    enum status st = device_create(tx, doc, &d, err);
    json_decref(doc);
    return st;
}

static void test_client_ids_and_devices(void **state)
{
    (void)state;
    assert_int_equal(testcore_run(&t, run_device, (void *)"{'id':'d-1'}"), ST_OK);
    assert_int_equal(make(BAN_DEVICE, "d-9", 0, NULL), ST_NOT_FOUND);
    assert_int_equal(make(BAN_DEVICE, "d-1", 0, NULL), ST_OK);
    assert_int_equal(closed, 1);
    assert_string_equal(closed_id, "");
    assert_int_equal(make(BAN_CLIENT_ID, "evil", 0, NULL), ST_OK);
    assert_string_equal(closed_id, "evil");
    assert_int_equal(make(BAN_CLIENT_ID, "", 0, NULL), ST_INVALID);
    assert_int_equal(check(1, "d-1", "x"), ST_FORBIDDEN);
    assert_int_equal(check(1, "d-2", "evil"), ST_FORBIDDEN);
    assert_int_equal(check(1, "d-2", "evil2"), ST_OK);
    assert_int_equal(check(2, "d-1", "evil"), ST_OK); // another tenant's
}

static void test_bans_outlive_the_process(void **state)
{
    (void)state;
    assert_int_equal(make(BAN_ADDRESS, "2001:db8::/32", 0, NULL), ST_OK);
    assert_int_equal(make(BAN_CLIENT_ID, "evil", 0, NULL), ST_OK);
    stop();
    testcore_stop(&t);
    testcore_reopen(&t);
    start();
    assert_true(address("[2001:db8::1]:1"));
    assert_int_equal(check(1, "d-1", "evil"), ST_FORBIDDEN);
    assert_int_equal(listed(), 2);
}

static void test_addresses_are_the_system_owners(void **state)
{
    (void)state;
    char id[32];
    assert_int_equal(make(BAN_ADDRESS, "198.51.100.1", 0, id), ST_OK);
    t.who.perms = role_perms(ROLE_OWNER);
    assert_int_equal(make(BAN_ADDRESS, "198.51.100.2", 0, NULL), ST_FORBIDDEN);
    assert_int_equal(testcore_run(&t, run_delete, id), ST_NOT_FOUND);
    assert_int_equal(listed(), 0);
    assert_true(address("198.51.100.1"));
}

struct flap {
    const char *client_id, *addr;
    uint64_t device; // row; 0: an application
};
static enum status run_flap(struct tx *tx, void *arg, struct err *err)
{
    const struct flap *f = arg;
    // Of no tenant: the report is counted and logged only, this core does not run.
    struct principal who = {.kind = f->device != 0 ? WHO_DEVICE : WHO_OPERATOR, .row = f->device};
    return ban_flapping(tx, &who, slice_str(f->client_id), slice_str(f->addr), err);
}

static void test_flapping(void **state)
{
    (void)state;
    struct flap f = {"c-1", "192.0.2.1:100", 7};
    struct flap other_id = {"c-2", "192.0.2.1:100", 7};
    struct flap other_device = {"c-1", "192.0.2.1:100", 8};
    struct flap other_source = {"c-1", "192.0.2.2:100", 7};
    struct flap app = {"a-1", "192.0.2.1:100", 0};
    struct flap other_app = {"a-2", "192.0.2.1:100", 0};
    unsigned let_in = 0;
    for (unsigned i = 0; i < 20; i++) {
        let_in += testcore_run(&t, run_flap, &f) == ST_OK ? 1 : 0;
    }
    assert_in_range(let_in, 4, 5);
    assert_int_equal(testcore_run(&t, run_flap, &f), ST_FORBIDDEN);
    assert_int_equal(testcore_run(&t, run_flap, &other_id), ST_FORBIDDEN); // the same device under another name
    assert_int_equal(testcore_run(&t, run_flap, &other_device), ST_OK);
    assert_int_equal(testcore_run(&t, run_flap, &other_source), ST_OK);
    for (unsigned i = 0; i < 6; i++) {
        (void)testcore_run(&t, run_flap, &app);
    }
    assert_int_equal(testcore_run(&t, run_flap, &app), ST_FORBIDDEN);
    assert_int_equal(testcore_run(&t, run_flap, &other_app), ST_OK); // many may share a token
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_addresses, setup, teardown),
        cmocka_unit_test_setup_teardown(test_banning_anew_replaces, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bans_run_out, setup, teardown),
        cmocka_unit_test_setup_teardown(test_client_ids_and_devices, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bans_outlive_the_process, setup, teardown),
        cmocka_unit_test_setup_teardown(test_addresses_are_the_system_owners, setup, teardown),
        cmocka_unit_test_setup_teardown(test_flapping, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
