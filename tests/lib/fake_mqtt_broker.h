// A broker and sessions that do what topics and filters say. A part of fake_mqtt.h, which includes it.
#ifndef TESTS_LIB_FAKE_MQTT_BROKER_H
#define TESTS_LIB_FAKE_MQTT_BROKER_H

// --- broker: the topic says what happens ---------------------------------------------------------------------------

#define FAKE_SESSIONS 8
#define FAKE_LATER    64
struct permit {
    int refs;
};
struct broker_session {
    int refs;
    bool durable, used;
    char client_id[64];
    uint32_t marks, expiry_s;
    uint64_t serial;
    uint16_t inbound[16];
    size_t inbound_len;
    struct link *link; // borrowed, for the tests
};
struct fake_settled {
    enum broker_settle what;
    uint64_t id;
    struct link *link; // one reference
};
struct fake_broker {
    struct broker_front front;
    struct broker_session *kept[FAKE_SESSIONS]; // durable ones; one reference each
    struct broker_session *last;                // borrowed: of the last open
    struct broker_open opened;                  // of the last open; slices are gone
    char will_topic[64], will_payload[64];
    uint32_t will_delay_s;
    uint64_t serials;
    unsigned opens, closes, wills;
    uint32_t close_expiry_s;
    struct broker_ack later[FAKE_LATER];
    size_t later_len;
    struct fake_settled settled[FAKE_LATER];
    size_t settled_len;
    char topic[64], payload[64], props[64]; // of the last publish
    uint8_t qos;
    bool retain;
    unsigned published, given_back, flushes;
    bool taken_over; // another connection has the session of whoever publishes
    char filter[64]; // of the last subscribe
    struct broker_sub sub;
    enum status sub_status, open_status;
    size_t pending;
    unsigned mores, slow_dropped;
    unsigned subscribe_runs, subscribe_more; // calls for one filter; how often "large" is not done
    unsigned subscribe_roomless;             // of the calls those with no room for retained messages meanwhile
    struct permit *permit;                   // of the last open, borrowed
    int permits;                             // references
};
static struct fake_broker fake_broker;

struct broker_loop *broker_loop(struct broker *b, const struct loop *l)
{
    (void)b;
    (void)l;
    return NULL;
}
void broker_loop_serve(struct broker_loop *bl, const struct broker_front *front)
{
    (void)bl;
    fake_broker.front = *front;
}
void broker_slow_dropped(struct broker_loop *bl, struct broker_session *s, struct link *link, struct slow *sl)
{
    (void)bl;
    (void)link;
    (void)s;
    sl->dropped++;
    fake_broker.slow_dropped++;
}
void broker_slow_room(struct broker_loop *bl, struct broker_session *s, struct link *link, struct slow *sl, bool ended)
{
    (void)bl;
    (void)s;
    (void)link;
    (void)ended;
    *sl = (struct slow){0};
}
void broker_more(struct broker_loop *bl, struct link *link)
{
    (void)bl;
    (void)link;
    fake_broker.mores++;
}
struct permit *permit_ref(struct permit *p)
{
    fake_broker.permits += p != NULL;
    return p;
}
void permit_unref(struct permit *p)
{
    static struct permit *const none = NULL;
    fake_broker.permits -= p != none;
}
bool permit_publish(const struct permit *p, struct slice topic)
{
    return p != NULL && !slice_starts(topic, SLICE("forbidden"));
}
bool permit_retain(const struct permit *p, struct slice topic)
{
    return permit_publish(p, topic) && !slice_starts(topic, SLICE("unretained"));
}
enum status policy_permit(struct tx *tx, const struct principal *who, struct slice client_id,
                          struct permit **ret_permit, struct err *err)
{
    static struct permit all;
    (void)tx;
    (void)who;
    (void)client_id;
    (void)err;
    *ret_permit = permit_ref(&all);
    return ST_OK;
}
struct broker_session *broker_session_ref(struct broker_session *s)
{
    s->refs++;
    return s;
}
void broker_session_unref(struct broker_session *s)
{
    if (s != NULL && --s->refs == 0) {
        free(s);
    }
}
uint64_t broker_session_serial(const struct broker_session *s)
{
    return s->serial;
}
bool broker_session_durable(const struct broker_session *s)
{
    return s->durable;
}
uint32_t broker_session_marks(const struct broker_session *s)
{
    return s->marks;
}
enum status broker_session_mark(struct tx *tx, struct broker_session *s, uint32_t marks, struct err *err)
{
    (void)tx;
    (void)err;
    s->marks = marks;
    return ST_OK;
}
static inline struct broker_session **fake_kept(struct slice client_id)
{
    struct broker_session **free_slot = NULL;
    for (unsigned i = 0; i < FAKE_SESSIONS; i++) {
        struct broker_session **k = &fake_broker.kept[i];
        if (*k != NULL && slice_eq_str(client_id, (*k)->client_id)) {
            return k;
        }
        free_slot = *k == NULL ? k : free_slot;
    }
    return free_slot;
}
static inline void fake_will(const struct broker_will *w)
{
    fake_broker.will_topic[0] = '\0';
    fake_broker.will_delay_s = w->delay_s;
    if (w->msg != NULL) {
        slice_to_cstr(message_topic(w->msg), fake_broker.will_topic, sizeof(fake_broker.will_topic));
        slice_to_cstr(message_payload(w->msg), fake_broker.will_payload, sizeof(fake_broker.will_payload));
        message_unref(w->msg);
    }
}
enum status broker_open(struct tx *tx, struct link *link, const struct broker_open *in,
                        struct broker_session **ret_session, bool *ret_present, uint32_t *ret_expiry_s,
                        uint16_t **ret_inbound, size_t *ret_inbound_len, struct err *err)
{
    fake_broker.opens++;
    fake_broker.opened = *in;
    fake_will(&in->will);
    if (fake_broker.open_status != ST_OK) {
        return err_set(err, fake_broker.open_status, "refused by the broker");
    }
    link_unref(tx->core->link);
    tx->core->link = link_ref(link);
    struct broker_session **kept = fake_kept(in->client_id);
    if (kept != NULL && *kept != NULL && in->clean_start) {
        broker_session_unref(*kept);
        *kept = NULL;
    }
    *ret_expiry_s = in->expiry_s > 3600 ? 3600 : in->expiry_s; // more is not granted
    *ret_present = kept != NULL && *kept != NULL;
    struct broker_session *s = *ret_present ? broker_session_ref(*kept) : calloc(1, sizeof(*s));
    if (!*ret_present) {
        s->refs = 1;
        s->serial = ++fake_broker.serials;
        slice_to_cstr(in->client_id, s->client_id, sizeof(s->client_id));
        if (in->expiry_s > 0 && kept != NULL) {
            *kept = broker_session_ref(s);
        }
    }
    s->durable = in->expiry_s > 0;
    s->link = link;
    *ret_inbound_len = s->inbound_len;
    *ret_inbound = s->inbound_len > 0 ? calloc(s->inbound_len, sizeof(**ret_inbound)) : NULL;
    for (size_t i = 0; i < s->inbound_len; i++) {
        (*ret_inbound)[i] = s->inbound[i];
    }
    fake_broker.last = s;
    *ret_session = s;
    return ST_OK;
}
enum status broker_close(struct tx *tx, struct broker_session *s, struct link *link, bool will, uint32_t expiry_s,
                         struct err *err)
{
    (void)tx;
    (void)s;
    (void)link;
    (void)err;
    fake_broker.closes++;
    fake_broker.wills += will;
    fake_broker.close_expiry_s = expiry_s;
    return ST_OK;
}
void broker_fetch_run(struct broker_fetch *f)
{
    f->state = FETCH_DONE;
}
void broker_fetch_end(struct broker_fetch *f)
{
    (void)f;
}
// "no/..." is not allowed, "quota" is too much, "broken" cannot be stored; everything else is granted.
enum status broker_subscribe(struct tx *tx, struct broker_session *s, const struct broker_sub *sub, uint8_t *ret_reason,
                             struct err *err)
{
    (void)tx;
    (void)s;
    fake_broker.sub = *sub;
    slice_to_cstr(sub->filter, fake_broker.filter, sizeof(fake_broker.filter));
    fake_broker.subscribe_runs++;
    fake_broker.subscribe_roomless += !fake_broker.front.has_room(fake_broker.front.arg, s->link);
    if (fake_broker.subscribe_more > 0 && slice_eq_str(sub->filter, "large")) {
        fake_broker.subscribe_more--;
        sub->fetch->state = FETCH_MORE;
        return ST_OK;
    }
    if (!broker_replay_room(s->link)) {
        sub->fetch->state = FETCH_WAIT;
        return ST_OK;
    }
    if (slice_eq_str(sub->filter, "changing") && !sub->fetch->catch_up) {
        sub->fetch->again = true;
    }
    *ret_reason = slice_starts(sub->filter, SLICE("no/")) ? MQTT_RC_NOT_AUTHORIZED
                  : slice_eq_str(sub->filter, "quota")    ? MQTT_RC_QUOTA
                                                          : sub->qos;
    return slice_eq_str(sub->filter, "broken") ? err_set(err, ST_FULL, "no space") : ST_OK;
}
enum status broker_unsubscribe(struct tx *tx, struct broker_session *s, struct slice filter, bool *ret_was,
                               struct err *err)
{
    (void)tx;
    (void)s;
    *ret_was = !slice_starts(filter, SLICE("no/"));
    return slice_eq_str(filter, "broken") ? err_set(err, ST_FULL, "no space") : ST_OK;
}
// "forbidden/...": refused; "nobody": no subscriber; "later/...": durable; else: connected subscribers only.
enum broker_went broker_publish(struct broker_loop *bl, const struct broker_in *in, bool *ret_matched,
                                enum status *ret_status, struct err *err)
{
    (void)bl;
    if (slice_starts(in->topic, SLICE("forbidden"))) {
        *ret_status = err_set(err, ST_FORBIDDEN, "not allowed");
        return BROKER_REFUSED;
    }
    fake_broker.published++;
    fake_broker.qos = in->publish->qos;
    fake_broker.retain = in->publish->retain;
    slice_to_cstr(in->topic, fake_broker.topic, sizeof(fake_broker.topic));
    slice_to_cstr(in->publish->payload, fake_broker.payload, sizeof(fake_broker.payload));
    *ret_matched = !slice_starts(in->topic, SLICE("nobody"));
    if (slice_starts(in->topic, SLICE("later")) && fake_broker.later_len < FAKE_LATER) {
        fake_broker.later[fake_broker.later_len++] =
            (struct broker_ack){in->link->conn, in->publish->packet_id, ST_OK, *ret_matched, in->publish->qos};
        return BROKER_LATER;
    }
    return BROKER_DONE;
}
size_t broker_pending(const struct broker_loop *bl)
{
    (void)bl;
    return fake_broker.pending;
}
void broker_settle(struct broker_loop *bl, struct broker_session *s, struct link *link, enum broker_settle what,
                   uint64_t seq_or_packet_id)
{
    (void)bl;
    (void)s;
    if (fake_broker.settled_len < FAKE_LATER) {
        fake_broker.settled[fake_broker.settled_len++] = (struct fake_settled){what, seq_or_packet_id, link_ref(link)};
    }
}
void broker_flush(struct broker_loop *bl)
{
    (void)bl;
    fake_broker.flushes++;
}
void broker_give_back(struct broker_loop *bl, struct message *msg, uint64_t share)
{
    (void)bl;
    (void)share;
    fake_broker.given_back++;
    message_unref(msg);
}
enum status broker_inbound_put(struct tx *tx, const struct broker_session *s, uint64_t conn, uint16_t packet_id,
                               bool staged, bool *ret_new, struct err *err)
{
    (void)tx;
    (void)conn;
    (void)err;
    (void)staged;
    *ret_new = !fake_broker.taken_over;
    struct broker_session *mine = fake_broker.last;
    if (*ret_new && mine == s && mine->inbound_len < 16) {
        mine->inbound[mine->inbound_len++] = packet_id;
    }
    return ST_OK;
}
// What was published to "later/..." is durable, or not; what was settled is durable.
static inline void fake_broker_commit(enum status s)
{
    struct fake_broker *b = &fake_broker;
    size_t n = b->later_len;
    b->later_len = 0;
    for (size_t i = 0; i < n; i++) {
        b->later[i].status = s;
    }
    if (n > 0) {
        b->front.on_acked(b->front.arg, b->later, n);
    }
    n = b->settled_len;
    b->settled_len = 0;
    for (size_t i = 0; i < n; i++) {
        struct fake_settled f = b->settled[i];
        if (f.what != SETTLE_DONE) {
            b->front.on_settled(b->front.arg, f.link, f.id, (int)f.what);
        }
        link_unref(f.link);
    }
}
static inline void fake_broker_reset(void)
{
    fake_broker_commit(ST_OK);
    for (unsigned i = 0; i < FAKE_SESSIONS; i++) {
        broker_session_unref(fake_broker.kept[i]);
    }
    fake_broker = (struct fake_broker){.front = fake_broker.front, .permits = fake_broker.permits};
}

#endif
