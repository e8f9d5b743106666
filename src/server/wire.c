#include "server/wire.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "core/core.h"
#include "core/metrics.h"
#include "domain/broker/broker.h"
#include "domain/command/command.h"
#include "domain/identity/identity.h"
#include "domain/policy/ban.h"
#include "domain/policy/limit.h"
#include "domain/policy/policy.h"
#include "domain/policy/security.h"
#include "domain/presence/presence.h"
#include "domain/registry/registry.h"
#include "domain/telemetry/ingest.h"
#include "domain/trace/trace.h"
#include "front/http/api_ops.h"
#include "front/http/http_front.h"
#include "front/mqtt/mqtt_front.h"
#include "net/admission.h"
#include "net/conn.h"
#include "net/tls.h"
#include "server/gauges.h"
#include "server/statements.h"
#include "server/tls_setup.h"
#include "store/migrations.h"

#define IO_THREADS_MAX 256

enum { MQTTS, HTTPS, MQTT, HTTP, LISTENERS };
static const struct {
    const char *key, *name;
    bool tls, http;
} listener_kinds[LISTENERS] = {
    [MQTTS] = {"listen.mqtts", "mqtts", true, false},
    [HTTPS] = {"listen.https", "https", true, true},
    [MQTT] = {"listen.mqtt", "mqtt", false, false},
    [HTTP] = {"listen.http", "http", false, true},
};

#define ALPN_HTTP "http/1.1"
// What every TLS port speaks, chosen by the client; those that choose nothing get what the port is named after. So one port,
// 443 for instance, can serve all. "x-amzn-mqtt-ca" is what devices of another cloud ask for on 443.
static const struct {
    const char *name;
    bool http;
} alpn[] = {{"mqtt", false}, {"x-amzn-mqtt-ca", false}, {ALPN_HTTP, true}};
#define ALPN_NAMES (sizeof(alpn) / sizeof(alpn[0]))
_Static_assert(ALPN_NAMES <= LISTEN_ALPN_MAX, "a listener carries all of them");

// Built in this order, taken down in the reverse one:
//
//   lock -> core (stores) -> identity (CA, keys, first token) -> loops, quotas -> modules' start -> broker -> fronts
//        -> threads -> listeners
struct server {
    const struct conf *conf;
    int lock_fd;
    char dir[PATH_MAX];
    struct core *core;
    struct identity *identity;
    struct broker *broker;
    struct quotas *quotas;
    struct trace_hub *trace;
    struct mqtt_front *mqtt;
    struct http_front *http;
    struct loop *loops[IO_THREADS_MAX];
    unsigned loops_len;
    struct tls_setup *tls_setup;
    struct conn_service websocket; // MQTT in WebSockets
    struct admission *admission;   // of all listeners
    struct tls_ctx *tls[2];        // MQTT, HTTP: they differ in whom they ask for a certificate
    struct listener *listeners[LISTENERS];
    const char *names[LISTENERS];
    struct gauges_net gauges;
    bool started;
};

// --- data directory ----------------------------------------------------------------------------------------------

static enum status open_dir(struct server *s, struct err *err)
{
    const char *dir = conf_str(s->conf, "server.data");
    if (mkdir(dir, 0700) != 0 && errno != EEXIST) {
        return err_at(err, ST_IO, dir, "cannot make the data directory: %s", strerror(errno));
    }
    if (realpath(dir, s->dir) == NULL) {
        return err_at(err, ST_IO, dir, "cannot use the data directory: %s", strerror(errno));
    }
    char path[PATH_MAX + 8];
    snprintf(path, sizeof(path), "%s/lock", s->dir);
    s->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (s->lock_fd < 0) {
        return err_at(err, ST_IO, path, "cannot open the lock file: %s", strerror(errno));
    }
    if (flock(s->lock_fd, LOCK_EX | LOCK_NB) != 0) {
        return err_at(err, ST_BUSY, s->dir,
                      "another server runs on this data directory; stop it or give another --data");
    }
    return ST_OK;
}

// As many descriptors as the system gives: each connection is one.
static void raise_descriptor_limit(void)
{
    struct rlimit lim;
    if (getrlimit(RLIMIT_NOFILE, &lim) == 0 && lim.rlim_cur < lim.rlim_max) {
        lim.rlim_cur = lim.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &lim);
    }
}

// --- modules -----------------------------------------------------------------------------------------------------

static enum status open_core(struct server *s, struct err *err)
{
    size_t lens[STATEMENT_TABLES_MAX];
    const struct sql_def *tables[STATEMENT_TABLES_MAX];
    size_t n = statement_tables(tables, lens);
    struct core_conf cc = {
        .dir = s->dir,
        .migrations = db_migrations,
        .migrations_len = DB_MIGRATIONS_LEN,
        .sql_tables = tables,
        .sql_lens = lens,
        .sql_tables_len = n,
        .ts = {.retention_us = conf_int(s->conf, "telemetry.retention"),
               .segment_bytes = (uint32_t)conf_int(s->conf, "telemetry.segment_size"),
               .flush_after_ms = (uint32_t)(conf_int(s->conf, "telemetry.flush_after") / 1000),
               .series_per_device = (uint32_t)conf_int(s->conf, "telemetry.series_per_device"),
               .metrics_per_tenant = (uint32_t)conf_int(s->conf, "telemetry.metrics_per_tenant"),
               .head_bytes_max = (uint64_t)conf_int(s->conf, "telemetry.head_memory")},
        .readers = (unsigned)conf_int(s->conf, "server.reader_threads"),
        .batch_max = (unsigned)conf_int(s->conf, "core.batch_operations"),
        .batch_us_max = (uint32_t)conf_int(s->conf, "core.batch_time"),
        .queue_max = (uint32_t)conf_int(s->conf, "core.queue"),
    };
    return core_new(&cc, &s->core, err);
}

static enum status open_identity(struct server *s, struct err *err)
{
    struct identity_conf ic = {
        .dir = s->dir,
        .cert_validity_us = conf_int(s->conf, "identity.cert_validity"),
        .auth_failures_per_min = (uint32_t)conf_int(s->conf, "identity.auth_failures"),
        .claim_failures_per_min = (uint32_t)conf_int(s->conf, "identity.claim_failures"),
        .password_iterations = (uint32_t)conf_int(s->conf, "identity.password_iterations"),
        .password_checks = (uint32_t)conf_int(s->conf, "identity.password_checks"),
        .anonymous = conf_str(s->conf, "mqtt.anonymous")[0] != '\0',
    };
    ic.names_len = conf_list(s->conf, "server.names", &ic.names);
    return identity_open(s->core, &ic, &s->identity, err);
}

static enum status open_tls(struct server *s, struct err *err)
{
    return tls_setup_open(s->core, s->identity, s->conf, &s->tls_setup, err);
}

// Lowest first: each finds the world as its predecessors left it.
static enum status start_modules(struct server *s, struct err *err)
{
    struct ban_conf bans;
    struct policy_conf policies = {.anonymous = conf_str(s->conf, "mqtt.anonymous")};
    ban_conf_read(s->conf, &bans);
    if (policies.anonymous[0] != '\0') {
        log_warn("server", "clients without a credential are let in on plain listeners",
                 LOGS("policy", policies.anonymous));
    }
    const struct {
        enum status (*start)(struct tx *tx, void *arg, struct err *err);
        void *arg;
    } starts[] = {{registry_start, NULL}, {security_start, NULL}, {policy_start, &policies}, {ban_start, &bans},
                  {limit_start, NULL},    {presence_start, NULL}, {telemetry_start, NULL},   {command_start, NULL}};
    for (size_t i = 0; i < sizeof(starts) / sizeof(starts[0]); i++) {
        enum status st = core_boot(s->core, starts[i].start, starts[i].arg, err);
        if (st != ST_OK) {
            return st;
        }
    }
    gauges_register(s->core);
    return ST_OK;
}

// Handshakes on all I/O threads.
static void write_handshakes(void *arg, struct buf *out)
{
    const struct server *s = arg;
    struct tls_gate_stats st = {0};
    for (unsigned i = 0; i < s->loops_len; i++) {
        loop_handshakes(s->loops[i], &st);
    }
    buf_printf(out,
               "# HELP muster_tls_handshakes TLS handshakes now\n# TYPE muster_tls_handshakes gauge\n"
               "muster_tls_handshakes{state=\"running\"} %u\nmuster_tls_handshakes{state=\"waiting\"} %u\n",
               st.running, st.waiting);
    buf_printf(out,
               "# HELP muster_tls_handshakes_waited_total TLS handshakes that had to wait for their turn\n"
               "# TYPE muster_tls_handshakes_waited_total counter\nmuster_tls_handshakes_waited_total %llu\n",
               (unsigned long long)st.waited);
    buf_printf(out,
               "# HELP muster_tls_handshakes_expired_total TLS handshakes ended for being slow while others waited\n"
               "# TYPE muster_tls_handshakes_expired_total counter\nmuster_tls_handshakes_expired_total %llu\n",
               (unsigned long long)st.expired);
}

// One share of each tenant's rate for each loop.
static enum status open_quotas(struct server *s, struct err *err)
{
    struct quota_conf qc;
    quota_conf_read(s->conf, &qc);
    enum status st = quotas_new(&qc, s->loops_len, &s->quotas, err);
    if (st == ST_OK) {
        quotas_set(s->core, s->quotas);
    }
    return st;
}

static enum status open_loops(struct server *s, struct err *err)
{
    int64_t want = conf_int(s->conf, "server.io_threads");
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    unsigned n = want > 0 ? (unsigned)want : cpus > 0 ? (unsigned)cpus : 1;
    for (unsigned i = 0; i < n && i < IO_THREADS_MAX; i++) {
        char name[16];
        snprintf(name, sizeof(name), "io-%u", i);
        s->loops[i] = loop_new(name, err);
        if (s->loops[i] == NULL) {
            return ST_NOMEM;
        }
        s->loops_len++;
    }
    return metric_collector(write_handshakes, s) ? ST_OK : err_set(err, ST_LIMIT, "too many collectors of metrics");
}

static enum status open_broker(struct server *s, struct err *err)
{
    enum status st = broker_new(s->core, s->loops, s->loops_len, s->conf, &s->broker, err);
    return st == ST_OK ? core_boot(s->core, broker_start, s->broker, err) : st;
}

// From HTTP to MQTT: the fronts do not know each other.
static void take_websocket(void *arg, struct conn *c, struct slice answer)
{
    const struct server *s = arg;
    conn_upgrade(c, &s->websocket, answer);
}

// What needs the loops and the stores, and the fronts need.
static enum status open_trace(struct server *s, struct err *err)
{
    s->trace = trace_hub_new(s->core, s->loops, s->loops_len);
    return s->trace != NULL ? core_boot(s->core, trace_start, s->trace, err)
                            : err_set(err, ST_NOMEM, "no memory for traces");
}

static enum status open_fronts(struct server *s, struct err *err)
{
    const struct mqtt_parts parts = {s->core, s->broker, s->trace};
    enum status st = mqtt_front_new(&parts, s->loops, s->loops_len, s->conf, &s->mqtt, err);
    if (st != ST_OK) {
        return st;
    }
    struct http_front_conf hc = {.core = s->core, .table = &api_table};
    http_front_conf_read(s->conf, &hc);
    hc.websocket.path = "/mqtt";
    hc.websocket.take = take_websocket;
    hc.websocket.arg = s;
    return http_front_new(&hc, &s->http, err);
}

static enum status start_threads(struct server *s, struct err *err)
{
    enum status st = core_start(s->core, err);
    s->started = st == ST_OK;
    for (unsigned i = 0; st == ST_OK && i < s->loops_len; i++) {
        st = loop_start(s->loops[i], err);
    }
    return st;
}

// --- listeners ---------------------------------------------------------------------------------------------------

static enum status new_tls(struct server *s, const struct conf *conf, bool http, struct tls_ctx **ret, struct err *err)
{
    struct tls_offer offer = {.alpn_certless = ALPN_HTTP, .certless = http};
    for (size_t i = 0; i < ALPN_NAMES; i++) {
        offer.alpn[i] = alpn[i].name;
    }
    *ret = tls_setup_context(s->tls_setup, conf, &offer, err);
    return *ret != NULL ? ST_OK : ST_IO;
}

static uint32_t conf_u32(const struct conf *c, const char *key)
{
    return (uint32_t)conf_int(c, key);
}

static enum status open_admission(struct server *s, struct err *err)
{
    const char *const *from = NULL;
    size_t n = conf_list(s->conf, "listen.proxy_from", &from);
    struct addr_net *nets = calloc(n + 1, sizeof(*nets));
    enum status st = nets != NULL ? ST_OK : err_set(err, ST_NOMEM, "no memory for the list of proxies");
    for (size_t i = 0; st == ST_OK && i < n; i++) {
        st = addr_net_parse(from[i], &nets[i], err);
    }
    if (st == ST_INVALID) {
        err_wrap(err, "listen.proxy_from");
    }
    const struct admission_conf ac = {
        .accept_rate = conf_u32(s->conf, "listen.accept_rate"),
        .accept_burst = conf_u32(s->conf, "listen.accept_burst"),
        .conns_per_source = conf_u32(s->conf, "listen.connections_per_source"),
        .strangers_per_net = conf_u32(s->conf, "listen.strangers_per_network"),
        .strangers_max = conf_u32(s->conf, "listen.strangers_max"),
        .limit_loopback = conf_bool(s->conf, "listen.limit_loopback"),
        .proxy_from = nets,
        .proxy_from_len = n,
    };
    if (st == ST_OK) {
        s->admission = admission_new(&ac);
        st = s->admission != NULL ? ST_OK : err_set(err, ST_NOMEM, "no memory for the admission of connections");
    }
    free(nets);
    return st;
}

static bool banned(void *arg, const struct addr *peer)
{
    return ban_peer(arg, peer);
}

static enum status open_listener(struct server *s, unsigned kind, struct err *err)
{
    const char *addr = conf_str(s->conf, listener_kinds[kind].key);
    if (strcmp(addr, "off") == 0) {
        return ST_OK;
    }
    struct listen_conf lc = {0};
    const struct conn_service mqtt = mqtt_front_service(s->mqtt), http = http_front_service(s->http);
    lc.service = listener_kinds[kind].http ? http : mqtt;
    for (size_t i = 0; listener_kinds[kind].tls && i < ALPN_NAMES; i++) {
        lc.alpn[i].name = alpn[i].name;
        lc.alpn[i].service = alpn[i].http ? http : mqtt;
    }
    lc.addr = addr;
    lc.conns_max = conf_u32(s->conf, "listen.connections_max");
    lc.admission = s->admission;
    lc.banned = listener_kinds[kind].http ? NULL : banned; // bans are lifted over the API
    lc.banned_arg = s->core;
    lc.tls = listener_kinds[kind].tls ? s->tls[listener_kinds[kind].http] : NULL;
    lc.handshakes_max = (uint32_t)conf_int(s->conf, "tls.handshakes_max");
    lc.loops = s->loops;
    lc.loops_len = s->loops_len;
    enum status st = listener_open(&lc, &s->listeners[kind], err);
    return st == ST_OK ? ST_OK : err_wrap(err, "--%s %s", listener_kinds[kind].name, addr);
}

static enum status open_listeners(struct server *s, struct err *err)
{
    s->websocket = mqtt_front_service(s->mqtt);
    enum status st = open_admission(s, err);
    for (unsigned i = 0; st == ST_OK && i < 2; i++) {
        st = new_tls(s, s->conf, i == 1, &s->tls[i], err);
    }
    for (unsigned i = 0; st == ST_OK && i < LISTENERS; i++) {
        st = open_listener(s, i, err);
    }
    if (st == ST_OK) {
        for (unsigned i = 0; i < LISTENERS; i++) {
            s->names[i] = listener_kinds[i].name;
        }
        s->gauges = (struct gauges_net){s->listeners, s->names, LISTENERS, s->admission};
        gauges_net_begin(&s->gauges);
    }
    return st;
}

// --- doors -------------------------------------------------------------------------------------------------------

enum status server_new(const struct conf *conf, struct server **ret, struct err *err)
{
    static enum status (*const steps[])(struct server *, struct err *) = {
        open_dir,   open_core,     open_identity, open_tls,    open_loops,    open_quotas,
        open_trace, start_modules, open_broker,   open_fronts, start_threads, open_listeners};
    struct server *s = calloc(1, sizeof(*s));
    if (s == NULL) {
        return err_set(err, ST_NOMEM, "no memory for the server");
    }
    s->conf = conf;
    s->lock_fd = -1;
    raise_descriptor_limit();
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        enum status st = steps[i](s, err);
        if (st != ST_OK) {
            server_stop(s);
            server_free(s);
            return st;
        }
    }
    core_set_ready(s->core);
    *ret = s;
    return ST_OK;
}

void server_addresses(const struct server *s, struct buf *out)
{
    for (unsigned i = 0; i < LISTENERS; i++) {
        const char *addr = conf_str(s->conf, listener_kinds[i].key);
        buf_printf(out, "%s%s=", i > 0 ? " " : "", listener_kinds[i].name);
        if (s->listeners[i] == NULL) {
            buf_str(out, "off");
            continue;
        }
        const char *colon = strrchr(addr, ':');
        int host_len = colon != NULL ? (int)(colon - addr) : 0;
        // "all addresses" is no address to connect to; this machine's own name for itself is.
        bool any = host_len == 0 || strncmp(addr, "0.0.0.0:", 8) == 0 || strncmp(addr, "[::]:", 5) == 0;
        buf_printf(out, "%.*s:%u", any ? 9 : host_len, any ? "localhost" : addr, listener_port(s->listeners[i]));
    }
}

enum status server_reload(struct server *s, const struct conf *conf, struct err *err)
{
    bool changed = false;
    struct tls_ctx *fresh[2] = {NULL, NULL};
    enum status st = identity_refresh_server(s->identity, &changed, err);
    for (unsigned i = 0; st == ST_OK && i < 2; i++) {
        st = new_tls(s, conf, i == 1, &fresh[i], err);
    }
    if (st != ST_OK) {
        tls_unref(fresh[0]);
        return st;
    }
    for (unsigned i = 0; i < LISTENERS; i++) {
        if (s->listeners[i] != NULL && listener_kinds[i].tls) {
            listener_set_tls(s->listeners[i], fresh[listener_kinds[i].http]);
        }
    }
    for (unsigned i = 0; i < 2; i++) {
        tls_unref(s->tls[i]);
        s->tls[i] = fresh[i];
    }
    s->conf = conf;
    return ST_OK;
}

bool server_files_changed(struct server *s)
{
    return tls_setup_changed(s->tls_setup, s->conf);
}

static void wait_for_connections(struct server *s)
{
    int64_t deadline = clock_mono_us() + conf_int(s->conf, "server.drain");
    while (s->mqtt != NULL && mqtt_front_connections(s->mqtt) > 0 && clock_mono_us() < deadline) {
        usleep(5000);
    }
}

void server_stop(struct server *s)
{
    for (unsigned i = 0; i < LISTENERS; i++) {
        if (s->listeners[i] != NULL) {
            listener_stop(s->listeners[i]);
        }
    }
    if (s->started) {
        if (s->mqtt != NULL) {
            mqtt_front_stop(s->mqtt);
        }
        wait_for_connections(s);
        core_stop(s->core);
    }
    for (unsigned i = 0; i < s->loops_len; i++) {
        loop_stop(s->loops[i]);
    }
    for (unsigned i = 0; i < s->loops_len; i++) {
        loop_join(s->loops[i]);
    }
    if (s->broker != NULL) {
        broker_release(s->broker);
    }
    if (s->core != NULL) {
        telemetry_stop(s->core);
        presence_stop(s->core);
        ban_stop(s->core);
        policy_stop(s->core);
        security_stop(s->core);
        registry_release(s->core);
    }
    s->started = false;
}

void server_free(struct server *s)
{
    if (s == NULL) {
        return;
    }
    gauges_net_end(&s->gauges);
    for (unsigned i = 0; i < LISTENERS; i++) {
        listener_free(s->listeners[i]);
    }
    metric_collector_remove(write_handshakes, s);
    admission_free(s->admission);
    http_front_free(s->http);
    mqtt_front_free(s->mqtt);
    broker_free(s->broker);
    trace_hub_free(s->trace);
    for (unsigned i = 0; i < s->loops_len; i++) {
        loop_free(s->loops[i]);
    }
    tls_unref(s->tls[0]);
    tls_unref(s->tls[1]);
    tls_setup_free(s->tls_setup);
    identity_free(s->identity);
    quotas_free(s->quotas);
    core_free(s->core);
    if (s->lock_fd >= 0) {
        close(s->lock_fd);
    }
    free(s);
}
