// How fast expressions are evaluated: expr_bench prints one line for each, in CPU time. `expr_bench NAME` only those whose
// text holds NAME.
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "expr/eval.h"

#define ROUND_US 500000

static const char twin[] =
    "{\"fw\":\"1.10.0\",\"hum\":40,\"press\":1013.25,\"door\":false,\"mode\":\"auto\",\"rssi\":-67,"
    "\"temp\":31.437,\"sensors\":[{\"kind\":\"t\",\"value\":2},{\"kind\":\"h\",\"value\":3},"
    "{\"kind\":\"t\",\"value\":4}]}";
static const char tags[] = "{\"site\":\"berlin\",\"floor\":3,\"room\":\"3.14\"}";

static const char *const texts[] = {
    "model = 'TH-20' and reported.temp > 30",
    "model = 'TH-30' and reported.temp > 30",
    "reported.temp > 30",
    "tags.site in ('aachen', 'berlin', 'bremen', 'dresden', 'hamburg', 'kiel', 'leipzig', 'ulm')",
    "model like 'TH-%0'",
    "reported.fw < version('1.12.3')",
    "exists(reported.sensors[*] where value > 3 and kind = 't')",
    "within(location, point(52.5, 13.4), 5000)",
    "inside(location, polygon((52 13, 53 13, 53 14, 52 14)))",
    "last_seen < now() - interval '7 days'",
    "(reported.temp - 32) * 5 / 9 between 20 and 25 or lower(tags.site) = 'Berlin'",
    "case when reported.door then 'open' else 'closed' end = 'open'",
};

static _Alignas(8) uint8_t mem[2][16384];
static struct expr_frame frame;
static unsigned long sink;

static int64_t cpu_us(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
    return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

static void set(struct expr_value *roots, const char *name, struct expr_value v)
{
    int i = expr_schema_find(expr_schema_device(), slice_str(name));
    if (i < 0) {
        abort();
    }
    roots[i] = v;
}

static struct expr_value document(unsigned index, struct slice json)
{
    struct expr_value v;
    if (expr_doc_build(json, mem[index], sizeof(mem[index]), &v) != ST_OK) {
        abort();
    }
    return v;
}

static void report(const char *text, int64_t us, uint64_t n)
{
    printf("%8.1f ns %8.2f million/s  %s\n", (double)us * 1000 / (double)n, (double)n / (double)us, text);
}

static void run(const char *text, const struct expr_view *view)
{
    struct expr_program *p;
    struct expr_error err;
    struct expr_check_options o = {.schema = expr_schema_device(), .wanted = EXPR_OF(EXPR_BOOL)};
    if (expr_program_make(slice_str(text), &o, &p, &err) != ST_OK) {
        fprintf(stderr, "%s: %s\n", text, err.text);
        exit(1);
    }
    int64_t start = cpu_us();
    int64_t us = 0;
    uint64_t n = 0;
    for (; us < ROUND_US; us = cpu_us() - start) {
        for (unsigned i = 0; i < 1000; i++) {
            struct expr_value v;
            expr_eval(p, view, &frame, &v);
            sink += expr_is_true(&v) ? 1 : 0;
        }
        n += 1000;
    }
    report(text, us, n);
    expr_program_free(p);
}

static void run_build(void)
{
    int64_t start = cpu_us();
    uint64_t n = 0;
    for (; cpu_us() - start < ROUND_US; n += 1000) {
        for (unsigned i = 0; i < 1000; i++) {
            sink += document(1, slice_make(tags, sizeof(tags) - 1)).type;
        }
    }
    report("(document of 43 bytes made ready)", cpu_us() - start, n);
}

static void run_compile(void)
{
    struct expr_check_options o = {.schema = expr_schema_device(), .wanted = EXPR_OF(EXPR_BOOL)};
    int64_t start = cpu_us();
    uint64_t n = 0;
    for (; cpu_us() - start < ROUND_US; n += 100) {
        for (unsigned i = 0; i < 100; i++) {
            struct expr_program *p;
            sink += expr_program_make(slice_str(texts[0]), &o, &p, NULL);
            expr_program_free(p);
        }
    }
    report("(the first compiled)", cpu_us() - start, n);
}

int main(int argc, char **argv)
{
    struct expr_value roots[EXPR_ROOTS_MAX];
    for (unsigned i = 0; i < EXPR_ROOTS_MAX; i++) {
        roots[i] = expr_null();
    }
    set(roots, "model", expr_text(SLICE("TH-20")));
    set(roots, "reported", document(0, slice_make(twin, sizeof(twin) - 1)));
    set(roots, "tags", document(1, slice_make(tags, sizeof(tags) - 1)));
    set(roots, "location", expr_point(52.52, 13.405));
    set(roots, "last_seen", expr_time(1760000000000000));
    struct expr_view view = {.roots = roots, .count = expr_schema_device()->count, .now_us = 1760000600000000};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        if (argc < 2 || strstr(texts[i], argv[1]) != NULL) {
            run(texts[i], &view);
        }
    }
    if (argc < 2) {
        run_build();
        run_compile();
    }
    return sink == 0 ? 1 : 0;
}
