// What a run has shown, as one line of JSON.
#include <sys/resource.h>
#include <time.h>

#include "load.h"

// All threads of the process, those that have ended too; in nanoseconds, where /proc/PID/stat counts in hundredths.
double figures_server_cpu(const struct load *l)
{
    clockid_t clock;
    struct timespec t;
    if (l->opt.server_pid == 0 || clock_getcpuclockid((pid_t)l->opt.server_pid, &clock) != 0 ||
        clock_gettime(clock, &t) != 0) {
        return 0;
    }
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static double own_cpu(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static void print_times(const char *name, const struct histogram *h)
{
    printf("\"%s_p50_ms\":%.4f,\"%s_p99_ms\":%.4f,\"%s_p999_ms\":%.4f,\"%s_max_ms\":%.3f,", name, histogram_ms(h, 0.5),
           name, histogram_ms(h, 0.99), name, histogram_ms(h, 0.999), name, (double)h->max_ns / 1e6);
}

static double seconds(int64_t from, int64_t to)
{
    return from > 0 && to > from ? (double)(to - from) / 1e9 : 0;
}

void figures_print(struct load *l)
{
    // A run ends with its last acknowledgement or delivery; waiting for what does not come is not part of it.
    double wall = seconds(l->begin_ns, l->end_ns);
    double cpu = l->server_cpu_end - l->server_cpu_begin;
    uint64_t connects = l->connects - l->connects_begin;
    uint64_t work = l->opt.cycles > 0 ? connects : l->opt.qos > 0 && l->opt.clients > 0 ? l->acked : l->sent;
    printf("{\"sent\":%llu,\"acked\":%llu,\"received\":%llu,\"expected\":%llu,\"connects\":%llu,\"resumed\":%llu,"
           "\"open\":%u,\"refused\":%llu,"
           "\"lost\":%llu,",
           (unsigned long long)l->sent, (unsigned long long)l->acked, (unsigned long long)l->received,
           (unsigned long long)l->sent * l->opt.copies, (unsigned long long)connects,
           (unsigned long long)(l->resumed - l->resumed_begin), l->counts[CLIENT_OPEN], (unsigned long long)l->refused,
           (unsigned long long)l->lost);
    print_times("connect", &l->connect);
    print_times("ack", &l->ack);
    print_times("delivery", &l->delivery);
    printf("\"connect_s\":%.3f,\"seconds\":%.3f,\"rate\":%.0f,\"delivery_rate\":%.0f,\"server_cpu_s\":%.4f,\"generator_"
           "cpu_s\":%.2f}\n",
           l->up_ns > 0 ? seconds(l->start_ns, l->up_ns) : -1.0, wall, (double)work / (wall > 0 ? wall : 1),
           (double)l->received / (wall > 0 ? wall : 1), cpu, own_cpu());
}
