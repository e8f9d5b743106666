#include "domain/telemetry/ingest.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "domain/telemetry/query.h"
#include "lib/testcore.h"
#include "lib/testlive.h"

#define ACKS_MAX 20000

// A core with its threads, a loop with its ingest, and what came back.
struct world {
    struct testlive l;
    struct ingest *in;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct ingest_ack acks[ACKS_MAX];
    size_t acks_len;
    size_t callbacks;
};

static void on_acked(void *arg, const struct ingest_ack *acks, size_t n)
{
    struct world *w = arg;
    pthread_mutex_lock(&w->lock);
    assert_true(w->acks_len + n <= ACKS_MAX);
    for (size_t i = 0; i < n; i++) {
        w->acks[w->acks_len++] = acks[i];
    }
    w->callbacks++;
    pthread_cond_broadcast(&w->wake);
    pthread_mutex_unlock(&w->lock);
}

// Everything that must happen before the threads run goes between world_open and world_start.
static struct world *world_open(void)
{
    struct world *w = calloc(1, sizeof(*w));
    assert_non_null(w);
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->wake, NULL);
    testlive_open(&w->l);
    return w;
}

static void world_start(struct world *w)
{
    w->in = ingest_new(w->l.core.core, w->l.loop, on_acked, w);
    assert_non_null(w->in);
    testlive_run_loop(&w->l);
    assert_int_equal(core_start(w->l.core.core, NULL), ST_OK);
}

static void world_close(struct world *w)
{
    core_stop(w->l.core.core);
    testlive_settle(&w->l);
    loop_stop(w->l.loop);
    loop_join(w->l.loop);
    ingest_free(w->in);
    testlive_close_stopped(&w->l);
    pthread_cond_destroy(&w->wake);
    pthread_mutex_destroy(&w->lock);
    free(w);
}

static const struct ingest_ack *wait_acks(struct world *w, size_t n)
{
    struct timespec end;
    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += 20;
    pthread_mutex_lock(&w->lock);
    int rc = 0;
    while (w->acks_len < n && rc == 0) {
        rc = pthread_cond_timedwait(&w->wake, &w->lock, &end);
    }
    size_t have = w->acks_len;
    pthread_mutex_unlock(&w->lock);
    if (have < n) {
        fail_msg("%zu of %zu acknowledgements came", have, n);
    }
    return w->acks;
}

// --- on the loop's thread ------------------------------------------------------------------------------------------

struct sent {
    struct link *link;
    const char *payload; // ' for "
    size_t len;          // 0: text
    bool dup;
    const char *content_type;
    enum status status; // of ingest_put
    struct err err;
};

struct turn {
    struct testlive_fence fence;
    struct world *w;
    struct sent *messages;
    size_t len;
    uint16_t packet_id;
};

static void put_one(struct world *w, struct sent *m, uint16_t packet_id)
{
    char text[4096];
    snprintf(text, sizeof(text), "%s", m->payload);
    for (char *c = text; m->len == 0 && *c != '\0'; c++) {
        *c = *c == '\'' ? '"' : *c;
    }
    struct slice payload = m->len > 0 ? slice_make(m->payload, m->len) : slice_str(text);
    struct slice type = m->content_type != NULL ? slice_str(m->content_type) : (struct slice){NULL, 0};
    m->status = ingest_put(w->in, m->link, NULL, packet_id, m->dup, payload, type, &m->err);
}

static void turn_run(struct post *p)
{
    struct turn *t = (struct turn *)p;
    for (size_t i = 0; i < t->len; i++) {
        put_one(t->w, &t->messages[i], (uint16_t)(t->packet_id + i));
    }
    testlive_fence_passed(p);
}

// All of them in one turn of the loop.
static void put(struct world *w, struct sent *messages, size_t n)
{
    struct turn t = {.fence = {{NULL, turn_run}, PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false},
                     .w = w,
                     .messages = messages,
                     .len = n,
                     .packet_id = 1};
    loop_post(w->l.loop, &t.fence.post);
    testlive_fence_wait(&t.fence);
}

// --- on the core thread --------------------------------------------------------------------------------------------

struct async {
    struct op op;
    struct testlive_fence fence;
    struct world *w;
    testcore_fn fn;
    void *arg;
    enum status status;
};

static enum status async_run(struct tx *tx, struct op *op, struct err *err)
{
    struct async *a = (struct async *)op;
    return a->fn(tx, a->arg, err);
}

static void async_done(struct op *op)
{
    struct async *a = (struct async *)op;
    a->status = op->status;
    testlive_fence_passed(&a->fence.post);
}

static enum status run(struct world *w, testcore_fn fn, void *arg, bool reader)
{
    struct async a = {.op = {.run = async_run, .done = async_done, .who = &w->l.core.who, .name = "test"},
                      .fence = {{NULL, NULL}, PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false},
                      .w = w,
                      .fn = fn,
                      .arg = arg};
    if (reader) {
        core_read(w->l.core.core, &a.op);
    } else {
        core_submit(w->l.core.core, &a.op);
    }
    testlive_fence_wait(&a.fence);
    return a.status;
}

struct ask {
    struct world *w;
    const struct device_ref *d;
    uint32_t tenant;
    struct telemetry_range_params params;
    struct telemetry_range *range;
    struct link *link;
};

static void fresh(struct world *w)
{
    buf_clear(&w->l.core.out);
    jw_init(&w->l.core.w, &w->l.core.out);
}

static enum status do_ledger(struct tx *tx, void *arg, struct err *err)
{
    const struct ask *a = arg;
    return a->d != NULL ? ledger_write(tx, a->d->row, &a->w->l.core.w, err)
                        : ledger_write_tenant(tx, a->tenant, &a->w->l.core.w, err);
}

static enum status do_last(struct tx *tx, void *arg, struct err *err)
{
    const struct ask *a = arg;
    return telemetry_last_write(tx, a->d, SLICE(""), &a->w->l.core.w, err);
}

static enum status do_open(struct tx *tx, void *arg, struct err *err)
{
    struct ask *a = arg;
    return telemetry_range_open(tx, a->d, &a->params, &a->range, err);
}

static enum status do_range(struct tx *tx, void *arg, struct err *err)
{
    const struct ask *a = arg;
    return telemetry_range_write(tx, a->range, &a->w->l.core.w, err);
}

static enum status do_delete(struct tx *tx, void *arg, struct err *err)
{
    struct device_ref d = *((const struct ask *)arg)->d;
    return device_delete(tx, &d, -1, err);
}

static enum status do_stored(struct tx *tx, void *arg, struct err *err)
{
    return ledger_stored(tx, ((const struct ask *)arg)->link, err);
}

static enum status do_stored_and_fail(struct tx *tx, void *arg, struct err *err)
{
    enum status st = do_stored(tx, arg, err);
    return st == ST_OK ? err_set(err, ST_CONFLICT, "on purpose") : st;
}

static json_t *ledger_of(struct world *w, const struct device_ref *d)
{
    struct ask a = {.w = w, .d = d, .tenant = 1};
    fresh(w);
    assert_int_equal(run(w, do_ledger, &a, false), ST_OK);
    json_t *v = testcore_json(&w->l.core);
    json_int_t sum =
        json_integer_value(json_object_get(v, "stored")) + json_integer_value(json_object_get(v, "in_flight"));
    const char *reason;
    json_t *n;
    json_object_foreach(json_object_get(v, "refused"), reason, n)
    {
        sum += json_integer_value(n);
    }
    assert_int_equal(json_integer_value(json_object_get(v, "received")), sum);
    return v;
}

static json_int_t figure(struct world *w, const struct device_ref *d, const char *name, const char *reason)
{
    json_t *v = ledger_of(w, d);
    const json_t *at = json_object_get(v, name);
    json_int_t n = json_integer_value(reason != NULL ? json_object_get(at, reason) : at);
    json_decref(v);
    return n;
}

static json_t *last_of(struct world *w, const struct device_ref *d)
{
    struct ask a = {.w = w, .d = d};
    fresh(w);
    assert_int_equal(run(w, do_last, &a, false), ST_OK);
    json_t *v = testcore_json(&w->l.core);
    json_t *metrics = json_incref(json_object_get(v, "metrics"));
    json_decref(v);
    return metrics;
}

static json_t *range_of(struct world *w, const struct device_ref *d, const struct telemetry_range_params *p)
{
    struct ask a = {.w = w, .d = d, .params = *p};
    assert_int_equal(run(w, do_open, &a, false), ST_OK);
    fresh(w);
    assert_int_equal(run(w, do_range, &a, true), ST_OK);
    telemetry_range_free(a.range);
    return testcore_json(&w->l.core);
}

static json_int_t count_of(struct world *w, const struct device_ref *d, const char *metric)
{
    const struct telemetry_range_params p = {
        .metric = slice_str(metric), .from_us = INT64_MIN, .to_us = INT64_MAX, .count = true, .limit = 1};
    json_t *v = range_of(w, d, &p);
    json_int_t n = json_integer_value(json_object_get(v, "count"));
    json_decref(v);
    return n;
}

// --- tests ---------------------------------------------------------------------------------------------------------

static void messages_are_stored_acknowledged_and_counted(void **state)
{
    (void)state;
    struct world *w = world_open();
    struct device_ref a = testlive_device(&w->l, "a");
    struct device_ref b = testlive_device(&w->l, "b");
    struct link *la = testlive_connect(&w->l, &a);
    struct link *lb = testlive_connect(&w->l, &b);
    world_start(w);
    struct sent m[] = {
        {.link = la, .payload = "{'t':21.4,'on':true,'s':'x'}"},
        {.link = la, .payload = "{'t':21.5}"},
        {.link = lb, .payload = "{'t':"},
        {.link = lb, .payload = "{'ts':1690000000000.001,'values':{'t':7}}"},
        {.link = lb, .payload = "\xa1\x61t\x08", .len = 4}, // CBOR {"t": 8}
        {.link = la, .payload = "{'t':null}"},
        {.link = la, .payload = "{'t':21.6}"},
    };
    put(w, m, 7);
    const struct ingest_ack *acks = wait_acks(w, 5);
    static const uint16_t ids[] = {1, 2, 4, 5, 7};
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(acks[i].packet_id, ids[i]);
        assert_int_equal(acks[i].status, ST_OK);
    }
    assert_true(acks[0].conn == la->conn && acks[2].conn == lb->conn);
    assert_int_equal(w->callbacks, 1); // one turn, one batch
    assert_int_equal(m[2].status, ST_MALFORMED);
    assert_int_equal(m[5].status, ST_INVALID);
    assert_string_equal(m[5].err.where, "/t");

    json_t *last = last_of(w, &a);
    assert_true(json_real_value(json_object_get(json_object_get(last, "t"), "value")) == 21.6);
    assert_true(json_is_true(json_object_get(json_object_get(last, "on"), "value")));
    assert_string_equal(json_string_value(json_object_get(json_object_get(last, "s"), "value")), "x");
    json_decref(last);
    assert_int_equal(count_of(w, &a, "t"), 3); // one time each, though they came in one turn
    assert_int_equal(count_of(w, &b, "t"), 2);
    assert_int_equal(count_of(w, &b, "nothing"), 0);

    assert_int_equal(figure(w, &a, "stored", NULL), 3);
    assert_int_equal(figure(w, &a, "refused", "invalid"), 1);
    assert_int_equal(figure(w, &a, "in_flight", NULL), 0);
    assert_int_equal(figure(w, &b, "refused", "malformed"), 1);
    assert_int_equal(figure(w, NULL, "stored", NULL), 5);
    assert_int_equal(figure(w, NULL, "received", NULL), 7);
    assert_int_equal(ingest_pending(w->in), 0);
    world_close(w);
}

static void a_limit_refuses_one_message_and_not_its_neighbours(void **state)
{
    (void)state;
    struct world *w = world_open();
    struct device_ref d = testlive_device(&w->l, "d");
    struct link *link = testlive_connect(&w->l, &d);
    world_start(w);
    struct buf full = buf_heap(1u << 16);
    for (int k = 0; k < 10; k++) { // a thousand metrics: all a device may have
        buf_clear(&full);
        for (int i = 0; i < 100; i++) {
            buf_printf(&full, "%s'm%d':1", i > 0 ? "," : "{", k * 100 + i);
        }
        buf_str(&full, "}");
        buf_u8(&full, 0);
        struct sent m = {.link = link, .payload = (const char *)full.p};
        put(w, &m, 1);
        assert_int_equal(m.status, ST_OK);
        wait_acks(w, (size_t)k + 1);
    }
    buf_release(&full);
    struct sent m[] = {
        {.link = link, .payload = "{'ts':1000,'values':{'m1':2}}"},
        {.link = link, .payload = "{'ts':2000,'values':{'m1':2,'one.more':1}}"},
        {.link = link, .payload = "{'ts':3000,'values':{'m1':2}}"},
    };
    put(w, m, 3);
    const struct ingest_ack *acks = wait_acks(w, 13);
    assert_int_equal(acks[10].status, ST_OK);
    assert_int_equal(acks[11].status, ST_LIMIT);
    assert_int_equal(acks[12].status, ST_OK);
    assert_int_equal(count_of(w, &d, "m1"), 3); // nothing of the refused one
    assert_int_equal(figure(w, &d, "stored", NULL), 12);
    assert_int_equal(figure(w, &d, "refused", "limit"), 1);
    world_close(w);
}

static void repeats_are_seen(void **state)
{
    (void)state;
    struct world *w = world_open();
    struct device_ref d = testlive_device(&w->l, "d");
    struct link *link = testlive_connect(&w->l, &d);
    world_start(w);
    struct sent m[] = {
        {.link = link, .payload = "{'ts':1690000000000,'values':{'t':1,'u':2}}"},
        {.link = link, .payload = "{'ts':1690000000000,'values':{'t':1,'u':2}}", .dup = true},
        {.link = link, .payload = "{'ts':1690000000000,'values':{'t':1,'u':3}}", .dup = true}, // not all of it is there
        {.link = link, .payload = "{'ts':1690000000000,'values':{'t':1,'u':3}}"},              // not marked
    };
    for (size_t i = 0; i < 4; i++) {
        put(w, &m[i], 1);
        wait_acks(w, i + 1);
    }
    assert_int_equal(figure(w, &d, "stored", NULL), 4);
    assert_int_equal(figure(w, &d, "duplicate", NULL), 1);
    assert_int_equal(count_of(w, &d, "t"), 1);
    assert_int_equal(count_of(w, &d, "u"), 1);
    world_close(w);
}

static void other_kinds_are_in_the_same_ledger(void **state)
{
    (void)state;
    struct world *w = world_open();
    struct device_ref d = testlive_device(&w->l, "d");
    struct link *link = testlive_connect(&w->l, &d);
    world_start(w);
    struct ask a = {.w = w, .d = &d, .link = link};
    ledger_received(link);
    assert_int_equal(figure(w, &d, "in_flight", NULL), 1);
    assert_int_equal(run(w, do_stored, &a, false), ST_OK);
    assert_int_equal(figure(w, &d, "in_flight", NULL), 0);
    assert_int_equal(figure(w, &d, "stored", NULL), 1);
    ledger_received(link);
    assert_int_equal(run(w, do_stored_and_fail, &a, false), ST_CONFLICT);
    assert_int_equal(figure(w, &d, "in_flight", NULL), 1); // the front has not said yet what became of it
    assert_int_equal(figure(w, &d, "stored", NULL), 1);
    assert_int_equal(figure(w, NULL, "stored", NULL), 1);
    assert_int_equal(figure(w, NULL, "in_flight", NULL), 1);
    world_close(w);
}

static void a_deleted_device_stores_nothing(void **state)
{
    (void)state;
    struct world *w = world_open();
    struct device_ref d = testlive_device(&w->l, "d");
    struct link *old = testlive_connect(&w->l, &d); // taken over, with messages still on their way
    struct link *link = testlive_connect(&w->l, &d);
    world_start(w);
    struct sent m[] = {{.link = link, .payload = "{'t':1}"}, {.link = old, .payload = "{'t':2}"}};
    put(w, m, 2);
    assert_int_equal(wait_acks(w, 2)[0].status, ST_OK);
    assert_int_equal(w->acks[1].status, ST_OK);
    assert_int_equal(figure(w, &d, "stored", NULL), 2);
    struct ask a = {.w = w, .d = &d};
    assert_int_equal(run(w, do_delete, &a, false), ST_OK);
    put(w, m, 2);
    assert_int_equal(wait_acks(w, 4)[2].status, ST_FORBIDDEN);
    assert_int_equal(w->acks[3].status, ST_FORBIDDEN);
    assert_int_equal(atomic_load(&old->in_flight), 0);
    world_close(w);
}

// Holds the core thread until the test lets go.
struct block {
    struct async a; // first
    struct testlive_fence entered, leave;
};

static enum status block_run(struct tx *tx, struct op *op, struct err *err)
{
    (void)tx;
    (void)err;
    struct block *b = (struct block *)op;
    testlive_fence_passed(&b->entered.post);
    testlive_fence_wait(&b->leave);
    return ST_OK;
}

static void what_a_busy_core_refused_is_counted_later(void **state)
{
    (void)state;
    struct world *w = world_open();
    testlive_stop_core(&w->l);
    w->l.core.queue_max = 1;
    testcore_reopen(&w->l.core);
    testlive_start(&w->l);
    struct device_ref d = testlive_device(&w->l, "d");
    struct link *link = testlive_connect(&w->l, &d);
    world_start(w);
    struct testlive_fence fence = {{NULL, NULL}, PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false};
    struct block b = {.a = {.op = {.run = block_run, .done = async_done, .name = "test"}, .fence = fence},
                      .entered = fence,
                      .leave = fence};
    core_submit(w->l.core.core, &b.a.op);
    testlive_fence_wait(&b.entered);
    struct sent m[] = {
        {.link = link, .payload = "{'t':1}"}, {.link = link, .payload = "{'t':"}, {.link = link, .payload = "{'t':2}"}};
    put(w, m, 3);
    assert_int_equal(wait_acks(w, 2)[0].status, ST_BUSY);
    assert_int_equal(w->acks[1].status, ST_BUSY);
    assert_int_equal(atomic_load(&link->in_flight), 3);
    usleep(120 * 1000); // the core stays busy for some retries
    testlive_fence_passed(&b.leave.post);
    testlive_fence_wait(&b.a.fence);
    for (int i = 0; i < 100 && atomic_load(&link->in_flight) > 0; i++) {
        usleep(20 * 1000);
    }
    assert_int_equal(figure(w, &d, "refused", "busy"), 2);
    assert_int_equal(figure(w, &d, "refused", "malformed"), 1);
    assert_int_equal(figure(w, &d, "received", NULL), 3);
    assert_int_equal(count_of(w, &d, "t"), 0);
    world_close(w);
}

static void ranges_page_both_ways_and_in_buckets(void **state)
{
    (void)state;
    struct world *w = world_open();
    struct device_ref d = testlive_device(&w->l, "d");
    struct link *link = testlive_connect(&w->l, &d);
    world_start(w);
    for (int i = 0; i < 10; i++) {
        char text[128];
        snprintf(text, sizeof(text), "{'ts':%d.5,'values':{'t':%d}}", 1000 * (i + 1), i);
        struct sent m = {.link = link, .payload = text};
        put(w, &m, 1);
        wait_acks(w, (size_t)i + 1);
    }
    for (int descending = 0; descending <= 1; descending++) {
        struct telemetry_range_params p = {
            .metric = SLICE("t"), .from_us = 2000500, .to_us = 9000500, .descending = descending != 0, .limit = 3};
        char cursor[128] = "";
        int want = descending ? 7 : 1;
        int pages = 0;
        do {
            p.cursor = cursor[0] != '\0' ? slice_str(cursor) : (struct slice){NULL, 0};
            json_t *v = range_of(w, &d, &p);
            size_t i;
            json_t *point;
            json_array_foreach(json_object_get(v, "points"), i, point)
            {
                assert_int_equal(json_integer_value(json_array_get(point, 1)), want);
                assert_true(json_real_value(json_array_get(point, 0)) == 1000.0 * (want + 1) + 0.5);
                want += descending ? -1 : 1;
            }
            const char *next = json_string_value(json_object_get(v, "next"));
            snprintf(cursor, sizeof(cursor), "%s", next != NULL ? next : "");
            json_decref(v);
            pages++;
        } while (cursor[0] != '\0');
        assert_int_equal(want, descending ? 0 : 8);
        assert_int_equal(pages, 3);
    }
    struct telemetry_range_params buckets = {
        .metric = SLICE("t"), .from_us = 0, .to_us = 20000000, .bucket_us = 5000000, .limit = 2};
    json_t *v = range_of(w, &d, &buckets);
    const json_t *points = json_object_get(v, "points");
    assert_int_equal(json_array_size(points), 2);
    assert_true(json_number_value(json_array_get(json_array_get(points, 0), 0)) == 0);
    assert_true(json_number_value(json_array_get(json_array_get(points, 0), 1)) == 1.5); // 0 1 2 3
    assert_true(json_number_value(json_array_get(json_array_get(points, 1), 1)) == 6);   // 4 .. 8
    buckets.cursor = slice_str(json_string_value(json_object_get(v, "next")));
    json_t *rest = range_of(w, &d, &buckets);
    points = json_object_get(rest, "points");
    assert_int_equal(json_array_size(points), 1);
    assert_true(json_number_value(json_array_get(json_array_get(points, 0), 1)) == 9);
    assert_true(json_is_null(json_object_get(rest, "next")));
    json_decref(rest);
    json_decref(v);
    world_close(w);
}

static void bad_ranges_are_refused(void **state)
{
    (void)state;
    struct world *w = world_open();
    struct device_ref d = testlive_device(&w->l, "d");
    world_start(w);
    static const struct telemetry_range_params bad[] = {
        {.metric = SLICE(""), .limit = 1},
        {.metric = SLICE("t"), .limit = 0},
        {.metric = SLICE("t"), .limit = TELEMETRY_PAGE_MAX + 1},
        {.metric = SLICE("t"), .limit = 1, .bucket_us = 999999},
        {.metric = SLICE("t"), .limit = 1, .agg = TS_MIN},
        {.metric = SLICE("t"), .limit = 1, .count = true, .bucket_us = 1000000},
        {.metric = SLICE("t"), .limit = 1, .from_us = 2, .to_us = 1},
        {.metric = SLICE("t"), .limit = 1, .cursor = SLICE("%%%")},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct ask a = {.w = w, .d = &d, .params = bad[i]};
        assert_int_equal(run(w, do_open, &a, false), ST_INVALID);
        assert_null(a.range);
    }
    world_close(w);
}

static void listeners_hear_what_is_durable(void **state)
{
    (void)state;
    struct world *w = world_open();
    struct device_ref d = testlive_device(&w->l, "d");
    struct link *link = testlive_connect(&w->l, &d);
    world_start(w);
    static struct testlive_ear ear;
    testlive_listen(&w->l, &ear, 1u << EV_TELEMETRY);
    struct sent m = {.link = link, .payload = "{'ts':1690000000000.5,'values':{'t':1,'a':{'b':'x'},'t':2}}"};
    put(w, &m, 1);
    wait_acks(w, 1);
    assert_int_equal(figure(w, &d, "stored", NULL), 1); // behind the commit, and so behind the event
    testlive_settle(&w->l);
    assert_int_equal(ear.n, 1);
    assert_string_equal(ear.json[0], "{\"device\":\"d\",\"ts\":1690000000000.5,\"values\":{\"t\":2,\"a.b\":\"x\"}}");
    testlive_unlisten(&ear);
    world_close(w);
}

// Many turns from one loop: batches overlap with commits, order is kept, nothing is lost.
static void a_flood_keeps_its_order(void **state)
{
    (void)state;
    struct world *w = world_open();
    struct device_ref d = testlive_device(&w->l, "d");
    struct link *link = testlive_connect(&w->l, &d);
    world_start(w);
    enum { TURNS = 100, EACH = 100, AHEAD = 20 };
    static struct sent m[EACH];
    for (int t = 0; t < TURNS; t++) {
        for (int i = 0; i < EACH; i++) {
            m[i] = (struct sent){.link = link, .payload = "{'t':1,'u':{'v':2.5}}"};
        }
        put(w, m, EACH);
        for (int i = 0; i < EACH; i++) {
            assert_int_equal(m[i].status, ST_OK);
        }
        if (t >= AHEAD) { // as a front does that stops reading
            wait_acks(w, (size_t)(t - AHEAD) * EACH);
        }
    }
    const struct ingest_ack *acks = wait_acks(w, (size_t)TURNS * EACH);
    for (size_t i = 0; i < (size_t)TURNS * EACH; i++) {
        assert_int_equal(acks[i].status, ST_OK);
        assert_int_equal(acks[i].packet_id, i % EACH + 1);
    }
    assert_int_equal(count_of(w, &d, "t"), TURNS * EACH);
    assert_int_equal(count_of(w, &d, "u.v"), TURNS * EACH);
    assert_int_equal(figure(w, &d, "stored", NULL), TURNS * EACH);
    assert_int_equal(atomic_load(&link->in_flight), 0);
    world_close(w);
}

static void a_stopping_core_refuses(void **state)
{
    (void)state;
    struct world *w = world_open();
    struct device_ref d = testlive_device(&w->l, "d");
    struct link *link = testlive_connect(&w->l, &d);
    world_start(w);
    struct sent m = {.link = link, .payload = "{'t':1}"};
    put(w, &m, 1);
    assert_int_equal(wait_acks(w, 1)[0].status, ST_OK);
    core_stop(w->l.core.core);
    put(w, &m, 1);
    assert_int_equal(m.status, ST_OK);
    assert_int_equal(wait_acks(w, 2)[1].status, ST_SHUTDOWN);
    loop_stop(w->l.loop);
    loop_join(w->l.loop);
    ingest_free(w->in);
    testlive_close_stopped(&w->l);
    free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_are_stored_acknowledged_and_counted),
        cmocka_unit_test(a_limit_refuses_one_message_and_not_its_neighbours),
        cmocka_unit_test(repeats_are_seen),
        cmocka_unit_test(other_kinds_are_in_the_same_ledger),
        cmocka_unit_test(a_deleted_device_stores_nothing),
        cmocka_unit_test(what_a_busy_core_refused_is_counted_later),
        cmocka_unit_test(ranges_page_both_ways_and_in_buckets),
        cmocka_unit_test(bad_ranges_are_refused),
        cmocka_unit_test(listeners_hear_what_is_durable),
        cmocka_unit_test(a_flood_keeps_its_order),
        cmocka_unit_test(a_stopping_core_refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
