// MQTT 5.0 properties (section 2.2.2.2): one table says type, place and rule of each.
#include "proto/mqtt_priv.h"

enum prop_type { PT_NONE, PT_BYTE, PT_U16, PT_U32, PT_VBI, PT_STRING, PT_BINARY, PT_PAIR };
enum prop_rule { PR_ANY, PR_BOOL, PR_NOT_0, PR_ALIAS, PR_TOPIC };

struct prop_def {
    uint8_t type; // enum prop_type
    uint8_t rule; // enum prop_rule
    uint16_t at;  // offset in struct mqtt_props
    uint32_t bit;
    uint32_t where; // bit per packet type; bit 0: the will
};

#define IN(t)   (1u << (t))
#define IN_PUB  (IN(MQTT_PUBLISH) | IN(MQTT_PROPS_WILL))
#define IN_CONN (IN(MQTT_CONNECT) | IN(MQTT_CONNACK))
#define IN_AUTH (IN_CONN | IN(MQTT_AUTH))
#define IN_ACK                                                                                                         \
    (IN(MQTT_CONNACK) | IN(MQTT_PUBACK) | IN(MQTT_PUBREC) | IN(MQTT_PUBREL) | IN(MQTT_PUBCOMP) | IN(MQTT_SUBACK) |     \
     IN(MQTT_UNSUBACK) | IN(MQTT_DISCONNECT) | IN(MQTT_AUTH))
#define IN_ALL (IN_ACK | IN_PUB | IN_CONN | IN(MQTT_SUBSCRIBE) | IN(MQTT_UNSUBSCRIBE))
#define AT(f)  offsetof(struct mqtt_props, f)

#define PROPS  0x2bu
static const struct prop_def props[PROPS] = {
    [0x01] = {PT_BYTE, PR_BOOL, AT(payload_format), MQTT_P_PAYLOAD_FORMAT, IN_PUB},
    [0x02] = {PT_U32, PR_ANY, AT(message_expiry), MQTT_P_MESSAGE_EXPIRY, IN_PUB},
    [0x03] = {PT_STRING, PR_ANY, AT(content_type), MQTT_P_CONTENT_TYPE, IN_PUB},
    [0x08] = {PT_STRING, PR_TOPIC, AT(response_topic), MQTT_P_RESPONSE_TOPIC, IN_PUB},
    [0x09] = {PT_BINARY, PR_ANY, AT(correlation), MQTT_P_CORRELATION, IN_PUB},
    [0x0b] = {PT_VBI, PR_NOT_0, AT(sub_id), MQTT_P_SUB_ID, IN(MQTT_PUBLISH) | IN(MQTT_SUBSCRIBE)},
    [0x11] = {PT_U32, PR_ANY, AT(session_expiry), MQTT_P_SESSION_EXPIRY, IN_CONN | IN(MQTT_DISCONNECT)},
    [0x12] = {PT_STRING, PR_ANY, AT(assigned_id), MQTT_P_ASSIGNED_ID, IN(MQTT_CONNACK)},
    [0x13] = {PT_U16, PR_ANY, AT(server_keep_alive), MQTT_P_SERVER_KEEP_ALIVE, IN(MQTT_CONNACK)},
    [0x15] = {PT_STRING, PR_ANY, AT(auth_method), MQTT_P_AUTH_METHOD, IN_AUTH},
    [0x16] = {PT_BINARY, PR_ANY, AT(auth_data), MQTT_P_AUTH_DATA, IN_AUTH},
    [0x17] = {PT_BYTE, PR_BOOL, AT(request_problem), MQTT_P_REQUEST_PROBLEM, IN(MQTT_CONNECT)},
    [0x18] = {PT_U32, PR_ANY, AT(will_delay), MQTT_P_WILL_DELAY, IN(MQTT_PROPS_WILL)},
    [0x19] = {PT_BYTE, PR_BOOL, AT(request_response), MQTT_P_REQUEST_RESPONSE, IN(MQTT_CONNECT)},
    [0x1a] = {PT_STRING, PR_ANY, AT(response_info), MQTT_P_RESPONSE_INFO, IN(MQTT_CONNACK)},
    [0x1c] = {PT_STRING, PR_ANY, AT(server_ref), MQTT_P_SERVER_REF, IN(MQTT_CONNACK) | IN(MQTT_DISCONNECT)},
    [0x1f] = {PT_STRING, PR_ANY, AT(reason_string), MQTT_P_REASON_STRING, IN_ACK},
    [0x21] = {PT_U16, PR_NOT_0, AT(receive_max), MQTT_P_RECEIVE_MAX, IN_CONN},
    [0x22] = {PT_U16, PR_ANY, AT(alias_max), MQTT_P_ALIAS_MAX, IN_CONN},
    [0x23] = {PT_U16, PR_ALIAS, AT(alias), MQTT_P_ALIAS, IN(MQTT_PUBLISH)},
    [0x24] = {PT_BYTE, PR_BOOL, AT(max_qos), MQTT_P_MAX_QOS, IN(MQTT_CONNACK)},
    [0x25] = {PT_BYTE, PR_BOOL, AT(retain_available), MQTT_P_RETAIN_AVAILABLE, IN(MQTT_CONNACK)},
    [0x26] = {PT_PAIR, PR_ANY, 0, MQTT_P_USER, IN_ALL},
    [0x27] = {PT_U32, PR_NOT_0, AT(max_packet), MQTT_P_MAX_PACKET, IN_CONN},
    [0x28] = {PT_BYTE, PR_BOOL, AT(wildcard_available), MQTT_P_WILDCARD_AVAILABLE, IN(MQTT_CONNACK)},
    [0x29] = {PT_BYTE, PR_BOOL, AT(sub_id_available), MQTT_P_SUB_ID_AVAILABLE, IN(MQTT_CONNACK)},
    [0x2a] = {PT_BYTE, PR_BOOL, AT(shared_available), MQTT_P_SHARED_AVAILABLE, IN(MQTT_CONNACK)},
};
#define ID_SUB_ID 0x0bu
#define ID_USER   0x26u

// A property's value, before it is put where it belongs.
struct prop_value {
    uint32_t n;
    struct slice s;
    struct slice key; // PT_PAIR
};

static bool read_value(struct mqtt_dec *d, enum prop_type type, struct prop_value *ret)
{
    switch (type) {
    case PT_BYTE:
        ret->n = rd_u8(&d->r);
        return mqtt_dec_ok(d);
    case PT_U16:
        ret->n = rd_u16(&d->r);
        return mqtt_dec_ok(d);
    case PT_U32:
        ret->n = rd_u32(&d->r);
        return mqtt_dec_ok(d);
    case PT_VBI:
        return mqtt_dec_vbi(d, &ret->n);
    case PT_STRING:
        return mqtt_dec_string(d, &ret->s);
    case PT_BINARY:
        return mqtt_dec_binary(d, &ret->s);
    case PT_PAIR:
        return mqtt_dec_string(d, &ret->key) && mqtt_dec_string(d, &ret->s);
    case PT_NONE:
        break;
    }
    return false;
}

static bool check_value(struct mqtt_dec *d, enum prop_rule rule, const struct prop_value *v)
{
    switch (rule) {
    case PR_BOOL:
        return v->n <= 1 || mqtt_dec_bad(d, MQTT_RC_PROTOCOL_ERROR, "a property that is 0 or 1 has another value");
    case PR_NOT_0:
        return v->n != 0 || mqtt_dec_bad(d, MQTT_RC_PROTOCOL_ERROR, "a property that must not be 0 is 0");
    case PR_ALIAS:
        return v->n != 0 || mqtt_dec_bad(d, MQTT_RC_BAD_ALIAS, "topic alias 0 is not allowed (3.3.2-8)");
    case PR_TOPIC:
        return mqtt_dec_topic(d, v->s, false);
    case PR_ANY:
        break;
    }
    return true;
}

static void store_value(struct mqtt_props *p, const struct prop_def *def, const struct prop_value *v)
{
    void *at = (uint8_t *)p + def->at;
    switch ((enum prop_type)def->type) {
    case PT_BYTE:
        *(uint8_t *)at = (uint8_t)v->n;
        break;
    case PT_U16:
        *(uint16_t *)at = (uint16_t)v->n;
        break;
    case PT_U32:
    case PT_VBI:
        *(uint32_t *)at = v->n;
        break;
    case PT_STRING:
    case PT_BINARY:
        *(struct slice *)at = v->s;
        break;
    case PT_PAIR:
    case PT_NONE:
        break;
    }
}

// May stand more than once: user properties, and subscription identifiers in a PUBLISH (3.3.2.3.8).
static bool may_repeat(unsigned id, unsigned where)
{
    return id == ID_USER || (id == ID_SUB_ID && where == MQTT_PUBLISH);
}

static bool read_prop(struct mqtt_dec *d, unsigned where, struct mqtt_props *ret, size_t *user_bytes)
{
    uint32_t id = 0;
    if (!mqtt_dec_vbi(d, &id)) {
        return false;
    }
    if (id >= PROPS || props[id].type == PT_NONE) {
        return mqtt_dec_bad(d, MQTT_RC_MALFORMED, "unknown property identifier (2.2.2.2)");
    }
    const struct prop_def *def = &props[id];
    if ((def->where & IN(where)) == 0) {
        return mqtt_dec_bad(d, MQTT_RC_MALFORMED, "a property is not allowed in this packet (2.2.2.2)");
    }
    bool seen = (ret->present & def->bit) != 0;
    if (seen && !may_repeat(id, where)) {
        return mqtt_dec_bad(d, MQTT_RC_PROTOCOL_ERROR, "a property stands twice (2.2.2.2)");
    }
    struct prop_value v = {0, {NULL, 0}, {NULL, 0}};
    if (!read_value(d, (enum prop_type)def->type, &v) || !check_value(d, (enum prop_rule)def->rule, &v)) {
        return false;
    }
    if (def->type == PT_PAIR) {
        *user_bytes += v.key.len + v.s.len;
        if (++ret->user_count > d->lim->user_props_max || *user_bytes > d->lim->user_props_bytes_max) {
            return mqtt_dec_bad(d, MQTT_RC_QUOTA, "more user properties than allowed");
        }
    } else if (!seen) {
        store_value(ret, def, &v);
    }
    ret->present |= def->bit;
    return true;
}

void mqtt_props_clear(struct mqtt_props *p)
{
    p->present = 0;
    p->user_count = 0;
    p->raw = (struct slice){NULL, 0};
}

bool mqtt_props_decode(struct mqtt_dec *d, unsigned where, struct mqtt_props *ret)
{
    *ret = (struct mqtt_props){0};
    uint32_t len = 0;
    if (!mqtt_dec_vbi(d, &len)) {
        return false;
    }
    ret->raw = rd_bytes(&d->r, len);
    if (!mqtt_dec_ok(d)) {
        return false;
    }
    struct mqtt_dec sub = {reader_make(ret->raw), d->v, d->lim, d->err};
    size_t user_bytes = 0;
    while (reader_left(&sub.r) > 0) {
        if (!read_prop(&sub, where, ret, &user_bytes)) {
            return false;
        }
    }
    if ((ret->present & (MQTT_P_AUTH_METHOD | MQTT_P_AUTH_DATA)) == MQTT_P_AUTH_DATA) {
        return mqtt_dec_bad(d, MQTT_RC_PROTOCOL_ERROR, "authentication data without a method (3.1.2.11.10)");
    }
    return true;
}

// Walks raw property bytes; false at the end and at bytes that are no property.
static bool raw_next(struct slice raw, size_t *pos, uint32_t *ret_id, struct prop_value *ret)
{
    struct mqtt_error err;
    struct mqtt_dec d = {reader_make(slice_from(raw, *pos)), MQTT_V5, &mqtt_limits_default, &err};
    *ret = (struct prop_value){0, {NULL, 0}, {NULL, 0}};
    if (reader_left(&d.r) == 0 || !mqtt_dec_vbi(&d, ret_id) || *ret_id >= PROPS ||
        !read_value(&d, (enum prop_type)props[*ret_id].type, ret)) {
        return false;
    }
    *pos = raw.len - reader_left(&d.r);
    return true;
}

bool mqtt_props_next_user(const struct mqtt_props *p, size_t *pos, struct slice *ret_key, struct slice *ret_value)
{
    uint32_t id = 0;
    struct prop_value v;
    while (raw_next(p->raw, pos, &id, &v)) {
        if (id == ID_USER) {
            *ret_key = v.key;
            *ret_value = v.s;
            return true;
        }
    }
    return false;
}

bool mqtt_props_next_sub_id(const struct mqtt_props *p, size_t *pos, uint32_t *ret_id)
{
    uint32_t id = 0;
    struct prop_value v;
    while (raw_next(p->raw, pos, &id, &v)) {
        if (id == ID_SUB_ID) {
            *ret_id = v.n;
            return true;
        }
    }
    return false;
}

#define RELAYED (MQTT_P_PAYLOAD_FORMAT | MQTT_P_CONTENT_TYPE | MQTT_P_RESPONSE_TOPIC | MQTT_P_CORRELATION | MQTT_P_USER)

size_t mqtt_props_relay(struct slice raw, struct buf *out)
{
    size_t pos = 0;
    size_t from = 0;
    size_t len = 0;
    uint32_t id = 0;
    struct prop_value v;
    while (raw_next(raw, &pos, &id, &v)) {
        if ((props[id].bit & RELAYED) != 0) {
            len += pos - from;
            if (out != NULL) {
                buf_slice(out, slice_head(slice_from(raw, from), pos - from));
            }
        }
        from = pos;
    }
    return len;
}

static void put_value(struct mqtt_sink *s, const struct prop_def *def, const struct mqtt_props *p)
{
    const void *at = (const uint8_t *)p + def->at;
    switch ((enum prop_type)def->type) {
    case PT_BYTE:
        mqtt_sink_u8(s, *(const uint8_t *)at);
        break;
    case PT_U16:
        mqtt_sink_u16(s, *(const uint16_t *)at);
        break;
    case PT_U32:
        mqtt_sink_u32(s, *(const uint32_t *)at);
        break;
    case PT_VBI:
        mqtt_sink_vbi(s, *(const uint32_t *)at);
        break;
    case PT_STRING:
    case PT_BINARY:
        mqtt_sink_string(s, *(const struct slice *)at);
        break;
    case PT_PAIR:
    case PT_NONE:
        break;
    }
}

// From raw only what a struct cannot hold is taken: user properties, and subscription identifiers.
static bool put_raw(struct mqtt_sink *s, unsigned where, struct slice raw)
{
    size_t pos = 0;
    size_t from = 0;
    uint32_t id = 0;
    bool had_sub_id = false;
    struct prop_value v;
    while (raw_next(raw, &pos, &id, &v)) {
        if ((id == ID_USER || id == ID_SUB_ID) && (props[id].where & IN(where)) != 0) {
            mqtt_sink_bytes(s, slice_head(slice_from(raw, from), pos - from));
            had_sub_id = had_sub_id || id == ID_SUB_ID;
        }
        from = pos;
    }
    s->failed = s->failed || pos != raw.len;
    return had_sub_id;
}

static void put_props(struct mqtt_sink *s, unsigned where, const struct mqtt_props *p)
{
    bool had_sub_id = put_raw(s, where, p->raw);
    for (unsigned id = 0; id < PROPS; id++) {
        const struct prop_def *def = &props[id];
        if (def->type == PT_NONE || def->type == PT_PAIR || (p->present & def->bit) == 0 ||
            (id == ID_SUB_ID && had_sub_id)) {
            continue;
        }
        s->failed = s->failed || (def->where & IN(where)) == 0;
        mqtt_sink_vbi(s, id);
        put_value(s, def, p);
    }
}

void mqtt_props_encode(struct mqtt_sink *s, unsigned where, const struct mqtt_props *p)
{
    struct mqtt_sink count = {NULL, 0, false};
    put_props(&count, where, p);
    if (count.failed || count.len > MQTT_VBI_MAX) {
        s->failed = true;
        return;
    }
    mqtt_sink_vbi(s, (uint32_t)count.len);
    put_props(s, where, p);
}
