#include "core/core.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"

#define EVENTS_RING       10000
#define EVENTS_RING_BYTES (16u << 20)
#define CHECKPOINT_PAGES  256
#define READERS_MAX       16

// Work bound to the outcome of an operation: fn after the commit, undo otherwise.
struct tx_hook {
    struct tx_hook *next;
    void (*fn)(struct core *c, void *arg);
    void (*undo)(struct core *c, void *arg);
    void *arg;
};

// Repeated work: an operation that is submitted again by a timer once the last one is done.
struct every {
    struct op op;
    struct timer timer;
    struct core *core;
    struct every *next;
    enum status (*fn)(struct tx *tx, struct err *err);
    bool waiting;
};

struct op_list {
    struct op *first;
    struct op *last;
};

struct reader {
    pthread_t thread;
    struct core *core;
    struct db *db;
    struct ts_reader *ts;
    bool started;
};

struct core {
    struct db *db;
    struct ts *ts;
    struct loop *loop;
    struct events *events;
    struct turn_hook turn;
    struct post again; // more to do after this turn
    bool again_posted;

    struct op_list pending; // core thread: arrived, not yet run
    _Atomic uint64_t queue_len;
    _Atomic bool ready;
    _Atomic bool stopping;
    _Atomic bool full;
    unsigned batch_max;
    uint32_t batch_us_max;
    uint32_t queue_max;

    void *slots[CORE_SLOT__COUNT];
    struct every *everys;

    struct reader readers[READERS_MAX];
    unsigned readers_len;
    pthread_mutex_t read_lock;
    pthread_cond_t read_wake;
    struct op_list reads;
    size_t reads_len;
    bool readers_stop;

    struct {
        _Atomic uint64_t ops, batches, commit_us_total, commit_us_max, ops_failed, full;
        _Atomic uint64_t hist[16];
    } stats;
};

// --- hooks -------------------------------------------------------------------------------------------------------

bool tx_after_commit(struct tx *tx, void (*fn)(struct core *c, void *arg), void (*undo)(struct core *c, void *arg),
                     void *arg)
{
    struct tx_hook *h = calloc(1, sizeof(*h));
    if (h == NULL) {
        return false;
    }
    h->fn = fn;
    h->undo = undo;
    h->arg = arg;
    struct op *op = tx->op;
    if (op->hooks == NULL) {
        op->hooks = h;
    } else {
        op->hooks_last->next = h;
    }
    op->hooks_last = h;
    return true;
}

static void publish_event(struct core *c, void *arg)
{
    events_publish(c->events, arg);
}

static void drop_event(struct core *c, void *arg)
{
    (void)c;
    event_unref(arg);
}

bool tx_event(struct tx *tx, struct event *ev)
{
    if (ev == NULL) {
        return false;
    }
    if (!tx_after_commit(tx, publish_event, drop_event, ev)) {
        event_unref(ev);
        return false;
    }
    return true;
}

static void hooks_finish(struct core *c, struct op *op)
{
    struct tx_hook *h = op->hooks;
    op->hooks = NULL;
    while (h != NULL) {
        struct tx_hook *next = h->next;
        void (*fn)(struct core *, void *) = op->status == ST_OK ? h->fn : h->undo;
        if (fn != NULL) {
            fn(c, h->arg);
        }
        free(h);
        h = next;
    }
}

// --- the batch ---------------------------------------------------------------------------------------------------

static void op_list_put(struct op_list *l, struct op *op)
{
    op->post.next = NULL;
    if (l->last == NULL) {
        l->first = op;
    } else {
        l->last->post.next = &op->post;
    }
    l->last = op;
}

static struct op *op_list_take(struct op_list *l)
{
    struct op *op = l->first;
    if (op != NULL) {
        l->first = (struct op *)op->post.next;
        if (l->first == NULL) {
            l->last = NULL;
        }
        op->post.next = NULL;
    }
    return op;
}

static void op_done_post(struct post *p)
{
    struct op *op = (struct op *)p;
    op->done(op);
}

static void op_reply(struct op *op)
{
    if (op->done == NULL) {
        return;
    }
    if (op->reply_to == NULL) {
        op->done(op);
        return;
    }
    op->post.fn = op_done_post;
    loop_post(op->reply_to, &op->post);
}

// Runs one operation in its own savepoint. Afterwards op->status holds run()'s verdict.
static void op_run(struct core *c, struct op *op)
{
    static const struct principal nobody = {.kind = WHO_SYSTEM, .name = "system"};
    struct tx tx = {.core = c,
                    .db = c->db,
                    .ts = c->ts,
                    .who = op->who != NULL ? op->who : &nobody,
                    .now_us = clock_wall_us(),
                    .op = op};
    struct ts_mark mark = ts_mark(c->ts);
    op->status = db_savepoint(c->db);
    if (op->status == ST_OK) {
        op->status = op->run(&tx, op, &op->err);
        if (op->status == ST_OK) {
            op->status = db_savepoint_release(c->db);
        } else {
            db_savepoint_rollback(c->db);
        }
    }
    struct ts_mark after = ts_mark(c->ts);
    op->staged = memcmp(&mark, &after, sizeof(mark)) != 0;
    if (op->status != ST_OK) {
        ts_undo(c->ts, mark);
        atomic_fetch_add_explicit(&c->stats.ops_failed, 1, memory_order_relaxed);
    }
}

static void stat_commit(struct core *c, int64_t us)
{
    uint64_t v = us > 0 ? (uint64_t)us : 0;
    atomic_fetch_add_explicit(&c->stats.commit_us_total, v, memory_order_relaxed);
    if (v > atomic_load_explicit(&c->stats.commit_us_max, memory_order_relaxed)) {
        atomic_store_explicit(&c->stats.commit_us_max, v, memory_order_relaxed);
    }
    unsigned bucket = 0;
    while (bucket < 15 && v >= (64ULL << bucket)) {
        bucket++;
    }
    atomic_fetch_add_explicit(&c->stats.hist[bucket], 1, memory_order_relaxed);
}

// What became of a batch: of everything in it, and of what it put into the telemetry store.
struct outcome {
    enum status all;
    enum status staged;
    struct err err;
};

// Both stores, state first: an operation writes to one of them; those that write to both say in their design page what a
// crash between the two leaves.
static struct outcome batch_commit(struct core *c, const struct op *last)
{
    struct outcome o = {ST_OK, ST_OK, {.code = ST_OK}};
    int64_t start = clock_mono_us();
    if (db_in_transaction(c->db)) {
        o.all = db_commit(c->db, &o.err);
    } else {
        o.all = last->status != ST_OK ? last->status : ST_INTERNAL;
        o.err = last->err;
    }
    if (o.all != ST_OK) {
        db_rollback(c->db);
        ts_abandon(c->ts);
        return o;
    }
    if (ts_staged(c->ts)) {
        o.staged = ts_commit(c->ts, &o.err);
        if (o.staged != ST_OK) {
            ts_abandon(c->ts);
        }
    }
    stat_commit(c, clock_mono_us() - start);
    return o;
}

// Full is what the telemetry store calls so, whichever store has found it: its reserve goes, which is what deleting and
// signing in work with, and space is back when that could be made again. Said once each time it changes.
static void look_at_space(struct core *c, enum status last)
{
    if (last == ST_FULL) {
        ts_note_full(c->ts);
    }
    bool full = ts_full(c->ts);
    if (atomic_exchange(&c->full, full) == full) {
        return;
    }
    if (full) {
        log_error("core", "storage full: new data is refused, reading goes on, recovery is automatic");
    } else {
        log_info("core", "storage has space again");
    }
}

static void op_settle(struct op *op, const struct outcome *o)
{
    enum status s = o->all != ST_OK ? o->all : op->staged ? o->staged : ST_OK;
    if (s != ST_OK && op->status == ST_OK) {
        op->status = s;
        op->err = o->err;
    }
}

static void batch_finish(struct core *c, struct op_list *batch, const struct outcome *o)
{
    for (struct op *op = op_list_take(batch); op != NULL; op = op_list_take(batch)) {
        op_settle(op, o);
        hooks_finish(c, op);
        atomic_fetch_sub_explicit(&c->queue_len, 1, memory_order_relaxed);
        op_reply(op);
    }
}

static void batch_refuse(struct core *c, const struct outcome *o)
{
    struct op_list all = c->pending;
    c->pending = (struct op_list){NULL, NULL};
    for (struct op *op = all.first; op != NULL; op = (struct op *)op->post.next) {
        op->status = ST_OK; // batch_finish gives them the outcome
    }
    batch_finish(c, &all, o);
}

// Something is pending.
static void batch_run(struct core *c)
{
    struct outcome o = {ST_OK, ST_OK, {.code = ST_OK}};
    o.all = db_begin(c->db, &o.err);
    if (o.all != ST_OK) {
        look_at_space(c, o.all);
        batch_refuse(c, &o);
        return;
    }
    struct op_list batch = {NULL, NULL};
    int64_t deadline = clock_mono_us() + c->batch_us_max;
    // While the disk is full each operation is a batch of its own, so that a refused writer takes no reader with it.
    unsigned max = atomic_load_explicit(&c->full, memory_order_relaxed) ? 1 : c->batch_max;
    unsigned n = 0;
    do {
        struct op *op = op_list_take(&c->pending);
        op_run(c, op);
        op_list_put(&batch, op);
        n++;
        // SQLite may undo the whole transaction (no space, no memory).
    } while (n < max && c->pending.first != NULL && db_in_transaction(c->db) && clock_mono_us() < deadline);
    o = batch_commit(c, batch.last);
    if (o.all == ST_FULL || o.staged == ST_FULL) {
        atomic_fetch_add_explicit(&c->stats.full, 1, memory_order_relaxed);
        look_at_space(c, ST_FULL);
    }
    atomic_fetch_add_explicit(&c->stats.ops, n, memory_order_relaxed);
    atomic_fetch_add_explicit(&c->stats.batches, 1, memory_order_relaxed);
    batch_finish(c, &batch, &o);
}

static void again_arrived(struct post *p)
{
    struct core *c = (struct core *)((char *)p - offsetof(struct core, again));
    c->again_posted = false;
}

static void run_again(struct core *c)
{
    if (!c->again_posted) {
        c->again_posted = true;
        c->again.fn = again_arrived;
        loop_post(c->loop, &c->again);
    }
}

// The end of a turn of the core's loop: whatever has arrived is one batch; housekeeping goes between batches, in small steps.
static void core_turn(struct turn_hook *h)
{
    struct core *c = (struct core *)((char *)h - offsetof(struct core, turn));
    if (c->pending.first != NULL) {
        batch_run(c);
    }
    bool more = ts_step(c->ts, clock_wall_us());
    look_at_space(c, db_checkpoint(c->db, CHECKPOINT_PAGES));
    if (more || c->pending.first != NULL) {
        run_again(c);
    }
}

static void op_arrived(struct post *p)
{
    struct op *op = (struct op *)p;
    op_list_put(&op->core->pending, op);
}

static void op_refuse(struct op *op, enum status s, const char *text)
{
    op->status = err_set(&op->err, s, "%s", text);
    op_reply(op);
}

// The op is counted in queue_len already.
static void op_enqueue(struct core *c, struct op *op)
{
    op->core = c;
    op->hooks = NULL;
    op->hooks_last = NULL;
    op->post.fn = op_arrived;
    loop_post(c->loop, &op->post);
}

void core_submit(struct core *c, struct op *op)
{
    op->status = ST_OK;
    op->err.code = ST_OK;
    // Counted before "stopping" is looked at, so that core_stop, which sets it and then waits for zero, misses nobody.
    uint64_t waiting = atomic_fetch_add(&c->queue_len, 1);
    bool stopping = atomic_load(&c->stopping);
    if (!stopping && waiting < c->queue_max) {
        op_enqueue(c, op);
        return;
    }
    atomic_fetch_sub(&c->queue_len, 1);
    if (stopping) {
        op_refuse(op, ST_SHUTDOWN, "the server is shutting down");
    } else {
        op_refuse(op, ST_BUSY, "too many operations are waiting; try again shortly");
    }
}

// --- readers -----------------------------------------------------------------------------------------------------

static void read_run(struct reader *r, struct op *op)
{
    static const struct principal nobody = {.kind = WHO_SYSTEM, .name = "system"};
    struct tx tx = {.core = r->core,
                    .db = r->db,
                    .ts_reader = r->ts,
                    .who = op->who != NULL ? op->who : &nobody,
                    .now_us = clock_wall_us(),
                    .ro = true,
                    .op = op};
    op->status = db_begin(r->db, &op->err);
    if (op->status == ST_OK) {
        op->status = op->run(&tx, op, &op->err);
        db_rollback(r->db);
    }
    hooks_finish(r->core, op);
    op_reply(op);
}

static void *reader_main(void *arg)
{
    struct reader *r = arg;
    struct core *c = r->core;
    pthread_setname_np(pthread_self(), "reader");
    for (;;) {
        pthread_mutex_lock(&c->read_lock);
        while (c->reads.first == NULL && !c->readers_stop) {
            pthread_cond_wait(&c->read_wake, &c->read_lock);
        }
        struct op *op = op_list_take(&c->reads);
        c->reads_len -= op != NULL;
        pthread_mutex_unlock(&c->read_lock);
        if (op == NULL) {
            return NULL;
        }
        read_run(r, op);
    }
}

void core_read(struct core *c, struct op *op)
{
    op->status = ST_OK;
    op->err.code = ST_OK;
    op->hooks = NULL;
    pthread_mutex_lock(&c->read_lock);
    bool stopping = c->readers_stop;
    bool busy = c->reads_len >= c->queue_max;
    if (!stopping && !busy) {
        op_list_put(&c->reads, op);
        c->reads_len++;
        pthread_cond_signal(&c->read_wake);
    }
    pthread_mutex_unlock(&c->read_lock);
    if (stopping) {
        op_refuse(op, ST_SHUTDOWN, "the server is shutting down");
    } else if (busy) {
        op_refuse(op, ST_BUSY, "too many queries are waiting; try again shortly");
    }
}

// --- repeated work -----------------------------------------------------------------------------------------------

static enum status every_run(struct tx *tx, struct op *op, struct err *err)
{
    return ((struct every *)op)->fn(tx, err);
}

static void every_done(struct op *op)
{
    ((struct every *)op)->waiting = false;
    if (op->status != ST_OK && op->status != ST_FULL && op->status != ST_SHUTDOWN) {
        log_warn("core", "repeated work failed", LOGS("op", op->name), LOGS("error", op->err.text));
    }
}

static void every_due(struct timer *t)
{
    struct every *e = (struct every *)((char *)t - offsetof(struct every, timer));
    if (!e->waiting) {
        e->waiting = true;
        core_submit(e->core, &e->op);
    }
}

void core_every(struct core *c, uint32_t ms, enum status (*fn)(struct tx *tx, struct err *err))
{
    struct every *e = calloc(1, sizeof(*e));
    if (e == NULL) {
        log_error("core", "no memory for repeated work");
        abort();
    }
    e->core = c;
    e->fn = fn;
    e->op.run = every_run;
    e->op.done = every_done;
    e->op.reply_to = c->loop;
    e->op.name = "core.every";
    e->next = c->everys;
    c->everys = e;
    timer_init(&e->timer, c->loop, every_due);
    timer_start(&e->timer, ms, ms);
}

// --- life --------------------------------------------------------------------------------------------------------

static enum status open_stores(struct core *c, const struct core_conf *conf, struct err *err)
{
    char path[PATH_MAX];
    snprintf(path, sizeof(path), "%s/state.db", conf->dir);
    enum status s = db_open(path, DB_WRITER, &c->db, err);
    if (s == ST_OK) {
        s = db_migrate(c->db, conf->migrations, conf->migrations_len, err);
    }
    for (size_t i = 0; s == ST_OK && i < conf->sql_tables_len; i++) {
        s = db_prepare_all(c->db, conf->sql_tables[i], conf->sql_lens[i], err);
    }
    if (s != ST_OK) {
        return s;
    }
    char ts_dir[PATH_MAX];
    snprintf(ts_dir, sizeof(ts_dir), "%s/telemetry", conf->dir);
    s = ts_open(ts_dir, &conf->ts, &c->ts, err);
    for (unsigned i = 0; s == ST_OK && i < c->readers_len; i++) {
        c->readers[i].core = c;
        s = db_open(path, DB_READER, &c->readers[i].db, err);
        if (s == ST_OK) {
            s = ts_reader_open(ts_dir, &c->readers[i].ts, err);
        }
    }
    return s;
}

enum status core_new(const struct core_conf *conf, struct core **ret, struct err *err)
{
    struct core *c = calloc(1, sizeof(*c));
    if (c == NULL) {
        return err_set(err, ST_NOMEM, "no memory for the core");
    }
    pthread_mutex_init(&c->read_lock, NULL);
    pthread_cond_init(&c->read_wake, NULL);
    c->batch_max = conf->batch_max > 0 ? conf->batch_max : 4096;
    c->batch_us_max = conf->batch_us_max > 0 ? conf->batch_us_max : 5000;
    c->queue_max = conf->queue_max > 0 ? conf->queue_max : 100000;
    c->readers_len = conf->readers < 1 ? 1 : conf->readers > READERS_MAX ? READERS_MAX : conf->readers;
    c->events = events_new(EVENTS_RING, EVENTS_RING_BYTES);
    c->loop = loop_new("core", err);
    enum status s = c->events == NULL ? err_set(err, ST_NOMEM, "no memory for the event ring")
                    : c->loop == NULL ? ST_NOMEM
                                      : open_stores(c, conf, err);
    if (s != ST_OK) {
        core_free(c);
        return s;
    }
    c->turn.fn = core_turn;
    loop_on_turn_end(c->loop, &c->turn);
    *ret = c;
    return ST_OK;
}

enum status core_start(struct core *c, struct err *err)
{
    for (unsigned i = 0; i < c->readers_len; i++) {
        int rc = pthread_create(&c->readers[i].thread, NULL, reader_main, &c->readers[i]);
        if (rc != 0) {
            return err_set(err, ST_NOMEM, "cannot start a reader thread: %s", strerror(rc));
        }
        c->readers[i].started = true;
    }
    return loop_start(c->loop, err);
}

struct boot_op {
    struct op op;
    enum status (*fn)(struct tx *tx, void *arg, struct err *err);
    void *arg;
};

static enum status boot_run(struct tx *tx, struct op *op, struct err *err)
{
    struct boot_op *b = (struct boot_op *)op;
    return b->fn(tx, b->arg, err);
}

enum status core_boot(struct core *c, enum status (*fn)(struct tx *tx, void *arg, struct err *err), void *arg,
                      struct err *err)
{
    struct boot_op b = {.op = {.run = boot_run, .name = "core.boot"}, .fn = fn, .arg = arg};
    enum status s = db_begin(c->db, err);
    if (s != ST_OK) {
        return s;
    }
    op_run(c, &b.op);
    struct outcome o = batch_commit(c, &b.op);
    atomic_fetch_add_explicit(&c->stats.ops, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&c->stats.batches, 1, memory_order_relaxed);
    op_settle(&b.op, &o);
    if (b.op.status != ST_OK && err != NULL) {
        *err = b.op.err;
    }
    hooks_finish(c, &b.op);
    return b.op.status;
}

struct stop_wait {
    struct op op;
    pthread_mutex_t lock;
    pthread_cond_t cond;
    bool done;
};

static enum status stop_run(struct tx *tx, struct op *op, struct err *err)
{
    (void)tx;
    (void)op;
    (void)err;
    return ST_OK;
}

static void stop_done(struct op *op)
{
    struct stop_wait *w = (struct stop_wait *)op;
    pthread_mutex_lock(&w->lock);
    w->done = true;
    pthread_cond_signal(&w->cond);
    pthread_mutex_unlock(&w->lock);
}

void core_stop(struct core *c)
{
    // The queue is first in, first out: when this operation is committed, so is everything submitted before it.
    struct stop_wait w = {.op = {.run = stop_run, .done = stop_done, .name = "core.stop"}};
    pthread_mutex_init(&w.lock, NULL);
    pthread_cond_init(&w.cond, NULL);
    atomic_store(&c->stopping, true);
    atomic_fetch_add(&c->queue_len, 1);
    op_enqueue(c, &w.op);
    pthread_mutex_lock(&w.lock);
    while (!w.done) {
        pthread_cond_wait(&w.cond, &w.lock);
    }
    pthread_mutex_unlock(&w.lock);
    pthread_cond_destroy(&w.cond);
    pthread_mutex_destroy(&w.lock);
    // Whoever passed the check just before "stopping" was set is still on the way.
    while (atomic_load(&c->queue_len) > 0) {
        usleep(1000);
    }

    pthread_mutex_lock(&c->read_lock);
    c->readers_stop = true;
    pthread_cond_broadcast(&c->read_wake);
    pthread_mutex_unlock(&c->read_lock);
    for (unsigned i = 0; i < c->readers_len; i++) {
        if (c->readers[i].started) {
            pthread_join(c->readers[i].thread, NULL);
            c->readers[i].started = false;
        }
    }
    loop_stop(c->loop);
    loop_join(c->loop);
}

void core_free(struct core *c)
{
    if (c == NULL) {
        return;
    }
    for (unsigned i = 0; i < c->readers_len; i++) {
        db_close(c->readers[i].db);
        ts_reader_close(c->readers[i].ts);
    }
    ts_close(c->ts);
    db_close(c->db);
    loop_free(c->loop);
    while (c->everys != NULL) {
        struct every *e = c->everys;
        c->everys = e->next;
        free(e);
    }
    events_free(c->events);
    pthread_cond_destroy(&c->read_wake);
    pthread_mutex_destroy(&c->read_lock);
    free(c);
}

// --- small doors -------------------------------------------------------------------------------------------------

void *core_slot(const struct core *c, enum core_slot s)
{
    return c->slots[s];
}

void core_set_slot(struct core *c, enum core_slot s, void *p)
{
    c->slots[s] = p;
}

struct events *core_events(struct core *c)
{
    return c->events;
}

struct loop *core_loop(struct core *c)
{
    return c->loop;
}

bool core_storage_full(const struct core *c)
{
    return atomic_load_explicit(&c->full, memory_order_relaxed);
}

enum core_state core_state(const struct core *c)
{
    if (atomic_load_explicit(&c->stopping, memory_order_relaxed)) {
        return CORE_STOPPING;
    }
    if (!atomic_load_explicit(&c->ready, memory_order_relaxed)) {
        return CORE_STARTING;
    }
    return core_storage_full(c) ? CORE_FULL : CORE_READY;
}

void core_set_ready(struct core *c)
{
    atomic_store_explicit(&c->ready, true, memory_order_relaxed);
}

void core_stats(const struct core *c, struct core_stats *out)
{
    *out = (struct core_stats){
        .ops = atomic_load(&c->stats.ops),
        .batches = atomic_load(&c->stats.batches),
        .commit_us_total = atomic_load(&c->stats.commit_us_total),
        .commit_us_max = atomic_load(&c->stats.commit_us_max),
        .ops_failed = atomic_load(&c->stats.ops_failed),
        .full = atomic_load(&c->stats.full),
        .queue_len = atomic_load(&c->queue_len),
    };
    for (unsigned i = 0; i < 16; i++) {
        out->commit_us_hist[i] = atomic_load(&c->stats.hist[i]);
    }
}
