// Telemetry payloads: JSON text to points. No sockets, no clock, no store; private to telemetry, fuzzed on its own.
//
// Forms: one record or an array of records. A record is either plain, {"t": 21.4, "air": {"h": 40}}, or timed,
// {"ts": 1700000000000, "values": {...}} ("ts" may be left out). What is what:
//   * "values" with an object behind it makes a record timed; then only "ts" may stand beside it. Any other "values" is a
//     metric of that name.
//   * "ts" is the time and never a metric: epoch milliseconds (fraction allowed) or RFC 3339 text, 1970 .. now + 1 day.
//   * Values are numbers, true, false and strings of at most 1,024 bytes. null and arrays are refused: an acknowledgement
//     must not cover what was left out.
//   * Nested objects become names joined by dots, at most 8 parts, at most 128 bytes in all, no control characters.
//   * The same name twice in one record (after joining) is one point with the last value.
//   * At most 1,000 points in a message, at least one in each record.
// A refusal takes the whole message and names the place with a JSON pointer.
#ifndef DOMAIN_TELEMETRY_PAYLOAD_H
#define DOMAIN_TELEMETRY_PAYLOAD_H

#include "base/slice.h"
#include "base/status.h"
#include "store/ts.h"

#define PAYLOAD_POINTS_MAX 1000
#define PAYLOAD_DEPTH_MAX  8
#define PAYLOAD_STRING_MAX 1024
#define PAYLOAD_AHEAD_US   (24LL * 3600 * 1000000) // how far in the future a device's clock may be
#define PAYLOAD_NO_TIME    INT64_MIN

struct payload_point {
    struct slice metric;
    uint64_t hash; // hash_bytes(metric)
    struct ts_value value;
};
// The points of one record: they share their time.
struct payload_group {
    int64_t ts_us; // PAYLOAD_NO_TIME: the server gives one
    uint32_t first, len;
};

struct payload_slot;  // of the table that finds a name that was there before
struct payload_block; // text that does not stand in the message as it is needed

// Decoded messages, one after the other; reused from batch to batch.
struct payload {
    struct payload_point *points;
    uint32_t points_len, points_cap;
    struct payload_group *groups;
    uint32_t groups_len, groups_cap;
    struct payload_slot *slots;
    uint32_t generation; // of the record whose names the table holds
    struct payload_block *blocks;
    size_t bytes; // in all blocks
};
void payload_clear(struct payload *p); // keeps some memory for the next time
void payload_release(struct payload *p);
size_t payload_memory(const struct payload *p); // bytes held

// Copies `s` next to the points; p == NULL: no memory.
struct slice payload_copy(struct payload *p, struct slice s);
// Appends the groups and points of one message. They borrow from `json`. ST_MALFORMED (no JSON), ST_INVALID, ST_TOO_LARGE
// (too many points), ST_NOMEM; on an error nothing is appended.
enum status payload_decode(struct payload *p, struct slice json, int64_t now_us, struct err *err);

#endif
