// A growing list of decoded points, sorted and freed of equal times: where chunks that overlap are merged.
#ifndef STORE_TS_POINTS_H
#define STORE_TS_POINTS_H

#include "store/ts_chunk.h"

struct ts_point {
    int64_t t;
    uint32_t rank;     // of points with equal time the one with the highest rank stays
    uint32_t order;    // and of equal ranks the one added last
    struct ts_value v; // strings are borrowed
};
struct ts_points {
    struct ts_point *p;
    size_t len, cap, max;
    bool sorted; // by time, without equal times
};

struct ts_points ts_points_make(size_t max); // ST_LIMIT beyond `max` points
void ts_points_release(struct ts_points *ps);
void ts_points_clear(struct ts_points *ps);
enum status ts_points_add(struct ts_points *ps, int64_t t, uint32_t rank, struct ts_value v);
// All points of a chunk that lie in [from, to). ST_CORRUPT: the bytes are wrong; what was added before stays out.
enum status ts_points_add_chunk(struct ts_points *ps, const struct ts_chunk_info *info, struct slice bytes,
                                uint32_t rank, int64_t from, int64_t to);
// Sorts by time and keeps one point per time.
void ts_points_settle(struct ts_points *ps);

#endif
