#include "domain/broker/broker.h"

#include <assert.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "domain/broker/broker_priv.h"

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
    match_cache_sweep(&bl->cache);
}

static bool loop_init(struct broker *b, unsigned i, struct loop *l)
{
    struct broker_loop *bl = &b->loops[i];
    bl->broker = b;
    bl->loop = l;
    bl->at = i;
    bl->fans = calloc(b->loops_len, sizeof(struct fan *));
    if (bl->fans == NULL ||
        !match_cache_init(&bl->cache, &b->index, b->loops_len, false, b->settings.match_cache)) {
        return false;
    }
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
    read_settings(conf, &b->settings);
    bool ok = index_init(&b->index) && session_table_init(&b->sessions) &&
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

enum status broker_start(struct tx *tx, void *arg, struct err *err)
{
    (void)tx;
    (void)arg;
    (void)err;
    return ST_OK;
}

void broker_release(struct broker *b)
{
    match_cache_release(&b->cache);
    session_table_release(&b->sessions);
}

void broker_free(struct broker *b)
{
    if (b == NULL) {
        return;
    }
    for (unsigned i = 0; i < b->loops_len; i++) {
        struct broker_loop *bl = &b->loops[i];
        for (unsigned j = 0; bl->fans != NULL && j < b->loops_len; j++) {
            fan_free(bl->fans[j]);
        }
        free(bl->fans);
        match_cache_release(&bl->cache);
    }
    match_cache_release(&b->cache);
    session_table_release(&b->sessions);
    index_release(&b->index);
    if (core_slot(b->core, CORE_SLOT_BROKER) == b) {
        core_set_slot(b->core, CORE_SLOT_BROKER, NULL);
    }
    free(b);
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

// --- publishing: I/O thread --------------------------------------------------------------------------------------

// Topics of the server's own: nobody else publishes there.
static bool reserved(struct slice topic)
{
    return slice_starts(topic, SLICE("$")) || slice_starts(topic, SLICE("devices/"));
}

// One member of the group gets the message, in turn. A group with a durable member is the core's for QoS > 0.
static bool to_group(struct broker_loop *bl, struct match *m, struct match_group *g, struct message *msg)
{
    if (g->len == 0 || (g->durable && msg->qos > 0)) {
        return true;
    }
    uint32_t i = g->first + g->turn++ % g->len;
    return fan_put(bl, m->targets[i].loop, msg, m, i);
}

static bool to_loops(struct broker_loop *bl, struct match *m, struct message *msg)
{
    for (unsigned i = 0; i < bl->broker->loops_len; i++) {
        if (m->starts[i] < m->starts[i + 1] && !fan_put(bl, i, msg, m, FAN_ALL)) {
            return false;
        }
    }
    for (uint32_t i = 0; i < m->groups_len; i++) {
        if (!to_group(bl, m, &m->groups[i], msg)) {
            return false;
        }
    }
    return true;
}

static enum status may_publish(struct broker_loop *bl, const struct broker_in *in, const struct match *m,
                               struct err *err)
{
    if (reserved(in->topic)) {
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

enum broker_went broker_publish(struct broker_loop *bl, const struct broker_in *in, bool *ret_matched,
                                enum status *ret_status, struct err *err)
{
    struct match *m = match_get(&bl->cache, in->session->tenant, in->topic);
    *ret_status = m == NULL ? err_set(err, ST_NOMEM, "no memory for the message") : may_publish(bl, in, m, err);
    if (*ret_status != ST_OK) {
        return BROKER_REFUSED;
    }
    *ret_matched = m->wanted;
    if (m->all_len == 0) {
        return BROKER_DONE; // nobody is there
    }
    struct message *msg =
        message_new(in->session->tenant, in->session->serial, in->publish, in->topic, clock_wall_us());
    bool ok = msg != NULL && to_loops(bl, m, msg);
    message_unref(msg);
    if (!ok) {
        *ret_status = err_set(err, ST_NOMEM, "no memory for the message");
        return BROKER_REFUSED;
    }
    return BROKER_DONE;
}

size_t broker_pending(const struct broker_loop *bl)
{
    return (size_t)atomic_load_explicit(&bl->waiting, memory_order_relaxed) >> 10;
}
