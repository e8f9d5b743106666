// MQTT 3.1.1 and 5.0 as far as a load needs it: what a client says and what it makes of the answers.
#include <string.h>

#include "load.h"

enum packet_type {
    CONNACK = 2,
    PUBLISH = 3,
    PUBACK = 4,
    PUBREC = 5,
    PUBREL = 6,
    PUBCOMP = 7,
    SUBACK = 9,
    PINGRESP = 13
};

static void put_u16(struct bytes *b, size_t n)
{
    uint8_t p[2] = {(uint8_t)(n >> 8), (uint8_t)n};
    bytes_put(b, p, 2);
}

static void put_text(struct bytes *b, const char *s)
{
    put_u16(b, strlen(s));
    bytes_put(b, s, strlen(s));
}

static void put_packet(struct bytes *b, uint8_t first, const struct bytes *body)
{
    uint8_t head[5] = {first};
    size_t n = body->len, i = 1;
    do {
        head[i++] = (uint8_t)((n & 127) | (n > 127 ? 128 : 0));
        n >>= 7;
    } while (n > 0 && i < sizeof(head));
    bytes_put(b, head, i);
    bytes_put(b, body->p, body->len);
}

// What changes from message to message in the default payload: digits that make the values plausible.
static void put_values(uint8_t *p, uint64_t seq)
{
    static const size_t at[2] = {24, 58};
    unsigned v[2] = {(unsigned)(seq % 997), (unsigned)(seq % 613)};
    for (int i = 0; i < 2; i++) {
        p[at[i]] = (uint8_t)('0' + v[i] / 100);
        p[at[i] + 2] = (uint8_t)('0' + v[i] / 10 % 10);
        p[at[i] + 3] = (uint8_t)('0' + v[i] % 10);
    }
}

// Right-aligned in 20 places; JSON allows the spaces.
static void put_number(uint8_t *p, uint64_t n)
{
    for (int i = 19; i >= 0; i--) {
        p[i] = n > 0 || i == 19 ? (uint8_t)('0' + n % 10) : ' ';
        n /= 10;
    }
}

static const char default_payload[] = "{\"temperature_celsius\":20.00,\"relative_humidity_percent\":40.00";
static const char seq_payload[] = "{\"seq\":                    ";
static const char stamp_payload[] = "{\"sent_ns\":                    ";

static const char *payload_text(const struct options *opt)
{
    return opt->stamp ? stamp_payload : opt->seq ? seq_payload : default_payload;
}

// Everything of a PUBLISH that stays the same is made once; the packet id and the payload's figures are filled in.
static void make_publish(struct load *l, struct client *c)
{
    char topic[NAME_MAX_BYTES];
    uint8_t payload[PAYLOAD_MAX];
    const char *text = payload_text(&l->opt);
    size_t n = strlen(text);
    if (!names_expand(l->opt.topic, c->index, topic, sizeof(topic))) {
        topic[0] = '\0';
    }
    memset(payload, n < l->opt.payload ? ' ' : 'x', sizeof(payload));
    if (n < l->opt.payload) {     // else it is no JSON, only bytes
        memcpy(payload, text, n); // NOLINT(bugprone-not-null-terminated-result): bytes of a packet
        payload[l->opt.payload - 1] = '}';
    }
    struct bytes body = {0}, whole = {0};
    put_text(&body, topic);
    size_t after_topic = body.len;
    if (l->opt.qos > 0) {
        put_u16(&body, 0);
    }
    if (l->opt.mqtt5) {
        bytes_put(&body, "", 1);
    }
    size_t payload_at = body.len;
    bytes_put(&body, payload, l->opt.payload);
    put_packet(&whole, (uint8_t)(PUBLISH << 4 | l->opt.qos << 1), &body);
    size_t head = whole.len - body.len;
    c->packet = whole.p;
    c->packet_len = whole.len;
    c->id_at = head + after_topic;
    c->payload_at = n < l->opt.payload ? head + payload_at : 0;
    bytes_clear(&body);
}

static void fill_in(struct load *l, struct client *c, unsigned slot, int64_t now)
{
    if (l->opt.qos > 0) {
        c->packet[c->id_at] = (uint8_t)((slot + 1) >> 8);
        c->packet[c->id_at + 1] = (uint8_t)(slot + 1);
    }
    if (c->payload_at == 0) {
        return;
    }
    uint8_t *p = c->packet + c->payload_at;
    if (l->opt.stamp) {
        put_number(p + 11, (uint64_t)now);
    } else if (l->opt.seq) {
        put_number(p + 7, c->seq);
    } else {
        put_values(p, c->seq);
    }
}

static bool may_publish(const struct load *l, const struct client *c)
{
    const struct options *o = &l->opt;
    if (o->messages > 0 && l->sent >= o->messages) {
        return false;
    }
    if (o->qos > 0) {
        return c->in_flight < o->window && l->out.len + c->packet_len < SCRATCH_BYTES;
    }
    return c->pending.len == 0 && l->out.len < FLOOD_BYTES;
}

uint64_t packets_publish(struct load *l, struct client *c, uint64_t budget)
{
    uint64_t n = 0;
    if (c->packet == NULL) {
        make_publish(l, c);
    }
    // One clock reading for a window: its messages leave in one write.
    int64_t now = n < budget && may_publish(l, c) ? load_now_ns() : 0;
    while (n < budget && may_publish(l, c)) {
        unsigned slot = c->next_slot;
        if (l->opt.qos > 0) {
            while (c->slots[slot].sent_ns != 0) {
                slot = (slot + 1) % l->opt.window;
            }
            c->slots[slot] = (struct slot){.seq = c->seq, .sent_ns = now};
            c->next_slot = (slot + 1) % l->opt.window;
            c->in_flight++;
        }
        fill_in(l, c, slot, now);
        bytes_put(&l->out, c->packet, c->packet_len);
        c->seq++;
        l->sent++;
        n++;
    }
    if (l->out.len > 0 || c->pending.len > 0) {
        client_flush(l, c);
    }
    return n;
}

void packets_connect(struct load *l, struct client *c)
{
    static const uint8_t keep_alive[2] = {0, 0};
    static const uint8_t no_properties[1] = {0}, expires[6] = {5, 0x11, 0, 0, 0x0e, 0x10}; // an hour
    struct bytes body = {0};
    put_text(&body, "MQTT");
    uint8_t version = l->opt.mqtt5 ? 5 : 4;
    uint8_t flags =
        (uint8_t)((l->opt.persistent ? 0 : 2) | (c->user != NULL ? 0x80 : 0) | (c->password != NULL ? 0x40 : 0));
    bytes_put(&body, &version, 1);
    bytes_put(&body, &flags, 1);
    bytes_put(&body, keep_alive, 2);
    if (l->opt.mqtt5 && l->opt.persistent) {
        bytes_put(&body, expires, sizeof(expires));
    } else if (l->opt.mqtt5) {
        bytes_put(&body, no_properties, 1);
    }
    put_text(&body, c->id);
    if (c->user != NULL) {
        put_text(&body, c->user);
    }
    if (c->password != NULL) {
        put_text(&body, c->password);
    }
    put_packet(&l->out, 0x10, &body);
    bytes_clear(&body);
}

static void subscribe(struct load *l, struct client *c)
{
    char filter[NAME_MAX_BYTES];
    struct bytes body = {0};
    uint8_t qos = (uint8_t)l->opt.sub_qos;
    put_u16(&body, 1);
    if (l->opt.mqtt5) {
        bytes_put(&body, "", 1);
    }
    put_text(&body, names_expand(l->opt.filter, c->index, filter, sizeof(filter)) ? filter : "");
    bytes_put(&body, &qos, 1);
    put_packet(&l->out, 0x82, &body);
    bytes_clear(&body);
    client_enter(l, c, CLIENT_SUBACK);
}

void packets_ping(struct load *l, struct client *c)
{
    static const uint8_t ping[2] = {0xc0, 0};
    bytes_put(&l->out, ping, sizeof(ping));
    client_flush(l, c);
}

static void answer(struct load *l, uint8_t first, const uint8_t id[2])
{
    uint8_t p[4] = {first, 2, id[0], id[1]};
    bytes_put(&l->out, p, sizeof(p));
}

// Each on_ function gets one packet without its header. False: the connection has ended.

static bool on_connack(struct load *l, struct client *c, uint8_t first, const uint8_t *p, size_t n)
{
    (void)first;
    if (n < 2 || p[1] != 0) {
        client_drop(l, c);
        return false;
    }
    l->connects++;
    c->met = true;
    histogram_add(&l->connect, load_now_ns() - c->start_ns);
    if (c->slots != NULL) {
        memset(c->slots, 0, l->opt.window * sizeof(*c->slots));
    }
    if (l->opt.resume && c->ssl != NULL) {
        tls_keep_session(c);
    }
    if (l->opt.cycles > 0) {
        client_cycle(l, c);
        return false;
    }
    if (c->subscriber) {
        subscribe(l, c);
    } else {
        client_enter(l, c, CLIENT_OPEN);
    }
    return true;
}

static bool on_suback(struct load *l, struct client *c, uint8_t first, const uint8_t *p, size_t n)
{
    (void)first;
    if (n < 3 || p[n - 1] >= 0x80) {
        fprintf(stderr, "%s: the subscription was refused with 0x%02x\n", c->id, n < 3 ? 0 : p[n - 1]);
        client_drop(l, c);
        return false;
    }
    client_enter(l, c, CLIENT_OPEN);
    return true;
}

// PUBACK and PUBCOMP: the message is through.
static bool on_done(struct load *l, struct client *c, uint8_t first, const uint8_t *p, size_t n)
{
    (void)first;
    unsigned slot = n < 2 ? l->opt.window : (unsigned)(p[0] << 8 | p[1]) - 1;
    if (c->slots == NULL || slot >= l->opt.window || c->slots[slot].sent_ns == 0) {
        return true; // of a message before the last connect
    }
    histogram_add(&l->ack, load_now_ns() - c->slots[slot].sent_ns);
    if (l->ledger != NULL) {
        fprintf(l->ledger, "%s %llu\n", c->id, (unsigned long long)c->slots[slot].seq);
    }
    c->slots[slot].sent_ns = 0;
    c->in_flight--;
    l->acked++;
    return true;
}

static bool on_pubrec(struct load *l, struct client *c, uint8_t first, const uint8_t *p, size_t n)
{
    (void)first;
    (void)c;
    if (n >= 2) {
        answer(l, 0x62, p);
    }
    return true;
}

static bool on_pubrel(struct load *l, struct client *c, uint8_t first, const uint8_t *p, size_t n)
{
    (void)first;
    (void)c;
    if (n >= 2) {
        answer(l, 0x70, p);
    }
    return true;
}

static int64_t read_number(const uint8_t *p)
{
    int64_t n = 0;
    for (int i = 0; i < 20; i++) {
        n = p[i] >= '0' && p[i] <= '9' ? n * 10 + p[i] - '0' : n;
    }
    return n;
}

static bool on_publish(struct load *l, struct client *c, uint8_t first, const uint8_t *p, size_t n)
{
    (void)c;
    unsigned qos = first >> 1 & 3;
    size_t at = n < 2 ? n : 2 + (size_t)(p[0] << 8 | p[1]);
    if (at + (qos > 0 ? 2U : 0U) > n) {
        return true;
    }
    if (qos > 0) {
        answer(l, qos == 1 ? 0x40 : 0x50, p + at);
        at += 2;
    }
    if (l->opt.mqtt5 && at < n) {
        at += 1 + (size_t)p[at]; // properties of less than 128 bytes
    }
    if (l->opt.stamp && at + sizeof(stamp_payload) <= n) {
        histogram_add(&l->delivery, load_now_ns() - read_number(p + at + 11));
    }
    l->received++;
    return true;
}

static bool on_pingresp(struct load *l, struct client *c, uint8_t first, const uint8_t *p, size_t n)
{
    (void)first;
    (void)p;
    (void)n;
    c->pinged = false;
    l->pongs++;
    return true;
}

static bool (*const on_packet[16])(struct load *, struct client *, uint8_t, const uint8_t *, size_t) = {
    [CONNACK] = on_connack, [PUBLISH] = on_publish, [PUBACK] = on_done,   [PUBREC] = on_pubrec,
    [PUBREL] = on_pubrel,   [PUBCOMP] = on_done,    [SUBACK] = on_suback, [PINGRESP] = on_pingresp,
};

// The length of the header at `p`, with the length of the rest; 0: not whole yet.
static size_t header(const uint8_t *p, size_t len, size_t *ret_rest)
{
    size_t rest = 0;
    for (size_t i = 1; i < len && i <= 4; i++) {
        rest |= (size_t)(p[i] & 127) << (7 * (i - 1));
        if (p[i] < 128) {
            *ret_rest = rest;
            return i + 1;
        }
    }
    return 0;
}

size_t packets_take(struct load *l, struct client *c, const uint8_t *in, size_t len)
{
    size_t at = 0, rest = 0;
    while (at < len) {
        size_t head = header(in + at, len - at, &rest);
        if (head == 0 || len - at - head < rest) {
            break;
        }
        uint8_t first = in[at];
        if (on_packet[first >> 4] != NULL && !on_packet[first >> 4](l, c, first, in + at + head, rest)) {
            return len;
        }
        at += head + rest;
    }
    return at;
}
