// What the MQTT front stands on, for its tests: connections, a loop, a core and domain modules that do what the test says.
// Nothing happens by itself: fake_core_run runs operations, fake_ingest_commit ends telemetry batches, fake_turn runs what
// was posted and offers kept input. Include in exactly one file of a program.
#ifndef TESTS_LIB_FAKE_MQTT_H
#define TESTS_LIB_FAKE_MQTT_H

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "domain/broker/broker.h"
#include "domain/command/command.h"
#include "domain/identity/device_password.h"
#include "domain/identity/identity.h"
#include "domain/policy/ban.h"
#include "domain/policy/policy.h"
#include "domain/presence/presence.h"
#include "domain/telemetry/ingest.h"
#include "domain/trace/trace.h"
#include "domain/twin/twin.h"
#include "front/mqtt/front.h"
#include "net/conn.h"

#define FAKE_CONNS   16
#define FAKE_PENDING 8192

struct loop {
    struct post *first, *last;
    struct timer *timers;
    int64_t now_ms;
    struct conn *conns[FAKE_CONNS];
};
struct conn {
    struct loop *loop;
    uint64_t id;
    void *user;
    struct buf in, out;
    bool paused, resume, closing, aborted, authenticated, loopback;
    char close_text[256];
    const char *peer;
    struct tls_peer *tls;
};
struct core {
    struct op *first, *last;
    enum status refuse; // core_submit completes with it
    enum status commit; // outcome of every operation that ran well
    bool core_thread;   // inside fake_core_run
    unsigned ran, auth_failures, connected, disconnected, activated;
    unsigned events, reports, replies, twin_pushes, command_pushes, enrolled, renewed, stored;
    enum status twin_status, push_status;
    uint64_t reply_id;
    char reason[64], detail[192]; // of the last disconnect
    char payload[512];            // of the last event, report, reply
    char client_id[200], protocol[16];
    unsigned applications;
    struct link *link;    // of the last connect; one reference
    struct link *counted; // by the operation that runs, for its undoing
};
struct ingest {
    ingest_acked_fn acked;
    void *arg;
    struct ingest_ack acks[FAKE_PENDING];
    struct link *links[FAKE_PENDING];
    size_t len;
    bool behind;
    unsigned put, once, refused[ST__COUNT], failed[ST__COUNT];
};
struct fake {
    struct core core;
    struct loop loop;
    struct mqtt_front *front;
    struct conn_service service;
    uint64_t last_id;
};

static struct ingest *fake_ingest; // of the one front of a test: what ingest_new made last

#include "fake_mqtt_net.h"

// --- core --------------------------------------------------------------------------------------------------------

static inline void fake_op_posted(struct post *p)
{
    struct op *op = (struct op *)p;
    op->done(op);
}
static inline void fake_op_end(struct op *op)
{
    if (op->reply_to == NULL) {
        op->done(op);
    } else {
        op->post.fn = fake_op_posted;
        loop_post(op->reply_to, &op->post);
    }
}
void core_submit(struct core *c, struct op *op)
{
    op->status = ST_OK;
    op->err.code = ST_OK;
    op->err.text[0] = '\0';
    op->err.where[0] = '\0';
    op->core = c;
    if (c->refuse != ST_OK) {
        op->status = err_set(&op->err, c->refuse, "refused by the test");
        fake_op_end(op);
        return;
    }
    op->post.next = NULL;
    if (c->last != NULL) {
        c->last->post.next = &op->post;
    } else {
        c->first = op;
    }
    c->last = op;
}
static inline void fake_core_run(struct fake *f)
{
    struct op *op = f->core.first;
    f->core.first = f->core.last = NULL;
    fake_on_core = true;
    while (op != NULL) {
        struct op *next = (struct op *)op->post.next;
        struct principal sys = {.kind = WHO_SYSTEM};
        struct tx tx = {
            .core = &f->core, .who = op->who != NULL ? op->who : &sys, .now_us = 1700000000000000, .op = op};
        f->core.counted = NULL;
        op->status = op->run(&tx, op, &op->err);
        if (op->status == ST_OK && f->core.commit != ST_OK) {
            if (f->core.counted != NULL) {
                atomic_fetch_add(&f->core.counted->in_flight, 1);
            }
            op->status = err_set(&op->err, f->core.commit, "commit failed by the test");
        }
        f->core.ran++;
        fake_op_end(op);
        op = next;
    }
    fake_on_core = false;
}

// --- telemetry ---------------------------------------------------------------------------------------------------

struct ingest *ingest_new(struct core *core, struct loop *loop, ingest_acked_fn acked, void *arg)
{
    (void)core;
    (void)loop;
    fake_ingest = calloc(1, sizeof(*fake_ingest));
    fake_ingest->acked = acked;
    fake_ingest->arg = arg;
    return fake_ingest;
}
void ingest_free(struct ingest *in)
{
    for (size_t i = 0; in != NULL && i < in->len; i++) {
        link_unref(in->links[i]);
    }
    free(in);
}
// A payload that begins with '{' or a CBOR map is fine, everything else is not.
enum status ingest_put(struct ingest *in, struct link *from, struct broker_session *once, uint16_t packet_id, bool dup,
                       struct slice payload, struct slice content_type, struct err *err)
{
    in->once += once != NULL;
    (void)dup;
    (void)content_type;
    in->put++;
    if (payload.len == 0 || (payload.p[0] != '{' && payload.p[0] >> 5 != 5) || in->len == FAKE_PENDING) {
        in->refused[ST_INVALID]++;
        return err_at(err, ST_INVALID, "/x", "not telemetry");
    }
    in->acks[in->len] = (struct ingest_ack){from->conn, packet_id, ST_OK};
    in->links[in->len++] = link_ref(from);
    return ST_OK;
}
void ingest_refused(struct ingest *in, struct link *from, enum status why)
{
    (void)from;
    in->refused[why]++;
}
void ingest_failed(struct ingest *in, struct link *from, enum status why)
{
    in->failed[why]++;
    atomic_fetch_sub(&from->in_flight, 1);
}
void ingest_flush(struct ingest *in)
{
    (void)in;
}
size_t ingest_pending(const struct ingest *in)
{
    return in->len;
}
bool ingest_behind(const struct ingest *in)
{
    return in->behind;
}
static inline void fake_ingest_commit(enum status s)
{
    size_t n = fake_ingest->len;
    fake_ingest->len = 0;
    for (size_t i = 0; i < n; i++) {
        fake_ingest->acks[i].status = s;
        link_unref(fake_ingest->links[i]);
    }
    if (n > 0) {
        fake_ingest->acked(fake_ingest->arg, fake_ingest->acks, n);
    }
}
enum status ledger_stored(struct tx *tx, struct link *from, struct err *err)
{
    (void)err;
    tx->core->stored++;
    tx->core->counted = from;
    atomic_fetch_sub(&from->in_flight, 1);
    return ST_OK;
}

#include "fake_mqtt_broker.h"
#include "fake_mqtt_domain.h"

// --- the whole ---------------------------------------------------------------------------------------------------

// Overrides: "key=value", NULL-terminated; may be NULL.
static inline struct fake *fake_new(const char *const *overrides)
{
    const struct conf_module mods[] = {{"MQTT", mqtt_conf, MQTT_CONF_LEN}, quota_conf_module};
    struct quota_conf quotas;
    static const char *const none[] = {NULL};
    struct fake *f = calloc(1, sizeof(*f));
    struct buf problems = buf_heap(4096);
    struct conf *conf = NULL;
    struct loop *loops[1] = {&f->loop};
    struct err err;
    log_set_level(LOG_ERROR); // what the front says of bad clients is expected here
    f->loop.now_ms = 1000;
    if (conf_load(mods, 2, NULL, overrides != NULL ? overrides : none, &conf, &problems) != ST_OK) {
        fprintf(stderr, SLICE_FMT, SLICE_ARG(buf_view(&problems)));
        abort();
    }
    quota_conf_read(conf, &quotas);
    if (quotas_new(&quotas, 1, &fake_quotas, &err) != ST_OK) {
        abort();
    }
    if (mqtt_front_new(&(struct mqtt_parts){.core = &f->core}, loops, 1, conf, &f->front, &err) != ST_OK) {
        abort();
    }
    f->service = mqtt_front_service(f->front);
    conf_free(conf);
    buf_release(&problems);
    fake_device_state = DEVICE_ACTIVE;
    return f;
}
static inline bool fake_busy(const struct fake *f)
{
    return f->core.first != NULL || f->loop.first != NULL || fake_ingest->len > 0 || fake_broker.later_len > 0 ||
           fake_broker.settled_len > 0;
}
// Runs everything until nothing is left to do.
static inline void fake_settle(struct fake *f)
{
    for (unsigned i = 0; i < 64 && (i < 2 || fake_busy(f)); i++) {
        fake_core_run(f);
        fake_ingest_commit(ST_OK);
        fake_broker_commit(ST_OK);
        fake_turn(f);
    }
}
// Ends all connections and forgets what the core has seen; the front stays.
static inline void fake_reset(struct fake *f)
{
    f->core.refuse = ST_OK;
    f->core.commit = ST_OK;
    for (unsigned i = 0; i < FAKE_CONNS; i++) {
        if (f->loop.conns[i] != NULL) {
            fake_gone(f, f->loop.conns[i], CLOSE_EOF);
        }
    }
    fake_settle(f);
    fake_broker_reset();
    if (mqtt_front_connections(f->front) != 0 || fake_broker.permits != 0) {
        abort();
    }
    link_unref(f->core.link);
    f->core = (struct core){.refuse = ST_OK};
}
static inline void fake_free(struct fake *f)
{
    fake_reset(f);
    mqtt_front_free(f->front);
    quotas_free(fake_quotas);
    free(f);
}

#endif
