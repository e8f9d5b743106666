// The audit record: what a row says, filters, pages, tenants, and that nobody changes it.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "domain/audit/audit.h"
#include "lib/testcore.h"

static struct testcore t;

static int setup(void **state)
{
    (void)state;
    testcore_open(&t);
    t.now_us = 1700000000000000;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    testcore_close(&t);
    return 0;
}

struct row {
    const char *action, *kind, *object, *before, *after;
    int times;
    enum status then; // what the operation returns after it has written
};

static enum status run_write(struct tx *tx, void *arg, struct err *err)
{
    const struct row *r = arg;
    enum status st = ST_OK;
    for (int i = 0; st == ST_OK && i < (r->times > 0 ? r->times : 1); i++) {
        st = audit_write(tx, r->action, r->kind, slice_str(r->object), slice_str(r->before), slice_str(r->after), err);
    }
    return st == ST_OK && r->then != ST_OK ? err_set(err, r->then, "as the test wants") : st;
}

static void wrote(const char *action, const char *object)
{
    struct row r = {.action = action, .kind = "device", .object = object};
    assert_int_equal(testcore_run(&t, run_write, &r), ST_OK);
}

static enum status run_list(struct tx *tx, void *arg, struct err *err)
{
    return audit_list(tx, arg, &t.w, err);
}

static json_t *list(struct audit_filter f)
{
    f.limit = f.limit > 0 ? f.limit : 1000;
    f.to_us = f.to_us != 0 ? f.to_us : INT64_MAX;
    assert_int_equal(testcore_run(&t, run_list, &f), ST_OK);
    return testcore_json(&t);
}

static size_t count(struct audit_filter f)
{
    json_t *doc = list(f);
    size_t n = json_array_size(json_object_get(doc, "items"));
    json_decref(doc);
    return n;
}

static void a_row_tells_all(void **state)
{
    (void)state;
    struct row r = {.action = "device.update",
                    .kind = "device",
                    .object = "d1",
                    .before = "{\"name\":null}",
                    .after = "{\"name\":\"x\"}"};
    assert_int_equal(testcore_run(&t, run_write, &r), ST_OK);
    json_t *doc = list((struct audit_filter){.from_us = 0});
    json_t *got = json_array_get(json_object_get(doc, "items"), 0);
    json_t *want =
        testcore_doc("{'seq':1,'time':'2023-11-14T22:13:20.000000Z','actor_kind':'operator','actor':'tester',"
                     "'address':'192.0.2.7:4711','action':'device.update','object_kind':'device',"
                     "'object':'d1','before':{'name':null},'after':{'name':'x'}}");
    assert_int_equal(strlen(json_string_value(json_object_get(got, "operation"))), 16);
    json_object_del(got, "operation");
    assert_true(json_equal(got, want));
    json_decref(doc);
    json_decref(want);
}

static void one_operation_one_id(void **state)
{
    (void)state;
    struct row r = {.action = "a", .kind = "device", .object = "d", .times = 2};
    assert_int_equal(testcore_run(&t, run_write, &r), ST_OK);
    assert_int_equal(testcore_run(&t, run_write, &r), ST_OK);
    json_t *doc = list((struct audit_filter){.from_us = 0});
    const char *op[4];
    for (size_t i = 0; i < 4; i++) {
        op[i] = json_string_value(json_object_get(json_array_get(json_object_get(doc, "items"), i), "operation"));
    }
    assert_string_equal(op[0], op[1]);
    assert_string_equal(op[2], op[3]);
    assert_string_not_equal(op[1], op[2]);
    json_decref(doc);
}

static void a_failed_operation_leaves_no_row(void **state)
{
    (void)state;
    struct row r = {.action = "a", .kind = "device", .object = "d", .then = ST_CONFLICT};
    assert_int_equal(testcore_run(&t, run_write, &r), ST_CONFLICT);
    assert_int_equal(count((struct audit_filter){.from_us = 0}), 0);
}

static void filters(void **state)
{
    (void)state;
    wrote("device.create", "d1");
    t.now_us += 1000000;
    wrote("device.update", "d1");
    t.who = testcore_principal(1, ROLE_OWNER, "second");
    wrote("device.create", "d2");
    assert_int_equal(count((struct audit_filter){.from_us = 0}), 3);
    assert_int_equal(count((struct audit_filter){.object = SLICE("d1")}), 2);
    assert_int_equal(count((struct audit_filter){.object = SLICE("d1"), .action = SLICE("device.create")}), 1);
    assert_int_equal(count((struct audit_filter){.object = SLICE("d1"), .object_kind = SLICE("group")}), 0);
    assert_int_equal(count((struct audit_filter){.action = SLICE("device.create")}), 2);
    assert_int_equal(count((struct audit_filter){.actor = SLICE("second")}), 1);
    assert_int_equal(count((struct audit_filter){.from_us = t.now_us}), 2);
    assert_int_equal(count((struct audit_filter){.to_us = t.now_us}), 1);
    assert_int_equal(count((struct audit_filter){.object = SLICE("d1"), .from_us = t.now_us}), 1);
    assert_int_equal(count((struct audit_filter){.from_us = t.now_us + 1}), 0);
}

// Rows at one and the same microsecond must neither be lost nor repeated between pages.
static void pages_lose_nothing(void **state)
{
    (void)state;
    struct row r = {.action = "a", .kind = "device", .object = "d", .times = 50};
    assert_int_equal(testcore_run(&t, run_write, &r), ST_OK);
    for (int by_object = 0; by_object < 2; by_object++) {
        char cursor[400] = "";
        int64_t last = INT64_MAX;
        size_t n = 0;
        for (bool more = true; more;) {
            struct audit_filter f = {.limit = 7, .cursor = cursor[0] != '\0' ? slice_str(cursor) : (struct slice){0}};
            f.object = by_object != 0 ? SLICE("d") : f.object;
            json_t *doc = list(f);
            const json_t *items = json_object_get(doc, "items");
            for (size_t i = 0; i < json_array_size(items); i++, n++) {
                int64_t seq = json_integer_value(json_object_get(json_array_get(items, i), "seq"));
                assert_true(seq < last);
                last = seq;
            }
            const char *next = json_string_value(json_object_get(doc, "next"));
            more = next != NULL;
            snprintf(cursor, sizeof(cursor), "%s", more ? next : "");
            json_decref(doc);
        }
        assert_int_equal(n, 50);
    }
}

static void cursors_belong_to_their_query(void **state)
{
    (void)state;
    struct row r = {.action = "a", .kind = "device", .object = "d", .times = 3};
    assert_int_equal(testcore_run(&t, run_write, &r), ST_OK);
    json_t *doc = list((struct audit_filter){.limit = 1});
    struct audit_filter f = {.limit = 1,
                             .object = SLICE("d"),
                             .to_us = INT64_MAX,
                             .cursor = slice_str(json_string_value(json_object_get(doc, "next")))};
    assert_int_equal(testcore_run(&t, run_list, &f), ST_INVALID);
    assert_string_equal(t.err.where, "cursor");
    json_decref(doc);
}

static void tenants_do_not_meet(void **state)
{
    (void)state;
    wrote("device.create", "d1");
    t.who = testcore_principal(2, ROLE_OWNER, "stranger");
    assert_int_equal(count((struct audit_filter){.from_us = 0}), 0);
    assert_int_equal(count((struct audit_filter){.object = SLICE("d1")}), 0);
}

static enum status run_sql(struct tx *tx, void *arg, struct err *err)
{
    return stmt_run(db_stmt(tx->db, arg), err);
}

static void nobody_changes_it(void **state)
{
    (void)state;
    static const struct sql_def tampering[] = {{"update", "UPDATE audit SET actor = 'somebody else'"},
                                               {"delete", "DELETE FROM audit"},
                                               {"renumber", "UPDATE audit SET seq = 7 WHERE seq = 1"},
                                               {"replace", "INSERT OR REPLACE INTO audit SELECT seq, ts_us, tenant, "
                                                           "actor_kind, 'somebody else', address, action, object_kind, "
                                                           "object, before, after, operation FROM audit"}};
    wrote("device.create", "d1");
    for (size_t i = 0; i < sizeof(tampering) / sizeof(tampering[0]); i++) {
        assert_int_equal(testcore_run(&t, run_sql, (void *)(uintptr_t)&tampering[i]), ST_CONFLICT);
    }
    assert_int_equal(count((struct audit_filter){.actor = SLICE("tester")}), 1);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_row_tells_all),
        TEST(one_operation_one_id),
        TEST(a_failed_operation_leaves_no_row),
        TEST(filters),
        TEST(pages_lose_nothing),
        TEST(cursors_belong_to_their_query),
        TEST(tenants_do_not_meet),
        TEST(nobody_changes_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
