#include "domain/twin/twin.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "domain/audit/audit.h"
#include "lib/testcore.h"
#include "lib/testlive.h"

struct step {
    struct testlive *l;
    const struct device_ref *d;
    const char *patch; // ' for "
    bool replace;
    int64_t if_version;
    int64_t version;
    struct link *link;
};

static void quotes(char *dst, size_t size, const char *text)
{
    snprintf(dst, size, "%s", text);
    for (char *c = dst; *c != '\0'; c++) {
        *c = *c == '\'' ? '"' : *c;
    }
}

static enum status do_set(struct tx *tx, void *arg, struct err *err)
{
    struct step *s = arg;
    char text[1024];
    quotes(text, sizeof(text), s->patch);
    return twin_set_desired(tx, s->d, slice_str(text), s->replace, s->if_version, &s->version, err);
}

static enum status do_report(struct tx *tx, void *arg, struct err *err)
{
    const struct step *s = arg;
    char text[1024];
    quotes(text, sizeof(text), s->patch);
    return twin_report(tx, s->d, slice_str(text), err);
}

static enum status do_get(struct tx *tx, void *arg, struct err *err)
{
    struct step *s = arg;
    return twin_write(tx, s->d, &s->l->core.w, &s->version, err);
}

static enum status do_get_for_device(struct tx *tx, void *arg, struct err *err)
{
    const struct step *s = arg;
    return twin_write_for_device(tx, s->d, true, &s->l->core.w, err);
}

static enum status do_subscribe(struct tx *tx, void *arg, struct err *err)
{
    const struct step *s = arg;
    return twin_push_pending(tx, s->d, s->link, err);
}

static enum status set(struct testlive *l, const struct device_ref *d, const char *patch)
{
    struct step s = {.l = l, .d = d, .patch = patch, .if_version = -1};
    return testcore_run(&l->core, do_set, &s);
}

static enum status report(struct testlive *l, const struct device_ref *d, const char *patch)
{
    struct step s = {.l = l, .d = d, .patch = patch};
    return testcore_run(&l->core, do_report, &s);
}

static json_t *get(struct testlive *l, const struct device_ref *d)
{
    struct step s = {.l = l, .d = d};
    assert_int_equal(testcore_run(&l->core, do_get, &s), ST_OK);
    json_t *v = testcore_json(&l->core);
    assert_int_equal(json_integer_value(json_object_get(v, "version")), s.version);
    return v;
}

static void assert_part(const json_t *v, const char *part, const char *want_text)
{
    json_t *want = testcore_doc(want_text);
    if (!json_equal(json_object_get(v, part), want)) {
        fail_msg("%s is %s, not %s", part, json_dumps(json_object_get(v, part), 0), want_text);
    }
    json_decref(want);
}

static void both_sides_write_and_the_delta_follows(void **state)
{
    (void)state;
    struct testlive l;
    testlive_open(&l);
    testlive_run_loop(&l);
    struct device_ref d = testlive_device(&l, "d1");
    l.core.now_us = 1700000000000000;
    json_t *v = get(&l, &d);
    assert_part(v, "version", "0");
    assert_part(v, "desired", "{}");
    assert_part(v, "delta", "{}");
    json_decref(v);

    assert_int_equal(set(&l, &d, "{'interval':5,'wifi':{'ssid':'a','key':'b'}}"), ST_OK);
    l.core.now_us += 1000000;
    assert_int_equal(report(&l, &d, "{'interval':10,'fw':'1.2','wifi':{'ssid':'a'}}"), ST_OK);
    v = get(&l, &d);
    assert_part(v, "version", "2");
    assert_part(v, "desired_version", "1");
    assert_part(v, "reported_version", "2");
    assert_part(v, "desired", "{'interval':5,'wifi':{'ssid':'a','key':'b'}}");
    assert_part(v, "reported", "{'interval':10,'fw':'1.2','wifi':{'ssid':'a'}}");
    assert_part(v, "delta", "{'interval':5,'wifi':{'key':'b'}}");
    assert_part(v, "meta",
                "{'desired':{'interval':1700000000000,'wifi':{'ssid':1700000000000,'key':1700000000000}},"
                "'reported':{'interval':1700000001000,'fw':1700000001000,'wifi':{'ssid':1700000001000}}}");
    json_decref(v);

    assert_int_equal(report(&l, &d, "{'interval':5,'fw':null,'wifi':{'key':'b'}}"), ST_OK);
    v = get(&l, &d);
    assert_part(v, "version", "3");
    assert_part(v, "reported", "{'interval':5,'wifi':{'ssid':'a','key':'b'}}");
    assert_part(v, "delta", "{}");
    json_decref(v);

    struct step s = {.l = &l, .d = &d};
    assert_int_equal(testcore_run(&l.core, do_get_for_device, &s), ST_OK);
    v = testcore_json(&l.core);
    assert_part(v, "version", "1");
    assert_part(v, "reported", "{'interval':5,'wifi':{'ssid':'a','key':'b'}}");
    json_decref(v);

    struct step put = {.l = &l, .d = &d, .patch = "{'only':1,'not':null}", .replace = true, .if_version = -1};
    assert_int_equal(testcore_run(&l.core, do_set, &put), ST_OK);
    assert_int_equal(put.version, 4);
    v = get(&l, &d);
    assert_part(v, "desired", "{'only':1}");
    json_decref(v);
    testlive_close(&l);
}

static void a_writer_is_told_when_desired_has_changed(void **state)
{
    (void)state;
    struct testlive l;
    testlive_open(&l);
    testlive_run_loop(&l);
    struct device_ref d = testlive_device(&l, "d1");
    static const struct {
        bool by_device;
        int64_t if_version;
        enum status want;
    } steps[] = {
        {false, 1, ST_VERSION},                                            // there is no version 1 yet
        {false, 0, ST_OK},                                                 // 1
        {true, 0, ST_OK},                                                  // 2
        {true, 0, ST_OK},                                                  // 3
        {false, 0, ST_VERSION}, {false, 4, ST_VERSION}, {false, 1, ST_OK}, // 4: reports in between do not disturb
        {true, 0, ST_OK},                                                  // 5
        {false, 3, ST_VERSION}, {false, 5, ST_OK},                         // 6
        {false, 5, ST_VERSION}, {false, -1, ST_OK},
    };
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        struct step s = {.l = &l, .d = &d, .patch = "{'n':1}", .if_version = steps[i].if_version};
        enum status st = testcore_run(&l.core, steps[i].by_device ? do_report : do_set, &s);
        if (st != steps[i].want) {
            fail_msg("step %zu: %s", i, status_text(st));
        }
    }
    json_t *v = get(&l, &d);
    assert_part(v, "version", "7");
    json_decref(v);
    testlive_close(&l);
}

static void refusals_change_nothing(void **state)
{
    (void)state;
    struct testlive l;
    testlive_open(&l);
    testlive_run_loop(&l);
    struct device_ref d = testlive_device(&l, "d1");
    assert_int_equal(report(&l, &d, "{'a':1}"), ST_OK);
    static const struct {
        const char *patch;
        enum status want;
        const char *where;
    } bad[] = {
        {"{", ST_MALFORMED, NULL},
        {"", ST_MALFORMED, NULL},
        {"[1]", ST_INVALID, NULL},
        {"7", ST_INVALID, NULL},
        {"{'$meta':1}", ST_INVALID, "/$meta"},
        {"{'a':{'$b':1}}", ST_INVALID, "/a/$b"},
        {"{'a':1,'a':2}", ST_INVALID, NULL},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        enum status by_device = report(&l, &d, bad[i].patch);
        enum status by_operator = set(&l, &d, bad[i].patch);
        assert_int_equal(by_device, by_operator);
        if (bad[i].want != ST_INVALID || by_device != ST_MALFORMED) { // a duplicate may count as either
            assert_int_equal(by_device, bad[i].want);
        }
        if (bad[i].where != NULL) {
            assert_string_equal(l.core.err.where, bad[i].where);
        }
    }
    json_t *v = get(&l, &d);
    assert_part(v, "version", "1");
    assert_part(v, "reported", "{'a':1}");
    json_decref(v);
    testlive_close(&l);
}

struct text {
    const struct device_ref *d;
    struct slice patch;
};

static enum status do_report_text(struct tx *tx, void *arg, struct err *err)
{
    const struct text *t = arg;
    return twin_report(tx, t->d, t->patch, err);
}

static enum status report_filler(struct testlive *l, const struct device_ref *d, const char *key, int len)
{
    struct buf b = buf_heap(1u << 20);
    buf_printf(&b, "{\"%s\":\"%0*d\"}", key, len, 0);
    struct text t = {d, buf_view(&b)};
    enum status st = testcore_run(&l->core, do_report_text, &t);
    buf_release(&b);
    return st;
}

// Groups of 62 members with the shortest names.
static void report_groups(struct testlive *l, const struct device_ref *d, int from, int to)
{
    static const char names[] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    struct buf b = buf_heap(1u << 20);
    for (int g = from; g < to; g++) {
        buf_printf(&b, "%s\"%02x\":{", g == from ? "{" : ",", g);
        for (int i = 0; i < 62; i++) {
            buf_printf(&b, "%s\"%c\":1", i > 0 ? "," : "", names[i]);
        }
        buf_str(&b, "}");
    }
    buf_str(&b, "}");
    struct text t = {d, buf_view(&b)};
    assert_int_equal(testcore_run(&l->core, do_report_text, &t), ST_OK);
    buf_release(&b);
}

static void a_section_has_64_kib_and_depth_16(void **state)
{
    (void)state;
    struct testlive l;
    testlive_open(&l);
    testlive_run_loop(&l);
    struct device_ref d = testlive_device(&l, "d1");
    const int frame = (int)strlen("{\"a\":\"\"}");
    assert_int_equal(report_filler(&l, &d, "a", TWIN_SECTION_MAX - frame), ST_OK);
    assert_int_equal(report_filler(&l, &d, "b", 1), ST_TOO_LARGE);
    assert_int_equal(report_filler(&l, &d, "a", TWIN_SECTION_MAX - frame + 1), ST_TOO_LARGE);
    assert_int_equal(report_filler(&l, &d, "a", 10), ST_OK);
    assert_int_equal(report(&l, &d, "{'a':null}"), ST_OK);
    // More members than one patch may have, gathered by two, can still be read back.
    report_groups(&l, &d, 0, 85);
    report_groups(&l, &d, 85, 170);
    json_t *v = get(&l, &d);
    assert_int_equal(json_object_size(json_object_get(v, "reported")), 170);
    json_decref(v);

    struct device_ref e = testlive_device(&l, "d2");
    for (int depth = 16; depth <= 17; depth++) {
        struct buf deep = buf_heap(4096);
        for (int i = 0; i < depth; i++) {
            buf_str(&deep, "{\"d\":");
        }
        buf_str(&deep, "1");
        for (int i = 0; i < depth; i++) {
            buf_str(&deep, "}");
        }
        struct text dt = {&e, buf_view(&deep)};
        assert_int_equal(testcore_run(&l.core, do_report_text, &dt) == ST_OK, depth == 16);
        buf_release(&deep);
    }
    testlive_close(&l);
}

static json_t *payload_of(struct down *down)
{
    json_t *v = json_loadb((const char *)down->payload, down->payload_len, 0, NULL);
    assert_non_null(v);
    free(down);
    return v;
}

static void desired_is_pushed_or_waits(void **state)
{
    (void)state;
    struct testlive l;
    testlive_open(&l);
    testlive_run_loop(&l);
    struct device_ref d = testlive_device(&l, "d1");
    assert_int_equal(set(&l, &d, "{'interval':5}"), ST_OK); // nobody is there: it waits
    struct link *link = testlive_connect(&l, &d);
    assert_int_equal(set(&l, &d, "{'log':'debug'}"), ST_OK); // connected, but not subscribed: it waits
    assert_true(testlive_quiet(&l, link));

    struct step s = {.l = &l, .d = &d, .link = link};
    assert_int_equal(testcore_run(&l.core, do_subscribe, &s), ST_OK);
    struct down *down = testlive_down(&l, link);
    assert_int_equal(down->kind, DOWN_PUBLISH);
    assert_string_equal(down->topic, "$muster/twin/desired");
    json_t *v = payload_of(down);
    assert_part(v, "version", "2");
    assert_part(v, "desired", "{'interval':5,'log':'debug'}");
    assert_part(v, "delta", "{'interval':5,'log':'debug'}");
    assert_null(json_object_get(v, "reported"));
    json_decref(v);

    assert_int_equal(report(&l, &d, "{'interval':5,'log':'debug'}"), ST_OK);
    assert_true(testlive_quiet(&l, link));
    assert_int_equal(set(&l, &d, "{'interval':7}"), ST_OK);
    v = payload_of(testlive_down(&l, link));
    assert_part(v, "delta", "{'interval':7}");
    json_decref(v);

    struct step wrong = {.l = &l, .d = &d, .patch = "{'interval':8}", .if_version = 1};
    assert_int_equal(testcore_run(&l.core, do_set, &wrong), ST_VERSION);
    assert_true(testlive_quiet(&l, link)); // what was refused is not sent

    // Back on a new connection with everything done: nothing to push.
    assert_int_equal(report(&l, &d, "{'interval':7}"), ST_OK);
    struct link *next = testlive_connect(&l, &d);
    s.link = next;
    assert_int_equal(testcore_run(&l.core, do_subscribe, &s), ST_OK);
    assert_true(testlive_quiet(&l, next));
    testlive_close(&l);
}

static enum status do_audit(struct tx *tx, void *arg, struct err *err)
{
    struct testlive *l = arg;
    const struct audit_filter f = {.action = SLICE("twin.desired"), .to_us = INT64_MAX, .limit = 10};
    return audit_list(tx, &f, &l->core.w, err);
}

static void the_audit_record_undoes_the_change(void **state)
{
    (void)state;
    struct testlive l;
    testlive_open(&l);
    testlive_run_loop(&l);
    struct device_ref d = testlive_device(&l, "d1");
    assert_int_equal(set(&l, &d, "{'a':1,'b':{'c':2,'d':3}}"), ST_OK);
    assert_int_equal(set(&l, &d, "{'a':null,'b':{'c':9},'n':1}"), ST_OK);
    assert_int_equal(report(&l, &d, "{'a':1}"), ST_OK);
    assert_int_equal(testcore_run(&l.core, do_audit, &l), ST_OK);
    json_t *v = testcore_json(&l.core);
    const json_t *items = json_object_get(v, "items");
    assert_int_equal(json_array_size(items), 2);
    assert_part(json_array_get(items, 0), "before", "{'a':1,'b':{'c':2},'n':null}");
    assert_part(json_array_get(items, 0), "after", "{'a':null,'b':{'c':9},'n':1}");
    json_decref(v);
    testlive_close(&l);
}

static void every_change_is_an_event(void **state)
{
    (void)state;
    struct testlive l;
    testlive_open(&l);
    testlive_run_loop(&l);
    struct device_ref d = testlive_device(&l, "d1");
    static struct testlive_ear ear;
    testlive_listen(&l, &ear, 1u << EV_TWIN);
    assert_int_equal(set(&l, &d, "{'a':{'b':1}}"), ST_OK);
    assert_int_equal(set(&l, &d, "{'$a':1}"), ST_INVALID);
    assert_int_equal(report(&l, &d, "{'a':null}"), ST_OK);
    testlive_settle(&l);
    assert_int_equal(ear.n, 2);
    assert_string_equal(ear.json[0],
                        "{\"device\":\"d1\",\"version\":1,\"section\":\"desired\",\"patch\":{\"a\":{\"b\":1}}}");
    assert_string_equal(ear.json[1],
                        "{\"device\":\"d1\",\"version\":2,\"section\":\"reported\",\"patch\":{\"a\":null}}");
    testlive_unlisten(&ear);
    testlive_close(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_sides_write_and_the_delta_follows),
        cmocka_unit_test(a_writer_is_told_when_desired_has_changed),
        cmocka_unit_test(refusals_change_nothing),
        cmocka_unit_test(a_section_has_64_kib_and_depth_16),
        cmocka_unit_test(desired_is_pushed_or_waits),
        cmocka_unit_test(the_audit_record_undoes_the_change),
        cmocka_unit_test(every_change_is_an_event),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
