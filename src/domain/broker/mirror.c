// Mirror topics: what devices say and how they are, for applications that watch: devices/{id}/telemetry, devices/{id}/twin,
// devices/{id}/presence, devices/{id}/event/{name}. Made of the core's events, and only while a subscription of the
// tenant can match them. Best effort up to here: a listener that is too slow loses events (counted); from the moment
// a message is made, it is one like any other of QoS 1.
#include <stdio.h>
#include <stdlib.h>

#include "base/json.h"
#include "base/log.h"
#include "domain/broker/broker_priv.h"

#define GATHER_MAX 4096 // messages that wait for the operation; further ones are lost and counted

static const struct {
    enum event_type type;
    const char *last; // level of the topic
} mirrors[] = {{EV_TELEMETRY, "telemetry"}, {EV_TWIN, "twin"}, {EV_PRESENCE, "presence"}, {EV_EVENT, "event"}};

// The operation that publishes what has gathered. Core thread.
struct mirror {
    struct op op; // first
    struct broker *broker;
    bool busy; // with the core
    struct message **messages;
    size_t len, taken, cap; // taken: by the operation
};

// --- a message of an event ---------------------------------------------------------------------------------------

// The member "name" of the event's object; p == NULL: none. Names of events need no escapes.
static struct slice event_name(const struct event *ev)
{
    struct json j;
    json_init(&j, slice_make(ev->json, ev->json_len), JSON_DEPTH_MAX);
    for (enum json_token t = json_next(&j); t != JT_ERROR && t != JT_END; t = json_next(&j)) {
        bool is_name = t == JT_KEY && j.depth == 1 && slice_eq_str(j.str, "name");
        if (is_name && json_next(&j) == JT_STRING && !j.escaped) {
            return j.str;
        }
    }
    return (struct slice){NULL, 0};
}

static bool topic_of(const struct event *ev, struct buf *topic)
{
    buf_printf(topic, "devices/%s/", ev->device_id);
    for (size_t i = 0; i < sizeof(mirrors) / sizeof(mirrors[0]); i++) {
        if (mirrors[i].type == ev->type) {
            buf_str(topic, mirrors[i].last);
        }
    }
    if (ev->type == EV_EVENT) {
        struct slice name = event_name(ev);
        buf_str(topic, "/");
        buf_slice(topic, name);
        return name.len > 0 && !topic->failed;
    }
    return !topic->failed;
}

static struct message *message_of(const struct event *ev)
{
    // Payload format: UTF-8; content type: JSON (MQTT 5.0 sections 3.3.2.3.2 and 3.3.2.3.9).
    static const struct slice props = {(const uint8_t *)"\x01\x01\x03\x00\x10"
                                                        "application/json",
                                       21};
    char mem[1024];
    struct buf topic = buf_fixed(mem, sizeof(mem));
    if (!topic_of(ev, &topic)) {
        return NULL;
    }
    struct message_parts parts = {.tenant = ev->tenant,
                                  .qos = 1,
                                  .topic = buf_view(&topic),
                                  .props = props,
                                  .payload = slice_make(ev->json, ev->json_len)};
    return message_stored(&parts);
}

// --- publishing --------------------------------------------------------------------------------------------------

static enum status mirror_run(struct tx *tx, struct op *op, struct err *err)
{
    struct mirror *m = (struct mirror *)op;
    struct work *w = work_new(tx, err);
    enum status st = w != NULL ? ST_OK : ST_NOMEM;
    m->taken = m->len;
    for (size_t i = 0; i < m->taken && st == ST_OK; i++) {
        st = work_publish(tx, w, m->messages[i], true, err);
    }
    return st;
}

static void mirror_submit(struct mirror *m);

static void mirror_done(struct op *op)
{
    struct mirror *m = (struct mirror *)op;
    m->busy = false;
    if (op->status != ST_OK) {
        m->taken = m->taken > 0 ? m->taken : m->len;
        broker_count(COUNT_MIRROR_LOST, (int64_t)m->taken);
        log_warn("broker", "mirrored messages are lost", LOGU("messages", m->taken), LOGS("error", op->err.text));
    }
    for (size_t i = 0; i < m->taken; i++) {
        message_unref(m->messages[i]);
    }
    for (size_t i = m->taken; i < m->len; i++) {
        m->messages[i - m->taken] = m->messages[i];
    }
    m->len -= m->taken;
    m->taken = 0;
    if (m->len > 0 && op->status != ST_SHUTDOWN) {
        mirror_submit(m);
    }
}

static void mirror_submit(struct mirror *m)
{
    m->busy = true;
    m->op = (struct op){
        .run = mirror_run, .done = mirror_done, .reply_to = core_loop(m->broker->core), .name = "broker.mirror"};
    core_submit(m->broker->core, &m->op);
}

static bool room(struct mirror *m)
{
    if (m->len < m->cap) {
        return true;
    }
    size_t cap = m->cap > 0 ? m->cap * 2 : 64;
    struct message **more = cap <= GATHER_MAX ? reallocarray(m->messages, cap, sizeof(struct message *)) : NULL;
    if (more == NULL) {
        return false;
    }
    m->messages = more;
    m->cap = cap;
    return true;
}

static void on_event(void *arg, const struct event *ev)
{
    struct mirror *m = ((struct tenant_state *)arg)->broker->mirror;
    struct message *msg = room(m) ? message_of(ev) : NULL;
    if (msg == NULL) {
        broker_count(COUNT_MIRROR_LOST, 1);
        return;
    }
    m->messages[m->len++] = msg;
    if (!m->busy) {
        mirror_submit(m);
    }
}

static void on_gap(void *arg)
{
    (void)arg;
    broker_count(COUNT_MIRROR_LOST, 1);
}

// --- who listens -------------------------------------------------------------------------------------------------

void mirror_look(struct broker *b, uint32_t tenant)
{
    bool wanted = index_mirrors(&b->index, tenant) > 0;
    struct tenant_state *t = map_get_u64(&b->tenants, tenant);
    if (t == NULL || wanted == (t->listening != NULL)) {
        return;
    }
    if (!wanted) {
        events_unlisten(t->listening);
        t->listening = NULL;
        return;
    }
    struct events_filter f = {.tenant = tenant};
    for (size_t i = 0; i < sizeof(mirrors) / sizeof(mirrors[0]); i++) {
        f.types |= 1U << mirrors[i].type;
    }
    t->listening = events_listen(core_events(b->core), core_loop(b->core), &f, SLICE(""), on_event, on_gap, t);
    if (t->listening == NULL) {
        log_error("broker", "no memory to mirror what devices say");
    }
}

bool mirror_init(struct broker *b)
{
    b->mirror = calloc(1, sizeof(*b->mirror));
    if (b->mirror != NULL) {
        b->mirror->broker = b;
    }
    return b->mirror != NULL;
}

void mirror_release(struct broker *b)
{
    struct mirror *m = b->mirror;
    for (size_t i = 0; m != NULL && i < m->len; i++) {
        message_unref(m->messages[i]);
    }
    if (m != NULL) {
        free(m->messages);
    }
    free(m);
    b->mirror = NULL;
}
