// How fast the JSON code is: json_bench prints one line for each job, in CPU time.
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/crc.h"
#include "base/json.h"
#include "base/rand.h"
#include "proto/cbor.h"

#define ROUND_US 500000

// One document of 100 bytes as a device sends it.
static const char telemetry[] = "{\"temp\":21.437,\"hum\":40,\"press\":1013.25,\"co2\":612,\"door\":false,"
                                "\"mode\":\"auto\",\"rssi\":-67,\"v\":3.301}   ";
static const char telemetry_cbor_hex[] =
    "a86474656d70fb40356fdf3b645a1d6368756d1828657072657373fb408faa000000000063636f32"
    "19026464646f6f72f4646d6f6465646175746f6472737369384261"
    "76fb400a6872b020c49c";

static double sink;

static void read_all(void)
{
    struct json j;
    json_init(&j, slice_make(telemetry, sizeof(telemetry) - 1), 8);
    for (enum json_token t = json_next(&j); t != JT_END; t = json_next(&j)) {
        if (t == JT_ERROR) {
            abort();
        }
        sink += j.d;
    }
}

static void check_all(void)
{
    if (json_check(slice_make(telemetry, sizeof(telemetry) - 1), 8, 100, NULL) != ST_OK) {
        abort();
    }
}

static void write_all(void)
{
    char mem[256];
    struct buf b = buf_fixed(mem, sizeof(mem));
    struct jw w;
    jw_init(&w, &b);
    jw_object(&w);
    jw_key(&w, "temp");
    jw_double(&w, 21.437);
    jw_key(&w, "hum");
    jw_int(&w, 40);
    jw_key(&w, "press");
    jw_double(&w, 1013.25);
    jw_key(&w, "co2");
    jw_int(&w, 612);
    jw_key(&w, "door");
    jw_bool(&w, false);
    jw_key(&w, "mode");
    jw_str(&w, "auto");
    jw_key(&w, "rssi");
    jw_int(&w, -67);
    jw_key(&w, "v");
    jw_double(&w, 3.301);
    jw_object_end(&w);
    sink += (double)b.len;
}

static void write_long_double(void)
{
    char mem[64];
    struct buf b = buf_fixed(mem, sizeof(mem));
    struct jw w;
    jw_init(&w, &b);
    jw_double(&w, (double)rand_u64() / 3.0e9);
    sink += (double)b.len;
}

static void read_long_double(void)
{
    struct json j;
    json_init(&j, SLICE("20.482910283746553"), 1);
    json_next(&j);
    sink += j.d;
}

static struct buf cbor_item;

static void convert_cbor(void)
{
    char mem[256];
    struct buf b = buf_fixed(mem, sizeof(mem));
    struct cbor_limits limits = cbor_limits_default();
    if (cbor_to_json(buf_view(&cbor_item), &limits, &b, NULL) != ST_OK) {
        abort();
    }
}

static uint8_t block[4096];

static void checksum(void)
{
    sink += crc32c(0, slice_make(block, sizeof(block)));
}

static int64_t cpu_us(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
    return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

static void run(const char *name, void (*job)(void), size_t bytes)
{
    int64_t start = cpu_us();
    int64_t us = 0;
    uint64_t n = 0;
    for (; us < ROUND_US; us = cpu_us() - start) {
        for (unsigned i = 0; i < 1000; i++) {
            job();
        }
        n += 1000;
    }
    printf("%-28s %8.1f ns", name, (double)us * 1000 / (double)n);
    if (bytes > 0) {
        printf(" %8.0f MB/s", (double)(n * bytes) / (double)us);
    }
    printf("\n");
}

int main(void)
{
    cbor_item = buf_heap(256);
    for (const char *p = telemetry_cbor_hex; *p != '\0'; p += 2) {
        char digits[3] = {p[0], p[1], '\0'};
        buf_u8(&cbor_item, (uint8_t)strtoul(digits, NULL, 16));
    }
    run("json read, 100 bytes", read_all, sizeof(telemetry) - 1);
    run("json check, 100 bytes", check_all, sizeof(telemetry) - 1);
    run("json write, 97 bytes", write_all, 97);
    run("json read 17-digit double", read_long_double, 0);
    run("json write random double", write_long_double, 0);
    run("cbor to json", convert_cbor, cbor_item.len);
    run("crc32c, 4 KiB", checksum, sizeof(block));
    buf_release(&cbor_item);
    return sink < 0 ? 1 : 0;
}
