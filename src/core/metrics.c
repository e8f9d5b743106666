#include "core/metrics.h"

#include <pthread.h>
#include <stdbool.h>
#include <string.h>

#define METRIC_COLLECTORS_MAX 32

struct metric_collect {
    void (*fn)(void *arg, struct buf *out);
    void *arg;
};

// The registry of the process: written at start, read at each export.
static pthread_mutex_t metrics_lock = PTHREAD_MUTEX_INITIALIZER;
static struct metric *metrics_first;
static struct metric_collect metrics_collectors[METRIC_COLLECTORS_MAX];
static unsigned metrics_collectors_len;

// By name and then by labels: the lines of one name must stand together, and two exports can be compared.
static int metric_cmp(const struct metric *a, const struct metric *b)
{
    int by_name = strcmp(a->name, b->name);
    return by_name != 0 ? by_name : strcmp(a->labels, b->labels);
}

void metric_register(struct metric *m)
{
    pthread_mutex_lock(&metrics_lock);
    struct metric **at = &metrics_first;
    while (*at != NULL && *at != m && metric_cmp(*at, m) < 0) {
        at = &(*at)->next;
    }
    if (*at != m) {
        m->next = *at;
        *at = m;
    }
    pthread_mutex_unlock(&metrics_lock);
}

bool metric_collector(void (*fn)(void *arg, struct buf *out), void *arg)
{
    pthread_mutex_lock(&metrics_lock);
    bool room = metrics_collectors_len < METRIC_COLLECTORS_MAX;
    if (room) {
        metrics_collectors[metrics_collectors_len++] = (struct metric_collect){fn, arg};
    }
    pthread_mutex_unlock(&metrics_lock);
    return room;
}

void metric_collector_remove(void (*fn)(void *arg, struct buf *out), void *arg)
{
    pthread_mutex_lock(&metrics_lock);
    for (unsigned i = 0; i < metrics_collectors_len; i++) {
        if (metrics_collectors[i].fn == fn && metrics_collectors[i].arg == arg) {
            metrics_collectors[i] = metrics_collectors[--metrics_collectors_len];
            break;
        }
    }
    pthread_mutex_unlock(&metrics_lock);
}

void metrics_write(struct buf *out)
{
    pthread_mutex_lock(&metrics_lock);
    for (unsigned i = 0; i < metrics_collectors_len; i++) {
        metrics_collectors[i].fn(metrics_collectors[i].arg, out);
    }
    const char *name = "";
    for (const struct metric *m = metrics_first; m != NULL; m = m->next) {
        if (strcmp(m->name, name) != 0) {
            name = m->name;
            buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, m->help, name,
                       m->kind == METRIC_COUNTER ? "counter" : "gauge");
        }
        buf_printf(out, m->labels[0] != '\0' ? "%s{%s} %lld\n" : "%s%s %lld\n", m->name, m->labels,
                   (long long)atomic_load_explicit(&m->value, memory_order_relaxed));
    }
    pthread_mutex_unlock(&metrics_lock);
}
