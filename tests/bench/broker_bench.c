// What the broker costs without sockets: publishing to nobody, one and many, durable queues, a large index.
//
//   broker_bench [DIR [WORD]]   a scratch folder in DIR (default: $TMPDIR or /tmp); prints one line per figure, or those
//                               with the word in them
//
// CPU is the whole process's. The front is a counter.
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "domain/broker/broker.h"
#include "domain/broker/index.h"
#include "domain/identity/identity.h"
#include "domain/policy/policy_priv.h"
#include "domain/presence/presence.h"
#include "store/migrations.h"

#define TURN 500 // messages published in one turn of the loop

struct bench {
    struct core *core;
    struct loop *loop;
    struct broker *broker;
    struct broker_loop *bl;
    struct permit *permit;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    _Atomic uint64_t delivered, acked;
};
static struct bench b = {.lock = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER};

static void check(bool ok, const char *what)
{
    if (!ok) {
        fprintf(stderr, "broker_bench: %s\n", what);
        exit(1);
    }
}

static double cpu_s(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)u.ru_utime.tv_sec + (double)u.ru_stime.tv_sec +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

// --- the front ---------------------------------------------------------------------------------------------------

static bool settle;      // acknowledge what comes
static const char *only; // rows with this in them; NULL: all

static void on_deliver(void *arg, struct link *to, const struct delivery *d, size_t n)
{
    (void)arg;
    atomic_fetch_add_explicit(&b.delivered, n, memory_order_relaxed);
    for (size_t i = 0; i < n && settle; i++) {
        broker_settle(b.bl, to->front, to, SETTLE_DONE, d[i].seq);
    }
}

static void on_acked(void *arg, const struct broker_ack *acks, size_t n)
{
    (void)arg;
    (void)acks;
    atomic_fetch_add_explicit(&b.acked, n, memory_order_relaxed);
}

static void on_settled(void *arg, struct link *of, uint64_t value, int what)
{
    (void)arg;
    (void)of;
    (void)value;
    (void)what;
}

static void on_permit(void *arg, struct link *of, struct permit *p)
{
    (void)arg;
    (void)of;
    permit_unref(p);
}

static void on_down(struct link *l, struct down *d)
{
    (void)l;
    free(d);
}

// --- operations, one at a time -----------------------------------------------------------------------------------

struct client {
    struct link *link;
    struct broker_session *session;
};
struct call {
    struct op op; // first
    struct client *c;
    const char *client_id, *filter;
    uint32_t expiry_s;
    bool done;
};

static enum status call_run(struct tx *tx, struct op *op, struct err *err)
{
    struct call *k = (struct call *)op;
    if (k->client_id != NULL) {
        struct broker_open in = {
            .client_id = slice_str(k->client_id), .clean_start = true, .expiry_s = k->expiry_s, .permit = b.permit};
        bool present;
        uint32_t expiry_s;
        uint16_t *inbound;
        size_t inbound_len;
        return broker_open(tx, k->c->link, &in, &k->c->session, &present, &expiry_s, &inbound, &inbound_len, err);
    }
    uint8_t reason;
    const struct broker_sub sub = {.filter = slice_str(k->filter), .qos = 1};
    return broker_subscribe(tx, k->c->session, &sub, &reason, err);
}

static void call_done(struct op *op)
{
    pthread_mutex_lock(&b.lock);
    ((struct call *)op)->done = true;
    pthread_cond_signal(&b.wake);
    pthread_mutex_unlock(&b.lock);
}

static void call(struct call *k)
{
    k->op = (struct op){.run = call_run, .done = call_done, .name = "bench"};
    core_submit(b.core, &k->op);
    pthread_mutex_lock(&b.lock);
    while (!k->done) {
        pthread_cond_wait(&b.wake, &b.lock);
    }
    pthread_mutex_unlock(&b.lock);
    check(k->op.status == ST_OK, k->op.err.text);
}

static struct client *client_new(const char *id, uint32_t expiry_s, const char *filter)
{
    static uint64_t next_conn = 1;
    struct client *c = calloc(1, sizeof(*c));
    check(c != NULL, "no memory");
    c->link = link_new(b.loop, next_conn++, on_down);
    check(c->link != NULL, "no memory");
    c->link->who = (struct principal){.kind = WHO_OPERATOR, .tenant = 1, .row = next_conn};
    struct call open = {.c = c, .client_id = id, .expiry_s = expiry_s};
    call(&open);
    c->link->front = c->session;
    if (filter != NULL) {
        struct call sub = {.c = c, .filter = filter};
        call(&sub);
    }
    return c;
}

// --- publishing --------------------------------------------------------------------------------------------------

struct run {
    struct post post; // first
    struct client *c;
    const char *topic;
    unsigned topics; // "%s/%u" of so many
    uint8_t qos;
    uint64_t left, at;
    uint64_t first, each; // deliveries before, and of each message
    bool done;
};

// A queue has its limit: nobody runs further ahead of those who acknowledge.
static bool ahead(const struct run *r)
{
    uint64_t got = atomic_load_explicit(&b.delivered, memory_order_relaxed) - r->first;
    return broker_pending(b.bl) >= 20000 || (settle && r->at * r->each > got + 5000 * r->each);
}

static void run_turn(struct post *p)
{
    static const char payload[100];
    struct run *r = (struct run *)p;
    unsigned n = 0;
    for (; n < TURN && r->left > 0 && !ahead(r); n++, r->left--, r->at++) {
        char topic[64];
        snprintf(topic, sizeof(topic), "%s/%llu", r->topic, (unsigned long long)(r->at % r->topics));
        const struct mqtt_publish m = {
            .qos = r->qos, .packet_id = (uint16_t)(r->at % 60000 + 1), .payload = slice_make(payload, sizeof(payload))};
        const struct broker_in in = {
            .link = r->c->link, .session = r->c->session, .permit = b.permit, .publish = &m, .topic = slice_str(topic)};
        bool matched;
        enum status st;
        struct err err;
        check(broker_publish(b.bl, &in, &matched, &st, &err) != BROKER_REFUSED, "refused");
    }
    if (r->left > 0) {
        loop_post(b.loop, &r->post);
        return;
    }
    pthread_mutex_lock(&b.lock);
    r->done = true;
    pthread_cond_signal(&b.wake);
    pthread_mutex_unlock(&b.lock);
}

// deliveries: how many are to be waited for.
static void measure(const char *what, struct client *c, const char *topic, unsigned topics, uint8_t qos, uint64_t n,
                    uint64_t deliveries, uint64_t per)
{
    if (only != NULL && strstr(what, only) == NULL) {
        return;
    }
    struct run r = {.post.fn = run_turn, .c = c, .topic = topic, .topics = topics, .qos = qos, .left = n};
    r.first = atomic_load(&b.delivered);
    r.each = deliveries / n;
    uint64_t until = r.first + deliveries;
    double cpu = cpu_s();
    int64_t start = clock_mono_us();
    loop_post(b.loop, &r.post);
    pthread_mutex_lock(&b.lock);
    while (!r.done) {
        pthread_cond_wait(&b.wake, &b.lock);
    }
    pthread_mutex_unlock(&b.lock);
    while (atomic_load(&b.delivered) < until) {
        usleep(500);
    }
    double s = (double)(clock_mono_us() - start) / 1e6;
    cpu = cpu_s() - cpu;
    printf("%-48s %9.0f /s  %6.3f CPU s per million\n", what, (double)per / s, cpu / (double)per * 1e6);
    fflush(stdout);
}

// --- a large index -----------------------------------------------------------------------------------------------

static size_t heap(void)
{
    struct mallinfo2 m = mallinfo2();
    return m.uordblks + m.hblkhd;
}

static void large_index(unsigned n)
{
    struct index ix;
    struct tree_walk *w = malloc(sizeof(*w));
    check(w != NULL && index_init(&ix), "no memory");
    tree_walk_init(w);
    size_t before = heap();
    int64_t start = clock_mono_us();
    for (unsigned i = 0; i < n; i++) {
        char filter[64];
        snprintf(filter, sizeof(filter), i % 10 == 0 ? "plant/%u/+/state" : "plant/%u/pump/state", i);
        struct sub *s = index_add(&ix, NULL, 1, slice_str(filter));
        check(s != NULL, "no memory");
        index_set_active(&ix, s, true);
    }
    double added_us = (double)(clock_mono_us() - start);
    size_t bytes = heap() - before;
    const struct tenant_index *t = map_get_u64(&ix.tenants, 1);
    start = clock_mono_us();
    size_t found = 0;
    for (unsigned i = 0; i < 1000000; i++) {
        char topic[64];
        snprintf(topic, sizeof(topic), "plant/%u/pump/state", (i * 7919U) % n);
        check(tree_match_topic(&t->tree, slice_str(topic), w), "no memory");
        found += w->found_len;
    }
    double match_us = (double)(clock_mono_us() - start);
    check(found == 1000000, "a match is missing");
    printf("index of %u subscriptions: %zu bytes each, %.2f us to add, %.2f us to match\n", n, bytes / n, added_us / n,
           match_us / 1e6);
    tree_walk_release(w);
    free(w);
    index_release(&ix);
}

// --- all of it ---------------------------------------------------------------------------------------------------

static struct permit *permit_all(void)
{
    json_t *doc =
        json_loads("{\"statements\":[{\"effect\":\"allow\",\"actions\":[\"publish\",\"subscribe\",\"receive\","
                   "\"retain\"],\"topics\":[\"t/#\"]}]}",
                   0, NULL);
    struct policy_doc *compiled = NULL;
    check(policy_doc_make(doc, &compiled, NULL) == ST_OK, "policy");
    json_decref(doc);
    struct policy *p = policy_new(1, 1, SLICE("all"), compiled, 1);
    struct policy *const list[] = {p};
    struct permit_make m = {
        .kind = WHO_OPERATOR, .tenant = 1, .row = 1, .version = 1, .policies = list, .policies_len = 1};
    return permit_new(&m);
}

static void start(const char *dir)
{
    struct err err = {.code = ST_OK};
    const struct core_conf cc = {
        .dir = dir, .migrations = db_migrations, .migrations_len = DB_MIGRATIONS_LEN, .readers = 1};
    check(core_new(&cc, &b.core, &err) == ST_OK, err.text);
    static const char *const names[] = {"muster.example"};
    const struct identity_conf ic = {.dir = dir,
                                     .names = names,
                                     .names_len = 1,
                                     .cert_validity_us = (int64_t)90 * 24 * 3600 * 1000000,
                                     .auth_failures_per_min = 10,
                                     .claim_failures_per_min = 5};
    struct identity *identity = NULL;
    check(identity_open(b.core, &ic, &identity, &err) == ST_OK, err.text);
    enum status (*const starts[])(struct tx *, void *, struct err *) = {registry_start, presence_start};
    for (size_t i = 0; i < 2; i++) {
        check(core_boot(b.core, starts[i], NULL, &err) == ST_OK, err.text);
    }
    struct policy_conf pc = {.anonymous = ""};
    check(core_boot(b.core, policy_start, &pc, &err) == ST_OK, err.text);
    const struct conf_module mods[] = {{"Broker", broker_conf, BROKER_CONF_LEN}};
    struct buf problems = buf_heap(4096);
    struct conf *conf;
    check(conf_load(mods, 1, NULL, NULL, &conf, &problems) == ST_OK, "configuration");
    b.loop = loop_new("io-0", &err);
    check(b.loop != NULL, err.text);
    check(broker_new(b.core, &b.loop, 1, conf, &b.broker, &err) == ST_OK, err.text);
    check(core_boot(b.core, broker_start, b.broker, &err) == ST_OK, err.text);
    const struct broker_front front = {
        .on_deliver = on_deliver, .on_acked = on_acked, .on_settled = on_settled, .on_permit = on_permit};
    b.bl = broker_loop(b.broker, b.loop);
    broker_loop_serve(b.bl, &front);
    check(core_start(b.core, &err) == ST_OK && loop_start(b.loop, &err) == ST_OK, err.text);
}

int main(int argc, char **argv)
{
    char dir[512];
    only = argc > 2 ? argv[2] : NULL;
    const char *base = argc > 1 ? argv[1] : getenv("TMPDIR") != NULL ? getenv("TMPDIR") : "/tmp";
    snprintf(dir, sizeof(dir), "%s/broker-bench-XXXXXX", base);
    check(mkdtemp(dir) != NULL, "no scratch folder");
    log_set_level(LOG_ERROR);
    b.permit = permit_all();
    start(dir);
    struct client *p = client_new("p", 0, NULL);
    measure("publish QoS 1, nobody, 1,000 topics", p, "t/none", 1000, 1, 5000000, 0, 5000000);
    measure("publish QoS 1, nobody, 1,000,000 topics", p, "t/rare", 1000000, 1, 2000000, 0, 2000000);
    client_new("one", 0, "t/one/#");
    measure("publish QoS 1, one subscriber", p, "t/one", 1000, 1, 3000000, 3000000, 3000000);
    for (unsigned i = 0; i < 1000; i++) {
        char id[16];
        snprintf(id, sizeof(id), "s%u", i);
        client_new(id, 0, "t/many/+");
    }
    measure("1 to 1,000, QoS 1, per delivery", p, "t/many", 1, 1, 20000, 20000000, 20000000);
    settle = true;
    client_new("durable", 3600, "t/durable/+");
    measure("durable queue: stored, sent, settled", p, "t/durable", 10, 1, 300000, 300000, 300000);
    for (unsigned i = 0; i < 100; i++) {
        char id[16];
        snprintf(id, sizeof(id), "d%u", i);
        client_new(id, 3600, "t/all/+");
    }
    measure("1 to 100 durable queues, per delivery", p, "t/all", 1, 1, 5000, 500000, 500000);
    if (only == NULL) {
        large_index(1000000);
    }
    char cmd[600];
    snprintf(cmd, sizeof(cmd), "rm -rf '%s'", dir);
    return system(cmd) == 0 ? 0 : 1; // the process ends here; its threads with it
}
