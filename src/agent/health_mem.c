#include "agent/health.h"
#include "agent/textfile.h"

void health_mem(struct health *h)
{
    char mem[4096];
    struct slice text;
    struct slice line;
    if (!textfile_read(h->root, "/proc/meminfo", mem, sizeof(mem), &text)) {
        return;
    }
    uint64_t total = 0;
    uint64_t available = 0;
    bool has_total = false;
    bool has_available = false;
    while (text_line(&text, &line)) {
        struct slice name;
        struct slice value;
        uint64_t kib;
        if (!text_word(&line, &name) || !text_word(&line, &value) || !text_u64(value, &kib)) {
            continue;
        }
        if (slice_eq_str(name, "MemTotal:")) {
            total = kib * 1024;
            has_total = true;
        } else if (slice_eq_str(name, "MemAvailable:")) {
            available = kib * 1024;
            has_available = true;
        }
    }
    if (has_total) {
        health_u64(h, "mem.total", total);
    }
    if (has_available) {
        health_u64(h, "mem.available", available);
    }
    if (has_total && has_available && available <= total) {
        health_u64(h, "mem.used", total - available);
    }
}
