#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/cursor.h"
#include "domain/command/command.h"
#include "lib/testcore.h"
#include "lib/testlive.h"

struct step {
    struct testlive *l;
    const struct device_ref *d;
    const char *name;
    const char *payload;
    int64_t ts_us;
    struct slice cursor;
    unsigned n;
};

static enum status do_event(struct tx *tx, void *arg, struct err *err)
{
    const struct step *s = arg;
    enum status st = ST_OK;
    for (unsigned i = 0; i < s->n && st == ST_OK; i++) {
        st = device_event(tx, s->d, slice_str(s->name), slice_str(s->payload), s->ts_us, err);
    }
    return st;
}

static enum status do_list(struct tx *tx, void *arg, struct err *err)
{
    const struct step *s = arg;
    return device_event_list(tx, s->d, slice_str(s->name), s->cursor, s->n, &s->l->core.w, err);
}

static json_t *list(struct testlive *l, const struct device_ref *d, const char *name, unsigned limit)
{
    struct step s = {.l = l, .d = d, .name = name, .n = limit};
    assert_int_equal(testcore_run(&l->core, do_list, &s), ST_OK);
    return testcore_json(&l->core);
}

static void events_are_kept_with_time_and_data(void **state)
{
    (void)state;
    struct testlive l;
    testlive_open(&l);
    testlive_run_loop(&l);
    struct device_ref d = testlive_device(&l, "d1");
    struct step door = {.d = &d, .name = "door.open", .payload = "{\"by\":\"key\"}", .ts_us = 1600000000000001, .n = 1};
    struct step boot = {.d = &d, .name = "boot", .payload = "null", .n = 1};
    assert_int_equal(testcore_run(&l.core, do_event, &door), ST_OK);
    l.core.now_us = 1700000000000000;
    assert_int_equal(testcore_run(&l.core, do_event, &boot), ST_OK);
    json_t *v = list(&l, &d, "", 10);
    const json_t *items = json_object_get(v, "items");
    assert_int_equal(json_array_size(items), 2);
    const json_t *newest = json_array_get(items, 0);
    assert_string_equal(json_string_value(json_object_get(newest, "name")), "boot");
    assert_true(json_number_value(json_object_get(newest, "ts")) == 1700000000000.0);
    const json_t *older = json_array_get(items, 1);
    assert_true(json_real_value(json_object_get(older, "ts")) == 1600000000000.001);
    assert_string_equal(json_string_value(json_object_get(older, "time")), "2020-09-13T12:26:40.000001Z");
    assert_string_equal(json_string_value(json_object_get(json_object_get(older, "data"), "by")), "key");
    json_decref(v);
    v = list(&l, &d, "boot", 10);
    assert_int_equal(json_array_size(json_object_get(v, "items")), 1);
    json_decref(v);

    struct step bad = {.d = &d, .name = "a/b", .payload = "1", .n = 1};
    assert_int_equal(testcore_run(&l.core, do_event, &bad), ST_INVALID);
    bad = (struct step){.d = &d, .name = "x", .payload = "{", .n = 1};
    assert_int_equal(testcore_run(&l.core, do_event, &bad), ST_MALFORMED);
    testlive_close(&l);
}

static void the_newest_ten_thousand_stay(void **state)
{
    (void)state;
    struct testlive l;
    testlive_open(&l);
    testlive_run_loop(&l);
    struct device_ref d = testlive_device(&l, "d1");
    struct step many = {.d = &d, .name = "x", .payload = "1", .n = EVENT_KEEP_MAX + 50};
    assert_int_equal(testcore_run(&l.core, do_event, &many), ST_OK);
    size_t total = 0;
    char cursor[CURSOR_MAX + 1] = "";
    do {
        struct step s = {.l = &l, .d = &d, .name = "", .n = 1000};
        s.cursor = cursor[0] != '\0' ? slice_str(cursor) : (struct slice){NULL, 0};
        assert_int_equal(testcore_run(&l.core, do_list, &s), ST_OK);
        json_t *v = testcore_json(&l.core);
        total += json_array_size(json_object_get(v, "items"));
        const char *next = json_string_value(json_object_get(v, "next"));
        snprintf(cursor, sizeof(cursor), "%s", next != NULL ? next : "");
        json_decref(v);
    } while (cursor[0] != '\0');
    assert_int_equal(total, EVENT_KEEP_MAX);
    testlive_close(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(events_are_kept_with_time_and_data),
        cmocka_unit_test(the_newest_ten_thousand_stay),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
