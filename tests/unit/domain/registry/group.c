// Groups: members, counts, clashes, tenants, and what a deleted device leaves.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

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

struct step {
    const char *group, *device, *description;
    bool changed;
};

static enum status run_create(struct tx *tx, void *arg, struct err *err)
{
    const struct step *s = arg;
    struct group_ref g;
    enum status st = group_create(tx, slice_str(s->group), slice_str(s->description), &g, err);
    return st == ST_OK ? group_write(tx, &g, &t.w, err) : st;
}

static enum status run_delete(struct tx *tx, void *arg, struct err *err)
{
    const struct step *s = arg;
    struct group_ref g;
    enum status st = group_find(tx, slice_str(s->group), &g, err);
    return st == ST_OK ? group_delete(tx, &g, err) : st;
}

static enum status member(struct tx *tx, struct step *s, bool add, struct err *err)
{
    struct group_ref g;
    struct device_ref d;
    enum status st = group_find(tx, slice_str(s->group), &g, err);
    if (st == ST_OK) {
        st = device_find(tx, slice_str(s->device), &d, err);
    }
    if (st != ST_OK) {
        return st;
    }
    return add ? group_add(tx, &g, &d, &s->changed, err) : group_remove(tx, &g, &d, &s->changed, err);
}

static enum status run_add(struct tx *tx, void *arg, struct err *err)
{
    return member(tx, arg, true, err);
}

static enum status run_remove(struct tx *tx, void *arg, struct err *err)
{
    return member(tx, arg, false, err);
}

static enum status run_device(struct tx *tx, void *arg, struct err *err)
{
    const struct step *s = arg;
    struct device_ref d;
    json_t *desc = json_pack("{ss}", "id", s->device);
    enum status st = device_create(tx, desc, &d, err);
    json_decref(desc);
    return st;
}

static enum status run_device_delete(struct tx *tx, void *arg, struct err *err)
{
    const struct step *s = arg;
    struct device_ref d;
    enum status st = device_find(tx, slice_str(s->device), &d, err);
    return st == ST_OK ? device_delete(tx, &d, -1, err) : st;
}

static enum status run_show(struct tx *tx, void *arg, struct err *err)
{
    const struct step *s = arg;
    struct group_ref g;
    enum status st = group_find(tx, slice_str(s->group), &g, err);
    return st == ST_OK ? group_write(tx, &g, &t.w, err) : st;
}

static int64_t members(const char *group)
{
    struct step s = {.group = group};
    assert_int_equal(testcore_run(&t, run_show, &s), ST_OK);
    json_t *doc = testcore_json(&t);
    int64_t n = json_integer_value(json_object_get(doc, "members"));
    json_decref(doc);
    return n;
}

static void members_come_and_go(void **state)
{
    (void)state;
    struct step s = {.group = "g1", .device = "d1", .description = "first"};
    assert_int_equal(testcore_run(&t, run_create, &s), ST_OK);
    assert_int_equal(testcore_run(&t, run_create, &s), ST_EXISTS);
    assert_int_equal(testcore_run(&t, run_add, &s), ST_NOT_FOUND); // no such device
    assert_int_equal(testcore_run(&t, run_device, &s), ST_OK);
    assert_int_equal(testcore_run(&t, run_add, &s), ST_OK);
    assert_true(s.changed);
    assert_int_equal(testcore_run(&t, run_add, &s), ST_OK);
    assert_false(s.changed);
    assert_int_equal(members("g1"), 1);
    assert_int_equal(testcore_run(&t, run_remove, &s), ST_OK);
    assert_true(s.changed);
    assert_int_equal(testcore_run(&t, run_remove, &s), ST_OK);
    assert_false(s.changed);
    assert_int_equal(members("g1"), 0);
}

static void a_deleted_device_leaves(void **state)
{
    (void)state;
    struct step s = {.group = "g1", .device = "d1"};
    struct step other = {.group = "g2", .device = "d1"};
    assert_int_equal(testcore_run(&t, run_create, &s), ST_OK);
    assert_int_equal(testcore_run(&t, run_create, &other), ST_OK);
    assert_int_equal(testcore_run(&t, run_device, &s), ST_OK);
    assert_int_equal(testcore_run(&t, run_add, &s), ST_OK);
    assert_int_equal(testcore_run(&t, run_add, &other), ST_OK);
    assert_int_equal(testcore_run(&t, run_device_delete, &s), ST_OK);
    assert_int_equal(members("g1"), 0);
    assert_int_equal(members("g2"), 0);
}

static void a_deleted_group_leaves_its_members(void **state)
{
    (void)state;
    struct step s = {.group = "g1", .device = "d1"};
    assert_int_equal(testcore_run(&t, run_create, &s), ST_OK);
    assert_int_equal(testcore_run(&t, run_device, &s), ST_OK);
    assert_int_equal(testcore_run(&t, run_add, &s), ST_OK);
    assert_int_equal(testcore_run(&t, run_delete, &s), ST_OK);
    assert_int_equal(testcore_run(&t, run_show, &s), ST_NOT_FOUND);
    assert_int_equal(testcore_run(&t, run_device_delete, &s), ST_OK);
}

static void ids_and_descriptions_are_checked(void **state)
{
    (void)state;
    char text[GROUP_DESCRIPTION_MAX + 2];
    memset(text, 'x', sizeof(text));
    text[GROUP_DESCRIPTION_MAX + 1] = '\0';
    struct step s = {.group = "a/b"};
    assert_int_equal(testcore_run(&t, run_create, &s), ST_INVALID);
    assert_string_equal(t.err.where, "/id");
    s = (struct step){.group = "g", .description = text};
    assert_int_equal(testcore_run(&t, run_create, &s), ST_INVALID);
    assert_string_equal(t.err.where, "/description");
    text[GROUP_DESCRIPTION_MAX] = '\0';
    assert_int_equal(testcore_run(&t, run_create, &s), ST_OK);
}

static void tenants_do_not_meet(void **state)
{
    (void)state;
    struct step s = {.group = "g1", .device = "d1"};
    assert_int_equal(testcore_run(&t, run_create, &s), ST_OK);
    t.who = testcore_principal(2, ROLE_OWNER, "stranger");
    assert_int_equal(testcore_run(&t, run_show, &s), ST_NOT_FOUND);
    assert_int_equal(testcore_run(&t, run_delete, &s), ST_NOT_FOUND);
    assert_int_equal(testcore_run(&t, run_add, &s), ST_NOT_FOUND);
}

struct page {
    struct slice cursor;
    int64_t limit;
};

static enum status run_list(struct tx *tx, void *arg, struct err *err)
{
    const struct page *p = arg;
    return group_list(tx, p->cursor, p->limit, &t.w, err);
}

static void lists_page(void **state)
{
    (void)state;
    for (int i = 0; i < 7; i++) {
        char id[16];
        snprintf(id, sizeof(id), "g%d", i);
        struct step s = {.group = id};
        assert_int_equal(testcore_run(&t, run_create, &s), ST_OK);
    }
    char cursor[400] = "";
    struct page p = {.limit = 3};
    size_t seen = 0;
    for (int page = 0; page < 3; page++) {
        assert_int_equal(testcore_run(&t, run_list, &p), ST_OK);
        json_t *doc = testcore_json(&t);
        seen += json_array_size(json_object_get(doc, "items"));
        const char *next = json_string_value(json_object_get(doc, "next"));
        assert_int_equal(next == NULL, page == 2);
        snprintf(cursor, sizeof(cursor), "%s", next != NULL ? next : "");
        p.cursor = slice_str(cursor);
        json_decref(doc);
    }
    assert_int_equal(seen, 7);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(members_come_and_go),
        TEST(a_deleted_device_leaves),
        TEST(a_deleted_group_leaves_its_members),
        TEST(ids_and_descriptions_are_checked),
        TEST(tenants_do_not_meet),
        TEST(lists_page),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
