// Lists: every filter against a naive one, in pages of every size; cursors that belong elsewhere.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/rand.h"
#include "lib/testcore.h"

#define DEVICES 120

static struct testcore t;

// What the naive filter looks at.
static struct model {
    char id[32], name[32], model[8], site[8], serial[16];
    enum device_state state;
    bool in_group;
} models[DEVICES];

static enum status run_fill(struct tx *tx, void *arg, struct err *err)
{
    (void)arg;
    struct group_ref g;
    enum status st = group_create(tx, SLICE("odd"), (struct slice){NULL, 0}, &g, err);
    for (int i = 0; st == ST_OK && i < DEVICES; i++) {
        struct model *m = &models[i];
        struct device_ref d;
        snprintf(m->id, sizeof(m->id), "%s-%03d", i % 3 == 0 ? "pump" : "gate", (i * 37) % DEVICES);
        snprintf(m->name, sizeof(m->name), "%s %d", i % 4 == 0 ? "pump room" : "hall", i);
        snprintf(m->model, sizeof(m->model), "M%d", i % 5);
        snprintf(m->site, sizeof(m->site), "s%d", i % 7);
        snprintf(m->serial, sizeof(m->serial), "SN%d", i);
        json_t *desc = json_pack("{ss ss ss s{ss ss} s{ss}}", "id", m->id, "name", m->name, "model", m->model, "tags",
                                 "site", m->site, "quoted", "a\"\\\xc3\xa4", "keys", "serial", m->serial);
        st = device_create(tx, desc, &d, err);
        json_decref(desc);
        m->state = i % 6 == 0 ? DEVICE_SUSPENDED : DEVICE_REGISTERED;
        if (st == ST_OK && m->state == DEVICE_SUSPENDED) {
            st = device_set_state(tx, &d, DEVICE_SUSPENDED, -1, err);
        }
        m->in_group = i % 2 == 1;
        if (st == ST_OK && m->in_group) {
            st = group_add(tx, &g, &d, NULL, err);
        }
    }
    return st;
}

static int setup(void **state)
{
    (void)state;
    testcore_open(&t);
    assert_int_equal(testcore_run(&t, run_fill, NULL), ST_OK);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    testcore_close(&t);
    return 0;
}

static bool naive(const struct model *m, const struct device_filter *f)
{
    return (f->state < 0 || f->state == (int)m->state) && (f->model.p == NULL || slice_eq_str(f->model, m->model)) &&
           (f->tag_key.p == NULL || (slice_eq_str(f->tag_key, "site") && slice_eq_str(f->tag_value, m->site)) ||
            (slice_eq_str(f->tag_key, "quoted") && slice_eq_str(f->tag_value, "a\"\\\xc3\xa4"))) &&
           (f->key_kind.p == NULL || (slice_eq_str(f->key_kind, "serial") && slice_eq_str(f->key_value, m->serial))) &&
           (f->group.p == NULL || m->in_group) &&
           (f->text.p == NULL || slice_starts(slice_str(m->id), f->text) || slice_starts(slice_str(m->name), f->text));
}

static enum status run_list(struct tx *tx, void *arg, struct err *err)
{
    return device_list(tx, arg, &t.w, err);
}

static int index_of(const char *id)
{
    for (int i = 0; i < DEVICES; i++) {
        if (strcmp(models[i].id, id) == 0) {
            return i;
        }
    }
    fail_msg("unknown device %s", id);
    return -1;
}

// Walks all pages and compares with the naive filter: every match once, nothing else.
static void check(struct device_filter f, int64_t limit)
{
    bool seen[DEVICES] = {false};
    char cursor[400];
    size_t pages = 0;
    f.limit = limit;
    f.cursor = (struct slice){NULL, 0};
    for (bool more = true; more; pages++) {
        assert_true(pages <= DEVICES + 1);
        assert_int_equal(testcore_run(&t, run_list, &f), ST_OK);
        json_t *doc = testcore_json(&t);
        const json_t *items = json_object_get(doc, "items");
        assert_true(json_array_size(items) <= (size_t)limit);
        for (size_t i = 0; i < json_array_size(items); i++) {
            int at = index_of(json_string_value(json_object_get(json_array_get(items, i), "id")));
            assert_false(seen[at]);
            seen[at] = true;
        }
        const char *next = json_string_value(json_object_get(doc, "next"));
        more = next != NULL;
        snprintf(cursor, sizeof(cursor), "%s", more ? next : "");
        f.cursor = slice_str(cursor);
        json_decref(doc);
    }
    for (int i = 0; i < DEVICES; i++) {
        assert_int_equal(seen[i], naive(&models[i], &f));
    }
}

static void every_filter_alone(void **state)
{
    (void)state;
    const struct device_filter filters[] = {
        {.state = -1},
        {.state = DEVICE_SUSPENDED},
        {.state = DEVICE_RETIRED},
        {.state = -1, .model = SLICE("M2")},
        {.state = -1, .tag_key = SLICE("site"), .tag_value = SLICE("s3")},
        {.state = -1, .tag_key = SLICE("site"), .tag_value = SLICE("nowhere")},
        {.state = -1, .tag_key = SLICE("quoted"), .tag_value = SLICE("a\"\\\xc3\xa4")},
        {.state = -1, .key_kind = SLICE("serial"), .key_value = SLICE("SN77")},
        {.state = -1, .key_kind = SLICE("serial"), .key_value = SLICE("SN999")},
        {.state = -1, .group = SLICE("odd")},
        {.state = -1, .text = SLICE("pump")},
        {.state = -1, .text = SLICE("gate-01")},
        {.state = -1, .text = SLICE("hall 1")},
        {.state = -1, .text = SLICE("nothing")},
    };
    for (size_t i = 0; i < sizeof(filters) / sizeof(filters[0]); i++) {
        for (int64_t limit = 1; limit <= 1000; limit = limit * 3 + 1) {
            check(filters[i], limit);
        }
    }
}

static void random_combinations(void **state)
{
    (void)state;
    static char model[8], site[8], serial[16];
    static const char *const texts[] = {"pump", "gate", "hall", "g", "pump-0"};
    rand_seed(7);
    for (int round = 0; round < 300; round++) {
        struct device_filter f = {.state = rand_u64() % 3 == 0 ? (int)(rand_u64() % 4) : -1};
        snprintf(model, sizeof(model), "M%u", (unsigned)(rand_u64() % 5));
        snprintf(site, sizeof(site), "s%u", (unsigned)(rand_u64() % 7));
        snprintf(serial, sizeof(serial), "SN%u", (unsigned)(rand_u64() % DEVICES));
        f.model = rand_u64() % 3 == 0 ? slice_str(model) : f.model;
        if (rand_u64() % 3 == 0) {
            f.tag_key = SLICE("site");
            f.tag_value = slice_str(site);
        }
        if (rand_u64() % 6 == 0) {
            f.key_kind = SLICE("serial");
            f.key_value = slice_str(serial);
        }
        f.group = rand_u64() % 3 == 0 ? SLICE("odd") : f.group;
        f.text = rand_u64() % 3 == 0 ? slice_str(texts[rand_u64() % 5]) : f.text;
        check(f, 1 + (int64_t)(rand_u64() % 40));
    }
}

static void ids_come_in_order(void **state)
{
    (void)state;
    struct device_filter f = {.state = -1, .limit = 1000};
    assert_int_equal(testcore_run(&t, run_list, &f), ST_OK);
    json_t *doc = testcore_json(&t);
    const json_t *items = json_object_get(doc, "items");
    assert_int_equal(json_array_size(items), DEVICES);
    for (size_t i = 1; i < json_array_size(items); i++) {
        assert_true(strcmp(json_string_value(json_object_get(json_array_get(items, i - 1), "id")),
                           json_string_value(json_object_get(json_array_get(items, i), "id"))) < 0);
    }
    json_decref(doc);
}

static void foreign_cursors_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"", "x", "AAAA", "!!!!", "not a cursor at all"};
    struct device_filter f = {.state = -1, .limit = 3};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        f.cursor = slice_str(bad[i]);
        assert_int_equal(testcore_run(&t, run_list, &f), ST_INVALID);
        assert_string_equal(t.err.where, "cursor");
    }
    // One of another order.
    f.cursor = (struct slice){NULL, 0};
    assert_int_equal(testcore_run(&t, run_list, &f), ST_OK);
    json_t *doc = testcore_json(&t);
    f.cursor = slice_str(json_string_value(json_object_get(doc, "next")));
    f.model = SLICE("M1");
    assert_int_equal(testcore_run(&t, run_list, &f), ST_INVALID);
    json_decref(doc);
    f = (struct device_filter){.state = -1, .limit = 3, .group = SLICE("even")};
    assert_int_equal(testcore_run(&t, run_list, &f), ST_NOT_FOUND);
}

static void other_tenants_see_nothing(void **state)
{
    (void)state;
    const struct principal before = t.who;
    t.who = testcore_principal(2, ROLE_OWNER, "stranger");
    const struct device_filter filters[] = {
        {.state = -1, .limit = 10},
        {.state = DEVICE_REGISTERED, .limit = 10},
        {.state = -1, .limit = 10, .model = SLICE("M1")},
        {.state = -1, .limit = 10, .tag_key = SLICE("site"), .tag_value = SLICE("s1")},
        {.state = -1, .limit = 10, .text = SLICE("pump")}};
    for (size_t i = 0; i < sizeof(filters) / sizeof(filters[0]); i++) {
        struct device_filter f = filters[i];
        assert_int_equal(testcore_run(&t, run_list, &f), ST_OK);
        assert_int_equal(t.out.len, strlen("{\"items\":[],\"next\":null}"));
    }
    t.who = before;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_filter_alone),        cmocka_unit_test(random_combinations),
        cmocka_unit_test(ids_come_in_order),         cmocka_unit_test(foreign_cursors_are_refused),
        cmocka_unit_test(other_tenants_see_nothing),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
