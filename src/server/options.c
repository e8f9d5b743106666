#include "server/options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/quota.h"
#include "domain/broker/broker.h"
#include "domain/identity/identity.h"
#include "domain/policy/ban.h"
#include "front/http/http_front.h"
#include "front/mqtt/mqtt_front.h"
#include "server/tls_setup.h"

static const struct conf_key server_keys[] = {
    {.name = "server.data",
     .flag = "data",
     .type = CONF_STRING,
     .dflt = "/var/lib/muster",
     .help = "Data directory: CA, keys, tokens, state and telemetry. Made with mode 0700 when it is not there."},
    {.name = "server.names",
     .flag = "name",
     .type = CONF_LIST,
     .dflt = "",
     .help = "Further host names and addresses for the server certificate; localhost and this host's own are always in "
             "it."},
    {.name = "server.io_threads",
     .flag = "io-threads",
     .type = CONF_INT,
     .dflt = "0",
     .min = 0,
     .max = 256,
     .help = "Threads that own connections; 0 takes one per processor."},
    {.name = "server.reader_threads",
     .type = CONF_INT,
     .dflt = "2",
     .min = 1,
     .max = 16,
     .help = "Threads that answer queries from snapshots of the store."},
    {.name = "server.drain",
     .type = CONF_DURATION,
     .dflt = "3s",
     .min = 0,
     .max = 60000000,
     .help = "How long SIGTERM waits for connections to end before it closes them."},
    {.name = "listen.mqtts", .flag = "mqtts", .type = CONF_ADDR, .dflt = ":8883", .help = "MQTT over TLS."},
    {.name = "listen.https",
     .flag = "https",
     .type = CONF_ADDR,
     .dflt = ":8443",
     .help = "Operator API and enrolment over TLS."},
    {.name = "listen.mqtt",
     .flag = "mqtt",
     .type = CONF_ADDR,
     .dflt = "off",
     .help = "MQTT without TLS: for a trusted network or loopback only, credentials travel in the clear."},
    {.name = "listen.http",
     .flag = "http",
     .type = CONF_ADDR,
     .dflt = "off",
     .help = "Operator API without TLS: for loopback only, tokens travel in the clear."},
    {.name = "listen.connections_max",
     .type = CONF_INT,
     .dflt = "100000",
     .min = 1,
     .max = 10000000,
     .help = "Open connections per listener; at that number the oldest one that is not authenticated makes room, else "
             "accepting pauses."},
    {.name = "listen.accept_rate",
     .type = CONF_INT,
     .dflt = "10000",
     .min = 0,
     .max = 1000000,
     .help =
         "Connections accepted in a second, over all listeners; the others wait in the kernel's queue. 0 allows any "
         "number."},
    {.name = "listen.accept_burst",
     .type = CONF_INT,
     .dflt = "20000",
     .min = 1,
     .max = 1000000,
     .help = "Connections accepted at once before the rate counts."},
    {.name = "listen.connections_per_source",
     .type = CONF_INT,
     .dflt = "0",
     .min = 0,
     .max = 10000000,
     .help =
         "Open connections of one address (IPv6: one /64); further ones are closed at once. 0 allows any number: many "
         "devices may share an address."},
    {.name = "listen.strangers_per_network",
     .type = CONF_INT,
     .dflt = "2000",
     .min = 0,
     .max = 10000000,
     .help = "Open connections of one network (IPv4: a /24, IPv6: a /56) that are not authenticated; further ones are "
             "closed at once. 0 allows any number."},
    {.name = "listen.strangers_max",
     .type = CONF_INT,
     .dflt = "20000",
     .min = 0,
     .max = 10000000,
     .help = "Open connections that are not authenticated, over all listeners; beyond it the oldest makes room for the "
             "newest. 0 allows any number."},
    {.name = "listen.limit_loopback",
     .type = CONF_BOOL,
     .dflt = "false",
     .help = "Whether the limits of a source and a network count for this machine's own addresses too."},
    {.name = "listen.proxy_from",
     .type = CONF_LIST,
     .dflt = "",
     .help =
         "Addresses and networks (10.0.0.0/8) of proxies that say in a PROXY header whom they speak for. From these "
         "the header is demanded, from all others it is not understood."},
    {.name = "log.level",
     .flag = "log-level",
     .type = CONF_ENUM,
     .dflt = "info",
     .choices = "debug info warn error",
     .reload = true,
     .help = "Lines below this level are not written."},
    {.name = "log.format",
     .flag = "log-format",
     .type = CONF_ENUM,
     .dflt = "logfmt",
     .choices = "logfmt json",
     .help = "Form of the log lines on standard error."},
};

static const struct conf_key storage_keys[] = {
    {.name = "telemetry.retention",
     .type = CONF_DURATION,
     .dflt = "365d",
     .min = 0,
     .max = INT64_MAX,
     .help = "How long telemetry is kept where no rule of a tenant says otherwise; 0d keeps it for ever."},
    {.name = "telemetry.segment_size",
     .type = CONF_SIZE,
     .dflt = "64MiB",
     .min = 65536,
     .max = 4LL << 30,
     .help = "The log is turned into chunks when it has grown by this much; more means fewer, larger chunks and a "
             "longer start after a crash."},
    {.name = "telemetry.flush_after",
     .type = CONF_DURATION,
     .dflt = "10m",
     .min = 1000000,
     .max = 86400LL * 1000000,
     .help = "The log is turned into chunks at the latest after this time."},
    {.name = "telemetry.series_per_device",
     .type = CONF_INT,
     .dflt = "1000",
     .min = 1,
     .max = 100000,
     .help = "Most metrics of one device; a further one is refused and counted."},
    {.name = "telemetry.metrics_per_tenant",
     .type = CONF_INT,
     .dflt = "10000",
     .min = 1,
     .max = 10000000,
     .help = "Most distinct metric names of one tenant."},
    {.name = "telemetry.head_memory",
     .type = CONF_SIZE,
     .dflt = "512MiB",
     .min = 1 << 20,
     .max = 1LL << 40,
     .help = "Memory for compressed points that are not yet in chunks; over it they are flushed early."},
    {.name = "core.batch_operations",
     .type = CONF_INT,
     .dflt = "4096",
     .min = 1,
     .max = 65536,
     .help = "Most operations that share one commit."},
    {.name = "core.batch_time",
     .type = CONF_DURATION,
     .dflt = "5ms",
     .min = 100,
     .max = 1000000,
     .help = "Most work that shares one commit."},
    {.name = "core.queue",
     .type = CONF_INT,
     .dflt = "100000",
     .min = 100,
     .max = 10000000,
     .help = "Operations that may wait for the core; further ones are answered busy."},
};

size_t server_modules(struct conf_module out[SERVER_MODULES_MAX])
{
    const struct conf_module all[] = {
        {"Server", server_keys, sizeof(server_keys) / sizeof(server_keys[0])},
        tls_conf_module,
        {"Storage", storage_keys, sizeof(storage_keys) / sizeof(storage_keys[0])},
        {"MQTT", mqtt_conf, MQTT_CONF_LEN},
        {"Broker", broker_conf, BROKER_CONF_LEN},
        http_conf_module,
        identity_conf_module,
        quota_conf_module,
        ban_conf_module,
    };
    size_t n = sizeof(all) / sizeof(all[0]);
    for (size_t i = 0; i < n; i++) {
        out[i] = all[i];
    }
    return n;
}

static const struct conf_key *find_key(const char *name, size_t len)
{
    struct conf_module mods[SERVER_MODULES_MAX];
    size_t mods_len = server_modules(mods);
    for (size_t m = 0; m < mods_len; m++) {
        for (size_t i = 0; i < mods[m].len; i++) {
            const struct conf_key *k = &mods[m].keys[i];
            if ((k->flag != NULL && strlen(k->flag) == len && strncmp(k->flag, name, len) == 0) ||
                (strlen(k->name) == len && strncmp(k->name, name, len) == 0)) {
                return k;
            }
        }
    }
    return NULL;
}

static bool add_override(struct options *o, const struct conf_key *k, const char *value, struct buf *problems)
{
    if (k->type == CONF_LIST) { // given several times: one list
        for (size_t i = 0; i < o->overrides_len; i++) {
            size_t n = strlen(k->name);
            if (strncmp(o->overrides[i], k->name, n) == 0 && o->overrides[i][n] == '=') {
                char *joined = NULL;
                if (asprintf(&joined, "%s,%s", o->overrides[i], value) < 0) {
                    return false;
                }
                free((char *)o->overrides[i]);
                o->overrides[i] = joined;
                return true;
            }
        }
    }
    char *text = NULL;
    if (o->overrides_len + 1 >= sizeof(o->overrides) / sizeof(o->overrides[0]) ||
        asprintf(&text, "%s=%s", k->name, value) < 0) {
        buf_printf(problems, "--%s: too many options\n", k->name);
        return false;
    }
    o->overrides[o->overrides_len++] = text;
    o->overrides[o->overrides_len] = NULL;
    return true;
}

// One "--name=value" or "--name value"; returns how many arguments it took, 0 on a problem.
static int parse_one(struct options *o, int argc, char **argv, struct buf *problems)
{
    const char *arg = argv[0] + 2;
    size_t len = strcspn(arg, "=");
    const char *value = arg[len] == '=' ? arg + len + 1 : argc > 1 ? argv[1] : NULL;
    int taken = arg[len] == '=' ? 1 : 2;
    const struct conf_key *k = find_key(arg, len);
    bool config = len == 6 && strncmp(arg, "config", 6) == 0;
    if (k == NULL && !config) {
        buf_printf(problems, "--%.*s: no such option; `muster serve --help` lists them\n", (int)len, arg);
        return 0;
    }
    if (value == NULL) {
        buf_printf(problems, "--%.*s: a value is missing\n", (int)len, arg);
        return 0;
    }
    if (config) {
        o->config_file = value;
        return taken;
    }
    return add_override(o, k, value, problems) ? taken : 0;
}

bool options_parse(struct options *o, int argc, char **argv, struct buf *problems)
{
    *o = (struct options){0};
    int i = 0;
    while (i < argc) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            o->help = true;
            i++;
        } else if (strcmp(argv[i], "--reference") == 0) {
            o->reference = true;
            i++;
        } else if (strcmp(argv[i], "--check-config") == 0) {
            o->check_only = true;
            i++;
        } else if (strncmp(argv[i], "--", 2) == 0 && argv[i][2] != '\0') {
            int taken = parse_one(o, argc - i, argv + i, problems);
            if (taken == 0) {
                return false;
            }
            i += taken;
        } else {
            buf_printf(problems, "%s: not expected here; options start with --\n", argv[i]);
            return false;
        }
    }
    return true;
}

void options_release(struct options *o)
{
    for (size_t i = 0; i < o->overrides_len; i++) {
        free((char *)o->overrides[i]);
    }
    o->overrides_len = 0;
}
