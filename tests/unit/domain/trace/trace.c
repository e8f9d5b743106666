// Traces: made, bounded, ended in every way, kept for their tenant, seen again after a restart; whom they look at.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "domain/trace/trace_priv.h"
#include "lib/testcore.h"
#include "lib/testlive.h"

static struct testcore t;
static struct loop *loop;
static struct trace_hub *hub;

static void start_hub(void)
{
    struct err err = {.code = ST_OK};
    hub = trace_hub_new(t.core, &loop, 1);
    assert_non_null(hub);
    if (core_boot(t.core, trace_start, hub, &err) != ST_OK) {
        fail_msg("%s", err.text);
    }
}

static void start_all(void)
{
    struct err err;
    loop = loop_new("test", &err);
    assert_non_null(loop);
    start_hub();
    assert_int_equal(loop_start(loop, &err), ST_OK);
}

static void stop_loop(void)
{
    loop_stop(loop);
    loop_join(loop);
    trace_hub_free(hub);
    loop_free(loop);
}

static int setup(void **state)
{
    (void)state;
    testcore_open(&t);
    t.now_us = 1700000000000000;
    start_all();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    stop_loop();
    testcore_close(&t);
    return 0;
}

static enum status run_create(struct tx *tx, void *arg, struct err *err)
{
    return trace_create(tx, arg, &t.w, err);
}

static enum status run_stop(struct tx *tx, void *arg, struct err *err)
{
    return trace_stop(tx, slice_str(arg), &t.w, err);
}

static enum status run_delete(struct tx *tx, void *arg, struct err *err)
{
    return trace_delete(tx, slice_str(arg), err);
}

static enum status run_get(struct tx *tx, void *arg, struct err *err)
{
    return trace_write(tx, slice_str(arg), &t.w, err);
}

static enum status run_list(struct tx *tx, void *arg, struct err *err)
{
    (void)arg;
    return trace_list(tx, (struct slice){NULL, 0}, 1000, &t.w, err);
}

static enum status run_records(struct tx *tx, void *arg, struct err *err)
{
    return trace_records(tx, slice_str(arg), 0, 1000, &t.w, err);
}

static enum status run_text(struct tx *tx, void *arg, struct err *err)
{
    return trace_text(tx, slice_str(arg), &t.out, err);
}

static enum status run_pcapng(struct tx *tx, void *arg, struct err *err)
{
    return trace_pcapng(tx, slice_str(arg), &t.out, err);
}

static enum status run_sweep(struct tx *tx, void *arg, struct err *err)
{
    (void)arg;
    return trace_sweep(tx, err);
}

struct stored {
    struct trace_entry e;
    unsigned times;
    enum status then;
};

static enum status run_store(struct tx *tx, void *arg, struct err *err)
{
    const struct stored *s = arg;
    enum status st = ST_OK;
    for (unsigned i = 0; i < s->times && st == ST_OK; i++) {
        st = trace_store(tx, hub, &s->e, err);
    }
    if (st == ST_OK) {
        st = trace_store_counts(tx, hub, err);
    }
    return st == ST_OK && s->then != ST_OK ? err_set(err, s->then, "as the test wants") : st;
}

// Makes a trace; its id in `id`.
static uint64_t make(enum trace_subject subject, const char *value, char id[24])
{
    struct trace_conf conf = {.subject = subject, .value = slice_str(value), .time_us = 60000000};
    if (testcore_run(&t, run_create, &conf) != ST_OK) {
        fail_msg("%s", t.err.text);
    }
    json_t *v = testcore_json(&t);
    snprintf(id, 24, "%s", json_string_value(json_object_get(v, "id")));
    assert_string_equal(json_string_value(json_object_get(v, "state")), "running");
    json_decref(v);
    return strtoull(id, NULL, 10);
}

static void is(const char *id, const char *state, const char *reason, json_int_t records)
{
    assert_int_equal(testcore_run(&t, run_get, (void *)(uintptr_t)id), ST_OK);
    json_t *v = testcore_json(&t);
    assert_string_equal(json_string_value(json_object_get(v, "state")), state);
    const char *why = json_string_value(json_object_get(v, "reason"));
    assert_string_equal(why != NULL ? why : "", reason);
    assert_int_equal(json_integer_value(json_object_get(v, "records")), records);
    json_decref(v);
}

static struct stored packet(uint64_t row, struct slice data, unsigned times)
{
    return (struct stored){.e = {.row = row,
                                 .ts_us = 1700000000000001,
                                 .conn = 5,
                                 .what = TRACE_IN,
                                 .version = MQTT_V311,
                                 .peer = SLICE("192.0.2.1:99"),
                                 .data = data,
                                 .data_len = (uint32_t)data.len},
                           .times = times};
}

static void test_made_filled_stopped_deleted(void **state)
{
    (void)state;
    char id[24];
    uint64_t row = make(TRACE_CLIENT, "c1", id);
    struct stored ping = packet(row, SLICE("\xc0\x00"), 2);
    struct stored note = packet(row, (struct slice){NULL, 0}, 1);
    note.e.what = TRACE_NOTE;
    note.e.note = SLICE("refused: unknown or wrong credential");
    assert_int_equal(testcore_run(&t, run_store, &ping), ST_OK);
    assert_int_equal(testcore_run(&t, run_store, &note), ST_OK);
    is(id, "running", "", 3);
    assert_int_equal(testcore_run(&t, run_delete, id), ST_CONFLICT);
    assert_int_equal(testcore_run(&t, run_stop, id), ST_OK);
    is(id, "ended", "stopped", 3);
    assert_int_equal(testcore_run(&t, run_store, &ping), ST_OK); // too late: nothing happens
    is(id, "ended", "stopped", 3);
    assert_int_equal(testcore_run(&t, run_records, id), ST_OK);
    json_t *v = testcore_json(&t);
    const json_t *items = json_object_get(v, "items");
    assert_int_equal(json_array_size(items), 3);
    assert_string_equal(json_string_value(json_object_get(json_array_get(items, 0), "text")), "PINGREQ");
    assert_string_equal(json_string_value(json_object_get(json_array_get(items, 2), "text")),
                        "refused: unknown or wrong credential");
    json_decref(v);
    assert_int_equal(testcore_run(&t, run_text, id), ST_OK);
    const char *want = "# trace of client c1: 3 records, 0 lost\n"
                       "2023-11-14T22:13:20.000001Z  in   192.0.2.1:99 #5  PINGREQ\n";
    assert_true(slice_starts(buf_view(&t.out), slice_str(want)));
    assert_int_equal(testcore_run(&t, run_pcapng, id), ST_OK);
    assert_memory_equal(t.out.p, "\x0a\x0d\x0d\x0a", 4);
    assert_int_equal(testcore_run(&t, run_delete, id), ST_OK);
    assert_int_equal(testcore_run(&t, run_get, id), ST_NOT_FOUND);
}

static void test_what_cannot_be_traced(void **state)
{
    (void)state;
    struct trace_conf bad = {.subject = TRACE_DEVICE, .value = SLICE("nobody"), .time_us = 1000000};
    assert_int_equal(testcore_run(&t, run_create, &bad), ST_NOT_FOUND);
    bad = (struct trace_conf){.subject = TRACE_CLIENT, .value = SLICE("a\n"), .time_us = 1000000};
    assert_int_equal(testcore_run(&t, run_create, &bad), ST_INVALID);
    bad = (struct trace_conf){.subject = TRACE_CLIENT, .value = SLICE("a"), .time_us = TRACE_TIME_MAX_US + 1};
    assert_int_equal(testcore_run(&t, run_create, &bad), ST_INVALID);
    bad.time_us = 0;
    assert_int_equal(testcore_run(&t, run_create, &bad), ST_INVALID);
    bad.time_us = TRACE_TIME_MIN_US - 1;
    assert_int_equal(testcore_run(&t, run_create, &bad), ST_INVALID);
    static const char *const ids[] = {"", "x", "99999999999999999999", "1"};
    for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
        assert_int_equal(testcore_run(&t, run_get, (void *)(uintptr_t)ids[i]), ST_NOT_FOUND);
    }
}

static struct trace_conf at_address(const char *value)
{
    return (struct trace_conf){.subject = TRACE_ADDRESS, .value = slice_str(value), .time_us = 60000000};
}

static void be_owner(bool owner)
{
    uint64_t bit = UINT64_C(1) << PERM_METRICS_READ;
    t.who.perms = owner ? t.who.perms | bit : t.who.perms & ~bit;
}

static void test_places_are_bounded_and_come_back(void **state)
{
    (void)state;
    char ids[TRACE_TENANT_RUNNING][24];
    for (unsigned i = 0; i < TRACE_TENANT_RUNNING; i++) {
        make(TRACE_ADDRESS, "192.0.2.1", ids[i]);
    }
    struct trace_conf one_more = at_address("192.0.2.1");
    assert_int_equal(testcore_run(&t, run_create, &one_more), ST_LIMIT);
    assert_non_null(strstr(t.err.text, "of this tenant"));
    assert_int_equal(testcore_run(&t, run_stop, ids[3]), ST_OK);
    assert_int_equal(testcore_run(&t, run_create, &one_more), ST_OK);
    t.now_us += 61000000;
    assert_int_equal(testcore_run(&t, run_sweep, NULL), ST_OK);
    is(ids[0], "ended", "time is up", 0);
    assert_int_equal(testcore_run(&t, run_create, &one_more), ST_OK);
}

static enum status run_tenants(struct tx *tx, void *arg, struct err *err)
{
    (void)arg;
    static const struct sql_def insert = {
        "tenants_insert", "INSERT INTO tenant (row, id, created_us) VALUES (2, 'b', 0), (3, 'c', 0), (4, 'd', 0)"};
    return stmt_run(db_stmt(tx->db, &insert), err);
}

static void test_no_tenant_takes_the_places_of_others(void **state)
{
    (void)state;
    assert_int_equal(testcore_run(&t, run_tenants, NULL), ST_OK);
    char id[24];
    for (unsigned i = 0; i < TRACE_TENANTS_ALL; i++) {
        t.who.tenant = 1 + i / TRACE_TENANT_RUNNING;
        make(TRACE_CLIENT, "c1", id);
    }
    struct trace_conf one_more = at_address("192.0.2.1");
    t.who.tenant = 1 + TRACE_TENANTS_ALL / TRACE_TENANT_RUNNING;
    assert_int_equal(testcore_run(&t, run_create, &one_more), ST_LIMIT); // the rest is the owner's
    assert_non_null(strstr(t.err.text, "of all tenants"));
    t.who.tenant = 1;
    be_owner(true);
    for (unsigned i = TRACE_TENANTS_ALL; i < TRACE_RUNNING_MAX; i++) {
        make(TRACE_CLIENT, "c1", id);
    }
    assert_int_equal(testcore_run(&t, run_create, &one_more), ST_LIMIT);
    be_owner(false);
}

static void test_an_address_is_one_and_is_written_one_way(void **state)
{
    (void)state;
    static const char *const none[] = {"foo",          "10.0.0.0/8",    "127.0.0.1/32", "127.0.0.1:1883",
                                       "[::1]",        "[::1]:1883",    "1.2.3",        "localhost",
                                       "fe80::1%eth0", "1.2.3.4.5.6.7", " 192.0.2.1"};
    for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++) {
        struct trace_conf conf = at_address(none[i]);
        assert_int_equal(testcore_run(&t, run_create, &conf), ST_INVALID);
        assert_non_null(strstr(t.err.text, "IPv4 or IPv6 address"));
    }
    static const struct {
        const char *given, *kept;
    } good[] = {{"2001:DB8:0::7", "2001:db8::7"}, {"::ffff:192.0.2.1", "192.0.2.1"}, {"192.0.2.1", "192.0.2.1"}};
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        struct trace_conf conf = at_address(good[i].given);
        assert_int_equal(testcore_run(&t, run_create, &conf), ST_OK);
        json_t *v = testcore_json(&t);
        assert_string_equal(json_string_value(json_object_get(v, "address")), good[i].kept);
        json_decref(v);
    }
}

static void test_a_full_trace_ends(void **state)
{
    (void)state;
    static uint8_t big[TRACE_PIECE_MAX] = {0x30};
    char id[24];
    uint64_t row = make(TRACE_CLIENT, "c1", id);
    struct stored much = packet(row, slice_make(big, sizeof(big)), TRACE_BYTES_MAX / TRACE_PIECE_MAX + 5);
    assert_int_equal(testcore_run(&t, run_store, &much), ST_OK);
    is(id, "ended", "full", TRACE_BYTES_MAX / TRACE_PIECE_MAX);
}

static void test_a_failed_transaction_counts_as_lost(void **state)
{
    (void)state;
    char id[24];
    uint64_t row = make(TRACE_CLIENT, "c1", id);
    struct stored ping = packet(row, SLICE("\xc0\x00"), 3);
    ping.then = ST_INTERNAL;
    assert_int_equal(testcore_run(&t, run_store, &ping), ST_INTERNAL);
    ping.then = ST_OK;
    assert_int_equal(testcore_run(&t, run_store, &ping), ST_OK);
    is(id, "running", "", 3);
    assert_int_equal(hub->slots[0].lost, 3);
}

static void test_tenants_do_not_see_each_other(void **state)
{
    (void)state;
    char id[24];
    make(TRACE_CLIENT, "c1", id);
    t.who.tenant = 2;
    assert_int_equal(testcore_run(&t, run_get, id), ST_NOT_FOUND);
    assert_int_equal(testcore_run(&t, run_stop, id), ST_NOT_FOUND);
    assert_int_equal(testcore_run(&t, run_delete, id), ST_NOT_FOUND);
    assert_int_equal(testcore_run(&t, run_list, NULL), ST_OK);
    json_t *v = testcore_json(&t);
    assert_int_equal(json_array_size(json_object_get(v, "items")), 0);
    json_decref(v);
    t.who.tenant = 1;
}

static void test_a_restart_goes_on(void **state)
{
    (void)state;
    char id[24];
    uint64_t row = make(TRACE_CLIENT, "c1", id);
    struct stored ping = packet(row, SLICE("\xc0\x00"), 2);
    assert_int_equal(testcore_run(&t, run_store, &ping), ST_OK);
    stop_loop();
    testcore_stop(&t);
    testcore_reopen(&t);
    start_all();
    assert_int_equal(testcore_run(&t, run_store, &ping), ST_OK);
    is(id, "running", "", 4);
}

// --- the places, walked through ------------------------------------------------------------------------------------

enum outcome { COMMITS, OPERATION_FAILS, COMMIT_FAILS };

// What happens to one place within one transaction, in this order.
struct happens {
    bool create, stop, stop_again, full, time_is_up;
    enum outcome outcome;
    enum slot_state within; // before the commit
    bool ending;
};

// A row that points to no device: found out when the transaction is committed.
static enum status break_the_commit(struct tx *tx, struct err *err)
{
    static const struct sql_def later = {"later", "PRAGMA defer_foreign_keys = ON"};
    static const struct sql_def orphan = {"orphan", "INSERT INTO group_member (grp, device) VALUES (1, 1)"};
    STMT(s, tx->db, &later);
    enum status st = stmt_run(s, err);
    if (st != ST_OK) {
        return st;
    }
    STMT(o, tx->db, &orphan);
    return stmt_run(o, err);
}

static enum status stop_first(struct tx *tx, struct err *err)
{
    char id[24];
    snprintf(id, sizeof(id), "%llu", (unsigned long long)hub->slots[0].row);
    return trace_stop(tx, slice_str(id), &t.w, err);
}

static enum status fill_first(struct tx *tx, struct err *err)
{
    static uint8_t big[TRACE_PIECE_MAX] = {0x30};
    struct stored s = packet(hub->slots[0].row, slice_make(big, sizeof(big)), TRACE_BYTES_MAX / TRACE_PIECE_MAX);
    return run_store(tx, &s, err);
}

static enum status sweep_late(struct tx *tx, struct err *err)
{
    tx->now_us += 61000000;
    return trace_sweep(tx, err);
}

static enum status run_happens(struct tx *tx, void *arg, struct err *err)
{
    const struct happens *h = arg;
    jw_array(&t.w); // what each of them writes
    struct trace_conf conf = {.subject = TRACE_CLIENT, .value = SLICE("c1"), .time_us = 60000000};
    enum status st = h->create ? trace_create(tx, &conf, &t.w, err) : ST_OK;
    if (st == ST_OK && h->stop) {
        st = stop_first(tx, err);
    }
    if (st == ST_OK && h->stop_again) {
        st = stop_first(tx, err);
    }
    if (st == ST_OK && h->full) {
        st = fill_first(tx, err);
    }
    if (st == ST_OK && h->time_is_up) {
        st = sweep_late(tx, err);
    }
    assert_int_equal(st, ST_OK);
    assert_int_equal(hub->slots[0].state, h->within);
    assert_int_equal(hub->slots[0].ending, h->ending);
    return h->outcome == COMMIT_FAILS      ? break_the_commit(tx, err)
           : h->outcome == OPERATION_FAILS ? err_set(err, ST_INTERNAL, "as the test wants")
                                           : ST_OK;
}

static enum status count_running(struct tx *tx, void *arg, struct err *err)
{
    static const struct sql_def running = {"running", "SELECT count(*) FROM trace WHERE ended_us IS NULL"};
    STMT(s, tx->db, &running);
    bool row = false;
    enum status st = stmt_step(s, &row, err);
    *(int64_t *)arg = row ? col_i64(s, 0) : -1;
    return st;
}

// Memory, the store and what the loops are told say the same.
static void place_is(enum slot_state want)
{
    int64_t stored = -1;
    assert_int_equal(hub->slots[0].state, want);
    assert_true(want == SLOT_FREE || !hub->slots[0].ending);
    assert_int_equal(testcore_run(&t, count_running, &stored), ST_OK);
    assert_int_equal(stored, want == SLOT_RUNNING);
    pthread_mutex_lock(&hub->lock);
    uint32_t told = hub->set->running;
    pthread_mutex_unlock(&hub->lock);
    assert_int_equal(told, want == SLOT_RUNNING);
}

// Every arrow of the drawing in trace_priv.h, with each way its transaction may go.
static void test_the_places_walked_through(void **state)
{
    (void)state;
    static const struct {
        enum slot_state from;
        struct happens what;
        enum slot_state to;
    } walk[] = {
        {SLOT_FREE, {.create = true, .outcome = OPERATION_FAILS, .within = SLOT_RESERVED}, SLOT_FREE},
        {SLOT_FREE, {.create = true, .outcome = COMMIT_FAILS, .within = SLOT_RESERVED}, SLOT_FREE},
        {SLOT_FREE, {.create = true, .stop = true, .within = SLOT_RESERVED, .ending = true}, SLOT_FREE},
        {SLOT_FREE,
         {.create = true, .stop = true, .outcome = COMMIT_FAILS, .within = SLOT_RESERVED, .ending = true},
         SLOT_FREE},
        {SLOT_FREE, {.create = true, .outcome = COMMITS, .within = SLOT_RESERVED}, SLOT_RUNNING},
        {SLOT_RUNNING, {.outcome = COMMITS, .within = SLOT_RUNNING}, SLOT_RUNNING},
        {SLOT_RUNNING, {.outcome = COMMIT_FAILS, .within = SLOT_RUNNING}, SLOT_RUNNING},
        {SLOT_RUNNING,
         {.stop = true, .outcome = OPERATION_FAILS, .within = SLOT_RUNNING, .ending = true},
         SLOT_RUNNING},
        {SLOT_RUNNING, {.stop = true, .outcome = COMMIT_FAILS, .within = SLOT_RUNNING, .ending = true}, SLOT_RUNNING},
        {SLOT_RUNNING, {.full = true, .outcome = COMMIT_FAILS, .within = SLOT_RUNNING, .ending = true}, SLOT_RUNNING},
        {SLOT_RUNNING,
         {.time_is_up = true, .outcome = COMMIT_FAILS, .within = SLOT_RUNNING, .ending = true},
         SLOT_RUNNING},
        {SLOT_RUNNING, {.stop = true, .stop_again = true, .within = SLOT_RUNNING, .ending = true}, SLOT_FREE},
        {SLOT_FREE, {.create = true, .within = SLOT_RESERVED}, SLOT_RUNNING},
        {SLOT_RUNNING, {.full = true, .within = SLOT_RUNNING, .ending = true}, SLOT_FREE},
        {SLOT_FREE, {.create = true, .within = SLOT_RESERVED}, SLOT_RUNNING},
        {SLOT_RUNNING, {.time_is_up = true, .within = SLOT_RUNNING, .ending = true}, SLOT_FREE},
        {SLOT_FREE, {.create = true, .full = true, .within = SLOT_RESERVED, .ending = true}, SLOT_FREE},
        {SLOT_FREE, {.create = true, .within = SLOT_RESERVED}, SLOT_RUNNING},
    };
    for (size_t i = 0; i < sizeof(walk) / sizeof(walk[0]); i++) {
        struct happens h = walk[i].what;
        place_is(walk[i].from);
        enum status st = testcore_run(&t, run_happens, &h);
        assert_int_equal(st == ST_OK, h.outcome == COMMITS);
        place_is(walk[i].to);
    }
    stop_loop(); // RUNNING as it is found in the store
    testcore_stop(&t);
    testcore_reopen(&t);
    start_all();
    place_is(SLOT_RUNNING);
}

// --- who is looked at, on the loop's thread --------------------------------------------------------------------------

struct asked {
    struct testlive_fence fence; // first
    struct trace_who who;
    uint32_t found;
};

static void ask(struct post *p)
{
    struct asked *a = (struct asked *)p;
    a->found = trace_match(trace_loop(hub, loop), &a->who);
    testlive_fence_passed(p);
}

static uint32_t found(uint32_t tenant, const char *device, const char *client, const char *peer)
{
    struct asked a = {
        .fence = {{NULL, ask}, PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false},
        .who = {.tenant = tenant, .device = slice_str(device), .client = slice_str(client), .peer = peer}};
    loop_post(loop, &a.fence.post);
    testlive_fence_wait(&a.fence);
    return a.found;
}

static void test_whom_a_trace_looks_at(void **state)
{
    (void)state;
    char id[24];
    assert_int_equal(found(1, "d1", "c1", "192.0.2.1:1"), 0);
    make(TRACE_CLIENT, "c1", id);
    make(TRACE_ADDRESS, "2001:db8::1", id);
    assert_int_equal(found(1, "d1", "c1", "192.0.2.1:1"), 1);
    assert_int_equal(found(1, NULL, "c", "192.0.2.1:1"), 0);
    assert_int_equal(found(2, NULL, "c1", "192.0.2.1:1"), 0); // another tenant's
    assert_int_equal(found(0, NULL, "c1", "192.0.2.1:1"), 0); // a stranger
    assert_int_equal(found(1, NULL, NULL, "[2001:db8::1]:1"), 2);
    t.who.perms |= UINT64_C(1) << PERM_METRICS_READ; // the system owner
    make(TRACE_CLIENT, "c1", id);
    t.who.perms &= ~(UINT64_C(1) << PERM_METRICS_READ);
    assert_int_equal(found(0, NULL, "c1", "192.0.2.1:1"), 4);
    assert_int_equal(found(1, NULL, "c1", "192.0.2.1:1"), 5);
    assert_int_equal(testcore_run(&t, run_stop, id), ST_OK);
    assert_int_equal(found(1, NULL, "c1", "192.0.2.1:1"), 1);
}

#define CASE(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_made_filled_stopped_deleted),
        CASE(test_what_cannot_be_traced),
        CASE(test_places_are_bounded_and_come_back),
        CASE(test_no_tenant_takes_the_places_of_others),
        CASE(test_an_address_is_one_and_is_written_one_way),
        CASE(test_a_full_trace_ends),
        CASE(test_a_failed_transaction_counts_as_lost),
        CASE(test_tenants_do_not_see_each_other),
        CASE(test_a_restart_goes_on),
        CASE(test_the_places_walked_through),
        CASE(test_whom_a_trace_looks_at),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
