// The program that tests/system/ts_crash.py kills: writes rounds to a telemetry store and says which are durable, or looks
// what is there. Also migrates a state store, for the same treatment.
//
//   ts_driver write DIR ROUNDS    goes on after the rounds that are there; prints "ack N" when round N is durable, "full" when
//                                 the disk is; flushes run in between
//   ts_driver check DIR ACKED     every round up to ACKED is there, once and whole; prints how many rounds there are
//   ts_driver migrate FILE        opens and migrates a state store, checks it
//
// In gcc's builds without sanitizers TS_NOMEM_AT=N and TS_NOMEM_COUNT=M let the allocations N to N + M - 1 fail;
// TS_NOMEM_AT=0 prints how many there were.
//
// A round is a point of each series of each device, one of them late, and a count for each device: one commit.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "base/map.h"
#include "store/db.h"
#include "store/migrations.h"
#include "store/ts.h"

#define DEVICES 12
#define TENANT  1
#define T0      INT64_C(1700000000000000)
#define STEP    INT64_C(7200000000) // two hours: a run crosses days
#define ROUNDS  4096

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) && !defined(__clang__)
// The C library's own, so that the allocator above it can refuse.
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t size);
void *__libc_memalign(size_t align, size_t size);

static struct {
    long long seen, from, upto;
    bool known;
} nomem;

static bool refuse(void)
{
    if (!nomem.known) {
        const char *at = getenv("TS_NOMEM_AT");
        const char *count = getenv("TS_NOMEM_COUNT");
        nomem.known = true;
        nomem.from = at != NULL ? strtoll(at, NULL, 10) : 0;
        nomem.upto = nomem.from + (count != NULL ? strtoll(count, NULL, 10) : 1);
    }
    nomem.seen++;
    bool no = nomem.from > 0 && nomem.seen >= nomem.from && nomem.seen < nomem.upto;
    errno = no ? ENOMEM : errno;
    return no;
}

void *malloc(size_t size)
{
    return refuse() ? NULL : __libc_malloc(size);
}

void *calloc(size_t n, size_t size)
{
    return refuse() ? NULL : __libc_calloc(n, size);
}

void *realloc(void *p, size_t size)
{
    return refuse() ? NULL : __libc_realloc(p, size);
}

void *reallocarray(void *p, size_t n, size_t size)
{
    size_t bytes = 0;
    return __builtin_mul_overflow(n, size, &bytes) || refuse() ? NULL : __libc_realloc(p, bytes);
}

void *aligned_alloc(size_t align, size_t size)
{
    return refuse() ? NULL : __libc_memalign(align, size);
}

static void tell_allocations(void)
{
    const char *at = getenv("TS_NOMEM_AT");
    if (at != NULL && strcmp(at, "0") == 0) {
        printf("allocations %lld\n", nomem.seen);
    }
}
#else
static void tell_allocations(void)
{
}
#endif

static struct ts *store;
static const char *const names[] = {"t", "n", "mode"};
enum { NAMES = 3 };

static int fail(const char *what, const struct err *err)
{
    printf("failed: %s: %s\n", what, err != NULL ? err->text : "");
    return 1;
}

static int64_t time_of(int64_t round, unsigned name)
{
    // The second series comes out of order: two rounds in turn swap their times.
    return T0 + (name == 1 ? round ^ 1 : round) * STEP + name;
}

static struct ts_value value_of(int64_t round, uint64_t device, unsigned name)
{
    static char text[32];
    if (name == 0) {
        return (struct ts_value){.type = TS_DOUBLE, .f = (double)(round * 100 + (int64_t)device) / 8};
    }
    if (name == 1) {
        return (struct ts_value){.type = TS_INT, .i = round * 1000 + (int64_t)device};
    }
    int n = snprintf(text, sizeof(text), "round %lld", (long long)round);
    return (struct ts_value){.type = TS_STRING, .s = slice_make(text, (size_t)n)};
}

static enum status put_round(int64_t round)
{
    enum status st = ST_OK;
    for (uint64_t d = 1; st == ST_OK && d <= DEVICES; d++) {
        struct ts_device *dev = ts_device(store, TENANT, d);
        for (unsigned k = 0; st == ST_OK && k < NAMES; k++) {
            struct slice name = slice_str(names[k]);
            st = dev == NULL ? ST_NOMEM
                             : ts_put(store, dev, time_of(round, k), name, hash_bytes(name), value_of(round, d, k),
                                      false, NULL);
        }
        st = st == ST_OK ? ts_count(store, dev, 3, 1) : st;
    }
    return st;
}

static int64_t rounds_counted(uint64_t device)
{
    uint64_t c[TS_COUNTERS];
    ts_counters(store, device, c);
    return (int64_t)c[3];
}

static int write_rounds(int64_t rounds)
{
    setvbuf(stdout, NULL, _IONBF, 0);
    struct err err = {.code = ST_OK};
    int64_t first = rounds_counted(1);
    unsigned full = 0;
    for (int64_t i = first; i < first + rounds;) {
        enum status st = put_round(i);
        st = st == ST_OK ? ts_commit(store, &err) : st;
        if (st == ST_FULL && full < 1000) {
            full++;
            printf("full %lld\n", (long long)i);
            ts_abandon(store);
            usleep(2000);
            continue;
        }
        if (st != ST_OK) {
            return fail("write", &err);
        }
        printf("ack %lld\n", (long long)++i);
        (void)ts_step(store, T0);
        (void)ts_step(store, T0);
    }
    printf("done\n");
    return 0;
}

struct seen {
    uint64_t device;
    unsigned name;
    int64_t rounds;
    unsigned char rounds_seen[ROUNDS];
    bool wrong;
};

static bool see(void *arg, int64_t t, struct ts_value v)
{
    struct seen *s = arg;
    int64_t place = (t - T0 - (int64_t)s->name) / STEP;
    int64_t round = s->name == 1 ? place ^ 1 : place;
    if (round < 0 || round >= ROUNDS || t != time_of(round, s->name)) {
        s->wrong = true;
        return false;
    }
    struct ts_value want = value_of(round, s->device, s->name);
    bool same = v.type == want.type && (v.type == TS_DOUBLE ? v.f == want.f
                                        : v.type == TS_INT  ? v.i == want.i
                                                            : slice_eq(v.s, want.s));
    s->rounds_seen[round]++;
    s->wrong = s->wrong || !same || s->rounds_seen[round] != 1;
    s->rounds++;
    return !s->wrong;
}

static int check_series(struct ts_reader *r, uint64_t device, unsigned name, int64_t rounds)
{
    static struct seen s;
    s = (struct seen){.device = device, .name = name};
    struct ts_query q = {.tenant = TENANT,
                         .device = device,
                         .metric = slice_str(names[name]),
                         .from_us = 0,
                         .to_us = T0 + (int64_t)ROUNDS * STEP};
    struct err err = {.code = ST_OK};
    struct ts_snapshot *snap = NULL;
    enum status st = ts_snapshot_take(store, &q, &snap);
    if (st == ST_NOT_FOUND && rounds == 0) {
        return 0;
    }
    st = st == ST_OK ? ts_read(r, snap, &q, see, &s, &err) : st;
    ts_snapshot_free(snap);
    if (st != ST_OK || s.wrong || s.rounds != rounds) {
        printf("failed: device %llu %s: %s%lld rounds of %lld %s\n", (unsigned long long)device, names[name],
               s.wrong ? "wrong value, " : "", (long long)s.rounds, (long long)rounds, err.text);
        return 1;
    }
    for (int64_t i = 0; i < rounds; i++) {
        if (s.rounds_seen[i] != 1) {
            printf("failed: device %llu %s: round %lld is missing\n", (unsigned long long)device, names[name],
                   (long long)i);
            return 1;
        }
    }
    return 0;
}

static int check_rounds(const char *dir, int64_t acked)
{
    struct err err = {.code = ST_OK};
    struct ts_reader *r = NULL;
    struct ts_stats stats;
    int64_t rounds = rounds_counted(1);
    uint64_t all[TS_COUNTERS];
    ts_tenant_counters(store, TENANT, all);
    ts_stats(store, &stats);
    if (rounds < acked || all[3] != (uint64_t)rounds * DEVICES || stats.corrupt != 0) {
        printf("failed: %lld rounds acknowledged, %lld there, %llu counted, %llu damaged\n", (long long)acked,
               (long long)rounds, (unsigned long long)all[3], (unsigned long long)stats.corrupt);
        return 1;
    }
    if (ts_reader_open(dir, &r, &err) != ST_OK) {
        return fail("reader", &err);
    }
    int bad = 0;
    for (uint64_t d = 1; bad == 0 && d <= DEVICES; d++) {
        bad = rounds_counted(d) != rounds ? fail("the counters of the devices differ", NULL) : 0;
        for (unsigned k = 0; bad == 0 && k < NAMES; k++) {
            bad = check_series(r, d, k, rounds);
        }
    }
    ts_reader_close(r);
    if (bad == 0) {
        printf("rounds %lld\n", (long long)rounds);
    }
    return bad;
}

static int migrate(const char *path)
{
    struct err err = {.code = ST_OK};
    struct db *db = NULL;
    if (db_open(path, DB_WRITER, &db, &err) != ST_OK ||
        db_migrate(db, db_migrations, DB_MIGRATIONS_LEN, &err) != ST_OK || db_integrity(db, &err) != ST_OK) {
        return fail("migrate", &err);
    }
    db_close(db);
    printf("done\n");
    return 0;
}

int main(int argc, char **argv)
{
    log_setup(LOG_ERROR, LOG_LOGFMT, 2);
    if (argc == 3 && strcmp(argv[1], "migrate") == 0) {
        return migrate(argv[2]);
    }
    if (argc != 4) {
        fprintf(stderr, "usage: ts_driver write|check DIR N, ts_driver migrate FILE\n");
        return 2;
    }
    struct ts_conf conf = {.segment_bytes = 60000}; // a flush every ten rounds or so
    struct err err = {.code = ST_OK};
    if (ts_open(argv[2], &conf, &store, &err) != ST_OK) {
        return fail("open", &err);
    }
    int64_t n = strtoll(argv[3], NULL, 10);
    int code = strcmp(argv[1], "write") == 0 ? write_rounds(n) : check_rounds(argv[2], n);
    ts_close(store);
    tell_allocations();
    return code;
}
