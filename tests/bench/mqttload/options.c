// The command line: one table of options, from which the help comes too.
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "load.h"

// What an option does with its argument.
enum option_kind { TEXT, FIGURE, COUNT, BIG, FLAG };

struct option_row {
    const char *name;
    enum option_kind kind;
    size_t at; // in struct options
    const char *help;
};

#define ROW(name, kind, field, help)                                                                                   \
    {                                                                                                                  \
        name, kind, offsetof(struct options, field), help                                                              \
    }

static const struct option_row rows[] = {
    ROW("host", TEXT, host, "where the server listens; 127.0.0.1"),
    ROW("port", TEXT, port, "1883"),
    ROW("clients", COUNT, clients, "publishers; 100"),
    ROW("subscribers", COUNT, subscribers, "clients that subscribe, and are up before the first message; 0"),
    ROW("topic", TEXT, topic, "a publisher's topic; %c is its number, %5c with leading zeros; $muster/telemetry"),
    ROW("filter", TEXT, filter, "a subscriber's topic filter, with %c"),
    ROW("qos", COUNT, qos, "of what is published; 1"),
    ROW("sub-qos", COUNT, sub_qos, "of the subscriptions; 1"),
    ROW("copies", COUNT, copies, "deliveries to wait for, by message; as many as there are subscribers"),
    ROW("drain", FIGURE, drain, "seconds without a delivery after which the rest counts as lost; 2"),
    ROW("window", COUNT, window, "unacknowledged messages of a publisher; 20"),
    ROW("payload", COUNT, payload, "bytes; 100"),
    ROW("messages", BIG, messages, "messages in all; without --seconds and --messages: until SIGTERM"),
    ROW("seconds", FIGURE, seconds, "how long"),
    ROW("rate", FIGURE, rate, "messages per second of all together, evenly spread; as fast as acknowledged"),
    ROW("stamp", FLAG, stamp, "the payload carries the time of sending: latency to the subscriber"),
    ROW("seq", FLAG, seq, "the payload carries the publisher's message number"),
    ROW("ledger", TEXT, ledger, "file that gets a line \"ID NUMBER\" for every acknowledged message"),
    ROW("mqtt5", FLAG, mqtt5, "MQTT 5.0 instead of 3.1.1"),
    ROW("persistent", FLAG, persistent, "sessions that outlive the connection"),
    ROW("users", TEXT, users,
        "file of lines \"ID PASSWORD\": publishers first, then subscribers; \"-\" is no password"),
    ROW("prefix", TEXT, prefix, "client ids are this and the number; load-"),
    ROW("id", TEXT, id, "pattern of the publishers' client ids, with %c"),
    ROW("user", TEXT, user, "pattern of user names, with %c"),
    ROW("password", TEXT, password, "pattern of passwords, with %c"),
    ROW("tls", FLAG, tls, "TLS"),
    ROW("tls-version", TEXT, tls_version, "1.2 or 1.3 and no other"),
    ROW("ca", TEXT, ca, "certificates the server's must chain to; unchecked without"),
    ROW("cert", TEXT, cert, "client certificate of all clients"),
    ROW("key", TEXT, key, "its key"),
    ROW("certs", TEXT, certs, "folder with ID.pem and ID.key of each client"),
    ROW("cycles", BIG, cycles, "only connect and disconnect, so many times in all"),
    ROW("resume", FLAG, resume, "resume TLS sessions; figures leave out the first connect of each client"),
    ROW("burst", COUNT, burst, "connects under way at a time; 200"),
    ROW("sources", COUNT, sources, "come from so many loopback addresses"),
    ROW("reconnect", FLAG, reconnect, "connect again when the connection ends; publish before all are up"),
    ROW("connect-only", FLAG, connect_only, "end when all are up"),
    ROW("hold", FLAG, hold, "stay connected and silent; prints a line whenever all are up"),
    ROW("server-pid", COUNT, server_pid, "process whose processor time is measured"),
};
enum { ROWS = sizeof(rows) / sizeof(rows[0]) };

static void fail(const char *name, const char *value, const char *allowed)
{
    fprintf(stderr, "--%s %s: %s\n", name, value, allowed);
    exit(2);
}

static void take(const struct option_row *row, const char *value, struct options *opt)
{
    void *to = (char *)opt + row->at;
    char *end = NULL;
    switch (row->kind) {
    case TEXT:
        *(const char **)to = value;
        return;
    case FLAG:
        *(bool *)to = true;
        return;
    case FIGURE: {
        double f = strtod(value, &end);
        if (end == value || *end != '\0' || !(f >= 0)) {
            fail(row->name, value, "a number of at least 0 is allowed");
        }
        *(double *)to = f;
        return;
    }
    case COUNT:
    case BIG:
        break;
    }
    unsigned long long n = strtoull(value, &end, 10);
    if (end == value || *end != '\0' || value[0] == '-' || (row->kind == COUNT && n > UINT32_MAX)) {
        fail(row->name, value, "a whole number of at least 0 is allowed");
    }
    if (row->kind == COUNT) {
        *(unsigned *)to = (unsigned)n;
    } else {
        *(uint64_t *)to = n;
    }
}

static void help(void)
{
    printf("mqttload [OPTION ...]: a load of MQTT clients; one line of JSON with the figures at the end\n");
    for (int i = 0; i < ROWS; i++) {
        char name[40];
        snprintf(name, sizeof(name), "--%s%s", rows[i].name, rows[i].kind == FLAG ? "" : " X");
        printf("  %-16s %s\n", name, rows[i].help);
    }
}

static void check(const struct options *o)
{
    const struct {
        bool wrong;
        const char *problem;
    } rules[] = {
        {o->window < 1 || o->window > WINDOW_MAX, "--window: 1 to 1024 are allowed"},
        {o->payload < 1 || o->payload > PAYLOAD_MAX, "--payload: 1 to 65536 bytes are allowed"},
        {o->clients + (uint64_t)o->subscribers < 1 || o->clients + (uint64_t)o->subscribers > 1000000,
         "--clients and --subscribers: 1 to 1000000 together"},
        {o->qos > 2 || o->sub_qos > 2, "--qos, --sub-qos: 0, 1 and 2 are allowed"},
        {o->subscribers > 0 && o->filter == NULL, "--subscribers: a --filter is needed"},
        {o->tls_version != NULL && strcmp(o->tls_version, "1.2") != 0 && strcmp(o->tls_version, "1.3") != 0,
         "--tls-version: 1.2 and 1.3 are allowed"},
        {(o->cert == NULL) != (o->key == NULL), "--cert and --key go together"},
        {o->stamp && o->seq, "--stamp and --seq exclude each other"},
        {o->cycles > 0 && o->subscribers > 0, "--cycles and --subscribers exclude each other"},
        {o->sources > 50000, "--sources: at most 50000"},
        {o->burst < 1, "--burst: at least 1"},
    };
    for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++) {
        if (rules[i].wrong) {
            fprintf(stderr, "%s\n", rules[i].problem);
            exit(2);
        }
    }
}

void options_parse(int argc, char **argv, struct options *opt)
{
    enum { HELP = 255, FIRST = 256 };
    struct option longs[ROWS + 2] = {0};
    for (int i = 0; i < ROWS; i++) {
        longs[i] = (struct option){.name = rows[i].name, .has_arg = rows[i].kind != FLAG, .val = FIRST + i};
    }
    longs[ROWS] = (struct option){.name = "help", .val = HELP};
    *opt = (struct options){.host = "127.0.0.1",
                            .port = "1883",
                            .topic = "$muster/telemetry",
                            .prefix = "load-",
                            .clients = 100,
                            .copies = UINT32_MAX,
                            .window = 20,
                            .payload = 100,
                            .qos = 1,
                            .sub_qos = 1,
                            .burst = 200,
                            .drain = 2};
    int o;
    while ((o = getopt_long(argc, argv, "", longs, NULL)) != -1) {
        if (o == HELP) {
            help();
            exit(0);
        }
        if (o < FIRST) {
            exit(2);
        }
        take(&rows[o - FIRST], optarg, opt);
    }
    if (optind < argc) {
        fprintf(stderr, "%s: only options are allowed; --help shows them\n", argv[optind]);
        exit(2);
    }
    if (opt->copies == UINT32_MAX) {
        opt->copies = opt->subscribers;
    }
    check(opt);
}
