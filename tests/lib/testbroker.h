// A running core with loops and a broker, and a front that keeps what it is told. Include after cmocka.h.
//
//   struct testbroker b;
//   testbroker_open(&b, 2);                       // two loops; policy: devices may do everything below "t/"
//   struct client *c = tb_connect(&b, 0, "d1", (struct broker_open){.clean_start = true});   // a device d1 on loop 0
//   tb_subscribe(c, "t/#", 1); tb_publish(other, "t/a", 1, false, "payload");
//   struct got *g = tb_next(c);                   // the next message to it; fails after 5 seconds
//   testbroker_kill(&b); ... testbroker_reopen(&b)  // as after kill -9: what was synced is there
//   testbroker_close(&b);
#ifndef TESTS_LIB_TESTBROKER_H
#define TESTS_LIB_TESTBROKER_H

#include <pthread.h>
#include <time.h>

#include "base/clock.h"
#include "domain/broker/broker.h"
#include "domain/policy/policy.h"
#include "domain/presence/presence.h"
#include "lib/testcore.h"

#define TB_LOOPS   4
#define TB_CLIENTS 64
#define TB_GOT     20000

struct testbroker;
struct got {
    char topic[128];
    char payload[256];
    uint64_t seq, share;
    uint8_t qos;
    bool retain, released;
    enum delivery_state state;
    uint32_t ids[8];
    unsigned ids_len;
    struct message *msg; // a reference; NULL for released ones
};
struct client {
    struct testbroker *b;
    struct broker_loop *bl;
    struct loop *loop;
    struct link *link;
    struct broker_session *session;
    struct permit *permit;
    bool present;
    uint32_t expiry_s;
    uint16_t inbound[64];
    size_t inbound_len;
    struct got *got;
    size_t got_len, got_at;
    size_t room; // has_room says no when it has got so many; 0: never
    struct broker_ack acks[TB_GOT];
    size_t acks_len;
    uint64_t settled[256];
    size_t settled_len;
    unsigned closes; // DOWN_CLOSE that came
    unsigned permits;
    uint16_t last_id;
};
struct testbroker {
    struct testcore core;
    struct loop *loops[TB_LOOPS];
    unsigned loops_len;
    struct broker *broker;
    struct conf *conf;
    struct client *clients[TB_CLIENTS];
    size_t clients_len;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    uint64_t next_conn;
    const char *const *overrides;
};

static struct testbroker *tb_now; // link callbacks carry no argument

// --- what the front is told --------------------------------------------------------------------------------------

static inline struct client *tb_client_of(const struct link *l)
{
    for (size_t i = 0; i < tb_now->clients_len; i++) {
        if (tb_now->clients[i]->link == l) {
            return tb_now->clients[i];
        }
    }
    return NULL;
}

static inline void tb_copy(char *dst, size_t size, struct slice s)
{
    size_t n = s.len < size - 1 ? s.len : size - 1;
    if (n > 0) {
        memcpy(dst, s.p, n);
    }
    dst[n] = '\0';
}

static inline void tb_keep(struct client *c, const struct delivery *d)
{
    assert_true(c->got_len < TB_GOT);
    struct got *g = &c->got[c->got_len++];
    *g = (struct got){.seq = d->seq,
                      .share = d->share,
                      .qos = d->qos,
                      .retain = d->retain,
                      .released = d->msg == NULL,
                      .state = d->state,
                      .ids_len = d->sub_ids_len};
    for (unsigned i = 0; i < d->sub_ids_len && i < 8; i++) {
        g->ids[i] = d->sub_ids[i];
    }
    if (d->msg != NULL) {
        g->msg = message_ref(d->msg);
        tb_copy(g->topic, sizeof(g->topic), message_topic(d->msg));
        tb_copy(g->payload, sizeof(g->payload), message_payload(d->msg));
    }
}

static inline void tb_on_deliver(void *arg, struct link *to, const struct delivery *d, size_t n)
{
    struct testbroker *b = arg;
    pthread_mutex_lock(&b->lock);
    struct client *c = tb_client_of(to);
    assert_non_null(c);
    assert_true(loop_is_current(c->loop));
    for (size_t i = 0; i < n; i++) {
        tb_keep(c, &d[i]);
        if (d[i].seq > atomic_load(&to->sent)) {
            atomic_store(&to->sent, d[i].seq); // all of it leaves at once
        }
    }
    pthread_cond_broadcast(&b->wake);
    pthread_mutex_unlock(&b->lock);
}

static inline void tb_on_acked(void *arg, const struct broker_ack *acks, size_t n)
{
    struct testbroker *b = arg;
    pthread_mutex_lock(&b->lock);
    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; k < b->clients_len; k++) {
            struct client *c = b->clients[k];
            if (c->link->conn == acks[i].conn) {
                assert_true(c->acks_len < TB_GOT);
                c->acks[c->acks_len++] = acks[i];
            }
        }
    }
    pthread_cond_broadcast(&b->wake);
    pthread_mutex_unlock(&b->lock);
}

static inline void tb_on_settled(void *arg, struct link *of, uint64_t value, int what)
{
    struct testbroker *b = arg;
    (void)what;
    pthread_mutex_lock(&b->lock);
    struct client *c = tb_client_of(of);
    assert_true(c->settled_len < 256);
    c->settled[c->settled_len++] = value;
    pthread_cond_broadcast(&b->wake);
    pthread_mutex_unlock(&b->lock);
}

static inline void tb_on_permit(void *arg, struct link *of, struct permit *p)
{
    struct testbroker *b = arg;
    pthread_mutex_lock(&b->lock);
    struct client *c = tb_client_of(of);
    permit_unref(c->permit);
    c->permit = p;
    c->permits++;
    pthread_cond_broadcast(&b->wake);
    pthread_mutex_unlock(&b->lock);
}

static inline bool tb_has_room(void *arg, struct link *to)
{
    struct testbroker *b = arg;
    pthread_mutex_lock(&b->lock);
    const struct client *c = tb_client_of(to);
    bool room = c == NULL || c->room == 0 || c->got_len < c->room;
    pthread_mutex_unlock(&b->lock);
    return room;
}

static inline void tb_on_down(struct link *l, struct down *d)
{
    pthread_mutex_lock(&tb_now->lock);
    struct client *c = tb_client_of(l);
    if (c != NULL && d->kind == DOWN_CLOSE) {
        c->closes++;
    }
    pthread_cond_broadcast(&tb_now->wake);
    pthread_mutex_unlock(&tb_now->lock);
    free(d);
}

// Waits until *n is at least `want`; false after 5 seconds.
static inline bool tb_wait(struct testbroker *b, const size_t *n, size_t want)
{
    struct timespec end;
    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += 5;
    pthread_mutex_lock(&b->lock);
    int rc = 0;
    while (*n < want && rc == 0) {
        rc = pthread_cond_timedwait(&b->wake, &b->lock, &end);
    }
    bool ok = *n >= want;
    pthread_mutex_unlock(&b->lock);
    return ok;
}

// --- running things where they belong ----------------------------------------------------------------------------

struct tb_call {
    struct post post; // first
    struct op op;     // of operations on the core
    struct testbroker *b;
    void (*fn)(void *arg);
    testcore_fn run;
    void *arg;
    const struct principal *who;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool done;
};

static inline void tb_call_end(struct tb_call *c)
{
    pthread_mutex_lock(&c->lock);
    c->done = true;
    pthread_cond_signal(&c->wake);
    pthread_mutex_unlock(&c->lock);
}

static inline void tb_call_wait(struct tb_call *c)
{
    pthread_mutex_lock(&c->lock);
    while (!c->done) {
        pthread_cond_wait(&c->wake, &c->lock);
    }
    pthread_mutex_unlock(&c->lock);
}

static inline void tb_call_arrived(struct post *p)
{
    struct tb_call *c = (struct tb_call *)p;
    c->fn(c->arg);
    tb_call_end(c);
}

// On a loop's thread.
static inline void tb_on_loop(struct loop *l, void (*fn)(void *arg), void *arg)
{
    struct tb_call c = {.post.fn = tb_call_arrived,
                        .fn = fn,
                        .arg = arg,
                        .lock = PTHREAD_MUTEX_INITIALIZER,
                        .wake = PTHREAD_COND_INITIALIZER};
    loop_post(l, &c.post);
    tb_call_wait(&c);
}

static inline enum status tb_op_run(struct tx *tx, struct op *op, struct err *err)
{
    struct tb_call *c = (struct tb_call *)((char *)op - offsetof(struct tb_call, op));
    tx->who = c->who != NULL ? c->who : &c->b->core.who;
    return c->run(tx, c->arg, err);
}

static inline void tb_op_done(struct op *op)
{
    tb_call_end((struct tb_call *)((char *)op - offsetof(struct tb_call, op)));
}

// As one operation of the running core.
static inline enum status tb_run(struct testbroker *b, testcore_fn fn, void *arg)
{
    struct tb_call c = {.b = b,
                        .run = fn,
                        .arg = arg,
                        .op = {.run = tb_op_run, .done = tb_op_done, .reply_to = b->loops[0], .name = "test"},
                        .lock = PTHREAD_MUTEX_INITIALIZER,
                        .wake = PTHREAD_COND_INITIALIZER};
    core_submit(b->core.core, &c.op);
    tb_call_wait(&c);
    b->core.err = c.op.err;
    return c.op.status;
}

static inline void tb_nothing(void *arg)
{
    (void)arg;
}

static inline enum status tb_nothing_op(struct tx *tx, void *arg, struct err *err)
{
    (void)tx;
    (void)arg;
    (void)err;
    return ST_OK;
}

// All that was under way has arrived: loops to the core, the core's batches, its later turns, back to the loops.
static inline void tb_settle(struct testbroker *b)
{
    for (unsigned round = 0; round < 6; round++) {
        for (unsigned i = 0; i < b->loops_len; i++) {
            tb_on_loop(b->loops[i], tb_nothing, NULL);
        }
        tb_run(b, tb_nothing_op, NULL);
    }
    for (unsigned i = 0; i < b->loops_len; i++) {
        tb_on_loop(b->loops[i], tb_nothing, NULL);
    }
}

// --- life --------------------------------------------------------------------------------------------------------

static inline enum status tb_boot_policy(struct tx *tx, void *arg, struct err *err)
{
    (void)arg;
    static char none[] = "";
    (void)none;
    return policy_start(tx, NULL, err);
}

static inline void tb_start(struct testbroker *b)
{
    struct err err = {.code = ST_OK};
    const struct conf_module mods[] = {{"Broker", broker_conf, BROKER_CONF_LEN}};
    struct buf problems = buf_heap(4096);
    assert_int_equal(conf_load(mods, 1, NULL, b->overrides, &b->conf, &problems), ST_OK);
    buf_release(&problems);
    enum status (*const starts[])(struct tx *, void *, struct err *) = {registry_start, tb_boot_policy, presence_start};
    for (size_t i = 0; i < sizeof(starts) / sizeof(starts[0]); i++) {
        if (core_boot(b->core.core, starts[i], NULL, &err) != ST_OK) {
            fail_msg("%s", err.text);
        }
    }
    for (unsigned i = 0; i < b->loops_len; i++) {
        char name[16];
        snprintf(name, sizeof(name), "io-%u", i);
        b->loops[i] = loop_new(name, &err);
        assert_non_null(b->loops[i]);
    }
    assert_int_equal(broker_new(b->core.core, b->loops, b->loops_len, b->conf, &b->broker, &err), ST_OK);
    if (core_boot(b->core.core, broker_start, b->broker, &err) != ST_OK) {
        fail_msg("%s", err.text);
    }
    const struct broker_front front = {.on_deliver = tb_on_deliver,
                                       .on_acked = tb_on_acked,
                                       .on_settled = tb_on_settled,
                                       .on_permit = tb_on_permit,
                                       .has_room = tb_has_room,
                                       .arg = b};
    for (unsigned i = 0; i < b->loops_len; i++) {
        broker_loop_serve(broker_loop(b->broker, b->loops[i]), &front);
    }
    assert_int_equal(core_start(b->core.core, &err), ST_OK);
    for (unsigned i = 0; i < b->loops_len; i++) {
        assert_int_equal(loop_start(b->loops[i], &err), ST_OK);
    }
}

struct tb_policy {
    const char *id, *doc;
};
static inline enum status tb_do_policy(struct tx *tx, void *arg, struct err *err)
{
    const struct tb_policy *p = arg;
    struct policy_ref ref;
    struct policy_target t;
    json_t *doc = testcore_doc(p->doc);
    enum status st = policy_create(tx, slice_str(p->id), (struct slice){NULL, 0}, doc, &ref, err);
    json_decref(doc);
    if (st == ST_OK) {
        st = policy_target_find(tx, TARGET_TENANT, SLICE("default"), &t, err);
    }
    bool changed = false;
    return st == ST_OK ? policy_attach(tx, &ref, &t, &changed, err) : st;
}

static inline void testbroker_open_with(struct testbroker *b, unsigned loops, const char *const *overrides)
{
    *b = (struct testbroker){.loops_len = loops, .next_conn = 1, .overrides = overrides};
    pthread_mutex_init(&b->lock, NULL);
    pthread_cond_init(&b->wake, NULL);
    tb_now = b;
    testcore_open(&b->core);
    assert_int_equal(testcore_identity(&b->core), ST_OK);
    tb_start(b);
    struct tb_policy all = {"all",
                            "{'statements':[{'effect':'allow','actions':['publish','subscribe','receive','retain'],"
                            "'topics':['t/#']}]}"};
    if (tb_run(b, tb_do_policy, &all) != ST_OK) {
        fail_msg("%s", b->core.err.text);
    }
}

static inline void testbroker_open(struct testbroker *b, unsigned loops)
{
    testbroker_open_with(b, loops, NULL);
}

static inline void tb_forget(struct client *c)
{
    for (size_t i = 0; i < c->got_len; i++) {
        message_unref(c->got[i].msg);
    }
    broker_session_unref(c->session);
    permit_unref(c->permit);
    link_unref(c->link);
    free(c->got);
    free(c);
}

static inline void tb_end(struct testbroker *b)
{
    core_stop(b->core.core);
    for (unsigned i = 0; i < b->loops_len; i++) {
        loop_stop(b->loops[i]);
        loop_join(b->loops[i]);
    }
    broker_release(b->broker);
    presence_stop(b->core.core);
    policy_stop(b->core.core);
    for (size_t i = 0; i < b->clients_len; i++) {
        tb_forget(b->clients[i]);
    }
    b->clients_len = 0;
    broker_free(b->broker);
    conf_free(b->conf);
    for (unsigned i = 0; i < b->loops_len; i++) {
        loop_free(b->loops[i]);
    }
}

static inline void testbroker_close(struct testbroker *b)
{
    tb_end(b);
    testcore_close(&b->core);
    pthread_mutex_destroy(&b->lock);
    pthread_cond_destroy(&b->wake);
}

// The process dies here and another one starts: the store is taken as it is on disk now, without anything the orderly end
// would still write.
static inline void testbroker_kill(struct testbroker *b)
{
    char cmd[1200];
    char copy[300];
    snprintf(copy, sizeof(copy), "%s.now", b->core.dir);
    snprintf(cmd, sizeof(cmd), "cp -r %s %s", b->core.dir, copy);
    assert_int_equal(system(cmd), 0);
    tb_end(b);
    testcore_stop(&b->core);
    snprintf(cmd, sizeof(cmd), "rm -rf %s && mv %s %s", b->core.dir, copy, b->core.dir);
    assert_int_equal(system(cmd), 0);
    testcore_reopen(&b->core);
    assert_int_equal(testcore_identity(&b->core), ST_OK);
    tb_start(b);
}

// --- clients -----------------------------------------------------------------------------------------------------

struct tb_connect {
    struct client *c;
    const char *device;
    struct broker_open open;
};

static inline enum status tb_do_connect(struct tx *tx, void *arg, struct err *err)
{
    struct tb_connect *k = arg;
    struct client *c = k->c;
    struct device_ref d;
    enum status st = device_find(tx, slice_str(k->device), &d, err);
    if (st == ST_NOT_FOUND) {
        json_t *desc = json_pack("{s:s}", "id", k->device);
        st = device_create(tx, desc, &d, err);
        json_decref(desc);
    }
    if (st != ST_OK) {
        message_unref(k->open.will.msg);
        return st;
    }
    c->link->who = (struct principal){.kind = WHO_DEVICE, .tenant = d.tenant, .row = d.row};
    snprintf(c->link->who.name, sizeof(c->link->who.name), "%s", d.id);
    if (k->open.client_id.len == 0) {
        k->open.client_id = slice_str(k->device);
    }
    st = policy_permit(tx, &c->link->who, k->open.client_id, &c->permit, err);
    if (st != ST_OK) {
        message_unref(k->open.will.msg);
        return st;
    }
    k->open.permit = c->permit;
    uint16_t *inbound = NULL;
    st = broker_open(tx, c->link, &k->open, &c->session, &c->present, &c->expiry_s, &inbound, &c->inbound_len, err);
    for (size_t i = 0; st == ST_OK && i < c->inbound_len && i < 64; i++) {
        c->inbound[i] = inbound[i];
    }
    free(inbound);
    return st;
}

static inline struct client *tb_try_connect(struct testbroker *b, unsigned loop, const char *device,
                                            struct broker_open open, enum status *ret_status)
{
    struct client *c = calloc(1, sizeof(*c));
    assert_non_null(c);
    c->b = b;
    c->loop = b->loops[loop];
    c->bl = broker_loop(b->broker, c->loop);
    c->link = link_new(c->loop, b->next_conn++, tb_on_down);
    c->got = calloc(TB_GOT, sizeof(*c->got));
    assert_true(c->link != NULL && c->got != NULL);
    pthread_mutex_lock(&b->lock);
    assert_true(b->clients_len < TB_CLIENTS);
    b->clients[b->clients_len++] = c;
    pthread_mutex_unlock(&b->lock);
    struct tb_connect k = {.c = c, .device = device, .open = open};
    *ret_status = tb_run(b, tb_do_connect, &k);
    return c;
}

static inline struct client *tb_connect(struct testbroker *b, unsigned loop, const char *device,
                                        struct broker_open open)
{
    enum status st;
    struct client *c = tb_try_connect(b, loop, device, open, &st);
    if (st != ST_OK) {
        fail_msg("%s", b->core.err.text);
    }
    return c;
}

struct tb_close {
    struct client *c;
    bool will;
    uint32_t expiry_s;
};
static inline enum status tb_do_close(struct tx *tx, void *arg, struct err *err)
{
    const struct tb_close *k = arg;
    return broker_close(tx, k->c->session, k->c->link, k->will, k->expiry_s, err);
}
static inline void tb_close(struct client *c, bool will)
{
    struct tb_close k = {c, will, BROKER_EXPIRY_KEEP};
    assert_int_equal(tb_run(c->b, tb_do_close, &k), ST_OK);
}

struct tb_sub {
    struct client *c;
    struct broker_sub sub;
    uint8_t reason;
    bool was;
};
static inline enum status tb_do_subscribe(struct tx *tx, void *arg, struct err *err)
{
    struct tb_sub *k = arg;
    return broker_subscribe(tx, k->c->session, &k->sub, &k->reason, err);
}
static inline uint8_t tb_sub(struct client *c, struct broker_sub sub)
{
    struct tb_sub k = {.c = c, .sub = sub};
    assert_int_equal(tb_run(c->b, tb_do_subscribe, &k), ST_OK);
    return k.reason;
}
static inline void tb_subscribe(struct client *c, const char *filter, uint8_t qos)
{
    assert_int_equal(tb_sub(c, (struct broker_sub){.filter = slice_str(filter), .qos = qos}), qos);
}
static inline enum status tb_do_unsubscribe(struct tx *tx, void *arg, struct err *err)
{
    struct tb_sub *k = arg;
    return broker_unsubscribe(tx, k->c->session, k->sub.filter, &k->was, err);
}
static inline bool tb_unsubscribe(struct client *c, const char *filter)
{
    struct tb_sub k = {.c = c, .sub = {.filter = slice_str(filter)}};
    assert_int_equal(tb_run(c->b, tb_do_unsubscribe, &k), ST_OK);
    return k.was;
}

struct tb_publish {
    struct client *c;
    struct mqtt_publish publish;
    const char *topic;
    enum broker_went went;
    bool matched;
    enum status status;
    struct err err;
};
static inline void tb_do_publish(void *arg)
{
    struct tb_publish *k = arg;
    const struct broker_in in = {.link = k->c->link,
                                 .session = k->c->session,
                                 .permit = k->c->permit,
                                 .publish = &k->publish,
                                 .topic = slice_str(k->topic)};
    k->went = broker_publish(k->c->bl, &in, &k->matched, &k->status, &k->err);
}
// Publishes and, where that is due, waits for the outcome.
static inline struct tb_publish tb_publish_full(struct client *c, const char *topic, struct mqtt_publish publish)
{
    struct tb_publish k = {.c = c, .publish = publish, .topic = topic};
    if (publish.qos > 0 && publish.packet_id == 0) {
        k.publish.packet_id = ++c->last_id;
    }
    size_t before = c->acks_len;
    tb_on_loop(c->loop, tb_do_publish, &k);
    if (k.went == BROKER_LATER) {
        assert_true(tb_wait(c->b, &c->acks_len, before + 1));
        assert_int_equal(c->acks[before].packet_id, k.publish.packet_id);
        k.status = c->acks[before].status;
        k.matched = c->acks[before].matched;
    }
    return k;
}
static inline struct tb_publish tb_publish(struct client *c, const char *topic, uint8_t qos, bool retain,
                                           const char *payload)
{
    return tb_publish_full(c, topic,
                           (struct mqtt_publish){.qos = qos, .retain = retain, .payload = slice_str(payload)});
}

struct tb_settle {
    struct client *c;
    enum broker_settle what;
    uint64_t value;
};
static inline void tb_do_settle(void *arg)
{
    const struct tb_settle *k = arg;
    broker_settle(k->c->bl, k->c->session, k->c->link, k->what, k->value);
}
static inline void tb_ack(struct client *c, enum broker_settle what, uint64_t value)
{
    struct tb_settle k = {c, what, value};
    size_t before = c->settled_len;
    tb_on_loop(c->loop, tb_do_settle, &k);
    if (what != SETTLE_DONE) {
        assert_true(tb_wait(c->b, &c->settled_len, before + 1));
        assert_int_equal(c->settled[before], value);
    }
}

static inline void tb_do_more(void *arg)
{
    const struct client *c = arg;
    broker_more(c->bl, c->link);
}
// Room until it has got so many in all; 0: any number.
static inline void tb_room(struct client *c, size_t room)
{
    pthread_mutex_lock(&c->b->lock);
    c->room = room;
    pthread_mutex_unlock(&c->b->lock);
    tb_on_loop(c->loop, tb_do_more, c);
}

static inline struct got *tb_next(struct client *c)
{
    if (!tb_wait(c->b, &c->got_len, c->got_at + 1)) {
        fail_msg("nothing came");
    }
    return &c->got[c->got_at++];
}
// The next message has this payload.
static inline struct got *tb_expect(struct client *c, const char *payload)
{
    struct got *g = tb_next(c);
    assert_string_equal(g->payload, payload);
    return g;
}
// Nothing more has come, and nothing is under way.
static inline void tb_quiet(struct client *c)
{
    tb_settle(c->b);
    pthread_mutex_lock(&c->b->lock);
    size_t more = c->got_len - c->got_at;
    pthread_mutex_unlock(&c->b->lock);
    if (more > 0) {
        fail_msg("%zu more messages, the first: %s %s", more, c->got[c->got_at].topic, c->got[c->got_at].payload);
    }
}

#endif
