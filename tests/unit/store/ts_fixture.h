// A telemetry store on real files, for the tests of its parts: what is put in and committed is asked for again, also on a copy of
// the files as a crash would leave them. Include after cmocka.h.
#ifndef TESTS_UNIT_STORE_TS_FIXTURE_H
#define TESTS_UNIT_STORE_TS_FIXTURE_H

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/map.h"
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

static inline void fixture_open(struct fixture *f)
{
    struct err err = {0};
    assert_int_equal(ts_open(f->dir, &f->conf, &f->ts, &err), ST_OK);
    assert_int_equal(ts_reader_open(f->dir, &f->reader, &err), ST_OK);
}

static inline void fixture_close(struct fixture *f)
{
    ts_reader_close(f->reader);
    ts_close(f->ts);
    f->ts = NULL;
    f->reader = NULL;
}

static inline int setup(void **state)
{
    struct fixture *f = test_calloc(1, sizeof(*f));
    tmpdir_make(f->dir, sizeof(f->dir));
    fixture_open(f);
    *state = f;
    return 0;
}

static inline int teardown(void **state)
{
    struct fixture *f = *state;
    fixture_close(f);
    tmpdir_remove(f->dir);
    clock_fake_off();
    test_free(f);
    return 0;
}

static inline void reopen(struct fixture *f)
{
    fixture_close(f);
    fixture_open(f);
}

// A file as a crash of the process would leave it: what has been written, synced or not.
static inline void copy_file(const char *from, const char *to)
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

static inline int copy_entry(const char *path, const struct stat *st, int type, struct FTW *walk)
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
static inline struct fixture *crash(const struct fixture *f)
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

static inline void crash_end(struct fixture *c)
{
    fixture_close(c);
    tmpdir_remove(c->dir);
    test_free(c);
}

static inline struct ts_value num(double v)
{
    return (struct ts_value){.type = TS_DOUBLE, .f = v};
}

static inline struct ts_value whole(int64_t v)
{
    return (struct ts_value){.type = TS_INT, .i = v};
}

static inline struct ts_value text(const char *v)
{
    return (struct ts_value){.type = TS_STRING, .s = slice_str(v)};
}

static inline enum status put(struct fixture *f, uint64_t device, const char *metric, int64_t t, struct ts_value v)
{
    struct ts_device *d = ts_device(f->ts, TENANT, device);
    assert_non_null(d);
    struct slice name = slice_str(metric);
    return ts_put(f->ts, d, t, name, hash_bytes(name), v, false, NULL);
}

static inline void commit(struct fixture *f)
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

static inline bool take(void *arg, int64_t t, struct ts_value v)
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

static inline struct ts_query query(uint64_t device, const char *metric, int64_t from, int64_t to)
{
    return (struct ts_query){
        .tenant = TENANT, .device = device, .metric = slice_str(metric), .from_us = from, .to_us = to};
}

static inline enum status ask(struct fixture *f, const struct ts_query *q)
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

static inline size_t points(struct fixture *f, uint64_t device, const char *metric)
{
    struct ts_query q = query(device, metric, 0, TS_TIME_MAX);
    enum status st = ask(f, &q);
    assert_true(st == ST_OK || st == ST_NOT_FOUND);
    return st == ST_OK ? got.n : 0;
}

static inline void flush(struct fixture *f)
{
    struct err err = {0};
    assert_int_equal(ts_flush(f->ts, &err), ST_OK);
}

static inline struct ts_stats stats(struct fixture *f)
{
    struct ts_stats s;
    ts_stats(f->ts, &s);
    return s;
}

struct last {
    const char *metric;
    bool found;
    int64_t t;
    struct ts_value v;
    char text[32];
};

static inline void last_take(void *arg, struct slice metric, int64_t t, struct ts_value v)
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

static inline bool last_seen(struct fixture *f, uint64_t device, const char *metric, int64_t *ret_t,
                             struct ts_value *ret_v)
{
    struct last l = {.metric = metric};
    (void)ts_last(f->ts, TENANT, device, last_take, &l);
    *ret_t = l.t;
    *ret_v = l.v;
    memcpy(last_text, l.text, sizeof(last_text));
    return l.found;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

#endif
