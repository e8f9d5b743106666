#include "domain/command/command.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "core/cursor.h"
#include "lib/testcore.h"
#include "lib/testlive.h"

struct step {
    struct testlive *l;
    const struct device_ref *d;
    struct link *link;
    uint64_t id;
    const char *name;
    const char *payload;
    int64_t ttl_us;
    struct command_filter filter;
};

static enum status do_send(struct tx *tx, void *arg, struct err *err)
{
    struct step *s = arg;
    return command_send(tx, s->d, slice_str(s->name), slice_str(s->payload), s->ttl_us, &s->id, err);
}

static enum status do_reply(struct tx *tx, void *arg, struct err *err)
{
    const struct step *s = arg;
    return command_reply(tx, s->d, s->id, slice_str(s->payload), err);
}

static enum status do_get(struct tx *tx, void *arg, struct err *err)
{
    const struct step *s = arg;
    return command_write(tx, s->d, s->id, &s->l->core.w, err);
}

static enum status do_list(struct tx *tx, void *arg, struct err *err)
{
    const struct step *s = arg;
    return command_list(tx, s->d, &s->filter, &s->l->core.w, err);
}

static enum status do_subscribe(struct tx *tx, void *arg, struct err *err)
{
    const struct step *s = arg;
    return command_push_pending(tx, s->d, s->link, err);
}

static uint64_t send(struct testlive *l, const struct device_ref *d, const char *name)
{
    struct step s = {.l = l, .d = d, .name = name, .payload = "{\"n\":1}"};
    assert_int_equal(testcore_run(&l->core, do_send, &s), ST_OK);
    assert_int_not_equal(s.id, 0);
    return s.id;
}

static enum status reply(struct testlive *l, const struct device_ref *d, uint64_t id, const char *payload)
{
    struct step s = {.l = l, .d = d, .id = id, .payload = payload};
    return testcore_run(&l->core, do_reply, &s);
}

static json_t *get(struct testlive *l, const struct device_ref *d, uint64_t id)
{
    struct step s = {.l = l, .d = d, .id = id};
    assert_int_equal(testcore_run(&l->core, do_get, &s), ST_OK);
    return testcore_json(&l->core);
}

static void assert_state(struct testlive *l, const struct device_ref *d, uint64_t id, const char *want)
{
    json_t *v = get(l, d, id);
    assert_string_equal(json_string_value(json_object_get(v, "state")), want);
    json_decref(v);
}

static void subscribe(struct testlive *l, const struct device_ref *d, struct link *link)
{
    struct step s = {.l = l, .d = d, .link = link};
    assert_int_equal(testcore_run(&l->core, do_subscribe, &s), ST_OK);
}

static void assert_comes(struct testlive *l, struct link *link, const char *name, uint64_t id)
{
    char topic[128];
    snprintf(topic, sizeof(topic), "$muster/command/%s/%llu", name, (unsigned long long)id);
    struct down *down = testlive_down(l, link);
    assert_int_equal(down->kind, DOWN_PUBLISH);
    assert_string_equal(down->topic, topic);
    assert_true(down->cookie == id);
    assert_memory_equal(down->payload, "{\"n\":1}", down->payload_len);
    free(down);
}

static void from_waiting_to_answered(void **state)
{
    (void)state;
    struct testlive l;
    testlive_open(&l);
    testlive_run_loop(&l);
    struct device_ref d = testlive_device(&l, "d1");
    struct device_ref other = testlive_device(&l, "d2");
    static struct testlive_ear ear;
    testlive_listen(&l, &ear, 1u << EV_COMMAND);
    uint64_t first = send(&l, &d, "reboot");
    uint64_t second = send(&l, &d, "log.level");
    assert_state(&l, &d, first, "pending");
    struct link *link = testlive_connect(&l, &d);
    assert_true(testlive_quiet(&l, link));
    subscribe(&l, &d, link);
    assert_comes(&l, link, "reboot", first); // in the order they were given
    assert_comes(&l, link, "log.level", second);
    assert_state(&l, &d, first, "sent");
    uint64_t third = send(&l, &d, "blink"); // connected now: at once
    assert_comes(&l, link, "blink", third);

    assert_int_equal(reply(&l, &d, first, "{\"ok\":true}"), ST_OK);
    assert_int_equal(reply(&l, &d, first, "{\"ok\":true}"), ST_OK); // a repeat after a lost acknowledgement
    assert_int_equal(reply(&l, &d, first, "{\"ok\":false}"), ST_CONFLICT);
    assert_int_equal(reply(&l, &other, second, "{}"), ST_NOT_FOUND);
    assert_int_equal(reply(&l, &d, 12345, "{}"), ST_NOT_FOUND);
    assert_int_equal(reply(&l, &d, second, "{"), ST_MALFORMED);
    json_t *v = get(&l, &d, first);
    assert_string_equal(json_string_value(json_object_get(v, "state")), "replied");
    assert_true(json_is_true(json_object_get(json_object_get(v, "reply"), "ok")));
    assert_int_equal(json_integer_value(json_object_get(v, "sends")), 1);
    assert_true(json_is_false(json_object_get(v, "late")));
    assert_string_equal(json_string_value(json_object_get(v, "created_by")), "tester");
    json_decref(v);

    // A new connection gets what was not answered, once more.
    struct link *next = testlive_connect(&l, &d);
    subscribe(&l, &d, next);
    assert_comes(&l, next, "log.level", second);
    assert_comes(&l, next, "blink", third);
    assert_true(testlive_quiet(&l, next));
    v = get(&l, &d, second);
    assert_int_equal(json_integer_value(json_object_get(v, "sends")), 2);
    json_decref(v);

    testlive_settle(&l);
    static const char *const states[] = {"pending", "pending", "sent", "sent", "pending", "sent", "replied"};
    assert_int_equal(ear.n, 7);
    for (unsigned i = 0; i < 7; i++) {
        char want[64];
        snprintf(want, sizeof(want), "\"state\":\"%s\"}", states[i]);
        assert_non_null(strstr(ear.json[i], want));
    }
    testlive_unlisten(&ear);

    struct step missing = {.l = &l, .d = &other, .id = first};
    assert_int_equal(testcore_run(&l.core, do_get, &missing), ST_NOT_FOUND);
    testlive_close(&l);
}

static void refused_commands(void **state)
{
    (void)state;
    struct testlive l;
    testlive_open(&l);
    testlive_run_loop(&l);
    struct device_ref d = testlive_device(&l, "d1");
    static const struct {
        const char *name, *payload;
        int64_t ttl_us;
        enum status want;
    } bad[] = {
        {"", "{}", 0, ST_INVALID},
        {"a/b", "{}", 0, ST_INVALID},
        {"a b", "{}", 0, ST_INVALID},
        {"a+", "{}", 0, ST_INVALID},
        {"x", "{", 0, ST_MALFORMED},
        {"x", "", 0, ST_MALFORMED},
        {"x", "{}", 999999, ST_INVALID},
        {"x", "{}", COMMAND_TTL_MAX_US + 1, ST_INVALID},
        {"x", "{}", -1, ST_INVALID},
        {"12345678901234567890123456789012345678901234567890123456789012345", "{}", 0, ST_INVALID},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct step s = {.l = &l, .d = &d, .name = bad[i].name, .payload = bad[i].payload, .ttl_us = bad[i].ttl_us};
        enum status st = testcore_run(&l.core, do_send, &s);
        if (st != bad[i].want) {
            fail_msg("row %zu: %s", i, status_text(st));
        }
    }
    for (int i = 0; i < COMMAND_OPEN_MAX; i++) {
        send(&l, &d, "wait");
    }
    struct step s = {.l = &l, .d = &d, .name = "more", .payload = "1"};
    assert_int_equal(testcore_run(&l.core, do_send, &s), ST_LIMIT);
    testlive_close(&l);
}

static void lists_filter_and_page(void **state)
{
    (void)state;
    struct testlive l;
    testlive_open(&l);
    testlive_run_loop(&l);
    struct device_ref d = testlive_device(&l, "d1");
    uint64_t ids[5];
    for (int i = 0; i < 5; i++) {
        ids[i] = send(&l, &d, "x");
    }
    assert_int_equal(reply(&l, &d, ids[1], "1"), ST_OK);
    char cursor[CURSOR_MAX + 1] = "";
    int at = 4;
    do {
        struct step s = {.l = &l, .d = &d, .filter = {.state = -1, .limit = 2}};
        s.filter.cursor = cursor[0] != '\0' ? slice_str(cursor) : (struct slice){NULL, 0};
        assert_int_equal(testcore_run(&l.core, do_list, &s), ST_OK);
        json_t *v = testcore_json(&l.core);
        size_t i;
        json_t *item;
        json_array_foreach(json_object_get(v, "items"), i, item)
        {
            char want[24];
            snprintf(want, sizeof(want), "%llu", (unsigned long long)ids[at--]);
            assert_string_equal(json_string_value(json_object_get(item, "id")), want);
        }
        const char *next = json_string_value(json_object_get(v, "next"));
        snprintf(cursor, sizeof(cursor), "%s", next != NULL ? next : "");
        json_decref(v);
    } while (cursor[0] != '\0');
    assert_int_equal(at, -1);

    struct step s = {.l = &l, .d = &d, .filter = {.state = COMMAND_REPLIED, .limit = 10}};
    assert_int_equal(testcore_run(&l.core, do_list, &s), ST_OK);
    json_t *v = testcore_json(&l.core);
    assert_int_equal(json_array_size(json_object_get(v, "items")), 1);
    json_decref(v);
    testlive_close(&l);
}

// The core's own repeated work, on a clock that is put forward.
static void what_nobody_answers_expires(void **state)
{
    (void)state;
    struct testlive l;
    testlive_open(&l);
    testlive_run_loop(&l);
    struct device_ref d = testlive_device(&l, "d1");
    uint64_t id = send(&l, &d, "x");
    struct step longer = {.l = &l, .d = &d, .name = "y", .payload = "1", .ttl_us = COMMAND_TTL_MAX_US};
    assert_int_equal(testcore_run(&l.core, do_send, &longer), ST_OK);

    clock_fake(clock_wall_us() + COMMAND_TTL_DFLT_US + 1000000, clock_mono_us());
    assert_int_equal(core_start(l.core.core, NULL), ST_OK);
    usleep(1500 * 1000); // expiry runs once a second
    core_stop(l.core.core);
    testlive_stop_core(&l);
    clock_fake_off();
    testcore_reopen(&l.core);
    testlive_start(&l);

    assert_state(&l, &d, id, "expired");
    assert_state(&l, &d, longer.id, "pending");
    struct link *link = testlive_connect(&l, &d);
    subscribe(&l, &d, link);
    free(testlive_down(&l, link)); // the longer one only
    assert_true(testlive_quiet(&l, link));

    // The device did it all the same, and says so.
    l.core.now_us = clock_wall_us() + 2 * COMMAND_TTL_DFLT_US;
    assert_int_equal(reply(&l, &d, id, "\"done\""), ST_OK);
    json_t *v = get(&l, &d, id);
    assert_string_equal(json_string_value(json_object_get(v, "state")), "replied");
    assert_true(json_is_true(json_object_get(v, "late")));
    json_decref(v);
    testlive_close(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(from_waiting_to_answered),
        cmocka_unit_test(refused_commands),
        cmocka_unit_test(lists_filter_and_page),
        cmocka_unit_test(what_nobody_answers_expires),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
