// ts.c and its parts on real files: what is committed is there exactly once, whatever happens in between.
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/map.h"
#include "base/rand.h"
#include "store/ts_priv.h"
#include "unit/store/tmpdir.h"

#define T0     INT64_C(1700000000000000) // 2023-11-14 22:13:20 UTC
#define MINUTE INT64_C(60000000)
#define TENANT 1

struct fixture {
    char dir[256];
    struct ts_conf conf;
    struct ts *ts;
    struct ts_reader *reader;
};

static void fixture_open(struct fixture *f)
{
    struct err err = {0};
    assert_int_equal(ts_open(f->dir, &f->conf, &f->ts, &err), ST_OK);
    assert_int_equal(ts_reader_open(f->dir, &f->reader, &err), ST_OK);
}

static void fixture_close(struct fixture *f)
{
    ts_reader_close(f->reader);
    ts_close(f->ts);
    f->ts = NULL;
    f->reader = NULL;
}

static int setup(void **state)
{
    struct fixture *f = test_calloc(1, sizeof(*f));
    tmpdir_make(f->dir, sizeof(f->dir));
    fixture_open(f);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    fixture_close(f);
    tmpdir_remove(f->dir);
    clock_fake_off();
    test_free(f);
    return 0;
}

static void reopen(struct fixture *f)
{
    fixture_close(f);
    fixture_open(f);
}

// A file as a crash of the process would leave it: what has been written, synced or not.
static void copy_file(const char *from, const char *to)
{
    static uint8_t block[1 << 16];
    int in = open(from, O_RDONLY);
    if (in < 0) {
        return; // deleted meanwhile
    }
    int out = open(to, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(out >= 0);
    for (ssize_t n = read(in, block, sizeof(block)); n > 0; n = read(in, block, sizeof(block))) {
        assert_int_equal(write(out, block, (size_t)n), n);
    }
    close(in);
    close(out);
}

static const char *copy_from;
static const char *copy_to;

static int copy_entry(const char *path, const struct stat *st, int type, struct FTW *walk)
{
    (void)st;
    (void)walk;
    char to[1024];
    snprintf(to, sizeof(to), "%s%s", copy_to, path + strlen(copy_from));
    if (type == FTW_D) {
        assert_true(mkdir(to, 0700) == 0 || walk->level == 0);
    } else if (strstr(path, "-shm") == NULL) {
        copy_file(path, to);
    }
    return 0;
}

// Another fixture on a copy of the first one's files: the crash.
static struct fixture *crash(const struct fixture *f)
{
    struct fixture *c = test_calloc(1, sizeof(*c));
    tmpdir_make(c->dir, sizeof(c->dir));
    copy_from = f->dir;
    copy_to = c->dir;
    assert_int_equal(nftw(f->dir, copy_entry, 16, FTW_PHYS), 0);
    c->conf = f->conf;
    fixture_open(c);
    return c;
}

static void crash_end(struct fixture *c)
{
    fixture_close(c);
    tmpdir_remove(c->dir);
    test_free(c);
}

static struct ts_value num(double v)
{
    return (struct ts_value){.type = TS_DOUBLE, .f = v};
}

static struct ts_value whole(int64_t v)
{
    return (struct ts_value){.type = TS_INT, .i = v};
}

static struct ts_value text(const char *v)
{
    return (struct ts_value){.type = TS_STRING, .s = slice_str(v)};
}

static enum status put(struct fixture *f, uint64_t device, const char *metric, int64_t t, struct ts_value v)
{
    struct ts_device *d = ts_device(f->ts, TENANT, device);
    assert_non_null(d);
    struct slice name = slice_str(metric);
    return ts_put(f->ts, d, t, name, hash_bytes(name), v, false, NULL);
}

static void commit(struct fixture *f)
{
    struct err err = {0};
    assert_int_equal(ts_commit(f->ts, &err), ST_OK);
}

struct got {
    size_t n;
    int64_t t[20000];
    struct ts_value v[20000];
    char text[64];
};
static struct got got;

static bool take(void *arg, int64_t t, struct ts_value v)
{
    struct got *g = arg;
    assert_true(g->n < 20000);
    g->t[g->n] = t;
    g->v[g->n] = v;
    if (v.type == TS_STRING) {
        assert_true(slice_to_cstr(v.s, g->text, sizeof(g->text)));
    }
    g->n++;
    return true;
}

static struct ts_query query(uint64_t device, const char *metric, int64_t from, int64_t to)
{
    return (struct ts_query){
        .tenant = TENANT, .device = device, .metric = slice_str(metric), .from_us = from, .to_us = to};
}

static enum status ask(struct fixture *f, const struct ts_query *q)
{
    struct ts_snapshot *s = NULL;
    struct err err = {0};
    got.n = 0;
    enum status st = ts_snapshot_take(f->ts, q, &s);
    if (st == ST_OK) {
        st = ts_read(f->reader, s, q, take, &got, &err);
        uint64_t n = 0;
        assert_int_equal(ts_read_count(f->reader, s, q, &n, &err), ST_OK);
        if (q->agg == TS_RAW && q->limit == 0) {
            assert_int_equal(n, got.n);
        }
    }
    ts_snapshot_free(s);
    return st;
}

static size_t points(struct fixture *f, uint64_t device, const char *metric)
{
    struct ts_query q = query(device, metric, 0, TS_TIME_MAX);
    enum status st = ask(f, &q);
    assert_true(st == ST_OK || st == ST_NOT_FOUND);
    return st == ST_OK ? got.n : 0;
}

static void flush(struct fixture *f)
{
    struct err err = {0};
    assert_int_equal(ts_flush(f->ts, &err), ST_OK);
}

static struct ts_stats stats(struct fixture *f)
{
    struct ts_stats s;
    ts_stats(f->ts, &s);
    return s;
}

// --- Storing and reading --------------------------------------------------------------------------------------------

static void committed_points_are_readable(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(put(f, 7, "t", T0, num(21.5)), ST_OK);
    assert_int_equal(put(f, 7, "t", T0 + 1000, num(21.6)), ST_OK);
    assert_int_equal(put(f, 7, "mode", T0, text("auto")), ST_OK);
    assert_int_equal(put(f, 7, "on", T0, (struct ts_value){.type = TS_BOOL, .b = true}), ST_OK);
    assert_true(ts_staged(f->ts));
    assert_int_equal(points(f, 7, "t"), 0); // not before the commit
    commit(f);
    assert_false(ts_staged(f->ts));
    for (int round = 0; round < 3; round++) { // from memory, after a restart, from chunk rows
        assert_int_equal(points(f, 7, "t"), 2);
        assert_true(got.t[0] == T0 && got.v[0].f == 21.5);
        assert_true(got.t[1] == T0 + 1000 && got.v[1].f == 21.6);
        assert_int_equal(points(f, 7, "mode"), 1);
        assert_string_equal(got.text, "auto");
        assert_int_equal(points(f, 7, "on"), 1);
        assert_true(got.v[0].type == TS_BOOL && got.v[0].b);
        assert_int_equal(points(f, 7, "unknown"), 0);
        assert_int_equal(points(f, 8, "t"), 0);
        if (round == 0) {
            reopen(f);
        } else {
            flush(f);
        }
    }
    assert_int_equal(stats(f).head_bytes, 0);
    reopen(f);
    assert_int_equal(points(f, 7, "t"), 2);
}

static void other_tenants_see_nothing(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(put(f, 7, "t", T0, num(1)), ST_OK);
    commit(f);
    struct ts_query q = query(7, "t", 0, TS_TIME_MAX);
    q.tenant = 2;
    assert_int_equal(ask(f, &q), ST_NOT_FOUND);
    assert_int_equal(ts_last(f->ts, 2, 7, NULL, NULL), 0);
    flush(f);
    reopen(f);
    assert_int_equal(ask(f, &q), ST_NOT_FOUND);
}

static void ranges_limits_and_order(void **state)
{
    struct fixture *f = *state;
    for (int64_t i = 0; i < 3000; i++) { // two days and a bit more
        assert_int_equal(put(f, 1, "t", T0 + i * MINUTE, whole(i)), ST_OK);
        if (i % 100 == 99) {
            commit(f);
        }
        if (i == 1000 || i == 2500) {
            commit(f);
            flush(f);
        }
    }
    commit(f);
    assert_int_equal(points(f, 1, "t"), 3000);
    struct ts_query q = query(1, "t", T0 + 10 * MINUTE, T0 + 20 * MINUTE);
    assert_int_equal(ask(f, &q), ST_OK);
    assert_int_equal(got.n, 10);
    assert_true(got.v[0].i == 10 && got.v[9].i == 19);
    q.to_us = TS_TIME_MAX;
    q.limit = 5;
    assert_int_equal(ask(f, &q), ST_OK);
    assert_int_equal(got.n, 5);
    q.from_us = 0;
    q.descending = true;
    assert_int_equal(ask(f, &q), ST_OK);
    assert_true(got.n == 5 && got.v[0].i == 2999 && got.v[4].i == 2995);
    q.limit = 0;
    assert_int_equal(ask(f, &q), ST_OK);
    assert_int_equal(got.n, 3000);
    for (size_t i = 0; i < got.n; i++) {
        assert_true(got.v[i].i == 2999 - (int64_t)i);
    }
}

static void aggregates(void **state)
{
    struct fixture *f = *state;
    int64_t start = T0 - T0 % (5 * MINUTE);
    for (int64_t i = 0; i < 20; i++) {
        assert_int_equal(put(f, 1, "t", start + i * MINUTE, whole(i * i)), ST_OK);
        assert_int_equal(put(f, 1, "x", start + i * MINUTE, i == 3 ? text("broken") : num((double)i / 4)), ST_OK);
    }
    commit(f);
    static const struct {
        enum ts_agg agg;
        double want[4]; // of squares, in buckets of five
    } cases[] = {
        {TS_MIN, {0, 25, 100, 225}},    {TS_MAX, {16, 81, 196, 361}}, {TS_AVG, {6, 51, 146, 291}},
        {TS_SUM, {30, 255, 730, 1455}}, {TS_COUNT, {5, 5, 5, 5}},     {TS_FIRST, {0, 25, 100, 225}},
        {TS_LAST, {16, 81, 196, 361}},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        for (int down = 0; down < 2; down++) {
            struct ts_query q = query(1, "t", start, start + 20 * MINUTE);
            q.agg = cases[i].agg;
            q.bucket_us = 5 * MINUTE;
            q.descending = down == 1;
            assert_int_equal(ask(f, &q), ST_OK);
            assert_int_equal(got.n, 4);
            for (size_t k = 0; k < 4; k++) {
                size_t at = down == 1 ? 3 - k : k;
                double v = got.v[at].type == TS_INT ? (double)got.v[at].i : got.v[at].f;
                assert_true(v == cases[i].want[k]);
                assert_true(got.t[at] == start + (int64_t)k * 5 * MINUTE);
            }
        }
    }
    struct ts_query q = query(1, "x", start, start + 5 * MINUTE);
    q.agg = TS_AVG;
    q.bucket_us = 5 * MINUTE;
    assert_int_equal(ask(f, &q), ST_OK);
    assert_true(got.n == 1 && got.v[0].f == (0 + 0.25 + 0.5 + 1) / 4); // the text is left out
    q.bucket_us = 0;
    assert_int_equal(ask(f, &q), ST_INVALID);
}

static void late_points_find_their_place(void **state)
{
    struct fixture *f = *state;
    static int64_t order[2000];
    for (int64_t i = 0; i < 2000; i++) {
        order[i] = i;
    }
    rand_seed(5);
    for (size_t i = 1999; i > 0; i--) {
        size_t k = rand_u64() % (i + 1);
        int64_t x = order[i];
        order[i] = order[k];
        order[k] = x;
    }
    for (size_t i = 0; i < 2000; i++) {
        assert_int_equal(put(f, 1, "t", T0 + order[i] * MINUTE * 3, whole(order[i])), ST_OK);
        if (i % 50 == 49) {
            commit(f);
        }
        if (i == 700 || i == 1500) {
            commit(f);
            flush(f);
        }
    }
    commit(f);
    for (int round = 0; round < 3; round++) {
        assert_int_equal(points(f, 1, "t"), 2000);
        for (int64_t i = 0; i < 2000; i++) {
            assert_true(got.t[i] == T0 + i * MINUTE * 3 && got.v[i].i == i);
        }
        struct ts_query q = query(1, "t", T0, T0 + 1000 * MINUTE * 3);
        q.descending = true;
        assert_int_equal(ask(f, &q), ST_OK);
        assert_true(got.n == 1000 && got.v[0].i == 999);
        if (round == 0) {
            reopen(f);
        } else {
            flush(f);
        }
    }
}

// Equal times: what was stored last is what counts, once, wherever the two are.
static void later_stored_wins(void **state)
{
    struct fixture *f = *state;
    for (int64_t i = 0; i < 6; i++) {
        assert_int_equal(put(f, 1, "t", T0, whole(i)), ST_OK);
        assert_int_equal(put(f, 1, "t", T0 + MINUTE, whole(100 + i)), ST_OK);
        commit(f);
        assert_int_equal(points(f, 1, "t"), 2);
        assert_true(got.v[0].i == i && got.v[1].i == 100 + i);
        if (i == 1 || i == 4) {
            flush(f);
        }
        if (i == 3) {
            reopen(f);
        }
        assert_int_equal(points(f, 1, "t"), 2);
        assert_true(got.v[0].i == i && got.v[1].i == 100 + i);
    }
}

static void snapshot_before_a_flush_reads_after_it(void **state)
{
    struct fixture *f = *state;
    for (int64_t i = 0; i < 100; i++) {
        assert_int_equal(put(f, 1, "t", T0 + i * MINUTE, whole(i)), ST_OK);
    }
    commit(f);
    struct ts_query q = query(1, "t", 0, TS_TIME_MAX);
    struct ts_snapshot *s = NULL;
    assert_int_equal(ts_snapshot_take(f->ts, &q, &s), ST_OK);
    assert_int_equal(put(f, 1, "t", T0, whole(4711)), ST_OK); // stored after the snapshot
    commit(f);
    flush(f);
    got.n = 0;
    assert_int_equal(ts_read(f->reader, s, &q, take, &got, NULL), ST_OK);
    ts_snapshot_free(s);
    // The first day's partition did not exist when the snapshot was taken; its own points are there exactly once.
    assert_int_equal(got.n, 100);
}

static bool last_seen(struct fixture *f, uint64_t device, const char *metric, int64_t *ret_t, struct ts_value *ret_v);

struct last {
    const char *metric;
    bool found;
    int64_t t;
    struct ts_value v;
    char text[32];
};

static void last_take(void *arg, struct slice metric, int64_t t, struct ts_value v)
{
    struct last *l = arg;
    if (slice_eq_str(metric, l->metric)) {
        l->found = true;
        l->t = t;
        l->v = v;
        if (v.type == TS_STRING) {
            assert_true(slice_to_cstr(v.s, l->text, sizeof(l->text)));
        }
    }
}

static char last_text[32];

static bool last_seen(struct fixture *f, uint64_t device, const char *metric, int64_t *ret_t, struct ts_value *ret_v)
{
    struct last l = {.metric = metric};
    (void)ts_last(f->ts, TENANT, device, last_take, &l);
    *ret_t = l.t;
    *ret_v = l.v;
    memcpy(last_text, l.text, sizeof(last_text));
    return l.found;
}

static void last_values(void **state)
{
    struct fixture *f = *state;
    int64_t t = 0;
    struct ts_value v;
    assert_int_equal(put(f, 3, "a", T0 + 5, num(5)), ST_OK);
    assert_int_equal(put(f, 3, "a", T0 + 1, num(1)), ST_OK); // late: not the last
    assert_int_equal(put(f, 3, "s", T0, text("idle")), ST_OK);
    assert_false(last_seen(f, 3, "a", &t, &v));
    commit(f);
    for (int round = 0; round < 4; round++) {
        assert_true(last_seen(f, 3, "a", &t, &v));
        assert_true(t == T0 + 5 && v.f == 5);
        assert_true(last_seen(f, 3, "s", &t, &v));
        assert_string_equal(last_text, "idle");
        assert_false(last_seen(f, 3, "b", &t, &v));
        assert_int_equal(ts_last(f->ts, TENANT, 99, last_take, NULL), 0);
        if (round == 1) {
            flush(f);
        } else {
            reopen(f);
        }
    }
}

static void assigned_times_are_unique(void **state)
{
    struct fixture *f = *state;
    struct ts_device *d = ts_device(f->ts, TENANT, 1);
    assert_true(ts_assign_time(d, T0) == T0);
    assert_true(ts_assign_time(d, T0) == T0 + 1);
    assert_true(ts_assign_time(d, T0 - 50) == T0 + 2); // the clock went back
    assert_true(ts_assign_time(d, T0 + 100) == T0 + 100);
}

// --- Batches --------------------------------------------------------------------------------------------------------

static void undo_forgets_one_message(void **state)
{
    struct fixture *f = *state;
    struct ts_device *d = ts_device(f->ts, TENANT, 1);
    assert_int_equal(put(f, 1, "kept", T0, num(1)), ST_OK);
    assert_int_equal(ts_count(f->ts, d, 0, 1), ST_OK);
    struct ts_mark m = ts_mark(f->ts);
    assert_int_equal(put(f, 1, "kept", T0 + 1, num(2)), ST_OK);
    assert_int_equal(put(f, 1, "gone", T0, text("never stored")), ST_OK);
    assert_int_equal(put(f, 2, "gone", T0, num(1)), ST_OK);
    assert_int_equal(ts_count(f->ts, d, 0, 10), ST_OK);
    ts_undo(f->ts, m);
    assert_int_equal(put(f, 1, "kept", T0 + 3, num(3)), ST_OK);
    commit(f);
    for (int round = 0; round < 2; round++) {
        assert_int_equal(points(f, 1, "kept"), 2);
        assert_true(got.v[1].f == 3);
        assert_int_equal(points(f, 1, "gone"), 0);
        assert_int_equal(points(f, 2, "gone"), 0);
        uint64_t c[TS_COUNTERS];
        ts_counters(f->ts, 1, c);
        assert_int_equal(c[0], 1);
        reopen(f);
    }
    assert_int_equal(stats(f).series, 1);
}

static void abandon_forgets_the_batch(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(put(f, 1, "t", T0, num(1)), ST_OK);
    ts_abandon(f->ts);
    assert_false(ts_staged(f->ts));
    commit(f);
    assert_int_equal(points(f, 1, "t"), 0);
    assert_int_equal(stats(f).commits, 0);
}

static void limits_hold_and_leave_nothing(void **state)
{
    struct fixture *f = *state;
    fixture_close(f);
    f->conf.series_per_device = 3;
    f->conf.metrics_per_tenant = 5;
    fixture_open(f);
    struct ts_mark m = ts_mark(f->ts);
    static const char *const names[] = {"a", "b", "c"};
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(put(f, 1, names[i], T0, num(1)), ST_OK);
    }
    assert_int_equal(put(f, 1, "d", T0, num(1)), ST_LIMIT);
    assert_int_equal(put(f, 1, "a", T0, num(1)), ST_OK);
    ts_undo(f->ts, m); // the names are free again
    for (int round = 0; round < 3; round++) {
        assert_int_equal(put(f, 1, "e", T0, num(1)), ST_OK);
        assert_int_equal(put(f, 1, "f", T0, num(1)), ST_OK);
        assert_int_equal(put(f, 1, "g", T0, num(1)), ST_OK);
        assert_int_equal(put(f, 1, "h", T0, num(1)), ST_LIMIT);
        assert_int_equal(put(f, 2, "h", T0, num(1)), ST_OK);
        assert_int_equal(put(f, 2, "i", T0, num(1)), ST_OK);
        assert_int_equal(put(f, 2, "j", T0, num(1)), ST_LIMIT); // a sixth name of the tenant
        assert_int_equal(put(f, 2, "e", T0, num(1)), ST_OK);
        commit(f);
        if (round == 1) {
            flush(f);
        }
        reopen(f);
    }
    struct ts_device *other = ts_device(f->ts, 2, 10);
    struct slice name = SLICE("theirs");
    assert_int_equal(ts_put(f->ts, other, T0, name, hash_bytes(name), num(1), false, NULL), ST_OK);
}

static void bad_points_are_refused(void **state)
{
    struct fixture *f = *state;
    char name[TS_METRIC_MAX + 2];
    memset(name, 'x', sizeof(name));
    name[TS_METRIC_MAX + 1] = '\0';
    assert_int_equal(put(f, 1, name, T0, num(1)), ST_INVALID);
    name[TS_METRIC_MAX] = '\0';
    assert_int_equal(put(f, 1, name, T0, num(1)), ST_OK);
    assert_int_equal(put(f, 1, "", T0, num(1)), ST_INVALID);
    assert_int_equal(put(f, 1, "a\nb", T0, num(1)), ST_INVALID);
    assert_int_equal(put(f, 1, "\xff", T0, num(1)), ST_INVALID);
    assert_int_equal(put(f, 1, "t", -1, num(1)), ST_INVALID);
    assert_int_equal(put(f, 1, "t", TS_TIME_MAX, num(1)), ST_INVALID);
    assert_int_equal(put(f, 1, "t", T0, num(1.0 / 0.0)), ST_INVALID);
    static char big[TS_STRING_MAX + 1];
    assert_int_equal(put(f, 1, "t", T0, (struct ts_value){.type = TS_STRING, .s = slice_make(big, sizeof(big))}),
                     ST_INVALID);
    struct ts_device *d = ts_device(f->ts, TENANT, 1);
    assert_int_equal(ts_count(f->ts, d, TS_COUNTERS, 1), ST_INVALID);
}

static bool duplicate(struct fixture *f, int64_t t, struct ts_value v)
{
    struct ts_device *d = ts_device(f->ts, TENANT, 1);
    bool dup = false;
    assert_int_equal(ts_put(f->ts, d, t, SLICE("t"), hash_bytes(SLICE("t")), v, true, &dup), ST_OK);
    return dup;
}

static void duplicates_are_found_everywhere(void **state)
{
    struct fixture *f = *state;
    assert_false(duplicate(f, T0, num(1)));
    assert_true(duplicate(f, T0, num(1))); // in the same batch
    assert_false(duplicate(f, T0, num(2)));
    assert_false(duplicate(f, T0, num(1))); // no longer the newest value of this time
    commit(f);
    for (int round = 0; round < 4; round++) {
        assert_true(duplicate(f, T0, num(1)));
        assert_true(duplicate(f, T0, whole(1)));
        assert_false(ts_staged(f->ts));
        if (round % 2 == 0) {
            flush(f);
        } else {
            reopen(f);
        }
    }
    assert_false(duplicate(f, T0, num(3)));
    assert_false(duplicate(f, T0 + 1, num(1)));
    commit(f);
    assert_int_equal(points(f, 1, "t"), 2);
}

static void counters_add_up(void **state)
{
    struct fixture *f = *state;
    uint64_t c[TS_COUNTERS];
    for (uint64_t round = 1; round <= 6; round++) {
        for (uint64_t device = 1; device <= 3; device++) {
            struct ts_device *d = ts_device(f->ts, TENANT, device);
            assert_int_equal(ts_count(f->ts, d, 0, device), ST_OK);
            assert_int_equal(ts_count(f->ts, d, 23, 1), ST_OK);
            assert_int_equal(ts_count(f->ts, d, 0, 1), ST_OK);
        }
        commit(f);
        if (round == 2 || round == 5) {
            flush(f);
        }
        if (round == 3 || round == 5) {
            reopen(f);
        }
        ts_counters(f->ts, 2, c);
        assert_int_equal(c[0], 3 * round);
        assert_int_equal(c[23], round);
        assert_int_equal(c[1], 0);
        ts_tenant_counters(f->ts, TENANT, c);
        assert_int_equal(c[0], (2 + 3 + 4) * round);
        ts_tenant_counters(f->ts, 77, c);
        assert_int_equal(c[0], 0);
        ts_counters(f->ts, 77, c);
        assert_int_equal(c[0], 0);
    }
}

// --- Crashes --------------------------------------------------------------------------------------------------------

#define CRASH_DEVICES 40
#define CRASH_ROUNDS  30

static void assert_all_once(struct fixture *c, int64_t rounds)
{
    for (uint64_t d = 1; d <= CRASH_DEVICES; d++) {
        assert_int_equal(points(c, d, "t"), (size_t)rounds);
        for (int64_t i = 0; i < rounds; i++) {
            assert_true(got.t[i] == T0 + i * 200 * MINUTE + (int64_t)d && got.v[i].i == i * 1000 + (int64_t)d);
        }
        uint64_t n[TS_COUNTERS];
        ts_counters(c->ts, d, n);
        assert_int_equal(n[1], (uint64_t)rounds);
        int64_t t = 0;
        struct ts_value v;
        assert_true(last_seen(c, d, "t", &t, &v));
        assert_true(v.i == (rounds - 1) * 1000 + (int64_t)d);
    }
    uint64_t n[TS_COUNTERS];
    ts_tenant_counters(c->ts, TENANT, n);
    assert_int_equal(n[1], (uint64_t)rounds * CRASH_DEVICES);
}

static void write_round(struct fixture *f, int64_t i)
{
    for (uint64_t d = 1; d <= CRASH_DEVICES; d++) {
        assert_int_equal(put(f, d, "t", T0 + i * 200 * MINUTE + (int64_t)d, whole(i * 1000 + (int64_t)d)), ST_OK);
        assert_int_equal(ts_count(f->ts, ts_device(f->ts, TENANT, d), 1, 1), ST_OK);
    }
    commit(f);
}

// A crash after every single step of flushes that run while more data comes, over several days of partitions.
static void crash_at_every_step_of_a_flush(void **state)
{
    struct fixture *f = *state;
    int64_t round = 0;
    unsigned crashes = 0;
    while (round < CRASH_ROUNDS) {
        write_round(f, round++);
        write_round(f, round++);
        assert_int_equal(ts_flush_begin(f->ts), ST_OK);
        while (f->ts->flush.state != TS_FLUSH_IDLE) {
            struct fixture *c = crash(f);
            assert_all_once(c, round);
            write_round(c, round); // and it goes on
            flush(c);
            assert_all_once(c, round + 1);
            crash_end(c);
            crashes++;
            assert_int_equal(ts_flush_step(f->ts, NULL), ST_OK);
            if (crashes % 7 == 3 && round < CRASH_ROUNDS) {
                write_round(f, round++); // between two steps
            }
        }
        assert_all_once(f, round);
    }
    assert_true(crashes > 30);
    assert_int_equal(stats(f).corrupt, 0);
}

static void crash_twice_in_a_flush(void **state)
{
    struct fixture *f = *state;
    write_round(f, 0);
    write_round(f, 1);
    struct fixture *c = crash(f);
    for (unsigned steps = 1; steps < 6; steps++) {
        assert_int_equal(ts_flush_begin(c->ts), ST_OK);
        for (unsigned i = 0; i < steps && c->ts->flush.state != TS_FLUSH_IDLE; i++) {
            assert_int_equal(ts_flush_step(c->ts, NULL), ST_OK);
        }
        struct fixture *next = crash(c);
        crash_end(c);
        c = next;
        assert_all_once(c, 2);
    }
    crash_end(c);
}

static void reopened_log_goes_on(void **state)
{
    struct fixture *f = *state;
    for (int64_t i = 0; i < 5; i++) {
        write_round(f, i);
        reopen(f);
        assert_int_equal(f->ts->log.len, 1); // no segment per start
    }
    assert_all_once(f, 5);
}

// --- Retention and erasure ------------------------------------------------------------------------------------------

static void keep_round(struct fixture *f, int64_t now)
{
    f->ts->keep.next_us = 1; // now, and not in a minute
    f->ts->keep.day = -1;
    while (f->ts->keep.next_us == 1 && ts_step(f->ts, now)) {
    }
}

static void old_partitions_are_dropped(void **state)
{
    struct fixture *f = *state;
    for (int64_t day = 0; day < 10; day++) {
        assert_int_equal(put(f, 1, "t", T0 + day * TS_DAY_US, whole(day)), ST_OK);
        assert_int_equal(put(f, 1, "keep", T0 + day * TS_DAY_US, whole(day)), ST_OK);
        assert_int_equal(put(f, 2, "t", T0 + day * TS_DAY_US, whole(day)), ST_OK);
    }
    commit(f);
    flush(f);
    int64_t now = T0 + 9 * TS_DAY_US;
    keep_round(f, now);
    assert_int_equal(points(f, 1, "t"), 10); // for ever, by default

    assert_int_equal(ts_set_retention(f->ts, TENANT, SLICE(""), 3 * TS_DAY_US), ST_OK);
    assert_int_equal(ts_set_retention(f->ts, TENANT, SLICE("keep"), 6 * TS_DAY_US), ST_OK);
    assert_true(ts_keep_for(f->ts, TENANT, SLICE("keep")) == 6 * TS_DAY_US);
    assert_true(ts_keep_for(f->ts, TENANT, SLICE("t")) == 3 * TS_DAY_US);
    keep_round(f, now);
    assert_int_equal(f->ts->days_len, 10); // another tenant may keep for ever
    assert_int_equal(points(f, 1, "t"), 4);
    assert_true(got.v[0].i == 6);
    assert_int_equal(points(f, 2, "t"), 4);
    assert_int_equal(points(f, 1, "keep"), 7);

    f->ts->conf.retention_us = 5 * TS_DAY_US;
    keep_round(f, now);
    assert_int_equal(f->ts->days_len, 7); // dropped as whole files
    assert_int_equal(points(f, 1, "keep"), 7);

    // A shorter retention later purges again; without the policy, the default.
    assert_int_equal(ts_set_retention(f->ts, TENANT, SLICE("keep"), TS_DAY_US), ST_OK);
    keep_round(f, now);
    assert_int_equal(points(f, 1, "keep"), 2);
    assert_int_equal(points(f, 1, "t"), 4);
    assert_int_equal(ts_set_retention(f->ts, TENANT, SLICE("keep"), -1), ST_OK);
    assert_true(ts_keep_for(f->ts, TENANT, SLICE("keep")) == 3 * TS_DAY_US);
    reopen(f);
    assert_int_equal(points(f, 1, "keep"), 2);
}

static void erased_device_leaves_nothing(void **state)
{
    struct fixture *f = *state;
    for (int64_t i = 0; i < 50; i++) {
        for (uint64_t d = 1; d <= 3; d++) {
            assert_int_equal(put(f, d, "t", T0 + i * 100 * MINUTE, whole(i)), ST_OK);
            assert_int_equal(put(f, d, "secret", T0 + i * 100 * MINUTE, text("erase me")), ST_OK);
            assert_int_equal(ts_count(f->ts, ts_device(f->ts, TENANT, d), 0, 1), ST_OK);
        }
        commit(f);
        if (i == 30) {
            flush(f);
        }
    }
    struct ts_device *gone = ts_device(f->ts, TENANT, 2);
    assert_int_equal(put(f, 1, "t", T0 - 1, whole(0)), ST_OK);
    assert_int_equal(ts_device_erase(f->ts, 2, NULL), ST_BUSY); // not within a batch
    commit(f);
    // In the middle of a flush.
    assert_int_equal(ts_flush_begin(f->ts), ST_OK);
    assert_int_equal(ts_flush_step(f->ts, NULL), ST_OK);
    assert_int_equal(ts_device_erase(f->ts, 2, NULL), ST_OK);
    assert_int_equal(points(f, 2, "t"), 0);
    assert_int_equal(ts_put(f->ts, gone, T0, SLICE("t"), hash_bytes(SLICE("t")), num(1), false, NULL), ST_NOT_FOUND);

    struct fixture *c = crash(f); // with the deletion of the rows still to do
    assert_int_equal(points(c, 2, "t"), 0);
    flush(c);
    assert_int_equal(points(c, 2, "t"), 0);
    assert_int_equal(points(c, 1, "t"), 51);
    crash_end(c);

    flush(f);
    reopen(f);
    uint64_t n[TS_COUNTERS];
    ts_counters(f->ts, 2, n);
    assert_int_equal(n[0], 0);
    ts_counters(f->ts, 3, n);
    assert_int_equal(n[0], 50);
    assert_int_equal(points(f, 2, "t"), 0);
    assert_int_equal(points(f, 2, "secret"), 0);
    assert_int_equal(points(f, 1, "t"), 51);
    assert_int_equal(points(f, 3, "secret"), 50);
    for (size_t i = 0; i < f->ts->days_len; i++) {
        struct ts_part *p = NULL;
        uint64_t row = 0;
        assert_int_equal(ts_part_open(f->ts, f->ts->days[i].day, false, &p, NULL), ST_OK);
        for (;;) {
            assert_int_equal(ts_part_scan(p, row + 1, &row, NULL), ST_OK);
            if (row == 0) {
                break;
            }
            struct ts_series *s = ts_table_get(&f->ts->table, ts_row_series(row));
            assert_true(s == NULL || s->dev->device != 2);
            if (s == NULL) {
                assert_int_equal(ts_catalog_series(f->ts, ts_row_series(row), &s), ST_OK);
                assert_int_not_equal(s->dev->device, 2);
            }
        }
    }
}

// --- Damage ---------------------------------------------------------------------------------------------------------

static void damage(struct db *db, const char *sql)
{
    assert_int_equal(sqlite3_exec(db->h, sql, NULL, NULL, NULL), SQLITE_OK);
}

static void damaged_chunk_is_reported_and_set_aside(void **state)
{
    struct fixture *f = *state;
    for (int64_t i = 0; i < 4; i++) {
        for (int64_t k = 0; k < 10; k++) {
            assert_int_equal(put(f, 1, "t", T0 + (i * 10 + k) * 1000000, whole(k)), ST_OK);
        }
        commit(f);
        flush(f);
    }
    assert_int_equal(points(f, 1, "t"), 40);
    struct ts_part *p = NULL;
    assert_int_equal(ts_part_open(f->ts, ts_day_of(T0), false, &p, NULL), ST_OK);
    damage(p->db, "UPDATE chunk SET bytes = zeroblob(length(bytes)) WHERE id = (SELECT min(id) FROM chunk)");
    damage(p->db, "UPDATE chunk SET codec = 999 WHERE id = (SELECT max(id) FROM chunk)");
    struct ts_query q = query(1, "t", 0, TS_TIME_MAX);
    struct ts_snapshot *s = NULL;
    assert_int_equal(ts_snapshot_take(f->ts, &q, &s), ST_OK);
    got.n = 0;
    assert_int_equal(ts_read(f->reader, s, &q, take, &got, NULL), ST_OK);
    ts_snapshot_free(s);
    assert_int_equal(got.n, 20); // the other two rows
    assert_int_equal(stats(f).corrupt, 2);
    (void)ts_step(f->ts, T0);
    static const struct sql_def count = {"count", "SELECT count(*) FROM quarantine"};
    int64_t n = 0;
    assert_int_equal(ts_part_open(f->ts, ts_day_of(T0), false, &p, NULL), ST_OK);
    assert_int_equal(db_ask_i64(p->db, &count, &n, NULL), ST_OK);
    assert_int_equal(n, 2);
    assert_int_equal(points(f, 1, "t"), 20);
    assert_int_equal(stats(f).corrupt, 2);
}

static void damaged_log_row_is_reported_and_set_aside(void **state)
{
    struct fixture *f = *state;
    for (int64_t i = 0; i < 10; i++) {
        assert_int_equal(put(f, 1, "t", T0 + i * MINUTE, whole(i)), ST_OK);
        commit(f);
    }
    damage(f->ts->log.db,
           "UPDATE log SET blob = CAST(substr(blob, 1, length(blob) - 1) || x'00' AS BLOB) WHERE seq = 5");
    damage(f->ts->log.db, "UPDATE log SET blob = substr(blob, 1, 3) WHERE seq = 8");
    reopen(f);
    assert_int_equal(points(f, 1, "t"), 8);
    assert_int_equal(stats(f).corrupt, 2);
    static const struct sql_def count = {"count", "SELECT count(*) FROM quarantine"};
    int64_t n = 0;
    assert_int_equal(db_ask_i64(f->ts->catalog, &count, &n, NULL), ST_OK);
    assert_int_equal(n, 2);
    assert_int_equal(put(f, 1, "t", T0 + 20 * MINUTE, whole(20)), ST_OK);
    commit(f);
    flush(f);
    assert_int_equal(points(f, 1, "t"), 9);
}

static void lost_definition_is_found_in_the_catalog(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(put(f, 1, "t", T0, whole(1)), ST_OK);
    commit(f);
    flush(f); // the catalog knows the series now
    assert_int_equal(put(f, 1, "t", T0 + 1, whole(2)), ST_OK);
    commit(f);
    assert_int_equal(put(f, 1, "t", T0 + 2, whole(3)), ST_OK);
    commit(f);
    damage(f->ts->log.db, "UPDATE log SET crc = crc + 1 WHERE seq = (SELECT min(seq) FROM log)");
    reopen(f);
    assert_int_equal(points(f, 1, "t"), 2); // the first of the segment is lost, the second is not
    assert_int_equal(stats(f).corrupt, 1);
}

static void damaged_partition_does_not_stop_the_store(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(put(f, 1, "t", T0, whole(1)), ST_OK);
    commit(f);
    flush(f);
    fixture_close(f);
    char path[512];
    assert_true(ts_part_name(f->dir, ts_day_of(T0), "", path, sizeof(path)));
    FILE *file = fopen(path, "r+");
    assert_non_null(file);
    fputs("this was a database once", file);
    fclose(file);
    fixture_open(f);
    assert_int_equal(put(f, 1, "t", T0 + 1, whole(2)), ST_OK);
    commit(f);
    flush(f);
    assert_int_equal(points(f, 1, "t"), 1);
    assert_int_equal(stats(f).corrupt, 1);
}

// --- Housekeeping by itself -----------------------------------------------------------------------------------------

static void steps_flush_when_the_log_is_large(void **state)
{
    struct fixture *f = *state;
    fixture_close(f);
    f->conf.segment_bytes = 200000;
    fixture_open(f);
    for (int64_t i = 0; i < 400; i++) {
        for (uint64_t d = 1; d <= 20; d++) {
            assert_int_equal(put(f, d, "t", T0 + i * MINUTE, whole(i)), ST_OK);
        }
        commit(f);
        (void)ts_step(f->ts, T0);
    }
    while (ts_step(f->ts, T0)) {
    }
    assert_true(stats(f).flushes > 3);
    assert_true(stats(f).log_bytes < 400000);
    for (uint64_t d = 1; d <= 20; d++) {
        assert_int_equal(points(f, d, "t"), 400);
    }
}

static void steps_flush_after_a_while(void **state)
{
    struct fixture *f = *state;
    clock_fake(T0, 1000000);
    assert_int_equal(put(f, 1, "t", T0, whole(1)), ST_OK);
    commit(f);
    assert_false(ts_step(f->ts, T0));
    clock_fake(T0, 1000000 + INT64_C(3700) * 1000000);
    assert_true(ts_step(f->ts, T0));
    while (ts_step(f->ts, T0)) {
    }
    assert_int_equal(stats(f).flushes, 1);
    assert_int_equal(stats(f).head_bytes, 0);
    clock_fake_off();
    assert_int_equal(points(f, 1, "t"), 1);
}

// Readers on their own threads while the owner commits, flushes and drops: every answer is a whole prefix of what was
// committed. (The thread sanitizer's test as well.)
struct shelf { // snapshots on their way from the owner to a reader
    pthread_mutex_t lock;
    struct ts_snapshot *snap;
    int64_t committed; // rounds when it was taken
    bool end;
    const char *dir;
    uint64_t reads;
};

struct prefix {
    int64_t next;
    bool wrong;
};

static bool prefix_take(void *arg, int64_t t, struct ts_value v)
{
    struct prefix *p = arg;
    p->wrong = p->wrong || t != T0 + p->next * 30 * MINUTE || v.i != p->next;
    p->next++;
    return !p->wrong;
}

static void *read_on(void *arg)
{
    struct shelf *s = arg;
    struct ts_reader *r = NULL;
    assert_int_equal(ts_reader_open(s->dir, &r, NULL), ST_OK);
    for (bool end = false; !end;) {
        pthread_mutex_lock(&s->lock);
        struct ts_snapshot *snap = s->snap;
        int64_t committed = s->committed;
        s->snap = NULL;
        end = s->end;
        pthread_mutex_unlock(&s->lock);
        if (snap == NULL) {
            usleep(100);
            continue;
        }
        struct ts_query q = query(1, "t", 0, TS_TIME_MAX);
        struct prefix p = {0};
        struct err err = {0};
        enum status st = ts_read(r, snap, &q, prefix_take, &p, &err);
        ts_snapshot_free(snap);
        if (st != ST_OK || p.wrong || p.next < committed) {
            fail_msg("%s: %lld rounds of %lld %s", status_text(st), (long long)p.next, (long long)committed, err.text);
        }
        s->reads++;
    }
    ts_reader_close(r);
    return NULL;
}

static void readers_beside_the_owner(void **state)
{
    struct fixture *f = *state;
    fixture_close(f);
    f->conf.segment_bytes = 100000;
    fixture_open(f);
    struct shelf s = {.dir = f->dir};
    pthread_t thread;
    assert_int_equal(pthread_mutex_init(&s.lock, NULL), 0);
    assert_int_equal(pthread_create(&thread, NULL, read_on, &s), 0);
    for (int64_t i = 0; i < 600; i++) {
        for (uint64_t d = 1; d <= 10; d++) {
            assert_int_equal(put(f, d, "t", T0 + i * 30 * MINUTE, whole(i)), ST_OK);
        }
        commit(f);
        (void)ts_step(f->ts, T0);
        struct ts_query q = query(1, "t", 0, TS_TIME_MAX);
        struct ts_snapshot *snap = NULL;
        assert_int_equal(ts_snapshot_take(f->ts, &q, &snap), ST_OK);
        pthread_mutex_lock(&s.lock);
        struct ts_snapshot *unread = s.snap;
        s.snap = snap;
        s.committed = i + 1;
        pthread_mutex_unlock(&s.lock);
        ts_snapshot_free(unread);
    }
    pthread_mutex_lock(&s.lock);
    s.end = true;
    pthread_mutex_unlock(&s.lock);
    pthread_join(thread, NULL);
    ts_snapshot_free(s.snap);
    pthread_mutex_destroy(&s.lock);
    assert_true(s.reads > 0);
    assert_true(stats(f).flushes > 1);
}

static void names_of_partitions(void **state)
{
    (void)state;
    static const struct {
        int32_t day;
        const char *name;
    } days[] = {{0, "1970-01-01.db"},     {59, "1970-03-01.db"},    {11016, "2000-02-29.db"},
                {19675, "2023-11-14.db"}, {20781, "2026-11-24.db"}, {2932896, "9999-12-31.db"}};
    for (size_t i = 0; i < sizeof(days) / sizeof(days[0]); i++) {
        char path[64];
        int32_t day = -1;
        assert_true(ts_part_name("x", days[i].day, "", path, sizeof(path)));
        assert_string_equal(path + 2, days[i].name);
        assert_true(ts_part_parse(days[i].name, &day));
        assert_int_equal(day, days[i].day);
    }
    for (int32_t day = 0; day < 200000; day++) {
        char path[64];
        int32_t back = -1;
        assert_true(ts_part_name("x", day, "", path, sizeof(path)));
        assert_true(ts_part_parse(path + 2, &back));
        assert_int_equal(back, day);
    }
    int32_t day = 0;
    assert_false(ts_part_parse("2023-13-14.db", &day));
    assert_false(ts_part_parse("2023-11-14.dbx", &day));
    assert_false(ts_part_parse("catalog.db", &day));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(committed_points_are_readable),
        TEST(other_tenants_see_nothing),
        TEST(ranges_limits_and_order),
        TEST(aggregates),
        TEST(late_points_find_their_place),
        TEST(later_stored_wins),
        TEST(snapshot_before_a_flush_reads_after_it),
        TEST(last_values),
        TEST(assigned_times_are_unique),
        TEST(undo_forgets_one_message),
        TEST(abandon_forgets_the_batch),
        TEST(limits_hold_and_leave_nothing),
        TEST(bad_points_are_refused),
        TEST(duplicates_are_found_everywhere),
        TEST(counters_add_up),
        TEST(crash_at_every_step_of_a_flush),
        TEST(crash_twice_in_a_flush),
        TEST(reopened_log_goes_on),
        TEST(old_partitions_are_dropped),
        TEST(erased_device_leaves_nothing),
        TEST(damaged_chunk_is_reported_and_set_aside),
        TEST(damaged_log_row_is_reported_and_set_aside),
        TEST(lost_definition_is_found_in_the_catalog),
        TEST(damaged_partition_does_not_stop_the_store),
        TEST(steps_flush_when_the_log_is_large),
        TEST(steps_flush_after_a_while),
        TEST(readers_beside_the_owner),
        cmocka_unit_test(names_of_partitions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
