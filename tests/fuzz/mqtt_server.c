// A whole server and several of its clients at once, on loops that turn when the input says so: sessions that outlive
// connections, takeovers, QoS 2 both ways, subscriptions, retained messages, wills, WebSockets, MQTT 3.1, 3.1.1 and 5.
// The stores are real (in a folder of their own in memory), the network and the clock are not. What must hold:
//   * all the server says are packets a server may send, in the version that client speaks, the first of them CONNACK;
//   * it acknowledges only what it was sent, and once; it sends no more than the client's receive maximum and packet size allow;
//     a packet id is not used for two messages at a time; QoS 2 of one client reaches one session once;
//   * it comes to rest after every input; afterwards no connection is left.
//
// Input: steps of two bytes (what, which client) and what the step needs; see `steps`.
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../lib/turns.h"

#include "base/log.h"
#include "base/rand.h"
#include "base/reader.h"
#include "proto/mqtt.h"
#include "server/options.h"
#include "server/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CLIENTS   5
#define STEPS_MAX 400
#define IDS       65536

struct client {
    struct peer *peer;
    enum mqtt_version version;
    bool spoke, websocket; // spoke: CONNECT was sent; before that nothing of the version is known
    bool blurted;          // bytes before that, which may have been a CONNECT of any version
    bool connack;
    size_t read; // of peer->out
    uint16_t receive_max, in_flight;
    uint32_t packet_max;
    uint8_t owed[IDS / 8];   // packet ids the client sent and has no answer to
    uint8_t flying[IDS / 8]; // packet ids of the server's messages that the client has not settled
    uint16_t last_id;        // of the server's last message
    uint8_t last_qos;
};
struct world {
    struct client clients[CLIENTS];
    struct reader in;
    uint32_t serial; // payload of the next message
    bool retained;   // something may have been retained
};

static const char *const client_ids[] = {"a", "b", "c", ""};
static const char *const topics[] = {
    "t", "t/1", "t/1/x", "u", "$muster/telemetry", "$muster/event/e", "$SYS/x", "t//", "/", "$muster/twin/get"};
static const char *const filters[] = {
    "t", "t/#", "t/+", "#",  "+/+/x",     "$share/g/t/#", "$share/g/t", "$share/h/#", "$muster/twin/desired",
    "u", "+",   "/",   "t/", "$share//t", "$SYS/#",       "t/#/x"};

static void require(bool ok, const char *what)
{
    if (!ok) {
        fprintf(stderr, "fuzz: %s\n", what);
        abort();
    }
}

static void mark(uint8_t *set, uint16_t id, bool on)
{
    set[id / 8] = (uint8_t)(on ? set[id / 8] | 1u << id % 8 : set[id / 8] & ~(1u << id % 8));
}
static bool marked(const uint8_t *set, uint16_t id)
{
    return (set[id / 8] >> id % 8 & 1) != 0;
}

// --- the server ------------------------------------------------------------------------------------------------------

static const char *make_folder(void)
{
    static char dir[64];
    snprintf(dir, sizeof(dir), "%s/muster-fuzz-XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    require(mkdtemp(dir) != NULL, "a folder");
    return dir;
}

static void remove_folder(void);
static const char *folder;

// One server for all inputs: what one leaves behind would be found by the next.
static void start_server(void)
{
    static char data[128];
    static const char *overrides[] = {data,
                                      "listen.mqtts=off",
                                      "listen.https=off",
                                      "listen.mqtt=127.0.0.1:1",
                                      "listen.http=127.0.0.1:2",
                                      "server.io_threads=2",
                                      "server.reader_threads=1",
                                      "mqtt.connects_per_source=0",
                                      "mqtt.anonymous=everything",
                                      "mqtt.queue_max=50",
                                      "broker.queue_max=50",
                                      "broker.session_expiry_max=60s",
                                      "broker.will_delay_max=60s",
                                      "broker.match_cache=16",
                                      "log.level=error",
                                      NULL};
    folder = make_folder();
    atexit(remove_folder);
    snprintf(data, sizeof(data), "server.data=%s", folder);
    struct conf_module mods[SERVER_MODULES_MAX];
    size_t mods_len = server_modules(mods);
    struct buf problems = buf_heap(65536);
    struct conf *conf = NULL;
    static struct server *server;
    struct err err = {.code = ST_OK};
    turns_begin();
    log_setup(LOG_ERROR, LOG_LOGFMT, STDERR_FILENO);
    if (conf_load(mods, mods_len, NULL, overrides, &conf, &problems) != ST_OK) {
        fprintf(stderr, SLICE_FMT, SLICE_ARG(buf_view(&problems)));
        abort();
    }
    buf_release(&problems);
    if (server_new(conf, &server, &err) != ST_OK) {
        fprintf(stderr, "%s: %s\n", err.where, err.text);
        abort();
    }
    turns_run();
}

static void remove_folder(void)
{
    char command[160];
    snprintf(command, sizeof(command), "rm -rf '%s'", folder);
    if (system(command) != 0) {
        fprintf(stderr, "%s is left\n", folder);
    }
}

// A call of the operator's interface, at start only.
static void call(const char *method, const char *path, const char *body)
{
    char text[4096], token[200] = "", file[160];
    snprintf(file, sizeof(file), "%s/admin.token", folder);
    FILE *f = fopen(file, "r");
    require(f != NULL && fscanf(f, "%199s", token) == 1, "the first token");
    fclose(f);
    int n =
        snprintf(text, sizeof(text),
                 "%s %s HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\n"
                 "Content-Length: %zu\r\nConnection: close\r\n\r\n%s",
                 method, path, token, strlen(body), body);
    struct peer *p = turns_connect("http", 0);
    turns_input(p, slice_make((const uint8_t *)text, (size_t)n));
    turns_run();
    if (p->out.len < 12 || memcmp(p->out.p + 9, "201", 3) != 0) {
        fprintf(stderr, "%s %s: " SLICE_FMT "\n", method, path, SLICE_ARG(buf_view(&p->out)));
        abort();
    }
    turns_reset(p);
    turns_run();
    turns_forget(p);
}

// --- what the server says --------------------------------------------------------------------------------------------

static void on_server_publish(struct client *c, const struct mqtt_publish *m)
{
    if (m->qos == 0) {
        return;
    }
    bool again = marked(c->flying, m->packet_id);
    require(!again || m->dup, "a packet id is used for a second message while the first is not settled");
    c->in_flight = (uint16_t)(c->in_flight + !again);
    mark(c->flying, m->packet_id, true);
    require(c->version != MQTT_V5 || c->in_flight <= c->receive_max,
            "more in flight than the client's receive maximum");
    c->last_id = m->packet_id;
    c->last_qos = m->qos;
}

static void on_server_packet(struct client *c, const struct mqtt_packet *p)
{
    require(c->connack || p->type == MQTT_CONNACK || p->type == MQTT_AUTH || p->type == MQTT_DISCONNECT,
            "something before CONNACK");
    switch (p->type) {
    case MQTT_CONNACK:
        require(!c->connack, "a second CONNACK");
        c->connack = p->u.connack.reason == 0;
        break;
    case MQTT_PUBLISH:
        on_server_publish(c, &p->u.publish);
        break;
    case MQTT_PUBREL:
        c->last_id = p->u.ack.packet_id;
        break;
    case MQTT_PUBACK:
    case MQTT_SUBACK:
    case MQTT_UNSUBACK:
    case MQTT_PUBREC:
    case MQTT_PUBCOMP:
        require(marked(c->owed,
                       p->type == MQTT_SUBACK || p->type == MQTT_UNSUBACK ? p->u.suback.packet_id : p->u.ack.packet_id),
                "an acknowledgement of nothing");
        break;
    case MQTT_PINGRESP:
    case MQTT_DISCONNECT:
    case MQTT_AUTH:
        break;
    default:
        require(false, "a packet no server sends");
    }
}

// Decodes what has come since the last time.
static void listen(struct client *c)
{
    struct mqtt_limits limits = mqtt_limits_default;
    limits.packet_max = 1 << 20;
    if (c->peer == NULL || (c->websocket && c->peer->upgraded == 0)) {
        return;
    }
    if (c->read < c->peer->upgraded) {
        c->read = c->peer->upgraded;
    }
    while (c->read < c->peer->out.len) {
        struct slice out = slice_from(buf_view(&c->peer->out), c->read);
        struct mqtt_packet p;
        struct mqtt_error err = {0};
        size_t used = 0;
        bool whole = mqtt_decode(out, c->version, &limits, &p, &used, NULL, &err) == MQTT_DONE;
        if (!whole && !c->spoke) { // bytes of any version may have been a CONNECT; unknown ones are refused as in 3.1.1
            whole = mqtt_decode(out, MQTT_V311, &limits, &p, &used, NULL, &err) == MQTT_DONE;
        }
        require(whole, "what the server says is no packet");
        require(c->packet_max == 0 || used <= c->packet_max, "a packet larger than the client takes");
        on_server_packet(c, &p);
        c->read += used;
    }
}

// --- what clients say ------------------------------------------------------------------------------------------------

static void say(struct client *c, struct slice bytes)
{
    if (c->peer == NULL) {
        return;
    }
    if (!c->websocket || c->peer->upgraded == 0) {
        turns_input(c->peer, bytes);
        return;
    }
    struct buf frame = buf_heap(1 << 20);
    (void)buf_u8(&frame, 0x82);
    if (bytes.len < 126) {
        (void)buf_u8(&frame, (uint8_t)(0x80 | bytes.len));
    } else {
        (void)buf_u8(&frame, 0x80 | 126);
        (void)buf_u16(&frame, (uint16_t)bytes.len);
    }
    (void)buf_u32(&frame, 0); // a mask that changes nothing
    (void)buf_slice(&frame, bytes);
    turns_input(c->peer, buf_view(&frame));
    buf_release(&frame);
}

static void say_packet(struct client *c, uint8_t first, const struct buf *body)
{
    struct buf out = buf_heap(1 << 16);
    (void)buf_u8(&out, first);
    (void)buf_uvarint(&out, body->len);
    (void)buf_slice(&out, buf_view(body));
    say(c, buf_view(&out));
    buf_release(&out);
}

static void put_text(struct buf *b, const char *text)
{
    (void)buf_u16(b, (uint16_t)strlen(text));
    (void)buf_str(b, text);
}

static void put_props(struct buf *b, const struct client *c, const struct buf *props)
{
    if (c->version == MQTT_V5) {
        (void)buf_uvarint(b, props->len);
        (void)buf_slice(b, buf_view(props));
    }
}

static void hang_up(struct client *c)
{
    if (c->peer == NULL) {
        return;
    }
    turns_reset(c->peer);
    turns_run();
    require(c->peer->ended, "a connection outlives its peer");
    turns_forget(c->peer);
    *c = (struct client){0};
}

static void step_open(struct world *w, struct client *c, uint8_t arg)
{
    (void)w;
    hang_up(c);
    *c = (struct client){.version = MQTT_V5, .receive_max = UINT16_MAX, .websocket = arg % 4 == 0};
    c->peer = turns_connect(c->websocket ? "http" : "mqtt", arg / 4);
    if (c->websocket) {
        turns_input(c->peer,
                    SLICE("GET /mqtt HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                          "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
                          "Sec-WebSocket-Protocol: mqtt\r\n\r\n"));
        turns_run();
    }
}

static void put_connect_props(struct buf *props, struct client *c, uint8_t more)
{
    static const uint32_t expiries[] = {0, 5, 3600, UINT32_MAX};
    if (more % 4 != 0) {
        (void)buf_u8(props, 0x11);
        (void)buf_u32(props, expiries[more % 4]);
    }
    if ((more & 4) != 0) {
        c->receive_max = (uint16_t)(1 + (more >> 6));
        (void)buf_u8(props, 0x21);
        (void)buf_u16(props, c->receive_max);
    }
    if ((more & 8) != 0) {
        c->packet_max = 60;
        (void)buf_u8(props, 0x27);
        (void)buf_u32(props, c->packet_max);
    }
    if ((more & 16) != 0) {
        (void)buf_u8(props, 0x22);
        (void)buf_u16(props, 3);
    }
}

// Bits of `arg`: client id, version, clean start, will, will's QoS and retain.
static void step_connect(struct world *w, struct client *c, uint8_t arg)
{
    static const enum mqtt_version versions[] = {MQTT_V5, MQTT_V311, MQTT_V5, MQTT_V31};
    if (c->peer == NULL || c->spoke || c->blurted) {
        step_open(w, c, 1);
    }
    uint8_t flags = rd_u8(&w->in), more = rd_u8(&w->in);
    bool clean = (flags & 1) != 0, will = (flags & 2) != 0;
    w->retained = w->retained || (will && (flags & 0x20) != 0);
    c->version = versions[arg / 4 % 4];
    c->spoke = true;
    struct buf body = buf_heap(4096), props = buf_heap(1024);
    put_text(&body, c->version == MQTT_V31 ? "MQIsdp" : "MQTT");
    (void)buf_u8(&body, (uint8_t)c->version);
    (void)buf_u8(&body, (uint8_t)((clean ? 2 : 0) | (will ? 4 | (flags >> 2) % 3 << 3 | (flags & 0x20) : 0)));
    (void)buf_u16(&body, (flags & 0x40) != 0 ? 10 : 0);
    if (c->version == MQTT_V5) {
        put_connect_props(&props, c, more);
    }
    put_props(&body, c, &props);
    put_text(&body, client_ids[arg % 4]);
    if (will) {
        buf_clear(&props);
        if ((flags & 0x80) != 0) {
            (void)buf_u8(&props, 0x18);
            (void)buf_u32(&props, 2);
        }
        put_props(&body, c, &props);
        put_text(&body, topics[more % (sizeof(topics) / sizeof(topics[0]))]);
        put_text(&body, "will");
    }
    say_packet(c, 0x10, &body);
    buf_release(&body);
    buf_release(&props);
}

static void put_message_props(struct buf *props, uint8_t more)
{
    if ((more & 1) != 0) {
        (void)buf_u8(props, 0x02);
        (void)buf_u32(props, more & 2);
    }
    if ((more & 4) != 0) {
        (void)buf_u8(props, 0x23);
        (void)buf_u16(props, more >> 5);
    }
    if ((more & 8) != 0) {
        (void)buf_u8(props, 0x26);
        put_text(props, "k");
        put_text(props, "v");
    }
    if ((more & 16) != 0) {
        (void)buf_u8(props, 0x08);
        put_text(props, "t/answer");
    }
}

// Bits of `arg`: topic and QoS; the following bytes: packet id, flags and properties.
static void step_publish(struct world *w, struct client *c, uint8_t arg)
{
    uint8_t id = rd_u8(&w->in), flags = rd_u8(&w->in), qos = arg / 16 % 4;
    struct buf body = buf_heap(4096), props = buf_heap(1024);
    put_text(&body, (flags & 0x80) != 0 ? "" : topics[arg % 16 % (sizeof(topics) / sizeof(topics[0]))]);
    if (qos > 0) {
        (void)buf_u16(&body, id);
        mark(c->owed, id, true);
    }
    put_message_props(&props, flags);
    put_props(&body, c, &props);
    if ((flags & 0x40) == 0) {
        (void)buf_printf(&body, "{\"n\":%u}", ++w->serial);
    }
    w->retained = w->retained || (arg & 0x80) != 0;
    say_packet(c, (uint8_t)(0x30 | (arg & 0x80 ? 1 : 0) | qos << 1 | (flags & 0x20 ? 8 : 0)), &body);
    buf_release(&body);
    buf_release(&props);
}

static void step_subscribe(struct world *w, struct client *c, uint8_t arg)
{
    uint8_t options = rd_u8(&w->in);
    struct buf body = buf_heap(1024), props = buf_heap(64);
    (void)buf_u16(&body, 300 + arg);
    mark(c->owed, (uint16_t)(300 + arg), true);
    if ((options & 0x40) != 0) {
        (void)buf_u8(&props, 0x0b);
        (void)buf_uvarint(&props, options & 3);
    }
    put_props(&body, c, &props);
    for (unsigned i = 0; i <= arg / 128; i++) {
        put_text(&body, filters[(arg + i * 3) % (sizeof(filters) / sizeof(filters[0]))]);
        (void)buf_u8(&body, c->version == MQTT_V5 ? options & 0x3f : options & 3);
    }
    say_packet(c, 0x82, &body);
    buf_release(&body);
    buf_release(&props);
}

static void step_unsubscribe(struct world *w, struct client *c, uint8_t arg)
{
    (void)w;
    struct buf body = buf_heap(1024), none = buf_heap(1);
    (void)buf_u16(&body, 600);
    mark(c->owed, 600, true);
    put_props(&body, c, &none);
    put_text(&body, filters[arg % (sizeof(filters) / sizeof(filters[0]))]);
    say_packet(c, 0xa2, &body);
    buf_release(&body);
}

static void say_ack(struct client *c, enum mqtt_type type, uint16_t id, uint8_t reason)
{
    struct buf body = buf_heap(16);
    (void)buf_u16(&body, id);
    if (c->version == MQTT_V5 && reason != 0) {
        (void)buf_u8(&body, reason);
    }
    if (type == MQTT_PUBREL) {
        mark(c->owed, id, true);
    }
    if (type == MQTT_PUBACK || type == MQTT_PUBCOMP ||
        (type == MQTT_PUBREC && c->version == MQTT_V5 && reason >= 0x80)) {
        c->in_flight = (uint16_t)(c->in_flight - (marked(c->flying, id) ? 1 : 0));
        mark(c->flying, id, false);
    }
    say_packet(c, (uint8_t)(type << 4 | (type == MQTT_PUBREL ? 2 : 0)), &body);
    buf_release(&body);
}

// The fitting acknowledgement of the server's last message, or any other.
static void step_ack(struct world *w, struct client *c, uint8_t arg)
{
    static const enum mqtt_type types[] = {MQTT_PUBACK, MQTT_PUBREC, MQTT_PUBREL, MQTT_PUBCOMP};
    if (arg < 64) {
        say_ack(c,
                c->last_qos == 1 ? MQTT_PUBACK
                : arg % 2        ? MQTT_PUBREC
                                 : MQTT_PUBCOMP,
                c->last_id, arg == 63 ? 0x83 : 0);
    } else {
        say_ack(c, types[arg % 4], rd_u8(&w->in), arg >= 240 ? 0x92 : 0);
    }
}

static void step_goodbye(struct world *w, struct client *c, uint8_t arg)
{
    (void)w;
    struct buf body = buf_heap(64), props = buf_heap(32);
    if (c->version == MQTT_V5 && arg % 4 != 0) {
        (void)buf_u8(&body, arg % 4 == 1 ? 0x04 : 0);
        if (arg % 4 == 3) {
            (void)buf_u8(&props, 0x11);
            (void)buf_u32(&props, arg > 128 ? 3600 : 0);
        }
        put_props(&body, c, &props);
    }
    say_packet(c, 0xe0, &body);
    buf_release(&body);
    buf_release(&props);
}

static void step_bytes(struct world *w, struct client *c, uint8_t arg)
{
    size_t n = arg < reader_left(&w->in) ? arg : reader_left(&w->in);
    struct slice bytes = rd_bytes(&w->in, n);
    memset(c->owed, 0xff, sizeof(c->owed)); // whatever it says, these may be packets of ours
    if (!c->spoke) {
        c->version = MQTT_V5;
        c->receive_max = UINT16_MAX;
        c->blurted = true;
    }
    c->in_flight = 0; // and acknowledgements
    c->receive_max = UINT16_MAX;
    memset(c->flying, 0, sizeof(c->flying));
    if (arg % 2 && c->websocket && c->peer != NULL) {
        turns_input(c->peer, bytes); // as frames of its own making
    } else {
        say(c, bytes);
    }
}

static void step_ping(struct world *w, struct client *c, uint8_t arg)
{
    (void)w;
    struct buf none = buf_heap(1);
    say_packet(c, arg % 8 == 0 ? 0xf0 : 0xc0, &none);
}

static void step_end(struct world *w, struct client *c, uint8_t arg)
{
    (void)w;
    if (c->peer != NULL && arg % 2) {
        turns_eof(c->peer);
    } else {
        hang_up(c);
    }
}

static void step_wait(struct world *w, struct client *c, uint8_t arg)
{
    static const int64_t ms[] = {1, 100, 1000, 3000, 16000, 61000, 91000, 3700000};
    (void)w;
    (void)c;
    (arg % 8 < 4 ? turns_sleep : turns_jump)(ms[arg % 8]);
}

static void step_deaf(struct world *w, struct client *c, uint8_t arg)
{
    (void)w;
    if (c->peer != NULL) {
        c->peer->deaf = arg % 2;
    }
}

static void (*const steps[])(struct world *, struct client *, uint8_t) = {
    step_connect, step_publish, step_subscribe, step_ack,     step_publish, step_connect, step_ack,  step_end,
    step_bytes,   step_wait,    step_goodbye,   step_publish, step_open,    step_deaf,    step_ping, step_unsubscribe,
};

// --- one input -------------------------------------------------------------------------------------------------------

// As if nothing had happened, so that an input does alone what it does among others: sessions run out, wills are published, what
// was retained is deleted.
static void forget(struct world *w)
{
    struct client *c = &w->clients[0];
    turns_jump(130000);
    turns_sleep(3000);
    if (w->retained) {
        struct reader connect = reader_make(SLICE("\x01\x00"));
        w->in = connect;
        step_connect(w, c, 3);
        turns_run();
        for (uint8_t i = 0; i < sizeof(topics) / sizeof(topics[0]); i++) {
            w->in = reader_make(SLICE("\x00\x40"));
            step_publish(w, c, (uint8_t)(0x80 | i));
        }
        turns_run();
        hang_up(c);
    }
}

static void one_step(struct world *w)
{
    uint8_t what = rd_u8(&w->in), arg = rd_u8(&w->in);
    struct client *c = &w->clients[what / 16 % CLIENTS];
    steps[what % 16](w, c, arg);
    if ((what & 0x80) == 0) { // else the next step finds the server in the middle of it
        turns_run();
    }
    for (unsigned i = 0; i < CLIENTS; i++) {
        listen(&w->clients[i]);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct world w;
    if (folder == NULL) {
        start_server();
        call("POST", "/api/v1/policies",
             "{\"id\":\"everything\",\"document\":{\"statements\":[{\"effect\":\"allow\",\"actions\":[\"publish\","
             "\"subscribe\","
             "\"receive\",\"retain\"],\"topics\":[\"#\"]}]}}");
    }
    rand_seed(1);
    w = (struct world){.in = reader_make(slice_make(data, size))};
    for (unsigned i = 0; i < STEPS_MAX && reader_left(&w.in) >= 2; i++) {
        one_step(&w);
    }
    turns_run();
    for (unsigned i = 0; i < CLIENTS; i++) {
        listen(&w.clients[i]);
        hang_up(&w.clients[i]);
    }
    forget(&w);
    for (struct loop *l = turns.loops; l != NULL; l = l->next) {
        require(l->conns == NULL, "a connection is left");
    }
    return 0;
}
