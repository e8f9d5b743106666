#include "domain/presence/presence.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/cursor.h"
#include "lib/testcore.h"
#include "lib/testlive.h"

struct query {
    struct testlive *l;
    const struct device_ref *d;
    struct presence_filter filter;
    struct slice cursor;
    unsigned limit;
};

static enum status do_write(struct tx *tx, void *arg, struct err *err)
{
    struct query *q = arg;
    return presence_write(tx, q->d, &q->l->core.w, err);
}

static json_t *presence_of(struct testlive *l, const struct device_ref *d)
{
    struct query q = {.l = l, .d = d};
    assert_int_equal(testcore_run(&l->core, do_write, &q), ST_OK);
    return testcore_json(&l->core);
}

static bool online(struct testlive *l, const struct device_ref *d)
{
    json_t *v = presence_of(l, d);
    bool is = json_is_true(json_object_get(v, "online"));
    json_decref(v);
    return is;
}

static enum status do_list(struct tx *tx, void *arg, struct err *err)
{
    struct query *q = arg;
    return presence_list(tx, &q->filter, &q->l->core.w, err);
}

static enum status do_sessions(struct tx *tx, void *arg, struct err *err)
{
    struct query *q = arg;
    return presence_sessions(tx, q->d, q->cursor, q->limit, &q->l->core.w, err);
}

static json_t *sessions_of(struct testlive *l, const struct device_ref *d, unsigned limit)
{
    struct query q = {.l = l, .d = d, .limit = limit};
    assert_int_equal(testcore_run(&l->core, do_sessions, &q), ST_OK);
    return testcore_json(&l->core);
}

static const char *text_at(const json_t *v, size_t item, const char *key)
{
    return json_string_value(json_object_get(json_array_get(json_object_get(v, "items"), item), key));
}

static void a_device_comes_and_goes(void **state)
{
    (void)state;
    struct testlive l;
    testlive_open(&l);
    testlive_run_loop(&l);
    struct device_ref d = testlive_device(&l, "d1");

    json_t *never = presence_of(&l, &d);
    assert_true(json_is_false(json_object_get(never, "online")));
    assert_true(json_is_null(json_object_get(never, "since")));
    assert_true(json_is_null(json_object_get(never, "connection")));
    json_decref(never);

    struct link *link = testlive_connect(&l, &d);
    assert_int_not_equal(link->session, 0);
    assert_non_null(link->ts);
    assert_ptr_equal(presence_link(l.core.core, d.row), link);
    assert_int_equal(presence_online_count(l.core.core), 1);
    json_t *now = presence_of(&l, &d);
    assert_true(json_is_true(json_object_get(now, "online")));
    assert_true(json_is_null(json_object_get(now, "reason")));
    const json_t *c = json_object_get(now, "connection");
    assert_string_equal(json_string_value(json_object_get(c, "address")), "192.0.2.9:5000");
    assert_string_equal(json_string_value(json_object_get(c, "protocol")), "mqtt5");
    assert_int_equal(json_integer_value(json_object_get(c, "keep_alive_s")), 60);
    json_decref(now);

    testlive_disconnect(&l, link, "keep_alive");
    assert_null(presence_link(l.core.core, d.row));
    assert_int_equal(presence_online_count(l.core.core), 0);
    json_t *gone = presence_of(&l, &d);
    assert_true(json_is_false(json_object_get(gone, "online")));
    assert_string_equal(json_string_value(json_object_get(gone, "reason")), "keep_alive");
    assert_true(json_is_null(json_object_get(gone, "connection")));
    json_decref(gone);

    json_t *s = sessions_of(&l, &d, 10);
    assert_int_equal(json_array_size(json_object_get(s, "items")), 1);
    assert_string_equal(text_at(s, 0, "reason"), "keep_alive");
    assert_string_equal(text_at(s, 0, "detail"), "detail");
    assert_non_null(text_at(s, 0, "end"));
    json_decref(s);
    testlive_close(&l);
}

static void the_newest_connection_wins(void **state)
{
    (void)state;
    struct testlive l;
    testlive_open(&l);
    testlive_run_loop(&l);
    struct device_ref d = testlive_device(&l, "d1");
    struct link *first = testlive_connect(&l, &d);
    struct link *second = testlive_connect(&l, &d);
    struct down *down = testlive_down(&l, first);
    assert_int_equal(down->kind, DOWN_CLOSE);
    assert_int_equal(down->close, DOWN_CLOSE_TAKEOVER);
    free(down);
    assert_true(testlive_quiet(&l, second));
    assert_ptr_equal(presence_link(l.core.core, d.row), second);
    assert_int_equal(presence_online_count(l.core.core), 1);

    // The end of the first one changes its own session only.
    testlive_disconnect(&l, first, "takeover");
    assert_ptr_equal(presence_link(l.core.core, d.row), second);
    assert_true(online(&l, &d));
    json_t *s = sessions_of(&l, &d, 10);
    assert_int_equal(json_array_size(json_object_get(s, "items")), 2);
    assert_null(text_at(s, 0, "end"));
    assert_string_equal(text_at(s, 1, "reason"), "takeover");
    json_decref(s);

    testlive_disconnect(&l, second, "peer_closed");
    assert_false(online(&l, &d));
    testlive_close(&l);
}

struct pair {
    struct testlive_session a, b;
    bool fail;
};

static enum status connect_both(struct tx *tx, void *arg, struct err *err)
{
    struct pair *p = arg;
    enum status st = testlive_do_connect(tx, &p->a, err);
    if (st == ST_OK) {
        st = testlive_do_connect(tx, &p->b, err);
    }
    return st == ST_OK && p->fail ? err_set(err, ST_CONFLICT, "on purpose") : st;
}

static enum status connect_and_leave(struct tx *tx, void *arg, struct err *err)
{
    struct pair *p = arg;
    enum status st = testlive_do_connect(tx, &p->a, err);
    return st == ST_OK ? testlive_do_disconnect(tx, &p->a, err) : st;
}

static void within_one_batch_the_store_is_right(void **state)
{
    (void)state;
    struct testlive l;
    testlive_open(&l);
    testlive_run_loop(&l);
    struct device_ref d = testlive_device(&l, "d1");
    struct pair p = {{testlive_link(&l, &d), &d, NULL}, {testlive_link(&l, &d), &d, NULL}, false};
    assert_int_equal(testcore_run(&l.core, connect_both, &p), ST_OK);
    assert_ptr_equal(presence_link(l.core.core, d.row), p.b.link);
    free(testlive_down(&l, p.a.link));
    testlive_disconnect(&l, p.b.link, "peer_closed");
    assert_false(online(&l, &d));
    testlive_disconnect(&l, p.a.link, "takeover");

    struct pair q = {{testlive_link(&l, &d), &d, "client_disconnect"}, {NULL, NULL, NULL}, false};
    assert_int_equal(testcore_run(&l.core, connect_and_leave, &q), ST_OK);
    assert_null(presence_link(l.core.core, d.row));
    assert_int_equal(presence_online_count(l.core.core), 0);
    assert_false(online(&l, &d));
    testlive_close(&l);
}

static void a_failed_operation_leaves_nothing(void **state)
{
    (void)state;
    struct testlive l;
    testlive_open(&l);
    testlive_run_loop(&l);
    struct device_ref d = testlive_device(&l, "d1");
    struct pair p = {{testlive_link(&l, &d), &d, NULL}, {testlive_link(&l, &d), &d, NULL}, true};
    assert_int_equal(testcore_run(&l.core, connect_both, &p), ST_CONFLICT);
    assert_null(presence_link(l.core.core, d.row));
    assert_int_equal(p.a.link->session, 0);
    assert_null(p.b.link->ts);
    assert_false(online(&l, &d));
    json_t *s = sessions_of(&l, &d, 10);
    assert_int_equal(json_array_size(json_object_get(s, "items")), 0);
    json_decref(s);
    // Such a link was never a session: its end is nothing.
    testlive_disconnect(&l, p.a.link, "peer_closed");
    testlive_close(&l);
}

static void after_a_crash_nobody_is_online(void **state)
{
    (void)state;
    struct testlive l;
    testlive_open(&l);
    testlive_run_loop(&l);
    struct device_ref d = testlive_device(&l, "d1");
    testlive_connect(&l, &d);
    assert_true(online(&l, &d));
    testlive_stop_core(&l); // without a word about the connection
    testcore_reopen(&l.core);
    testlive_start(&l);
    json_t *v = presence_of(&l, &d);
    assert_true(json_is_false(json_object_get(v, "online")));
    assert_string_equal(json_string_value(json_object_get(v, "reason")), "server_restart");
    assert_string_equal(json_string_value(json_object_get(v, "since")),
                        json_string_value(json_object_get(v, "last_seen")));
    json_decref(v);
    json_t *s = sessions_of(&l, &d, 10);
    assert_string_equal(text_at(s, 0, "reason"), "server_restart");
    assert_string_equal(text_at(s, 0, "end"), text_at(s, 0, "start"));
    json_decref(s);
    testlive_close(&l);
}

struct many {
    struct testlive *l;
    const struct device_ref *d;
    unsigned n;
};

static enum status many_sessions(struct tx *tx, void *arg, struct err *err)
{
    const struct many *m = arg;
    enum status st = ST_OK;
    for (unsigned i = 0; i < m->n && st == ST_OK; i++) {
        struct link *link = link_new(m->l->loop, 100 + i, testlive_deliver);
        link->who = (struct principal){.kind = WHO_DEVICE, .tenant = m->d->tenant, .row = m->d->row};
        struct testlive_session s = {link, m->d, "peer_closed"};
        st = testlive_do_connect(tx, &s, err);
        if (st == ST_OK) {
            st = testlive_do_disconnect(tx, &s, err);
        }
        link_unref(link);
    }
    return st;
}

static void history_is_bounded_and_paged(void **state)
{
    (void)state;
    struct testlive l;
    testlive_open(&l);
    testlive_run_loop(&l);
    struct device_ref d = testlive_device(&l, "d1");
    struct device_ref other = testlive_device(&l, "d2");
    struct many m = {&l, &d, 1};
    for (int i = 0; i < 21; i++) { // in portions, as each operation walks its list of hooks
        m.n = 50;
        assert_int_equal(testcore_run(&l.core, many_sessions, &m), ST_OK);
    }
    m = (struct many){&l, &other, 3};
    assert_int_equal(testcore_run(&l.core, many_sessions, &m), ST_OK);

    size_t total = 0;
    size_t pages = 0;
    char cursor[CURSOR_MAX + 1] = "";
    do {
        struct query q = {.l = &l, .d = &d, .limit = 300};
        q.cursor = cursor[0] != '\0' ? slice_str(cursor) : (struct slice){NULL, 0};
        assert_int_equal(testcore_run(&l.core, do_sessions, &q), ST_OK);
        json_t *v = testcore_json(&l.core);
        total += json_array_size(json_object_get(v, "items"));
        const char *next = json_string_value(json_object_get(v, "next"));
        snprintf(cursor, sizeof(cursor), "%s", next != NULL ? next : "");
        json_decref(v);
        pages++;
    } while (cursor[0] != '\0');
    assert_int_equal(total, PRESENCE_SESSIONS_MAX);
    assert_int_equal(pages, 4);
    json_t *s = sessions_of(&l, &other, 10);
    assert_int_equal(json_array_size(json_object_get(s, "items")), 3);
    json_decref(s);
    testlive_close(&l);
}

static void the_list_shows_the_connected_ones_first(void **state)
{
    (void)state;
    struct testlive l;
    testlive_open(&l);
    testlive_run_loop(&l);
    struct device_ref d[5];
    struct link *links[5];
    for (int i = 0; i < 5; i++) {
        char id[16];
        snprintf(id, sizeof(id), "d%d", i);
        d[i] = testlive_device(&l, id);
        links[i] = testlive_connect(&l, &d[i]);
    }
    testlive_disconnect(&l, links[0], "peer_closed");
    testlive_disconnect(&l, links[2], "peer_closed");
    testlive_device(&l, "never");

    static const char *const want[] = {"d1", "d3", "d4", "d0", "d2"};
    char cursor[CURSOR_MAX + 1] = "";
    size_t at = 0;
    do { // pages of two
        struct query q = {.l = &l, .filter = {.online = -1, .seen_before_us = INT64_MAX, .limit = 2}};
        q.filter.cursor = cursor[0] != '\0' ? slice_str(cursor) : (struct slice){NULL, 0};
        assert_int_equal(testcore_run(&l.core, do_list, &q), ST_OK);
        json_t *v = testcore_json(&l.core);
        for (size_t i = 0; i < json_array_size(json_object_get(v, "items")); i++) {
            assert_true(at < 5);
            assert_string_equal(text_at(v, i, "device"), want[at++]);
        }
        const char *next = json_string_value(json_object_get(v, "next"));
        snprintf(cursor, sizeof(cursor), "%s", next != NULL ? next : "");
        json_decref(v);
    } while (cursor[0] != '\0');
    assert_int_equal(at, 5);

    for (int want_online = 0; want_online <= 1; want_online++) {
        struct query q = {.l = &l, .filter = {.online = want_online, .seen_before_us = INT64_MAX, .limit = 100}};
        assert_int_equal(testcore_run(&l.core, do_list, &q), ST_OK);
        json_t *v = testcore_json(&l.core);
        assert_int_equal(json_array_size(json_object_get(v, "items")), want_online ? 3 : 2);
        json_decref(v);
    }
    struct query none = {.l = &l, .filter = {.online = -1, .seen_before_us = 1, .limit = 100}};
    assert_int_equal(testcore_run(&l.core, do_list, &none), ST_OK);
    json_t *v = testcore_json(&l.core);
    assert_int_equal(json_array_size(json_object_get(v, "items")), 0);
    json_decref(v);

    // Another tenant sees nothing of it.
    l.core.who.tenant = 2;
    struct query foreign = {.l = &l, .filter = {.online = -1, .seen_before_us = INT64_MAX, .limit = 100}};
    assert_int_equal(testcore_run(&l.core, do_list, &foreign), ST_OK);
    v = testcore_json(&l.core);
    assert_int_equal(json_array_size(json_object_get(v, "items")), 0);
    json_decref(v);
    testlive_close(&l);
}

static enum status do_delete(struct tx *tx, void *arg, struct err *err)
{
    return device_delete(tx, arg, -1, err);
}

static enum status do_suspend(struct tx *tx, void *arg, struct err *err)
{
    return device_set_state(tx, arg, DEVICE_SUSPENDED, -1, err);
}

static void what_happens_to_a_device_ends_its_connection(void **state)
{
    (void)state;
    struct testlive l;
    testlive_open(&l);
    testlive_run_loop(&l);
    struct device_ref a = testlive_device(&l, "a");
    struct device_ref b = testlive_device(&l, "b");
    struct link *link_a = testlive_connect(&l, &a);
    struct link *link_b = testlive_connect(&l, &b);

    assert_int_equal(testcore_run(&l.core, do_suspend, &a), ST_OK);
    struct down *down = testlive_down(&l, link_a);
    assert_int_equal(down->close, DOWN_CLOSE_SUSPENDED);
    free(down);
    assert_non_null(link_a->ts);

    uint64_t row = b.row;
    assert_int_equal(testcore_run(&l.core, do_delete, &b), ST_OK);
    down = testlive_down(&l, link_b);
    assert_int_equal(down->close, DOWN_CLOSE_DELETED);
    free(down);
    assert_null(link_b->ts); // nothing more goes into its series
    testlive_disconnect(&l, link_b, "deleted");
    assert_null(presence_link(l.core.core, row));
    assert_int_equal(presence_online_count(l.core.core), 1);
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
    testlive_listen(&l, &ear, 1u << EV_PRESENCE);
    l.core.now_us = 1700000000000001;
    struct link *first = testlive_connect(&l, &d);
    struct link *second = testlive_connect(&l, &d);
    testlive_disconnect(&l, first, "takeover"); // no event: the device is still there
    testlive_disconnect(&l, second, "keep_alive");
    testlive_settle(&l);
    static const char *const want[] = {
        "{\"device\":\"d1\",\"online\":true,\"ts\":1700000000000.001,\"reason\":null,\"address\":\"192.0.2.9:5000\"}",
        "{\"device\":\"d1\",\"online\":true,\"ts\":1700000000000.001,\"reason\":null,\"address\":\"192.0.2.9:5000\"}",
        "{\"device\":\"d1\",\"online\":false,\"ts\":1700000000000.001,\"reason\":\"keep_alive\","
        "\"address\":\"192.0.2.9:5000\"}",
    };
    assert_int_equal(ear.n, 3);
    for (unsigned i = 0; i < 3; i++) {
        assert_string_equal(ear.json[i], want[i]);
    }
    testlive_unlisten(&ear);
    testlive_close(&l);
}

static enum status leave_and_fail(struct tx *tx, void *arg, struct err *err)
{
    enum status st = testlive_do_disconnect(tx, arg, err);
    return st == ST_OK ? err_set(err, ST_FULL, "on purpose") : st;
}

// Runs the core's own repeated work for a while, then starts the program anew on the same folder.
static void run_and_restart(struct testlive *l)
{
    assert_int_equal(core_start(l->core.core, NULL), ST_OK);
    usleep(1500 * 1000);
    core_stop(l->core.core);
    testlive_stop_core(l);
    testcore_reopen(&l->core);
    testlive_start(l);
}

static void an_end_the_store_refused_is_stored_later(void **state)
{
    (void)state;
    struct testlive l;
    testlive_open(&l);
    testlive_run_loop(&l);
    struct device_ref d = testlive_device(&l, "d1");
    struct link *link = testlive_connect(&l, &d);
    struct testlive_session s = {.link = link, .d = &d, .reason = "keep_alive"};
    assert_int_equal(testcore_run(&l.core, leave_and_fail, &s), ST_FULL);
    assert_null(presence_link(l.core.core, d.row));
    json_t *v = presence_of(&l, &d); // from memory
    assert_true(json_is_false(json_object_get(v, "online")));
    assert_string_equal(json_string_value(json_object_get(v, "reason")), "keep_alive");
    json_decref(v);
    json_t *open = sessions_of(&l, &d, 10);
    assert_null(text_at(open, 0, "end"));
    json_decref(open);

    run_and_restart(&l);
    v = presence_of(&l, &d); // from the store, and not "server_restart"
    assert_true(json_is_false(json_object_get(v, "online")));
    assert_string_equal(json_string_value(json_object_get(v, "reason")), "keep_alive");
    json_decref(v);
    json_t *closed = sessions_of(&l, &d, 10);
    assert_string_equal(text_at(closed, 0, "reason"), "keep_alive");
    json_decref(closed);
    testlive_close(&l);
}

static void last_seen_reaches_the_store(void **state)
{
    (void)state;
    struct testlive l;
    testlive_open(&l);
    testlive_run_loop(&l);
    struct device_ref busy = testlive_device(&l, "busy");
    struct device_ref quiet = testlive_device(&l, "quiet");
    l.core.now_us = 1700000000000000;
    testlive_connect(&l, &busy);
    testlive_connect(&l, &quiet);
    presence_seen(l.core.core, busy.row, 1700000070000000);
    presence_seen(l.core.core, busy.row, 1700000069000000); // time does not go back
    presence_seen(l.core.core, quiet.row, 1700000030000000);
    json_t *v = presence_of(&l, &quiet);
    assert_string_equal(json_string_value(json_object_get(v, "last_seen")), "2023-11-14T22:13:50.000000Z");
    json_decref(v);
    run_and_restart(&l); // without a word about the connections
    v = presence_of(&l, &busy);
    assert_string_equal(json_string_value(json_object_get(v, "last_seen")), "2023-11-14T22:14:30.000000Z");
    json_decref(v);
    v = presence_of(&l, &quiet); // less than a minute: not worth a row
    assert_string_equal(json_string_value(json_object_get(v, "last_seen")), "2023-11-14T22:13:20.000000Z");
    json_decref(v);
    testlive_close(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_device_comes_and_goes),
        cmocka_unit_test(the_newest_connection_wins),
        cmocka_unit_test(within_one_batch_the_store_is_right),
        cmocka_unit_test(a_failed_operation_leaves_nothing),
        cmocka_unit_test(after_a_crash_nobody_is_online),
        cmocka_unit_test(history_is_bounded_and_paged),
        cmocka_unit_test(the_list_shows_the_connected_ones_first),
        cmocka_unit_test(what_happens_to_a_device_ends_its_connection),
        cmocka_unit_test(every_change_is_an_event),
        cmocka_unit_test(an_end_the_store_refused_is_stored_later),
        cmocka_unit_test(last_seen_reaches_the_store),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
