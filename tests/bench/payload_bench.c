// How fast telemetry payloads become points: nanoseconds per message and megabytes per second, one line per form.
#include <stdio.h>

#include "base/buf.h"
#include "base/clock.h"
#include "domain/telemetry/payload.h"

#define NOW_US   1700000000000000LL
#define BATCH    20 // messages between two payload_clear, as a connection with a window of 20 makes
#define ROUND    1000
#define FOR_US   1000000
#define BIG_SIZE 65536

static void measure(const char *name, const char *json)
{
    struct payload p = {0};
    struct slice text = slice_str(json);
    size_t n = 0;
    int64_t start = clock_mono_us();
    int64_t us = 0;
    while (us < FOR_US) {
        for (int i = 0; i < ROUND; i++) {
            for (int k = 0; k < BATCH; k++) {
                if (payload_decode(&p, payload_copy(&p, text), NOW_US, NULL) != ST_OK) {
                    fprintf(stderr, "%s: refused\n", name);
                    payload_release(&p);
                    return;
                }
            }
            payload_clear(&p);
        }
        n += (size_t)ROUND * BATCH;
        us = clock_mono_us() - start;
    }
    printf("%-16s %6zu bytes %9.0f ns/message %6.0f MB/s\n", name, text.len, (double)us * 1000 / (double)n,
           (double)n * (double)text.len / (double)us);
    payload_release(&p);
}

int main(void)
{
    measure("small", "{\"t\":21.4,\"h\":40}");
    measure("plain", "{\"temperature\":21.4375,\"humidity\":40,\"pressure\":1013.25,\"battery\":3.61,\"on\":true,"
                     "\"rssi\":-71,\"n\":123456}");
    measure("timed", "{\"ts\":1690000000000,\"values\":{\"temperature\":21.4375,\"humidity\":40,\"pressure\":1013.25,"
                     "\"rssi\":-71,\"n\":1}}");
    measure("nested", "{\"cpu\":{\"util\":0.25,\"temp\":51.5},\"mem\":{\"used\":123456789,\"total\":987654321},"
                      "\"net\":{\"rx\":1,\"tx\":2}}");
    static char mem[BIG_SIZE];
    struct buf big = buf_fixed(mem, sizeof(mem));
    for (int i = 0; i < PAYLOAD_POINTS_MAX; i++) {
        buf_printf(&big, "%s\"metric.%d\":%d.%d", i > 0 ? "," : "{", i, i, i % 10);
    }
    buf_str(&big, "}");
    buf_u8(&big, 0);
    measure("thousand values", mem);
    return 0;
}
