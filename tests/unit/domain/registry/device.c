// Devices on a real store: creating, changing, lifecycle, deleting, clashes, tenants.
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
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    testcore_close(&t);
    return 0;
}

// --- small operations --------------------------------------------------------------------------------------------

static struct device_ref ref; // of the last operation

static enum status run_create(struct tx *tx, void *arg, struct err *err)
{
    return device_create(tx, arg, &ref, err);
}

static enum status create(const char *desc)
{
    json_t *doc = testcore_doc(desc);
    enum status st = testcore_run(&t, run_create, doc);
    json_decref(doc);
    return st;
}

struct change {
    const char *id;
    json_t *patch;
    int64_t if_version;
    enum device_state to;
    bool changed;
};

static enum status run_update(struct tx *tx, void *arg, struct err *err)
{
    struct change *c = arg;
    enum status st = device_find(tx, slice_str(c->id), &ref, err);
    return st == ST_OK ? device_update(tx, &ref, c->patch, c->if_version, &c->changed, err) : st;
}

static enum status update(const char *id, const char *patch, int64_t if_version, bool *ret_changed)
{
    struct change c = {.id = id, .patch = testcore_doc(patch), .if_version = if_version};
    enum status st = testcore_run(&t, run_update, &c);
    json_decref(c.patch);
    *ret_changed = c.changed;
    return st;
}

static enum status run_state(struct tx *tx, void *arg, struct err *err)
{
    const struct change *c = arg;
    enum status st = device_find(tx, slice_str(c->id), &ref, err);
    return st == ST_OK ? device_set_state(tx, &ref, c->to, c->if_version, err) : st;
}

static enum status set_state(const char *id, enum device_state to)
{
    struct change c = {.id = id, .to = to, .if_version = -1};
    return testcore_run(&t, run_state, &c);
}

static enum status run_delete(struct tx *tx, void *arg, struct err *err)
{
    const struct change *c = arg;
    enum status st = device_find(tx, slice_str(c->id), &ref, err);
    return st == ST_OK ? device_delete(tx, &ref, c->if_version, err) : st;
}

static enum status delete_device(const char *id, int64_t if_version)
{
    struct change c = {.id = id, .if_version = if_version};
    return testcore_run(&t, run_delete, &c);
}

static enum status run_write(struct tx *tx, void *arg, struct err *err)
{
    enum status st = device_find(tx, slice_str(arg), &ref, err);
    return st == ST_OK ? device_write(tx, &ref, &t.w, err) : st;
}

static json_t *show(const char *id)
{
    assert_int_equal(testcore_run(&t, run_write, (void *)(uintptr_t)id), ST_OK);
    return testcore_json(&t);
}

static enum status run_audit(struct tx *tx, void *arg, struct err *err)
{
    const struct audit_filter *f = arg;
    return audit_list(tx, f, &t.w, err);
}

// How many rows the audit record has for an object and action.
static size_t audited(const char *object, const char *action)
{
    struct audit_filter f = {.object = slice_str(object),
                             .action = slice_str(action),
                             .from_us = INT64_MIN,
                             .to_us = INT64_MAX,
                             .limit = 1000};
    assert_int_equal(testcore_run(&t, run_audit, &f), ST_OK);
    json_t *doc = testcore_json(&t);
    size_t n = json_array_size(json_object_get(doc, "items"));
    json_decref(doc);
    return n;
}

// --- creating ----------------------------------------------------------------------------------------------------

static void creates_what_was_described(void **state)
{
    (void)state;
    assert_int_equal(create("{'id':'d1','name':'Kitchen','model':'TH-20','tags':{'site':'berlin'},"
                            "'attributes':{'t':21.4,'a':[1,{'b':null}]},'keys':{'serial':'S1','mac':'00:11'}}"),
                     ST_OK);
    assert_int_equal(ref.version, 1);
    assert_int_equal(ref.state, DEVICE_REGISTERED);
    json_t *got = show("d1");
    json_t *want = testcore_doc("{'id':'d1','name':'Kitchen','model':'TH-20','state':'registered','version':1,"
                                "'tags':{'site':'berlin'},'attributes':{'t':21.4,'a':[1,{'b':null}]},"
                                "'keys':{'serial':'S1','mac':'00:11'},'groups':[]}");
    assert_true(json_is_string(json_object_get(got, "created")));
    json_object_del(got, "created");
    json_object_del(got, "updated");
    assert_true(json_equal(got, want));
    json_decref(got);
    json_decref(want);
    assert_int_equal(audited("d1", "device.create"), 1);
}

static void refuses_bad_descriptions(void **state)
{
    (void)state;
    static const struct {
        const char *desc;
        const char *where;
    } cases[] = {
        {"{'id':'a b'}", "/id"},
        {"{'id':''}", "/id"},
        {"{'id':7}", "/id"},
        {"{'name':'x'}", "/id"},
        {"{'id':'d','name':''}", "/name"},
        {"{'id':'d','name':'a\\u0007'}", "/name"},
        {"{'id':'d','model':[]}", "/model"},
        {"{'id':'d','tags':[]}", "/tags"},
        {"{'id':'d','tags':{'a b':'x'}}", "/tags"},
        {"{'id':'d','tags':{'a':1}}", "/tags/a"},
        {"{'id':'d','attributes':[]}", "/attributes"},
        {"{'id':'d','attributes':{'a':[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]}}", "/attributes"},
        {"{'id':'d','keys':{'serial':''}}", "/keys/serial"},
        {"{'id':'d','keys':{'serial':'a b'}}", "/keys/serial"},
        {"{'id':'d','keys':'x'}", "/keys"},
        {"{'id':'d','access_token':'abc'}", "/access_token"},
        {"{'id':'d','access_token':'has blanks'}", "/access_token"},
        {"{'id':'d','colour':'red'}", ""},
        {"[]", ""},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(create(cases[i].desc), ST_INVALID);
        assert_string_equal(t.err.where, cases[i].where);
    }
}

static void limits_are_exact(void **state)
{
    (void)state;
    char desc[20000];
    char pad[16384];
    // {"p":"xxx"} is 8 bytes more than the x's
    memset(pad, 'x', sizeof(pad));
    snprintf(desc, sizeof(desc), "{'id':'big','attributes':{'p':'%.*s'}}", DEVICE_ATTRIBUTES_MAX - 8, pad);
    assert_int_equal(create(desc), ST_OK);
    snprintf(desc, sizeof(desc), "{'id':'big2','attributes':{'p':'%.*s'}}", DEVICE_ATTRIBUTES_MAX - 7, pad);
    assert_int_equal(create(desc), ST_INVALID);
    assert_string_equal(t.err.where, "/attributes");
    snprintf(desc, sizeof(desc), "{'id':'%.*s'}", ID_MAX, pad);
    assert_int_equal(create(desc), ST_OK);
    snprintf(desc, sizeof(desc), "{'id':'%.*s'}", ID_MAX + 1, pad);
    assert_int_equal(create(desc), ST_INVALID);
    snprintf(desc, sizeof(desc), "{'id':'n1','name':'%.*s'}", DEVICE_NAME_MAX, pad);
    assert_int_equal(create(desc), ST_OK);
    snprintf(desc, sizeof(desc), "{'id':'n2','name':'%.*s'}", DEVICE_NAME_MAX + 1, pad);
    assert_int_equal(create(desc), ST_INVALID);
    snprintf(desc, sizeof(desc), "{'id':'k1','keys':{'serial':'%.*s'}}", DEVICE_KEY_VALUE_MAX, pad);
    assert_int_equal(create(desc), ST_OK);
    snprintf(desc, sizeof(desc), "{'id':'k2','keys':{'serial':'%.*s'}}", DEVICE_KEY_VALUE_MAX + 1, pad);
    assert_int_equal(create(desc), ST_INVALID);
}

static void counts_tags_and_keys(void **state)
{
    (void)state;
    char desc[4096] = "{'id':'tagged','tags':{";
    for (int i = 0; i < DEVICE_TAGS_MAX; i++) {
        snprintf(desc + strlen(desc), sizeof(desc) - strlen(desc), "%s't%d':'v'", i > 0 ? "," : "", i);
    }
    char more[4200];
    snprintf(more, sizeof(more), "%s,'one':'v'}}", desc);
    snprintf(desc + strlen(desc), sizeof(desc) - strlen(desc), "}}");
    assert_int_equal(create(desc), ST_OK);
    assert_int_equal(create(more), ST_INVALID);
    assert_string_equal(t.err.where, "/tags");
}

static void clashes_name_the_other(void **state)
{
    (void)state;
    assert_int_equal(create("{'id':'d1','keys':{'serial':'S1'}}"), ST_OK);
    assert_int_equal(create("{'id':'d1'}"), ST_EXISTS);
    assert_string_equal(t.err.where, "/id");
    assert_int_equal(create("{'id':'d2','keys':{'serial':'S1'}}"), ST_EXISTS);
    assert_string_equal(t.err.where, "/keys/serial");
    assert_non_null(strstr(t.err.text, "d1"));
    assert_int_equal(create("{'id':'d2','keys':{'imei':'S1'}}"), ST_OK); // another kind is another key
    assert_int_equal(audited("d2", "device.create"), 1);
}

// --- changing ----------------------------------------------------------------------------------------------------

static void patches_merge(void **state)
{
    (void)state;
    bool changed = false;
    assert_int_equal(create("{'id':'d1','name':'n','tags':{'a':'1','b':'2'},'attributes':{'x':{'y':1,'z':2}}}"), ST_OK);
    assert_int_equal(
        update("d1", "{'name':null,'tags':{'a':null,'c':'3'},'attributes':{'x':{'y':null,'w':{}}}}", 1, &changed),
        ST_OK);
    assert_true(changed);
    assert_int_equal(ref.version, 2);
    json_t *got = show("d1");
    json_t *tags = testcore_doc("{'b':'2','c':'3'}");
    json_t *attributes = testcore_doc("{'x':{'z':2,'w':{}}}");
    assert_true(json_is_null(json_object_get(got, "name")));
    assert_true(json_equal(json_object_get(got, "tags"), tags));
    assert_true(json_equal(json_object_get(got, "attributes"), attributes));
    json_decref(got);
    json_decref(tags);
    json_decref(attributes);
    assert_int_equal(audited("d1", "device.update"), 1);
}

static void an_empty_change_is_none(void **state)
{
    (void)state;
    bool changed = true;
    assert_int_equal(create("{'id':'d1','name':'n'}"), ST_OK);
    assert_int_equal(update("d1", "{'name':'n'}", -1, &changed), ST_OK);
    assert_false(changed);
    assert_int_equal(create("{'id':'d2','attributes':{'x':5.0}}"), ST_OK);
    assert_int_equal(update("d2", "{'attributes':{'x':5.0}}", -1, &changed), ST_OK);
    assert_false(changed);
    assert_int_equal(update("d2", "{'attributes':{'x':5.5}}", -1, &changed), ST_OK);
    assert_true(changed);
    assert_int_equal(update("d1", "{}", -1, &changed), ST_OK);
    assert_false(changed);
    assert_int_equal(ref.version, 1);
    assert_int_equal(audited("d1", "device.update"), 0);
}

static void versions_guard_changes(void **state)
{
    (void)state;
    bool changed = false;
    assert_int_equal(create("{'id':'d1'}"), ST_OK);
    assert_int_equal(update("d1", "{'name':'a'}", 1, &changed), ST_OK);
    assert_int_equal(update("d1", "{'name':'b'}", 1, &changed), ST_VERSION);
    assert_int_equal(update("d1", "{'name':'b'}", 2, &changed), ST_OK);
    assert_int_equal(delete_device("d1", 2), ST_VERSION);
    assert_int_equal(delete_device("d1", 3), ST_OK);
}

static void patches_are_checked(void **state)
{
    (void)state;
    bool changed = false;
    assert_int_equal(create("{'id':'d1','keys':{'serial':'S1'}}"), ST_OK);
    assert_int_equal(create("{'id':'d2'}"), ST_OK);
    assert_int_equal(update("d2", "{'id':'d3'}", -1, &changed), ST_INVALID);
    assert_int_equal(update("d2", "{'state':'active'}", -1, &changed), ST_INVALID);
    assert_int_equal(update("d2", "{'tags':{'a':1}}", -1, &changed), ST_INVALID);
    assert_int_equal(update("d2", "{'keys':{'serial':'S1'}}", -1, &changed), ST_EXISTS);
    assert_int_equal(update("d1", "{'keys':{'serial':'S1','mac':'m'}}", -1, &changed), ST_OK); // its own stays its own
    assert_int_equal(update("d1", "{'keys':{'serial':null}}", -1, &changed), ST_OK);
    assert_int_equal(update("d2", "{'keys':{'serial':'S1'}}", -1, &changed), ST_OK); // free again
    assert_int_equal(update("dx", "{'name':'a'}", -1, &changed), ST_NOT_FOUND);
    assert_non_null(strstr(t.err.text, "dx"));
}

// --- lifecycle ---------------------------------------------------------------------------------------------------

static enum device_change noticed[8];
static unsigned noticed_len;

static enum status notice(struct tx *tx, const struct device_ref *d, enum device_change what, struct err *err)
{
    (void)tx;
    (void)err;
    assert_true(d->id[0] != '\0');
    assert_true(noticed_len < 8);
    noticed[noticed_len++] = what;
    return ST_OK;
}

static enum status refuse(struct tx *tx, const struct device_ref *d, enum device_change what, struct err *err)
{
    (void)tx;
    (void)d;
    (void)what;
    return err_set(err, ST_CONFLICT, "not now");
}

static void every_step_of_the_lifecycle(void **state)
{
    (void)state;
    // The table once more, by hand: rows from, columns to; registered, active, suspended, retired.
    static const bool allowed[4][4] = {{0, 1, 1, 1}, {0, 0, 1, 1}, {0, 1, 0, 1}, {0, 0, 0, 0}};
    static const enum device_state way[4][2] = {{DEVICE_REGISTERED, DEVICE_REGISTERED},
                                                {DEVICE_ACTIVE, DEVICE_ACTIVE},
                                                {DEVICE_ACTIVE, DEVICE_SUSPENDED},
                                                {DEVICE_SUSPENDED, DEVICE_RETIRED}};
    for (int from = 0; from < 4; from++) {
        for (int to = 0; to < 4; to++) {
            char id[32];
            char desc[64];
            snprintf(id, sizeof(id), "d%d%d", from, to);
            snprintf(desc, sizeof(desc), "{'id':'%s'}", id);
            assert_int_equal(create(desc), ST_OK);
            for (int i = 0; i < 2; i++) {
                assert_int_equal(set_state(id, way[from][i]), ST_OK);
            }
            int64_t version = ref.version;
            enum status want = allowed[from][to] || from == to ? ST_OK : ST_CONFLICT;
            assert_int_equal(set_state(id, (enum device_state)to), want);
            assert_int_equal(device_state_may((enum device_state)from, (enum device_state)to), allowed[from][to]);
            assert_int_equal(ref.state, want == ST_OK ? to : from);
            assert_int_equal(ref.version, allowed[from][to] ? version + 1 : version);
        }
    }
}

static void watchers_hear_of_losses(void **state)
{
    (void)state;
    struct err err = {.code = ST_OK};
    noticed_len = 0;
    assert_int_equal(registry_watch(t.core, notice, &err), ST_OK);
    assert_int_equal(create("{'id':'d1'}"), ST_OK);
    assert_int_equal(set_state("d1", DEVICE_ACTIVE), ST_OK);
    assert_int_equal(noticed_len, 0);
    assert_int_equal(set_state("d1", DEVICE_SUSPENDED), ST_OK);
    assert_int_equal(set_state("d1", DEVICE_RETIRED), ST_OK);
    assert_int_equal(delete_device("d1", -1), ST_OK);
    assert_int_equal(noticed_len, 3);
    assert_int_equal(noticed[0], DEVICE_CHANGE_SUSPENDED);
    assert_int_equal(noticed[1], DEVICE_CHANGE_RETIRED);
    assert_int_equal(noticed[2], DEVICE_CHANGE_REMOVED);
    // One that fails takes the change with it.
    assert_int_equal(create("{'id':'d2'}"), ST_OK);
    assert_int_equal(registry_watch(t.core, refuse, &err), ST_OK);
    assert_int_equal(set_state("d2", DEVICE_SUSPENDED), ST_CONFLICT);
    json_t *got = show("d2");
    assert_string_equal(json_string_value(json_object_get(got, "state")), "registered");
    json_decref(got);
    assert_int_equal(audited("d2", "device.state"), 0);
}

static void states_have_names(void **state)
{
    (void)state;
    for (int i = 0; i < DEVICE_STATE__COUNT; i++) {
        enum device_state back = DEVICE_STATE__COUNT;
        assert_true(device_state_parse(slice_str(device_state_text((enum device_state)i)), &back));
        assert_int_equal(back, i);
    }
    enum device_state s = DEVICE_ACTIVE;
    assert_false(device_state_parse(SLICE("asleep"), &s));
    assert_false(device_state_parse((struct slice){NULL, 0}, &s));
}

// --- deleting, tenants -------------------------------------------------------------------------------------------

static void deleting_leaves_nothing_but_the_record(void **state)
{
    (void)state;
    assert_int_equal(create("{'id':'d1','tags':{'a':'1'},'keys':{'serial':'S1'}}"), ST_OK);
    assert_int_equal(delete_device("d1", -1), ST_OK);
    assert_int_equal(testcore_run(&t, run_write, "d1"), ST_NOT_FOUND);
    assert_int_equal(delete_device("d1", -1), ST_NOT_FOUND);
    assert_int_equal(create("{'id':'d1','tags':{'a':'1'},'keys':{'serial':'S1'}}"), ST_OK); // nothing clashes
    assert_int_equal(audited("d1", "device.delete"), 1);
    assert_int_equal(audited("d1", "device.create"), 2);
}

static enum status run_tenant(struct tx *tx, void *arg, struct err *err)
{
    (void)arg;
    static const struct sql_def insert = {"tenant_insert",
                                          "INSERT INTO tenant (row, id, created_us) VALUES (2, 'other', 0)"};
    return stmt_run(db_stmt(tx->db, &insert), err);
}

static void tenants_do_not_meet(void **state)
{
    (void)state;
    bool changed = false;
    assert_int_equal(testcore_run(&t, run_tenant, NULL), ST_OK);
    assert_int_equal(create("{'id':'d1','keys':{'serial':'S1'}}"), ST_OK);
    t.who = testcore_principal(2, ROLE_OWNER, "stranger");
    assert_int_equal(testcore_run(&t, run_write, "d1"), ST_NOT_FOUND);
    assert_int_equal(update("d1", "{'name':'mine'}", -1, &changed), ST_NOT_FOUND);
    assert_int_equal(set_state("d1", DEVICE_RETIRED), ST_NOT_FOUND);
    assert_int_equal(delete_device("d1", -1), ST_NOT_FOUND);
    assert_int_equal(audited("d1", "device.create"), 0);
    assert_int_equal(create("{'id':'d1','keys':{'serial':'S1'}}"), ST_OK); // both may have the same
    t.who = testcore_principal(1, ROLE_OWNER, "tester");
    assert_int_equal(delete_device("d1", -1), ST_OK);
    t.who = testcore_principal(2, ROLE_OWNER, "stranger");
    json_t *got = show("d1");
    json_decref(got);
}

static enum status run_activate(struct tx *tx, void *arg, struct err *err)
{
    enum status st = device_find(tx, slice_str(arg), &ref, err);
    return st == ST_OK ? device_activate(tx, &ref, err) : st;
}

static void the_first_connection_activates(void **state)
{
    (void)state;
    assert_int_equal(create("{'id':'d1'}"), ST_OK);
    assert_int_equal(testcore_run(&t, run_activate, "d1"), ST_OK);
    assert_int_equal(ref.state, DEVICE_ACTIVE);
    assert_int_equal(ref.version, 2);
    assert_int_equal(testcore_run(&t, run_activate, "d1"), ST_OK);
    assert_int_equal(ref.version, 2);
    assert_int_equal(set_state("d1", DEVICE_SUSPENDED), ST_OK);
    assert_int_equal(testcore_run(&t, run_activate, "d1"), ST_OK);
    assert_int_equal(ref.state, DEVICE_SUSPENDED);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(creates_what_was_described),
        TEST(refuses_bad_descriptions),
        TEST(limits_are_exact),
        TEST(counts_tags_and_keys),
        TEST(clashes_name_the_other),
        TEST(patches_merge),
        TEST(an_empty_change_is_none),
        TEST(versions_guard_changes),
        TEST(patches_are_checked),
        TEST(every_step_of_the_lifecycle),
        TEST(watchers_hear_of_losses),
        TEST(states_have_names),
        TEST(deleting_leaves_nothing_but_the_record),
        TEST(tenants_do_not_meet),
        TEST(the_first_connection_activates),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
