#include "front/mqtt/topics.h"

#include "proto/mqtt.h"

#define DEVICE (1u << WHO_DEVICE)
#define CLAIM  (1u << WHO_CLAIM)

// Topics as prefix and suffix around one variable level; without `var` the prefix is the topic.
static const struct {
    struct slice prefix, suffix;
    bool var;
    unsigned who;
} routes[ROUTE__COUNT] = {
    [ROUTE_TELEMETRY] = {SLICE("$muster/telemetry"), SLICE(""), false, DEVICE},
    [ROUTE_EVENT] = {SLICE("$muster/event/"), SLICE(""), true, DEVICE},
    [ROUTE_TWIN_GET] = {SLICE("$muster/twin/get"), SLICE(""), false, DEVICE},
    [ROUTE_TWIN_REPORT] = {SLICE("$muster/twin/reported"), SLICE(""), false, DEVICE},
    [ROUTE_COMMAND_REPLY] = {SLICE("$muster/command/"), SLICE("/reply"), true, DEVICE},
    [ROUTE_ENROLL] = {SLICE("$muster/provision/request"), SLICE(""), false, CLAIM},
    [ROUTE_RENEW] = {SLICE("$muster/provision/renew"), SLICE(""), false, DEVICE},
};
static const char publish_help[] =
    "no such topic; a device publishes to $muster/telemetry, $muster/event/NAME, $muster/twin/get, "
    "$muster/twin/reported, "
    "$muster/command/ID/reply, $muster/provision/renew; a claim to $muster/provision/request";

static const struct {
    const char *filter;
    unsigned who;
} subs[SUB__COUNT] = {
    [SUB_TWIN_DESIRED] = {"$muster/twin/desired", DEVICE},
    [SUB_TWIN_REPLY] = {"$muster/twin/get/reply", DEVICE},
    [SUB_COMMAND] = {"$muster/command/+/+", DEVICE},
    [SUB_PROVISION] = {"$muster/provision/response", DEVICE | CLAIM},
};
static const char subscribe_help[] =
    "no such topic filter; allowed are $muster/twin/desired, $muster/twin/get/reply, $muster/command/+/+, "
    "$muster/provision/response";

static const char *kind_text(enum principal_kind who)
{
    return who == WHO_CLAIM ? "a claim" : who == WHO_DEVICE ? "a device" : "an application";
}

static bool route_matches(enum route r, struct slice topic, struct slice *ret_param)
{
    if (!routes[r].var) {
        *ret_param = SLICE("");
        return slice_eq(topic, routes[r].prefix);
    }
    size_t fixed = routes[r].prefix.len + routes[r].suffix.len;
    if (topic.len <= fixed || !slice_starts(topic, routes[r].prefix) ||
        !slice_eq(slice_from(topic, topic.len - routes[r].suffix.len), routes[r].suffix)) {
        return false;
    }
    *ret_param = slice_head(slice_from(topic, routes[r].prefix.len), topic.len - fixed);
    return memchr(ret_param->p, '/', ret_param->len) == NULL;
}

enum status topics_route(struct slice topic, enum principal_kind who, enum route *ret, struct slice *ret_param,
                         struct err *err)
{
    for (unsigned r = 0; r < ROUTE__COUNT; r++) {
        if (route_matches((enum route)r, topic, ret_param)) {
            *ret = (enum route)r;
            return (routes[r].who >> who & 1u) != 0
                       ? ST_OK
                       : err_set(err, ST_FORBIDDEN, "%s may not publish to this topic", kind_text(who));
        }
    }
    return err_set(err, ST_NOT_FOUND, "%s", publish_help);
}

enum status topics_sub(struct slice filter, enum principal_kind who, enum sub *ret, struct err *err)
{
    for (unsigned s = 0; s < SUB__COUNT; s++) {
        if (slice_eq_str(filter, subs[s].filter)) {
            *ret = (enum sub)s;
            return (subs[s].who >> who & 1u) != 0
                       ? ST_OK
                       : err_set(err, ST_FORBIDDEN, "%s may not subscribe to this topic", kind_text(who));
        }
    }
    return err_set(err, ST_NOT_FOUND, "%s", subscribe_help);
}

bool topics_sub_of(struct slice topic, enum sub *ret)
{
    for (unsigned s = 0; s < SUB__COUNT; s++) {
        if (mqtt_topic_matches(slice_str(subs[s].filter), topic)) {
            *ret = (enum sub)s;
            return true;
        }
    }
    return false;
}

const char *topics_filter(enum sub s)
{
    return subs[s].filter;
}

bool topics_is_native(struct slice topic)
{
    return slice_starts(topic, SLICE("$muster/"));
}
