#include "domain/broker/broker.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "domain/broker/broker_priv.h"
#include "domain/broker/sql/broker_queue.sql.h"
#include "domain/broker/sql/broker_session.sql.h"

// --- life --------------------------------------------------------------------------------------------------------

static uint32_t seconds(const struct conf *conf, const char *key)
{
    return (uint32_t)(conf_int(conf, key) / 1000000);
}

static void read_settings(const struct conf *conf, struct broker_settings *s)
{
    *s = (struct broker_settings){
        .session_expiry_max_s = seconds(conf, "broker.session_expiry_max"),
        .will_delay_max_s = seconds(conf, "broker.will_delay_max"),
        .queue_max = (uint32_t)conf_int(conf, "broker.queue_max"),
        .queue_bytes_max = (uint64_t)conf_int(conf, "broker.queue_bytes_max"),
        .subscriptions_max = (uint32_t)conf_int(conf, "broker.subscriptions_max"),
        .retained_max = (uint32_t)conf_int(conf, "broker.retained_max"),
        .sessions_max = (uint32_t)conf_int(conf, "broker.sessions_max"),
        .window = (uint32_t)conf_int(conf, "broker.window"),
        .match_cache = (uint32_t)conf_int(conf, "broker.match_cache"),
    };
}

static void turn_end(struct turn_hook *h)
{
    struct broker_loop *bl = (struct broker_loop *)h;
    fan_flush(bl);
    batch_turn_end(bl);
    match_cache_sweep(&bl->cache);
}

static bool fans_init(struct broker *b, struct broker_loop *bl, unsigned at)
{
    bl->broker = b;
    bl->at = at;
    bl->fans = calloc(b->loops_len + 1, sizeof(struct fan *));
    return bl->fans != NULL;
}

static void fans_release(struct broker_loop *bl)
{
    for (unsigned i = 0; bl->fans != NULL && i < bl->broker->loops_len; i++) {
        fan_free(bl->fans[i]);
    }
    free(bl->fans);
    bl->fans = NULL;
}

static bool loop_init(struct broker *b, unsigned i, struct loop *l)
{
    struct broker_loop *bl = &b->loops[i];
    bl->loop = l;
    if (!fans_init(b, bl, i) ||
        !match_cache_init(&bl->cache, &b->index, b->loops_len, false, b->settings.match_cache)) {
        return false;
    }
    batch_init(bl);
    replay_init(bl);
    bl->hook.fn = turn_end;
    loop_on_turn_end(l, &bl->hook);
    return true;
}

enum status broker_new(struct core *core, struct loop *const *loops, unsigned loops_len, const struct conf *conf,
                       struct broker **ret, struct err *err)
{
    struct broker *b = calloc(1, sizeof(*b) + loops_len * sizeof(b->loops[0]));
    if (b == NULL) {
        return err_set(err, ST_NOMEM, "no memory for the broker");
    }
    b->core = core;
    b->next_serial = 1;
    b->loops_len = loops_len;
    map_init(&b->tenants);
    map_init(&b->permits);
    read_settings(conf, &b->settings);
    bool ok = index_init(&b->index) && session_table_init(&b->sessions) && fans_init(b, &b->out, loops_len) &&
              feed_init(b) && mirror_init(b) &&
              match_cache_init(&b->cache, &b->index, loops_len, true, b->settings.match_cache);
    for (unsigned i = 0; ok && i < loops_len; i++) {
        ok = loop_init(b, i, loops[i]);
    }
    if (!ok) {
        broker_free(b);
        return err_set(err, ST_NOMEM, "no memory for the broker");
    }
    core_set_slot(core, CORE_SLOT_BROKER, b);
    *ret = b;
    return ST_OK;
}

void broker_release(struct broker *b)
{
    match_cache_release(&b->cache);
    for (unsigned i = 0; i < b->loops_len; i++) {
        match_cache_release(&b->loops[i].cache);
        replay_release(&b->loops[i]);
    }
    session_late_free(b);
    if (b->feeding != NULL) {
        feed_release(b);
    }
    change_release(b);
    session_table_release(&b->sessions);
}

static void tenants_release(struct broker *b)
{
    size_t pos = 0;
    struct tenant_state *t;
    while ((t = map_next(&b->tenants, &pos, NULL, NULL)) != NULL) {
        retained_free(t);
        free(t);
    }
    map_release(&b->tenants);
}

void broker_free(struct broker *b)
{
    if (b == NULL) {
        return;
    }
    broker_metrics_end(b);
    for (unsigned i = 0; i < b->loops_len; i++) {
        if (b->loops[i].broker != NULL) {
            batch_release(&b->loops[i]);
            fans_release(&b->loops[i]);
        }
    }
    if (b->out.broker != NULL) {
        fans_release(&b->out);
    }
    if (b->sessions.slots != NULL) {
        broker_release(b);
    }
    mirror_release(b);
    retained_forget_permits(b);
    map_release(&b->permits);
    tenants_release(b);
    index_release(&b->index);
    if (core_slot(b->core, CORE_SLOT_BROKER) == b) {
        core_set_slot(b->core, CORE_SLOT_BROKER, NULL);
    }
    free(b);
}

struct tenant_state *broker_tenant(struct broker *b, uint32_t tenant)
{
    struct tenant_state *t = map_get_u64(&b->tenants, tenant);
    if (t != NULL) {
        return t;
    }
    t = calloc(1, sizeof(*t));
    if (t == NULL || !tree_init(&t->retained_names)) {
        free(t);
        return NULL;
    }
    t->broker = b;
    t->tenant = tenant;
    if (!map_set_u64(&b->tenants, tenant, t)) {
        retained_free(t);
        free(t);
        return NULL;
    }
    return t;
}

struct broker_loop *broker_loop_of(struct broker *b, const struct loop *l)
{
    for (unsigned i = 0; i < b->loops_len; i++) {
        if (b->loops[i].loop == l) {
            return &b->loops[i];
        }
    }
    return NULL;
}

struct broker_loop *broker_loop(struct broker *b, const struct loop *l)
{
    return broker_loop_of(b, l);
}

void broker_loop_serve(struct broker_loop *bl, const struct broker_front *front)
{
    bl->front = *front;
}

// --- the start: what a former process has left -------------------------------------------------------------------

static enum status restart_rows(struct tx *tx, struct broker *b, struct err *err)
{
    enum status st = will_restart(tx, err); // before the sessions: it looks at their expiry
    if (st != ST_OK) {
        return st;
    }
    STMT(s, tx->db, &sql_broker_session[SQL_BROKER_SESSION_RESTART]);
    stmt_bind_i64(s, 1, tx->now_us);
    stmt_bind_i64(s, 2, b->settings.window);
    st = stmt_run(s, err);
    if (st != ST_OK) {
        return st;
    }
    st = st == ST_OK ? inbound_restart(tx, err) : st;
    STMT(rows, tx->db, &sql_broker_queue[SQL_BROKER_QUEUE_ROWS]);
    bool row = false;
    st = stmt_step(rows, &row, err);
    if (st == ST_OK) {
        b->next_session_row = col_i64(rows, 0) + 1;
        b->next_message_row = col_i64(rows, 1) + 1;
        b->next_retained_row = col_i64(rows, 2) + 1;
    }
    return st;
}

static enum status load_subs(struct tx *tx, struct broker_session *session, struct err *err)
{
    STMT(s, tx->db, &sql_broker_session[SQL_BROKER_SESSION_LOAD_SUBS]);
    stmt_bind_i64(s, 1, session->row);
    for (;;) {
        bool row = false;
        enum status st = stmt_step(s, &row, err);
        if (st != ST_OK || !row) {
            return st;
        }
        if (!subscribe_load(session->broker, session, col_text(s, 0), (unsigned)col_i64(s, 1),
                            (uint32_t)col_i64(s, 2))) {
            return err_set(err, ST_NOMEM, "no memory for the stored subscriptions");
        }
    }
}

static enum status load_session(struct tx *tx, struct broker *b, struct stmt *s, struct err *err)
{
    uint32_t tenant = (uint32_t)col_i64(s, 1);
    struct broker_session *session =
        broker_tenant(b, tenant) != NULL
            ? session_new(b, tenant, (uint8_t)col_i64(s, 3), (uint64_t)col_i64(s, 4), col_text(s, 2))
            : NULL;
    if (session == NULL) {
        return err_set(err, ST_NOMEM, "no memory for the stored sessions");
    }
    session->row = col_i64(s, 0);
    session->expiry_s = (uint32_t)col_i64(s, 5);
    session->expires_us = col_i64(s, 6);
    session->marks = (uint32_t)col_i64(s, 7);
    session_list(b, session);
    broker_session_unref(session);
    const struct queue_sum sum = {.len = (uint32_t)col_i64(s, 9),
                                  .bytes = (uint64_t)col_i64(s, 10),
                                  .last = (uint64_t)col_i64(s, 11),
                                  .sent = (uint64_t)col_i64(s, 8)};
    if (sum.len > 0 && queue_make(b, session, &sum) == NULL) {
        return err_set(err, ST_NOMEM, "no memory for the stored queues");
    }
    return load_subs(tx, session, err);
}

static enum status load_sessions(struct tx *tx, struct broker *b, struct err *err)
{
    STMT(s, tx->db, &sql_broker_session[SQL_BROKER_SESSION_LOAD]);
    for (;;) {
        bool row = false;
        enum status st = stmt_step(s, &row, err);
        if (st == ST_OK && row) {
            st = load_session(tx, b, s, err);
        }
        if (st != ST_OK || !row) {
            return st;
        }
    }
}

enum status broker_start(struct tx *tx, void *arg, struct err *err)
{
    struct broker *b = arg;
    enum status st = restart_rows(tx, b, err);
    if (st == ST_OK) {
        st = load_sessions(tx, b, err);
    }
    if (st == ST_OK) {
        st = retained_load(tx, err);
    }
    if (st != ST_OK) {
        return err_wrap(err, "cannot start the broker");
    }
    if (b->sessions.len > 0) {
        log_info("broker", "sessions loaded", LOGU("sessions", b->sessions.len),
                 LOGU("subscriptions", atomic_load(&b->index.subs)));
    }
    broker_metrics(b);
    tick_start(b);
    banned_start(b);
    return change_start(tx, err);
}

// --- publishing: I/O thread --------------------------------------------------------------------------------------

bool broker_topic_reserved(struct slice topic)
{
    return slice_starts(topic, SLICE("$")) || slice_starts(topic, SLICE("devices/"));
}

// One member of the group gets the message, in turn among those with room. A group with a durable member is the core's for QoS > 0.
static bool to_group(struct broker_loop *bl, struct match *m, struct match_group *g, struct message *msg)
{
    if (g->len == 0 || (g->durable && msg->qos > 0)) {
        return true;
    }
    for (uint32_t n = 0; n < g->len; n++) {
        uint32_t i = g->first + g->turn++ % g->len;
        if (!atomic_load_explicit(&m->targets[i].link->full, memory_order_relaxed)) {
            return fan_put(bl, m->targets[i].loop, msg, m, i);
        }
    }
    broker_count(COUNT_DROPPED_FULL, 1);
    return true;
}

static bool to_loops(struct broker_loop *bl, struct match *m, struct message *msg)
{
    bool ok = fan_put_all(bl, msg, m);
    for (uint32_t i = 0; i < m->groups_len && ok; i++) {
        ok = to_group(bl, m, &m->groups[i], msg);
    }
    return ok;
}

static enum status may_publish(struct broker_loop *bl, const struct broker_in *in, const struct match *m,
                               struct err *err)
{
    if (broker_topic_reserved(in->topic)) {
        return err_set(err, ST_FORBIDDEN, "nobody but the server publishes there");
    }
    struct grant g = match_grant(&bl->cache, m, in->session->serial, in->permit, in->topic);
    if (!g.publish) {
        return err_set(err, ST_FORBIDDEN, "no policy allows publishing there");
    }
    if (in->publish->retain && !g.retain) {
        return err_set(err, ST_FORBIDDEN, "no policy allows retained messages there");
    }
    return ST_OK;
}

// A QoS 2 message of a durable session goes to nobody before its packet id is kept: when its session is taken over meanwhile it
// comes again, by the other connection. The core sends it on.
static bool after_commit(const struct broker_in *in)
{
    return in->publish->qos == 2 && in->session->row != 0;
}

// Is it the core's to store something of this message?
static bool stored(const struct broker_in *in, const struct match *m)
{
    uint8_t qos = in->publish->qos;
    return in->publish->retain || (qos > 0 && m->durable) || after_commit(in);
}

static enum status publish(struct broker_loop *bl, const struct broker_in *in, struct match *m, bool store,
                           struct err *err)
{
    struct message *msg =
        message_new(in->session->tenant, in->session->serial, in->publish, in->topic, clock_wall_us());
    const struct broker_item item = {.msg = msg,
                                     .session = in->session,
                                     .conn = in->link->conn,
                                     .packet_id = in->publish->packet_id,
                                     .matched = m->wanted};
    if (msg == NULL || (store && !batch_put(bl, &item))) {
        message_unref(msg);
        return err_set(err, ST_NOMEM, "no memory for the message");
    }
    if (!after_commit(in) && !to_loops(bl, m, msg)) {
        log_error("broker", "no memory to deliver a message", LOGSL("topic", in->topic));
    }
    message_unref(msg);
    return ST_OK;
}

enum broker_went broker_publish(struct broker_loop *bl, const struct broker_in *in, bool *ret_matched,
                                enum status *ret_status, struct err *err)
{
    struct match *m = match_get(&bl->cache, in->session->tenant, in->topic);
    *ret_status = m == NULL ? err_set(err, ST_NOMEM, "no memory for the message") : may_publish(bl, in, m, err);
    if (*ret_status != ST_OK) {
        return BROKER_REFUSED;
    }
    bool store = stored(in, m);
    *ret_matched = m->wanted;
    if (m->all_len == 0 && !store) {
        return BROKER_DONE; // nobody is there
    }
    *ret_status = store && !batch_has_room(bl) ? err_set(err, ST_BUSY, "the store is behind; try again shortly")
                                               : publish(bl, in, m, store, err);
    if (*ret_status != ST_OK) {
        return BROKER_REFUSED;
    }
    return store && in->publish->qos > 0 ? BROKER_LATER : BROKER_DONE;
}

void broker_give_back(struct broker_loop *bl, struct message *msg, uint64_t share)
{
    const struct broker_item item = {.msg = msg, .share = share};
    if (!batch_put(bl, &item)) {
        log_error("broker", "no memory to give a message to another member of a shared subscription");
    }
    message_unref(msg);
}

// --- the server's own messages -----------------------------------------------------------------------------------

enum status broker_send(struct tx *tx, struct message *m, struct err *err)
{
    static const struct retained_by server = {.kind = WHO_SYSTEM};
    struct work *w = work_new(tx, err);
    enum status st = w == NULL ? ST_NOMEM : m->retain ? retained_set(tx, m, &server, err) : ST_OK;
    return st == ST_OK ? work_publish(tx, w, m, true, err) : st;
}
