// Topic names and filters (MQTT 5.0 section 4.7, the same in 3.1.1).
#include "base/utf8.h"
#include "proto/mqtt_priv.h"

#define SHARE_PREFIX "$share/"

// Cuts the next level off `rest`. False when there is none left; an empty last level ("a/") counts as one.
static bool level_next(struct slice *rest, bool *more, struct slice *ret)
{
    if (!*more) {
        return false;
    }
    const uint8_t *slash = rest->len > 0 ? memchr(rest->p, '/', rest->len) : NULL;
    *more = slash != NULL;
    *ret = slash != NULL ? slice_head(*rest, (size_t)(slash - rest->p)) : *rest;
    *rest = slash != NULL ? slice_from(*rest, ret->len + 1) : slice_from(*rest, rest->len);
    return true;
}

static bool has_byte(struct slice s, int byte)
{
    return s.len > 0 && memchr(s.p, byte, s.len) != NULL;
}

static bool is_byte(struct slice s, uint8_t byte)
{
    return s.len == 1 && s.p[0] == byte;
}

// $share/NAME/FILTER: the name has at least one character and no wildcards, the filter is not empty (4.8.2).
static const char *share_problem(struct slice t, struct slice *ret_filter)
{
    struct slice rest = slice_from(t, sizeof(SHARE_PREFIX) - 1);
    struct slice name;
    bool more = true;
    level_next(&rest, &more, &name);
    if (name.len == 0 || has_byte(name, '+') || has_byte(name, '#')) {
        return "a shared subscription's name is 1 or more characters without '+' and '#' (4.8.2)";
    }
    if (!more || rest.len == 0) {
        return "a shared subscription needs a topic filter behind its name (4.8.2)";
    }
    *ret_filter = rest;
    return NULL;
}

static const char *level_problem(struct slice level, bool last)
{
    if (has_byte(level, '#') && (level.len != 1 || !last)) {
        return "'#' stands alone in the last level of a filter (4.7.1.2)";
    }
    if (has_byte(level, '+') && level.len != 1) {
        return "'+' stands alone in its level (4.7.1.3)";
    }
    return NULL;
}

static const char *levels_problem(struct slice t, bool filter, const struct mqtt_limits *l)
{
    bool more = true;
    struct slice level;
    unsigned n = 0;
    while (level_next(&t, &more, &level)) {
        const char *why = filter ? level_problem(level, !more) : NULL;
        if (why != NULL) {
            return why;
        }
        if (++n > l->levels_max) {
            return "the topic has more levels than allowed";
        }
    }
    return NULL;
}

const char *mqtt_topic_problem(struct slice t, bool filter, const struct mqtt_limits *l, uint8_t *ret_reason)
{
    *ret_reason = MQTT_RC_MALFORMED;
    if (!utf8_mqtt_valid(t)) {
        return "the topic is not valid UTF-8 or contains U+0000 (1.5.4)";
    }
    *ret_reason = filter ? MQTT_RC_BAD_FILTER : MQTT_RC_BAD_TOPIC;
    if (t.len == 0) {
        return "a topic has at least one character (4.7.3-1)";
    }
    if (t.len > l->topic_max) {
        return "the topic is longer than allowed";
    }
    if (!filter && (has_byte(t, '+') || has_byte(t, '#'))) {
        return "a topic name contains no wildcards (3.3.2-2)";
    }
    struct slice body = t;
    if (filter && slice_starts(t, SLICE(SHARE_PREFIX))) {
        const char *why = share_problem(t, &body);
        if (why != NULL) {
            return why;
        }
    }
    return levels_problem(body, filter, l);
}

bool mqtt_topic_valid(struct slice topic, const struct mqtt_limits *l)
{
    uint8_t reason;
    return mqtt_topic_problem(topic, false, l, &reason) == NULL;
}

bool mqtt_filter_valid(struct slice filter, const struct mqtt_limits *l)
{
    uint8_t reason;
    return mqtt_topic_problem(filter, true, l, &reason) == NULL;
}

bool mqtt_topic_matches(struct slice filter, struct slice topic)
{
    if (filter.len == 0 || topic.len == 0) {
        return false;
    }
    if (topic.p[0] == '$' && (filter.p[0] == '+' || filter.p[0] == '#')) {
        return false; // 4.7.2-1
    }
    bool filter_more = true;
    bool topic_more = true;
    struct slice want;
    struct slice have;
    while (level_next(&filter, &filter_more, &want)) {
        if (is_byte(want, '#')) {
            return true; // also the parent level itself: "a/#" matches "a"
        }
        if (!level_next(&topic, &topic_more, &have)) {
            return false;
        }
        if (!is_byte(want, '+') && !slice_eq(want, have)) {
            return false;
        }
    }
    return !topic_more;
}
