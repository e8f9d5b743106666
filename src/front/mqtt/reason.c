#include "front/mqtt/reason.h"

// Return codes of 3.1.1 (section 3.2.2.3)
#define V311_BAD_VERSION     1
#define V311_BAD_CLIENT_ID   2
#define V311_UNAVAILABLE     3
#define V311_BAD_CREDENTIALS 4
#define V311_NOT_AUTHORIZED  5

static const struct {
    uint8_t connack, puback, suback;
} reasons[] = {
    [ST_OK] = {MQTT_RC_SUCCESS, MQTT_RC_SUCCESS, MQTT_RC_SUCCESS},
    [ST_INVALID] = {MQTT_RC_BAD_CLIENT_ID, MQTT_RC_BAD_PAYLOAD, MQTT_RC_UNSPECIFIED},
    [ST_MALFORMED] = {MQTT_RC_MALFORMED, MQTT_RC_BAD_PAYLOAD, MQTT_RC_UNSPECIFIED},
    [ST_PROTOCOL] = {MQTT_RC_PROTOCOL_ERROR, MQTT_RC_UNSPECIFIED, MQTT_RC_UNSPECIFIED},
    [ST_UNAUTHENTICATED] = {MQTT_RC_BAD_CREDENTIALS, MQTT_RC_NOT_AUTHORIZED, MQTT_RC_NOT_AUTHORIZED},
    [ST_FORBIDDEN] = {MQTT_RC_NOT_AUTHORIZED, MQTT_RC_NOT_AUTHORIZED, MQTT_RC_NOT_AUTHORIZED},
    [ST_NOT_FOUND] = {MQTT_RC_NOT_AUTHORIZED, MQTT_RC_BAD_TOPIC, MQTT_RC_NOT_AUTHORIZED},
    [ST_METHOD] = {MQTT_RC_UNSPECIFIED, MQTT_RC_UNSPECIFIED, MQTT_RC_UNSPECIFIED},
    [ST_EXISTS] = {MQTT_RC_UNSPECIFIED, MQTT_RC_UNSPECIFIED, MQTT_RC_UNSPECIFIED},
    [ST_CONFLICT] = {MQTT_RC_UNSPECIFIED, MQTT_RC_UNSPECIFIED, MQTT_RC_UNSPECIFIED},
    [ST_VERSION] = {MQTT_RC_UNSPECIFIED, MQTT_RC_UNSPECIFIED, MQTT_RC_UNSPECIFIED},
    [ST_TOO_LARGE] = {MQTT_RC_TOO_LARGE, MQTT_RC_QUOTA, MQTT_RC_QUOTA},
    [ST_UNSUPPORTED] = {MQTT_RC_IMPLEMENTATION, MQTT_RC_IMPLEMENTATION, MQTT_RC_IMPLEMENTATION},
    [ST_LIMIT] = {MQTT_RC_QUOTA, MQTT_RC_QUOTA, MQTT_RC_QUOTA},
    [ST_INTERNAL] = {MQTT_RC_UNSPECIFIED, MQTT_RC_UNSPECIFIED, MQTT_RC_UNSPECIFIED},
    [ST_BUSY] = {MQTT_RC_SERVER_BUSY, MQTT_RC_QUOTA, MQTT_RC_QUOTA},
    [ST_NOMEM] = {MQTT_RC_QUOTA, MQTT_RC_QUOTA, MQTT_RC_QUOTA},
    [ST_SHUTDOWN] = {MQTT_RC_SERVER_UNAVAILABLE, MQTT_RC_UNSPECIFIED, MQTT_RC_UNSPECIFIED},
    [ST_TIMEOUT] = {MQTT_RC_SERVER_UNAVAILABLE, MQTT_RC_UNSPECIFIED, MQTT_RC_UNSPECIFIED},
    [ST_FULL] = {MQTT_RC_QUOTA, MQTT_RC_QUOTA, MQTT_RC_QUOTA},
    [ST_IO] = {MQTT_RC_UNSPECIFIED, MQTT_RC_UNSPECIFIED, MQTT_RC_UNSPECIFIED},
    [ST_CORRUPT] = {MQTT_RC_UNSPECIFIED, MQTT_RC_UNSPECIFIED, MQTT_RC_UNSPECIFIED},
};
_Static_assert(sizeof(reasons) / sizeof(reasons[0]) == ST__COUNT, "one row for each status");

uint8_t reason_connack_v311(uint8_t v5_reason)
{
    static const struct {
        uint8_t v5, v311;
    } rows[] = {
        {MQTT_RC_SUCCESS, 0},
        {MQTT_RC_BAD_VERSION, V311_BAD_VERSION},
        {MQTT_RC_BAD_CLIENT_ID, V311_BAD_CLIENT_ID},
        {MQTT_RC_BAD_CREDENTIALS, V311_BAD_CREDENTIALS},
        {MQTT_RC_NOT_AUTHORIZED, V311_NOT_AUTHORIZED},
        {MQTT_RC_BANNED, V311_NOT_AUTHORIZED},
        {MQTT_RC_BAD_AUTH_METHOD, V311_NOT_AUTHORIZED},
        {MQTT_RC_NO_QOS, V311_NOT_AUTHORIZED},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (rows[i].v5 == v5_reason) {
            return rows[i].v311;
        }
    }
    return V311_UNAVAILABLE;
}

uint8_t reason_connack(enum mqtt_version v, enum status s)
{
    return v == MQTT_V5 ? reasons[s].connack : reason_connack_v311(reasons[s].connack);
}

uint8_t reason_puback(enum status s)
{
    return reasons[s].puback;
}

uint8_t reason_suback(enum mqtt_version v, enum status s)
{
    return v == MQTT_V5 ? reasons[s].suback : MQTT_RC_UNSPECIFIED; // 3.1.1 knows 0x80 only
}

const char *reason_text(enum status s)
{
    switch (s) {
    case ST_FULL:
        return "the storage is full and nothing was stored; try again later";
    case ST_BUSY:
        return "the server is busy and nothing was stored; try again shortly";
    case ST_NOMEM:
        return "the server is out of memory and nothing was stored; try again later";
    case ST_SHUTDOWN:
        return "the server is shutting down and nothing was stored";
    default:
        return status_text(s);
    }
}

const char *reason_say(enum status s, const struct err *err)
{
    static const bool ours[ST__COUNT] = {
        [ST_FULL] = true,     [ST_BUSY] = true,    [ST_NOMEM] = true, [ST_SHUTDOWN] = true,
        [ST_INTERNAL] = true, [ST_TIMEOUT] = true, [ST_IO] = true,    [ST_CORRUPT] = true};
    return ours[s] ? reason_text(s) : err->text;
}
