#include "agent/health.h"
#include "agent/textfile.h"

// proc(5), /proc/stat: user nice system idle iowait irq softirq steal (guest times are part of user and nice).
enum { CPU_IDLE = 3, CPU_IOWAIT = 4, CPU_COLUMNS = 8 };

static bool cpu_read(const char *root, uint64_t *ret_busy, uint64_t *ret_all)
{
    char mem[512];
    struct slice text;
    struct slice line;
    struct slice word;
    if (!textfile_read(root, "/proc/stat", mem, sizeof(mem), &text) || !text_line(&text, &line) ||
        !text_word(&line, &word) || !slice_eq_str(word, "cpu")) {
        return false;
    }
    uint64_t all = 0;
    uint64_t idle = 0;
    for (int i = 0; i < CPU_COLUMNS; i++) {
        uint64_t v;
        if (!text_word(&line, &word) || !text_u64(word, &v)) {
            return false;
        }
        all += v;
        idle += i == CPU_IDLE || i == CPU_IOWAIT ? v : 0;
    }
    *ret_busy = all - idle;
    *ret_all = all;
    return true;
}

void health_cpu(struct health *h)
{
    uint64_t busy;
    uint64_t all;
    if (!cpu_read(h->root, &busy, &all)) {
        return;
    }
    // iowait may run backwards (proc(5)): such a sample tells nothing.
    if (all > h->cpu_all && busy >= h->cpu_busy) {
        health_double(h, "cpu.util", 100.0 * (double)(busy - h->cpu_busy) / (double)(all - h->cpu_all));
    }
    h->cpu_busy = busy;
    h->cpu_all = all;
}
