#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "lib/fake_broker.h"
#include "sdk/client.h"

#define ACKS_MAX 64

struct seen {
    struct muster_change change; // the last one
    char text[160];
    unsigned changes, desired, twins, commands, provisioned;
    struct muster_ack acks[ACKS_MAX];
    unsigned acks_len;
    int64_t version;
    char json[256], name[64], id[64], device[64];
    bool ok;
};
struct world {
    struct fake_broker broker;
    struct seen seen;
    struct muster *m;
    _Alignas(max_align_t) uint8_t memory[32 * 1024];
};

static void copy(char *dst, size_t size, struct muster_text t)
{
    assert_true(t.len < size);
    memcpy(dst, t.p, t.len);
    dst[t.len] = '\0';
}
static void on_state(void *user, const struct muster_change *c)
{
    struct seen *s = &((struct world *)user)->seen;
    s->change = *c;
    s->changes++;
    snprintf(s->text, sizeof(s->text), "%s", c->text);
}
static void on_acked(void *user, const struct muster_ack *a)
{
    struct seen *s = &((struct world *)user)->seen;
    assert_true(s->acks_len < ACKS_MAX);
    s->acks[s->acks_len++] = *a;
}
static void on_desired(void *user, const struct muster_desired *d)
{
    struct seen *s = &((struct world *)user)->seen;
    s->desired++;
    s->version = d->version;
    copy(s->json, sizeof(s->json), d->desired);
}
static void on_twin(void *user, const struct muster_desired *d)
{
    struct seen *s = &((struct world *)user)->seen;
    s->twins++;
    copy(s->json, sizeof(s->json), d->reported);
}
static void on_command(void *user, const struct muster_command *c)
{
    struct world *w = user;
    w->seen.commands++;
    copy(w->seen.name, sizeof(w->seen.name), c->name);
    copy(w->seen.id, sizeof(w->seen.id), c->id);
    copy(w->seen.json, sizeof(w->seen.json), c->payload);
    assert_int_equal(muster_command_reply(w->m, c->id, "{}", 2, 0), MUSTER_OK);
    assert_int_equal(muster_step(w->m), 0); // not allowed in a callback, and harmless
}
static void on_provisioned(void *user, const struct muster_provisioned *p)
{
    struct seen *s = &((struct world *)user)->seen;
    s->provisioned++;
    s->ok = p->ok;
    if (p->ok) {
        assert_int_equal(muster_json_text(p->device, s->device, sizeof(s->device)), MUSTER_OK);
        assert_int_equal(muster_json_text(p->certificate, s->json, sizeof(s->json)), MUSTER_OK);
    } else {
        assert_int_equal(muster_json_text(p->code, s->name, sizeof(s->name)), MUSTER_OK);
        assert_int_equal(muster_json_text(p->detail, s->json, sizeof(s->json)), MUSTER_OK);
    }
}

static struct muster_config config_of(struct world *w, unsigned protocol, enum muster_role role)
{
    struct muster_config c = {.role = role,
                              .protocol = protocol,
                              .client_id = "dev",
                              .username = "dev",
                              .password = "secret",
                              .window = 4,
                              .tx_bytes = 512,
                              .rx_bytes = 1024,
                              .store_bytes = 1024,
                              .keep_alive_s = 30,
                              .user = w};
    c.callbacks = (struct muster_callbacks){on_state, on_acked, on_desired, on_twin, on_command, on_provisioned};
    c.transport = fb_init(&w->broker, protocol == 4 ? MQTT_V311 : MQTT_V5);
    return c;
}

static struct world *world_new(unsigned protocol, enum muster_role role)
{
    struct world *w = calloc(1, sizeof(*w));
    assert_non_null(w);
    struct muster_config c = config_of(w, protocol, role);
    assert_int_equal(muster_init(w->memory, sizeof(w->memory), &c, &w->m), MUSTER_OK);
    return w;
}

static struct mqtt_packet expect(struct world *w, enum mqtt_type type)
{
    struct mqtt_packet p = {.type = 0};
    assert_true(fb_recv(&w->broker, &p));
    assert_int_equal(p.type, type);
    return p;
}

static void expect_nothing(struct world *w)
{
    struct mqtt_packet p;
    assert_false(fb_recv(&w->broker, &p));
}

// From idle or waiting to online; returns the CONNECT.
static struct mqtt_connect go_online(struct world *w)
{
    if (muster_state(w->m) == MUSTER_IDLE) {
        assert_int_equal(muster_start(w->m), MUSTER_OK);
    }
    muster_step(w->m);
    struct mqtt_connect connect = expect(w, MQTT_CONNECT).u.connect;
    fb_connack(&w->broker, 0);
    muster_step(w->m);
    struct mqtt_packet sub = expect(w, MQTT_SUBSCRIBE);
    fb_suback(&w->broker, sub.u.subscribe.packet_id, sub.u.subscribe.count, 1);
    muster_step(w->m);
    assert_int_equal(muster_state(w->m), MUSTER_ONLINE);
    return connect;
}

static void lose(struct world *w)
{
    w->broker.closed = true;
    muster_step(w->m);
    assert_int_equal(muster_state(w->m), MUSTER_WAITING);
    w->broker.now_ms += w->seen.change.retry_ms;
}

static void send_text(struct world *w, const char *json, uint64_t cookie)
{
    assert_int_equal(muster_send_telemetry(w->m, json, strlen(json), false, cookie), MUSTER_OK);
}

// ---- The table ------------------------------------------------------------------------------------------------------

static void table_is_what_the_drawing_says(void **state)
{
    (void)state;
    static const struct {
        enum muster_state from;
        enum client_event ev;
        enum muster_state to;
    } moves[] = {
        {MUSTER_IDLE, EV_START, MUSTER_OPENING},          {MUSTER_OPENING, EV_STOP, MUSTER_IDLE},
        {MUSTER_OPENING, EV_OPENED, MUSTER_CONNECTING},   {MUSTER_OPENING, EV_FAILED, MUSTER_WAITING},
        {MUSTER_CONNECTING, EV_STOP, MUSTER_IDLE},        {MUSTER_CONNECTING, EV_CONNACK, MUSTER_SUBSCRIBING},
        {MUSTER_CONNECTING, EV_FAILED, MUSTER_WAITING},   {MUSTER_SUBSCRIBING, EV_STOP, MUSTER_CLOSING},
        {MUSTER_SUBSCRIBING, EV_SUBACKED, MUSTER_ONLINE}, {MUSTER_SUBSCRIBING, EV_FAILED, MUSTER_WAITING},
        {MUSTER_ONLINE, EV_STOP, MUSTER_CLOSING},         {MUSTER_ONLINE, EV_FAILED, MUSTER_WAITING},
        {MUSTER_WAITING, EV_STOP, MUSTER_IDLE},           {MUSTER_WAITING, EV_RETRY, MUSTER_OPENING},
        {MUSTER_CLOSING, EV_FAILED, MUSTER_IDLE},         {MUSTER_CLOSING, EV_DRAINED, MUSTER_IDLE},
    };
    for (unsigned s = 0; s < MUSTER_STATES; s++) {
        for (unsigned e = 0; e < EV__COUNT; e++) {
            enum muster_state to = (enum muster_state)s;
            for (size_t i = 0; i < sizeof(moves) / sizeof(moves[0]); i++) {
                to = moves[i].from == s && moves[i].ev == e ? moves[i].to : to;
            }
            assert_int_equal(client_moves[s][e].next, to);
            assert_true((client_moves[s][e].act != NULL) == (to != s));
        }
    }
}

// ---- Connecting -----------------------------------------------------------------------------------------------------

static void connects(void **state)
{
    static const unsigned protocols[] = {4, 5};
    static const size_t chunks[] = {0, 1, 7};
    (void)state;
    for (size_t i = 0; i < 6; i++) {
        struct world *w = world_new(protocols[i % 2], MUSTER_DEVICE);
        assert_int_equal(muster_start(w->m), MUSTER_OK);
        assert_int_equal(muster_start(w->m), MUSTER_E_STATE);
        w->broker.chunk = chunks[i / 2];
        w->broker.open_result = MUSTER_E_STATE;
        muster_step(w->m);
        assert_int_equal(muster_state(w->m), MUSTER_OPENING);
        w->broker.open_result = MUSTER_OK;
        muster_step(w->m);
        struct mqtt_connect c = expect(w, MQTT_CONNECT).u.connect;
        assert_true(slice_eq_str(c.client_id, "dev") && slice_eq_str(c.username, "dev") &&
                    slice_eq_str(c.password, "secret"));
        assert_true(c.clean_start);
        assert_int_equal(c.keep_alive_s, 30);
        assert_int_equal(c.version, protocols[i % 2] == 4 ? MQTT_V311 : MQTT_V5);
        fb_connack(&w->broker, 0);
        muster_step(w->m);
        while (muster_state(w->m) == MUSTER_CONNECTING) {
            muster_step(w->m);
        }
        struct mqtt_packet sub = expect(w, MQTT_SUBSCRIBE);
        assert_int_equal(sub.u.subscribe.count, 4);
        fb_suback(&w->broker, sub.u.subscribe.packet_id, 4, 1);
        for (int n = 0; n < 20; n++) {
            muster_step(w->m);
        }
        assert_int_equal(muster_state(w->m), MUSTER_ONLINE);
        free(w);
    }
}

static void claim_subscribes_to_answers_only(void **state)
{
    (void)state;
    struct world *w = world_new(5, MUSTER_CLAIM);
    muster_start(w->m);
    muster_step(w->m);
    expect(w, MQTT_CONNECT);
    fb_connack(&w->broker, 0);
    muster_step(w->m);
    struct mqtt_packet sub = expect(w, MQTT_SUBSCRIBE);
    size_t pos = 0;
    struct mqtt_filter f;
    assert_int_equal(sub.u.subscribe.count, 1);
    assert_true(mqtt_filter_next(&sub, MQTT_V5, &pos, &f));
    assert_true(slice_eq_str(f.filter, "$muster/provision/response"));
    assert_int_equal(muster_report(w->m, "{}", 2, 0), MUSTER_E_STATE);
    free(w);
}

static void refusals_carry_their_reason(void **state)
{
    (void)state;
    struct world *w = world_new(4, MUSTER_DEVICE);
    muster_start(w->m);
    muster_step(w->m);
    fb_connack(&w->broker, 5); // 3.1.1: not authorised
    muster_step(w->m);
    assert_int_equal(w->seen.change.to, MUSTER_WAITING);
    assert_int_equal(w->seen.change.reason, MQTT_RC_NOT_AUTHORIZED);
    assert_string_equal(w->seen.text, "not authorised");
    free(w);

    w = world_new(5, MUSTER_DEVICE);
    muster_start(w->m);
    muster_step(w->m);
    struct mqtt_packet p = {.type = MQTT_CONNACK};
    p.u.connack.reason = MQTT_RC_BANNED;
    p.u.connack.props.present = MQTT_P_REASON_STRING;
    p.u.connack.props.reason_string = slice_str("go away");
    fb_send(&w->broker, &p);
    muster_step(w->m);
    assert_int_equal(w->seen.change.reason, MQTT_RC_BANNED);
    assert_string_equal(w->seen.text, "go away");
    free(w);

    w = world_new(5, MUSTER_DEVICE);
    muster_start(w->m);
    muster_step(w->m);
    expect(w, MQTT_CONNECT);
    fb_connack(&w->broker, 0);
    muster_step(w->m);
    struct mqtt_packet sub = expect(w, MQTT_SUBSCRIBE);
    fb_suback(&w->broker, sub.u.subscribe.packet_id, sub.u.subscribe.count, MQTT_RC_NOT_AUTHORIZED);
    muster_step(w->m);
    assert_int_equal(muster_state(w->m), MUSTER_WAITING);
    assert_string_equal(w->seen.text, "the server refused a subscription");
    free(w);
}

static void pauses_are_jittered_and_bounded(void **state)
{
    (void)state;
    struct world *w = world_new(5, MUSTER_DEVICE);
    w->broker.open_result = MUSTER_E_IO;
    w->broker.random = UINT32_MAX;
    muster_start(w->m);
    uint32_t bound = 1000;
    for (int i = 0; i < 12; i++) {
        muster_step(w->m);
        assert_int_equal(muster_state(w->m), MUSTER_WAITING);
        assert_int_equal(w->seen.change.retry_ms, bound);
        unsigned opens = w->broker.opens;
        w->broker.now_ms += bound - 1;
        assert_int_equal(muster_step(w->m), 1);
        assert_int_equal(w->broker.opens, opens);
        w->broker.now_ms += 1;
        bound = bound * 2 > 300000 ? 300000 : bound * 2;
    }
    w->broker.random = 0;
    muster_step(w->m);
    assert_int_equal(w->seen.change.retry_ms, 0);
    // A connection that lasted makes the pause short again; one that did not, does not.
    w->broker.open_result = MUSTER_OK;
    w->broker.random = UINT32_MAX;
    go_online(w);
    lose(w);
    assert_int_equal(w->seen.change.retry_ms, 300000);
    go_online(w);
    w->broker.now_ms += 10000;
    lose(w);
    assert_int_equal(w->seen.change.retry_ms, 1000);
    free(w);
}

static void gives_up_on_a_silent_server(void **state)
{
    (void)state;
    struct world *w = world_new(5, MUSTER_DEVICE);
    muster_start(w->m);
    muster_step(w->m);
    assert_int_equal(muster_state(w->m), MUSTER_CONNECTING);
    w->broker.now_ms += 20000;
    muster_step(w->m);
    assert_int_equal(muster_state(w->m), MUSTER_WAITING);
    assert_string_equal(w->seen.text, "the server did not answer in time");
    free(w);
}

static void keeps_alive(void **state)
{
    (void)state;
    struct world *w = world_new(5, MUSTER_DEVICE);
    go_online(w);
    assert_int_equal(muster_step(w->m), 30000);
    w->broker.now_ms += 29999;
    muster_step(w->m);
    expect_nothing(w);
    w->broker.now_ms += 1;
    muster_step(w->m);
    expect(w, MQTT_PINGREQ);
    struct mqtt_packet pong = {.type = MQTT_PINGRESP};
    fb_send(&w->broker, &pong);
    muster_step(w->m);
    // Publishing alone does not prove that anybody listens.
    w->broker.now_ms += 15000;
    send_text(w, "{\"a\":1}", 0);
    muster_step(w->m);
    expect(w, MQTT_PUBLISH);
    w->broker.now_ms += 15000;
    send_text(w, "{\"a\":1}", 0);
    muster_step(w->m);
    expect(w, MQTT_PINGREQ);
    expect(w, MQTT_PUBLISH);
    w->broker.now_ms += 15000;
    muster_step(w->m);
    assert_int_equal(muster_state(w->m), MUSTER_WAITING);
    assert_string_equal(w->seen.text, "the server did not answer a ping");
    free(w);
}

// ---- Messages -------------------------------------------------------------------------------------------------------

static void acknowledges_with_cookie(void **state)
{
    (void)state;
    struct world *w = world_new(5, MUSTER_DEVICE);
    go_online(w);
    send_text(w, "{\"a\":1}", 11);
    send_text(w, "{\"a\":2}", 0);
    send_text(w, "{\"a\":3}", 13);
    muster_step(w->m);
    struct mqtt_publish p = expect(w, MQTT_PUBLISH).u.publish;
    assert_true(slice_eq_str(p.topic, "$muster/telemetry") && slice_eq_str(p.payload, "{\"a\":1}"));
    assert_true(p.qos == 1 && !p.dup && !p.retain);
    fb_puback(&w->broker, p.packet_id, 0);
    p = expect(w, MQTT_PUBLISH).u.publish;
    fb_puback(&w->broker, p.packet_id, 0);
    p = expect(w, MQTT_PUBLISH).u.publish;
    fb_puback(&w->broker, p.packet_id, MQTT_RC_QUOTA);
    fb_puback(&w->broker, 999, 0); // nobody asked
    assert_int_equal(muster_pending(w->m), 3);
    muster_step(w->m);
    assert_int_equal(w->seen.acks_len, 2);
    assert_true(w->seen.acks[0].cookie == 11 && w->seen.acks[0].stored);
    assert_true(w->seen.acks[1].cookie == 13 && !w->seen.acks[1].stored && w->seen.acks[1].reason == MQTT_RC_QUOTA);
    assert_int_equal(muster_pending(w->m), 0);
    free(w);
}

static void sends_again_in_order_with_dup(void **state)
{
    (void)state;
    struct world *w = world_new(5, MUSTER_DEVICE);
    go_online(w);
    send_text(w, "{\"a\":1}", 1);
    send_text(w, "{\"a\":2}", 2);
    send_text(w, "{\"a\":3}", 3);
    muster_step(w->m);
    expect(w, MQTT_PUBLISH);
    struct mqtt_publish second = expect(w, MQTT_PUBLISH).u.publish;
    expect(w, MQTT_PUBLISH);
    fb_puback(&w->broker, second.packet_id, 0); // out of order
    muster_step(w->m);
    lose(w);
    send_text(w, "{\"a\":4}", 4); // while offline
    struct mqtt_connect c = go_online(w);
    assert_false(c.clean_start);
    struct mqtt_publish p = expect(w, MQTT_PUBLISH).u.publish;
    assert_true(p.dup && slice_eq_str(p.payload, "{\"a\":1}"));
    p = expect(w, MQTT_PUBLISH).u.publish;
    assert_true(p.dup && slice_eq_str(p.payload, "{\"a\":3}"));
    p = expect(w, MQTT_PUBLISH).u.publish;
    assert_true(!p.dup && slice_eq_str(p.payload, "{\"a\":4}"));
    expect_nothing(w);
    free(w);
}

static void respects_limits_of_both_sides(void **state)
{
    (void)state;
    struct world *w = world_new(5, MUSTER_DEVICE);
    muster_start(w->m);
    muster_step(w->m);
    expect(w, MQTT_CONNECT);
    struct mqtt_packet ack = {.type = MQTT_CONNACK};
    ack.u.connack.props.present = MQTT_P_RECEIVE_MAX | MQTT_P_MAX_PACKET;
    ack.u.connack.props.receive_max = 2;
    ack.u.connack.props.max_packet = 60;
    fb_send(&w->broker, &ack);
    muster_step(w->m);
    struct mqtt_packet sub = expect(w, MQTT_SUBSCRIBE);
    fb_suback(&w->broker, sub.u.subscribe.packet_id, 4, 1);
    char big[600];
    memset(big, 'a', sizeof(big));
    big[0] = big[sizeof(big) - 1] = '"';
    assert_int_equal(muster_send_telemetry(w->m, big, sizeof(big), false, 1), MUSTER_E_TOO_LARGE); // tx_bytes
    big[99] = '"';
    assert_int_equal(muster_send_telemetry(w->m, big, 100, false, 2), MUSTER_OK); // too large only for this server
    send_text(w, "{\"a\":1}", 3);
    send_text(w, "{\"a\":2}", 4);
    send_text(w, "{\"a\":3}", 5);
    assert_int_equal(muster_send_telemetry(w->m, "1", 1, false, 6), MUSTER_E_FULL);
    assert_int_equal(muster_room(w->m), 0);
    muster_step(w->m);
    assert_int_equal(w->seen.acks_len, 1);
    assert_true(w->seen.acks[0].cookie == 2 && !w->seen.acks[0].stored && w->seen.acks[0].reason == MQTT_RC_TOO_LARGE);
    uint16_t first = expect(w, MQTT_PUBLISH).u.publish.packet_id;
    expect(w, MQTT_PUBLISH);
    expect_nothing(w); // receive maximum
    fb_puback(&w->broker, first, 0);
    muster_step(w->m);
    assert_true(slice_eq_str(expect(w, MQTT_PUBLISH).u.publish.payload, "{\"a\":3}"));
    free(w);
}

static void slow_transport_loses_nothing(void **state)
{
    (void)state;
    struct world *w = world_new(5, MUSTER_DEVICE);
    go_online(w);
    unsigned sent = 0;
    unsigned got = 0;
    w->broker.write_room = 0;
    for (int i = 0; i < 4000 && got < 100; i++) {
        char json[32];
        snprintf(json, sizeof(json), "{\"n\":%u}", sent);
        if (sent < 100 && muster_send_telemetry(w->m, json, strlen(json), false, sent + 1) == MUSTER_OK) {
            sent++;
        }
        w->broker.write_room += 3;
        muster_step(w->m);
        struct mqtt_packet p;
        while (fb_recv(&w->broker, &p)) {
            char expected[32];
            snprintf(expected, sizeof(expected), "{\"n\":%u}", got++);
            assert_true(slice_eq_str(p.u.publish.payload, expected));
            fb_puback(&w->broker, p.u.publish.packet_id, 0);
            w->seen.acks_len = 0;
        }
    }
    assert_int_equal(got, 100);
    free(w);
}

// Half a packet is no reason to be called again at once; answers that have no room hold the input back until they have.
static void waits_without_spinning(void **state)
{
    (void)state;
    struct world *w = world_new(5, MUSTER_DEVICE);
    go_online(w);
    static const uint8_t half[] = {0x30, 0x10, 0x00};
    buf_put(&w->broker.out, half, sizeof(half));
    muster_step(w->m);
    assert_true(muster_step(w->m) > 1000);
    free(w);

    w = world_new(5, MUSTER_DEVICE);
    go_online(w);
    w->broker.write_room = 0;
    unsigned sent = 0;
    for (uint16_t id = 1; id <= 300; id++) {
        struct buf before = w->broker.out;
        struct mqtt_packet p = {.type = MQTT_PUBLISH};
        p.u.publish = (struct mqtt_publish){.qos = 1,
                                            .packet_id = id,
                                            .topic = slice_str("$muster/twin/desired"),
                                            .payload = slice_str("{\"desired\":{}}")};
        if (!mqtt_encode(&w->broker.out, MQTT_V5, &p)) {
            w->broker.out = before;
            muster_step(w->m);
            id--;
            if (w->seen.desired == sent) {
                break; // the client takes no more
            }
            sent = w->seen.desired;
        }
    }
    uint32_t wait_ms = 0;
    for (int i = 0; i < 20; i++) {
        wait_ms = muster_step(w->m);
    }
    unsigned taken = w->seen.desired;
    assert_true(taken > 50 && wait_ms > 1000 && muster_wants_write(w->m));
    w->broker.write_room = SIZE_MAX;
    assert_int_equal(muster_step(w->m), 0);
    for (int i = 0; i < 20; i++) {
        muster_step(w->m);
    }
    assert_true(w->seen.desired > taken);
    unsigned acks = 0;
    struct mqtt_packet p;
    while (fb_recv(&w->broker, &p)) {
        assert_int_equal(p.type, MQTT_PUBACK);
        assert_int_equal(p.u.ack.packet_id, ++acks);
    }
    assert_int_equal(acks, w->seen.desired);
    free(w);
}

static void refuses_what_is_not_json(void **state)
{
    (void)state;
    struct world *w = world_new(5, MUSTER_DEVICE);
    assert_int_equal(muster_send_telemetry(w->m, "{", 1, false, 0), MUSTER_E_INVALID);
    assert_int_equal(muster_send_telemetry(w->m, "", 0, false, 0), MUSTER_E_INVALID);
    assert_int_equal(muster_report(w->m, "[1]", 3, 0), MUSTER_E_INVALID);
    assert_int_equal(muster_send_event(w->m, "a/b", "{}", 2, 0), MUSTER_E_INVALID);
    assert_int_equal(muster_send_event(w->m, "", "{}", 2, 0), MUSTER_E_INVALID);
    assert_int_equal(muster_send_event(w->m, "door.open", "{}", 2, 0), MUSTER_OK);
    assert_int_equal(muster_command_reply(w->m, (struct muster_text){"+", 1}, "{}", 2, 0), MUSTER_E_INVALID);
    assert_int_equal(muster_pending(w->m), 1);
    free(w);
}

// ---- From the server ------------------------------------------------------------------------------------------------

static void takes_desired_and_commands(void **state)
{
    (void)state;
    struct world *w = world_new(5, MUSTER_DEVICE);
    go_online(w);
    fb_publish(&w->broker, "$muster/twin/desired", "{\"version\": 7,\"desired\" : {\"a\":1}, \"delta\":{}}", 1, 21);
    fb_publish(&w->broker, "$muster/twin/get/reply",
               "{\"version\":7,\"desired\":{},\"delta\":{},\"reported\":{\"b\":2}}", 0, 0);
    fb_publish(&w->broker, "$muster/command/reboot/42", "{\"delay\":5}", 1, 22);
    fb_publish(&w->broker, "$muster/command/reboot", "{}", 1, 23); // no id: passed over
    fb_publish(&w->broker, "elsewhere", "{}", 1, 24);
    muster_step(w->m);
    assert_int_equal(w->seen.desired, 1);
    assert_int_equal(w->seen.version, 7);
    assert_int_equal(w->seen.twins, 1);
    assert_int_equal(w->seen.commands, 1);
    assert_string_equal(w->seen.name, "reboot");
    assert_string_equal(w->seen.id, "42");
    assert_string_equal(w->seen.json, "{\"delay\":5}");
    for (uint16_t id = 21; id <= 24; id++) {
        struct mqtt_packet p = expect(w, MQTT_PUBACK);
        assert_int_equal(p.u.ack.packet_id, id);
    }
    struct mqtt_publish reply = expect(w, MQTT_PUBLISH).u.publish;
    assert_true(slice_eq_str(reply.topic, "$muster/command/42/reply"));
    free(w);
}

static void provisions(void **state)
{
    (void)state;
    struct world *w = world_new(5, MUSTER_CLAIM);
    go_online(w);
    assert_int_equal(muster_renew(w->m, "csr"), MUSTER_E_STATE);
    assert_int_equal(muster_provision(w->m, "a\nb", "dev1", "[]"), MUSTER_E_INVALID);
    assert_int_equal(muster_provision(w->m, "a\nb", "dev1", "{\"model\":\"m\", \"keys\":{\"serial\":\"1\"}}"),
                     MUSTER_OK);
    muster_step(w->m);
    struct mqtt_publish p = expect(w, MQTT_PUBLISH).u.publish;
    assert_true(slice_eq_str(p.topic, "$muster/provision/request"));
    assert_true(
        slice_eq_str(p.payload, "{\"csr\":\"a\\nb\",\"device\":\"dev1\",\"model\":\"m\",\"keys\":{\"serial\":\"1\"}}"));
    fb_publish(&w->broker, "$muster/provision/response", "{\"error\":{\"code\":\"limit\",\"detail\":\"no uses left\"}}",
               1, 1);
    muster_step(w->m);
    assert_true(w->seen.provisioned == 1 && !w->seen.ok);
    assert_string_equal(w->seen.name, "limit");
    assert_string_equal(w->seen.json, "no uses left");
    fb_publish(&w->broker, "$muster/provision/response",
               "{\"device\":\"dev1\",\"certificate\":\"-----\\nAB\",\"ca\":\"x\",\"not_after\":\"y\"}", 1, 2);
    muster_step(w->m);
    assert_true(w->seen.provisioned == 2 && w->seen.ok);
    assert_string_equal(w->seen.device, "dev1");
    assert_string_equal(w->seen.json, "-----\nAB");
    free(w);
}

static void broken_servers_are_left(void **state)
{
    (void)state;
    static const uint8_t rubbish[][6] = {
        {0xf0, 0x00}, {0x00, 0x00}, {0x36, 0x04, 0, 1, 'a', 0}, {0x32, 0xff, 0xff, 0xff, 0xff}, {0x20, 0x03, 0, 0, 0}};
    static const size_t lens[] = {2, 2, 6, 5, 5};
    (void)state;
    for (size_t i = 0; i < 5; i++) {
        struct world *w = world_new(5, MUSTER_DEVICE);
        go_online(w);
        buf_put(&w->broker.out, rubbish[i], lens[i]);
        muster_step(w->m);
        assert_int_equal(muster_state(w->m), MUSTER_WAITING);
        assert_true(w->seen.text[0] != '\0');
        free(w);
    }
    // Larger than rx_bytes: refused as soon as the header is read.
    struct world *w = world_new(5, MUSTER_DEVICE);
    go_online(w);
    static const uint8_t large[] = {0x30, 0x80, 0x10};
    buf_put(&w->broker.out, large, sizeof(large));
    muster_step(w->m);
    assert_int_equal(muster_state(w->m), MUSTER_WAITING);
    free(w);
}

// ---- Ending, memory -------------------------------------------------------------------------------------------------

static void stops_and_starts_again(void **state)
{
    (void)state;
    struct world *w = world_new(5, MUSTER_DEVICE);
    go_online(w);
    send_text(w, "{\"a\":1}", 1);
    muster_step(w->m);
    expect(w, MQTT_PUBLISH);
    assert_int_equal(muster_set_identity(w->m, MUSTER_DEVICE, "x", NULL, NULL), MUSTER_E_STATE);
    w->broker.write_room = 0;
    muster_stop(w->m);
    muster_step(w->m);
    assert_int_equal(muster_state(w->m), MUSTER_CLOSING);
    w->broker.write_room = SIZE_MAX;
    unsigned closes = w->broker.closes;
    muster_step(w->m);
    assert_int_equal(muster_state(w->m), MUSTER_IDLE);
    assert_int_equal(w->broker.closes, closes + 1);
    assert_int_equal(muster_pending(w->m), 1);
    go_online(w);
    assert_true(expect(w, MQTT_PUBLISH).u.publish.dup);
    w->broker.write_room = 0; // a server that takes nothing does not keep us
    muster_stop(w->m);
    muster_step(w->m);
    w->broker.now_ms += 2000;
    muster_step(w->m);
    assert_int_equal(muster_state(w->m), MUSTER_IDLE);
    assert_int_equal(muster_set_identity(w->m, MUSTER_CLAIM, NULL, "$claim", "t"), MUSTER_OK);
    assert_int_equal(muster_pending(w->m), 0);
    muster_stop(w->m);
    assert_int_equal(muster_start(w->m), MUSTER_OK);
    free(w);
}

static void memory_is_exact(void **state)
{
    (void)state;
    struct world *w = calloc(1, sizeof(*w));
    struct muster_config c = config_of(w, 5, MUSTER_DEVICE);
    size_t need = muster_memory_bytes(&c);
    struct muster *m = NULL;
    for (size_t skew = 0; skew < 32; skew++) {
        uint8_t *exact = malloc(need + skew);
        assert_int_equal(muster_init(exact + skew, need, &c, &m), MUSTER_OK);
        assert_int_equal(muster_init(exact + skew, need - _Alignof(max_align_t), &c, &m), MUSTER_E_SMALL);
        free(exact);
    }
    c.tx_bytes = 100;
    assert_int_equal(muster_init(w->memory, sizeof(w->memory), &c, &m), MUSTER_E_INVALID);
    c = config_of(w, 3, MUSTER_DEVICE);
    assert_int_equal(muster_init(w->memory, sizeof(w->memory), &c, &m), MUSTER_E_INVALID);
    c = config_of(w, 5, MUSTER_DEVICE);
    c.transport.random = NULL;
    assert_int_equal(muster_init(w->memory, sizeof(w->memory), &c, &m), MUSTER_E_INVALID);
    free(w);
}

static void texts(void **state)
{
    (void)state;
    assert_string_equal(muster_status_text(MUSTER_E_TYPE), "wrong type");
    assert_string_equal(muster_status_text((enum muster_status)5), "unknown");
    assert_string_equal(muster_state_text(MUSTER_CLOSING), "closing");
    assert_string_equal(muster_state_text((enum muster_state)7), "unknown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(table_is_what_the_drawing_says),
        cmocka_unit_test(connects),
        cmocka_unit_test(claim_subscribes_to_answers_only),
        cmocka_unit_test(refusals_carry_their_reason),
        cmocka_unit_test(pauses_are_jittered_and_bounded),
        cmocka_unit_test(gives_up_on_a_silent_server),
        cmocka_unit_test(keeps_alive),
        cmocka_unit_test(acknowledges_with_cookie),
        cmocka_unit_test(sends_again_in_order_with_dup),
        cmocka_unit_test(respects_limits_of_both_sides),
        cmocka_unit_test(slow_transport_loses_nothing),
        cmocka_unit_test(waits_without_spinning),
        cmocka_unit_test(refuses_what_is_not_json),
        cmocka_unit_test(takes_desired_and_commands),
        cmocka_unit_test(provisions),
        cmocka_unit_test(broken_servers_are_left),
        cmocka_unit_test(stops_and_starts_again),
        cmocka_unit_test(memory_is_exact),
        cmocka_unit_test(texts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
