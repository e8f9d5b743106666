// The telemetry store alone, on one thread, with real syncs: what storage costs without a network before it.
//
//   ts_bench [DIR [ingest|size|replay]]      DIR must be on a real disk; default: here
//
// ingest   100,000 devices with 5 metrics each, in turn, one point each; 2,000 points a commit; flushes run between commits
// size     2,000 devices x 5 metrics x 1,440 points, a day of slowly varying decimals once a minute: bytes per point on disk
// query    24 hours of one of these series: raw, 5-minute averages, the number alone; last values of a device
// replay   a log of 1 GB as a crash leaves it
#include <ftw.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/map.h"
#include "base/rand.h"
#include "store/ts.h"

#define METRICS      5
#define PER_COMMIT   2000
#define T0           INT64_C(1699920000000000) // midnight
#define DAY          INT64_C(86400000000)
#define MINUTE       INT64_C(60000000)
#define COMMITS_KEPT 100000

static const char *const names[METRICS] = {"temperature", "humidity", "cpu.util", "battery.level", "net.rtt_ms"};
static struct slice metrics[METRICS];
static uint64_t hashes[METRICS];

struct series_state {
    int16_t value; // tenths
};

struct bench {
    const char *dir;
    struct ts *ts;
    struct ts_device **devices;
    struct series_state *states;
    size_t n; // devices
    int64_t commits[COMMITS_KEPT];
    size_t commits_len;
    int64_t flush_us;
};

static void die(const char *what, const struct err *err)
{
    fprintf(stderr, "ts_bench: %s: %s\n", what, err->text);
    exit(1);
}

static double cpu_s(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static double rss_mb(void)
{
    long pages = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (f != NULL) {
        if (fscanf(f, "%*d %ld", &pages) != 1) {
            pages = 0;
        }
        fclose(f);
    }
    return (double)pages * 4096 / 1e6;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *walk)
{
    (void)st;
    (void)type;
    (void)walk;
    return remove(path);
}

static int compare_us(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a;
    int64_t y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

static void bench_open(struct bench *b, const struct ts_conf *conf, size_t n)
{
    struct err err = {.code = ST_OK};
    if (ts_open(b->dir, conf, &b->ts, &err) != ST_OK) {
        die("open", &err);
    }
    b->n = n;
    b->devices = calloc(n, sizeof(struct ts_device *));
    b->states = calloc(n * METRICS, sizeof(*b->states));
    b->commits_len = 0;
    b->flush_us = 0;
    if (b->devices == NULL || b->states == NULL) {
        exit(1);
    }
    for (size_t i = 0; i < n; i++) {
        b->devices[i] = ts_device(b->ts, 1, UINT64_C(0x1000000000) + i * 977);
    }
    for (size_t i = 0; i < n * METRICS; i++) {
        b->states[i].value = (int16_t)(200 + rand_u64() % 100);
    }
}

static void bench_close(struct bench *b)
{
    ts_close(b->ts);
    free(b->devices);
    free(b->states);
}

static void commit(struct bench *b, bool steps)
{
    struct err err = {.code = ST_OK};
    int64_t start = clock_mono_us();
    if (ts_commit(b->ts, &err) != ST_OK) {
        die("commit", &err);
    }
    int64_t done = clock_mono_us();
    if (b->commits_len < COMMITS_KEPT) {
        b->commits[b->commits_len++] = done - start;
    }
    if (steps) {
        (void)ts_step(b->ts, T0);
        b->flush_us += clock_mono_us() - done;
    }
}

// One point of every series, commit by commit.
static void round_of(struct bench *b, int64_t t, bool steps)
{
    size_t in_commit = 0;
    for (size_t i = 0; i < b->n; i++) {
        int64_t at = t + (int64_t)(rand_u64() % 40) * 1000; // milliseconds, not quite on time
        for (size_t m = 0; m < METRICS; m++) {
            struct series_state *s = &b->states[i * METRICS + m];
            s->value = (int16_t)(s->value + (int)(rand_u64() % 5) - 2);
            struct ts_value v = {.type = TS_DOUBLE, .f = (double)s->value / 10};
            enum status st = ts_put(b->ts, b->devices[i], at, metrics[m], hashes[m], v, false, NULL);
            if (st != ST_OK) {
                fprintf(stderr, "ts_bench: put: %s\n", status_text(st));
                exit(1);
            }
        }
        (void)ts_count(b->ts, b->devices[i], 0, 1);
        (void)ts_count(b->ts, b->devices[i], 1, 1);
        in_commit += METRICS;
        if (in_commit >= PER_COMMIT) {
            commit(b, steps);
            in_commit = 0;
        }
    }
    commit(b, steps);
}

static void bench_ingest(struct bench *b, unsigned rounds)
{
    struct ts_conf conf = {0};
    bench_open(b, &conf, 100000);
    round_of(b, T0 - MINUTE, false); // the series come into being
    b->commits_len = 0;
    b->flush_us = 0;
    double cpu = cpu_s();
    int64_t start = clock_mono_us();
    for (unsigned i = 0; i < rounds; i++) {
        round_of(b, T0 + i * MINUTE, true);
    }
    double points = (double)rounds * (double)b->n * METRICS;
    double wall = (double)(clock_mono_us() - start) / 1e6;
    cpu = cpu_s() - cpu;
    struct ts_stats st;
    ts_stats(b->ts, &st);
    qsort(b->commits, b->commits_len, sizeof(*b->commits), compare_us);
    printf("ingest   %.1f M points  %.2f M points/s  %.3f CPU s per M  commit p50 %.2f ms p99 %.2f ms  steps %.1f s  "
           "flushes %llu\n",
           points / 1e6, points / wall / 1e6, cpu / points * 1e6, (double)b->commits[b->commits_len / 2] / 1e3,
           (double)b->commits[b->commits_len * 99 / 100] / 1e3, (double)b->flush_us / 1e6,
           (unsigned long long)st.flushes);
    printf("memory   %.0f MB resident  heads %.0f MB (%.0f bytes per series)\n", rss_mb(), (double)st.head_bytes / 1e6,
           (double)st.head_bytes / (double)st.series);
    bench_close(b);
}

static bool point_count(void *arg, int64_t t, struct ts_value v)
{
    (void)t;
    (void)v;
    ++*(size_t *)arg;
    return true;
}

static void last_count(void *arg, struct slice metric, int64_t t, struct ts_value v)
{
    (void)metric;
    (void)t;
    (void)v;
    ++*(size_t *)arg;
}

static void bench_query(struct bench *b, const char *name, struct ts_query q, bool count_only)
{
    enum { N = 500 };
    static int64_t us[N];
    struct err err = {.code = ST_OK};
    struct ts_reader *r = NULL;
    if (ts_reader_open(b->dir, &r, &err) != ST_OK) {
        die("reader", &err);
    }
    size_t got = 0;
    for (size_t i = 0; i < N; i++) {
        q.device = UINT64_C(0x1000000000) + rand_u64() % b->n * 977;
        q.metric = metrics[i % METRICS];
        struct ts_snapshot *s = NULL;
        int64_t start = clock_mono_us();
        got = 0;
        uint64_t n = 0;
        if (ts_snapshot_take(b->ts, &q, &s) != ST_OK ||
            (count_only ? ts_read_count(r, s, &q, &n, &err) : ts_read(r, s, &q, point_count, &got, &err)) != ST_OK) {
            die("read", &err);
        }
        ts_snapshot_free(s);
        us[i] = clock_mono_us() - start;
        got = count_only ? (size_t)n : got;
    }
    qsort(us, N, sizeof(*us), compare_us);
    printf("query    %-26s p50 %.2f ms  p99 %.2f ms  (%zu)\n", name, (double)us[N / 2] / 1e3,
           (double)us[N * 99 / 100] / 1e3, got);
    ts_reader_close(r);
}

static void bench_size(struct bench *b)
{
    struct err err = {.code = ST_OK};
    struct ts_conf conf = {.segment_bytes = 40U << 20}; // four flushes a day
    bench_open(b, &conf, 2000);
    int64_t start = clock_mono_us();
    for (int64_t i = 0; i < 1440; i++) {
        round_of(b, T0 + DAY + i * MINUTE, true);
    }
    if (ts_flush(b->ts, &err) != ST_OK) {
        die("flush", &err);
    }
    double points = 1440.0 * (double)b->n * METRICS;
    double wall = (double)(clock_mono_us() - start) / 1e6;
    struct ts_stats st;
    ts_stats(b->ts, &st);
    printf("size     %.1f M points in %.1f s  %.2f bytes per point  flushes %llu\n", points / 1e6, wall,
           (double)st.chunk_bytes / points, (unsigned long long)st.flushes);
    struct ts_query q = {.tenant = 1, .from_us = T0 + DAY, .to_us = T0 + 2 * DAY};
    bench_query(b, "24 h raw", q, false);
    q.agg = TS_AVG;
    q.bucket_us = 5 * MINUTE;
    bench_query(b, "24 h, 5-minute averages", q, false);
    q.agg = TS_RAW;
    bench_query(b, "24 h, number alone", q, true);
    size_t n = 0;
    start = clock_mono_us();
    for (size_t i = 0; i < 10000; i++) {
        (void)ts_last(b->ts, 1, UINT64_C(0x1000000000) + i % b->n * 977, last_count, &n);
    }
    printf("last     %.2f us per device of %d metrics\n", (double)(clock_mono_us() - start) / 1e4, METRICS);
    bench_close(b);
}

static void bench_replay(struct bench *b)
{
    struct err err = {.code = ST_OK};
    struct ts_conf conf = {.segment_bytes = UINT32_MAX, .head_bytes_max = UINT64_MAX};
    bench_open(b, &conf, 100000);
    struct ts_stats st = {0};
    for (int64_t i = 0; st.log_bytes < 1000000000; i++) {
        round_of(b, T0 + i * MINUTE, false);
        ts_stats(b->ts, &st);
    }
    bench_close(b);
    double cpu = cpu_s();
    int64_t start = clock_mono_us();
    if (ts_open(b->dir, &conf, &b->ts, &err) != ST_OK) {
        die("replay", &err);
    }
    double wall = (double)(clock_mono_us() - start) / 1e6;
    ts_stats(b->ts, &st);
    printf("replay   %.2f GB of log, %.1f M points: %.2f s, %.2f CPU s  %.0f MB resident\n", (double)st.log_bytes / 1e9,
           (double)st.points / 1e6, wall, cpu_s() - cpu, rss_mb());
    ts_close(b->ts);
}

static void bench_fresh(struct bench *b)
{
    (void)nftw(b->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    if (mkdir(b->dir, 0700) != 0) {
        perror(b->dir);
        exit(1);
    }
}

int main(int argc, char **argv)
{
    static struct bench b;
    char dir[4096];
    const char *only = argc > 2 ? argv[2] : "";
    snprintf(dir, sizeof(dir), "%s/ts_bench.data", argc > 1 ? argv[1] : ".");
    b.dir = dir;
    log_setup(LOG_WARN, LOG_LOGFMT, 2);
    rand_seed(42);
    for (size_t i = 0; i < METRICS; i++) {
        metrics[i] = slice_str(names[i]);
        hashes[i] = hash_bytes(metrics[i]);
    }
    if (only[0] == '\0' || strcmp(only, "ingest") == 0) {
        bench_fresh(&b);
        bench_ingest(&b, 50);
    }
    if (only[0] == '\0' || strcmp(only, "size") == 0) {
        bench_fresh(&b);
        bench_size(&b);
    }
    if (only[0] == '\0' || strcmp(only, "replay") == 0) {
        bench_fresh(&b);
        bench_replay(&b);
    }
    (void)nftw(b.dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    return 0;
}
