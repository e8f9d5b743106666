#include "store/ts_points.h"

#include <stdlib.h>

#define POINTS_FIRST 64

struct ts_points ts_points_make(size_t max)
{
    return (struct ts_points){.max = max, .sorted = true};
}

void ts_points_release(struct ts_points *ps)
{
    free(ps->p);
    *ps = ts_points_make(ps->max);
}

void ts_points_clear(struct ts_points *ps)
{
    ps->len = 0;
    ps->sorted = true;
}

static enum status points_room(struct ts_points *ps)
{
    if (ps->len < ps->cap) {
        return ST_OK;
    }
    if (ps->len >= ps->max) {
        return ST_LIMIT;
    }
    size_t cap = ps->cap > 0 ? ps->cap * 2 : POINTS_FIRST;
    cap = cap > ps->max ? ps->max : cap;
    struct ts_point *p = reallocarray(ps->p, cap, sizeof(*p));
    if (p == NULL) {
        return ST_NOMEM;
    }
    ps->p = p;
    ps->cap = cap;
    return ST_OK;
}

enum status ts_points_add(struct ts_points *ps, int64_t t, uint32_t rank, struct ts_value v)
{
    enum status st = points_room(ps);
    if (st != ST_OK) {
        return st;
    }
    if (ps->len > 0 && t <= ps->p[ps->len - 1].t) {
        ps->sorted = false;
    }
    ps->p[ps->len] = (struct ts_point){.t = t, .rank = rank, .order = (uint32_t)ps->len, .v = v};
    ps->len++;
    return ST_OK;
}

enum status ts_points_add_chunk(struct ts_points *ps, const struct ts_chunk_info *info, struct slice bytes,
                                uint32_t rank, int64_t from, int64_t to)
{
    size_t len = ps->len;
    bool sorted = ps->sorted;
    struct ts_chunk_iter it;
    ts_chunk_iter_init(&it, info, bytes);
    int64_t t = 0;
    struct ts_value v;
    enum status st = ST_OK;
    while (st == ST_OK && ts_chunk_next(&it, &t, &v)) {
        if (t >= from && t < to) {
            st = ts_points_add(ps, t, rank, v);
        }
    }
    if (st == ST_OK && it.failed) {
        st = ST_CORRUPT;
    }
    if (st != ST_OK) {
        ps->len = len;
        ps->sorted = sorted;
    }
    return st;
}

static int point_compare(const void *pa, const void *pb)
{
    const struct ts_point *a = pa;
    const struct ts_point *b = pb;
    if (a->t != b->t) {
        return a->t < b->t ? -1 : 1;
    }
    if (a->rank != b->rank) {
        return a->rank < b->rank ? -1 : 1;
    }
    return a->order < b->order ? -1 : a->order > b->order;
}

void ts_points_settle(struct ts_points *ps)
{
    if (ps->sorted) {
        return;
    }
    qsort(ps->p, ps->len, sizeof(*ps->p), point_compare);
    size_t kept = 0;
    for (size_t i = 0; i < ps->len; i++) {
        if (i + 1 < ps->len && ps->p[i + 1].t == ps->p[i].t) {
            continue; // the last of equal times is the one that counts
        }
        ps->p[kept++] = ps->p[i];
    }
    ps->len = kept;
    ps->sorted = true;
}
