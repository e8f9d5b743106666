// Telemetry payloads: whatever is accepted is within the limits, and agrees with the JSON library about what the text says.
#include <stdlib.h>

#include <jansson.h>

#include "base/map.h"
#include "domain/telemetry/payload.h"

#define NOW_US 1700000000000000LL

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
    if (!ok) {
        abort();
    }
}

static void check_point(const struct payload_point *p)
{
    check(p->metric.len >= 1 && p->metric.len <= TS_METRIC_MAX);
    check(p->hash == hash_bytes(p->metric));
    check(p->value.type != TS_STRING || p->value.s.len <= PAYLOAD_STRING_MAX);
    for (size_t i = 0; i < p->metric.len; i++) {
        check(p->metric.p[i] >= 0x20 && p->metric.p[i] != 0x7f);
    }
}

// The members of a record without nested objects, with the last value of each name.
static void check_flat(const struct payload *p, const struct payload_group *g, json_t *record)
{
    json_t *values = json_object_get(record, "values");
    json_t *flat = json_is_object(values) ? values : record;
    const char *key;
    json_t *v;
    json_object_foreach(flat, key, v)
    {
        if (json_is_object(v)) {
            return;
        }
    }
    check(json_object_size(flat) == g->len);
    for (uint32_t i = 0; i < g->len; i++) {
        const struct payload_point *pt = &p->points[g->first + i];
        json_t *found = json_object_getn(flat, (const char *)pt->metric.p, pt->metric.len);
        check(found != NULL);
        check(pt->value.type != TS_INT || json_integer_value(found) == pt->value.i);
        check(pt->value.type != TS_BOOL || json_is_true(found) == pt->value.b);
        check(pt->value.type != TS_DOUBLE || json_real_value(found) == pt->value.f);
        check(pt->value.type != TS_STRING ||
              slice_eq(pt->value.s, slice_make(json_string_value(found), json_string_length(found))));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct payload p;
    struct err err = {.code = ST_OK};
    payload_clear(&p);
    enum status st = payload_decode(&p, slice_make(data, size), NOW_US, &err);
    if (st != ST_OK) {
        check(st == ST_MALFORMED || st == ST_INVALID || st == ST_TOO_LARGE);
        check(err.code == st && err.text[0] != '\0' && p.points_len == 0 && p.groups_len == 0);
        return 0;
    }
    check(p.groups_len >= 1 && p.points_len >= p.groups_len && p.points_len <= PAYLOAD_POINTS_MAX);
    uint32_t next = 0;
    for (uint32_t i = 0; i < p.groups_len; i++) {
        const struct payload_group *g = &p.groups[i];
        check(g->first == next && g->len >= 1);
        check(g->ts_us == PAYLOAD_NO_TIME || (g->ts_us >= 0 && g->ts_us <= NOW_US + PAYLOAD_AHEAD_US));
        next += g->len;
    }
    check(next == p.points_len);
    for (uint32_t i = 0; i < p.points_len; i++) {
        check_point(&p.points[i]);
    }
    // The library refuses what we accept in two cases only: integers over 64 bit, and NUL in text. Then it is no judge.
    json_t *v = json_loadb((const char *)data, size, JSON_ALLOW_NUL, NULL);
    for (uint32_t i = 0; v != NULL && i < p.groups_len; i++) {
        check_flat(&p, &p.groups[i], json_is_array(v) ? json_array_get(v, i) : v);
    }
    json_decref(v);
    return 0;
}
