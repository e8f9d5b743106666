#include "cli/cli.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "cli/verb.h"

#define WORDS_MAX 3

const struct hand_verb hand_verbs[] = {
    {"device import", "FILE.ndjson|- [--upsert] [--errors FILE]", "create devices from a file, one JSON object a line",
     "  --upsert        change devices that exist already instead of reporting them\n"
     "  --errors FILE   where refused lines go, with line number and reason (default: FILE.errors)\n",
     verb_import},
    {"events", "[--types T,...] [--device ID]", "print events as they happen, one JSON object a line", NULL,
     verb_events},
    {"telemetry export", "ID --metric M [--from T] [--to T]", "every point of a metric, one JSON array a line",
     "  --metric M      the metric\n  --from T        start (default: everything)\n  --to T          end (default: "
     "now)\n"
     "Times: RFC 3339, epoch milliseconds, now, -1h.\n",
     verb_telemetry_export},
    {"telemetry watch", "[ID]", "print telemetry as it arrives", NULL, verb_telemetry_watch},
    {"top", "[--once]", "live view of the fleet", NULL, verb_top},
    {"trace", "--device ID|--client ID|--address IP [--for 10m] [--output FILE]",
     "look at the packets of a connection as they come and go",
     "  --device ID     a device, also when it fails to sign in\n"
     "  --client ID     an MQTT client id\n"
     "  --address IP    every connection from there, also failed TLS handshakes\n"
     "  --for TIME      how long (default 10m, at most 24h); Ctrl-C ends it earlier\n"
     "  --output FILE   afterwards write a capture file for Wireshark\n",
     verb_trace},
    {"twin watch", "[ID]", "print twin changes as they happen", NULL, verb_twin_watch},
    {"completion", "bash|zsh", "print a completion script for the shell", NULL, verb_completion},
};
const size_t hand_verbs_len = sizeof(hand_verbs) / sizeof(hand_verbs[0]);

void cli_say(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fputs("muster: ", stderr);
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    va_end(ap);
}

struct client *cli_client(struct cli *cli)
{
    struct err err = {.code = ST_OK};
    if (cli->client == NULL && client_open(&cli->conf, &cli->client, &err) != ST_OK) {
        cli_say("%s", err.text);
        return NULL;
    }
    return cli->client;
}

int cli_refused(const struct client_reply *reply)
{
    json_t *doc = json_loadb((const char *)reply->body.p, reply->body.len, 0, NULL);
    const char *detail = json_string_value(json_object_get(doc, "detail"));
    const char *pointer = json_string_value(json_object_get(doc, "pointer"));
    if (pointer == NULL) {
        pointer = json_string_value(json_object_get(doc, "parameter"));
    }
    if (detail == NULL) {
        detail = json_string_value(json_object_get(doc, "title"));
    }
    cli_say("%s%s%s (HTTP %d)", pointer != NULL ? pointer : "", pointer != NULL && pointer[0] != '\0' ? ": " : "",
            detail != NULL ? detail : "the server refused without a reason", reply->status);
    if (reply->status == 401) {
        fputs("  Give a token with --token-file FILE or MUSTER_TOKEN_FILE; the first one is DIR/admin.token of the "
              "server.\n",
              stderr);
    }
    json_decref(doc);
    return CLI_FAILED;
}

bool cli_call(struct cli *cli, const struct client_request *req, struct client_reply *ret_reply, int *ret_code)
{
    struct client *c = cli_client(cli);
    struct err err = {.code = ST_OK};
    *ret_code = CLI_USAGE;
    if (c == NULL) {
        return false;
    }
    if (client_call(c, req, ret_reply, &err) != ST_OK) {
        cli_say("%s: %s", cli->conf.url, err.text);
        *ret_code = CLI_UNREACHABLE;
        return false;
    }
    if (ret_reply->status < 200 || ret_reply->status > 299) {
        *ret_code = cli_refused(ret_reply);
        buf_release(&ret_reply->body);
        return false;
    }
    *ret_code = CLI_OK;
    return true;
}

const char *cli_option(int *argc, char **argv, const char *name)
{
    size_t len = strlen(name);
    for (int i = 0; i < *argc; i++) {
        int taken = 0;
        const char *value = NULL;
        if (strncmp(argv[i], name, len) == 0 && argv[i][len] == '=') {
            value = argv[i] + len + 1;
            taken = 1;
        } else if (strcmp(argv[i], name) == 0 && i + 1 < *argc) {
            value = argv[i + 1];
            taken = 2;
        }
        if (taken > 0) {
            for (int k = i; k + taken < *argc; k++) {
                argv[k] = argv[k + taken];
            }
            *argc -= taken;
            return value;
        }
    }
    return NULL;
}

bool cli_arguments(const char *verb, int argc, char **argv, int min, int max)
{
    for (int i = 0; i < argc; i++) {
        if (argv[i][0] == '-' || i >= max) {
            cli_say("%s: \"%s\" is not expected; `muster %s --help` explains", verb, argv[i], verb);
            return false;
        }
    }
    if (argc < min) {
        cli_say("%s: an argument is missing; `muster %s --help` explains", verb, verb);
        return false;
    }
    return true;
}

// --- verbs -------------------------------------------------------------------------------------------------------

// How many arguments the words of a verb take when argv starts with them, 0 when it does not.
static int words_match(const char *words, int argc, char **argv)
{
    int n = 0;
    while (*words != '\0') {
        size_t len = strcspn(words, " ");
        if (n >= argc || strlen(argv[n]) != len || strncmp(argv[n], words, len) != 0) {
            return 0;
        }
        n++;
        words += len + (words[len] == ' ');
    }
    return n;
}

struct found {
    const struct cli_verb *generated;
    const struct hand_verb *hand;
    int taken;
};

// The longest verb wins: "telemetry range" before a verb "telemetry". Hand-written ones stand for generated ones of the same words.
static struct found find_verb(int argc, char **argv)
{
    struct found f = {NULL, NULL, 0};
    for (size_t i = 0; i < hand_verbs_len; i++) {
        int n = words_match(hand_verbs[i].words, argc, argv);
        if (n > f.taken) {
            f = (struct found){NULL, &hand_verbs[i], n};
        }
    }
    for (size_t i = 0; i < cli_verbs_len; i++) {
        int n = words_match(cli_verbs[i].words, argc, argv);
        if (n > f.taken) {
            f = (struct found){&cli_verbs[i], NULL, n};
        }
    }
    return f;
}

unsigned cli_distance(const char *a, const char *b)
{
    unsigned row[65];
    size_t n = strlen(b);
    if (n > 64 || strlen(a) > 64) {
        return 99;
    }
    for (unsigned j = 0; j <= n; j++) {
        row[j] = j;
    }
    for (unsigned i = 1; a[i - 1] != '\0'; i++) {
        unsigned diag = row[0];
        row[0] = i;
        for (unsigned j = 1; j <= n; j++) {
            unsigned best = diag + (a[i - 1] != b[j - 1]);
            best = row[j] + 1 < best ? row[j] + 1 : best;
            best = row[j - 1] + 1 < best ? row[j - 1] + 1 : best;
            diag = row[j];
            row[j] = best;
        }
    }
    return row[n];
}

static const char *words_at(size_t i)
{
    return i < cli_verbs_len ? cli_verbs[i].words : hand_verbs[i - cli_verbs_len].words;
}

// "device" alone, or "device token": which words may follow. False when none does.
static bool advise_next(const char *typed)
{
    size_t len = strlen(typed);
    struct buf next = buf_heap(4096);
    for (size_t i = 0; i < cli_verbs_len + hand_verbs_len; i++) {
        const char *words = words_at(i);
        if (strncmp(words, typed, len) == 0 && words[len] == ' ') {
            buf_printf(&next, "\n  muster %s", words);
        }
    }
    bool any = next.len > 0;
    if (any) {
        cli_say("\"%s\" needs another word:" SLICE_FMT, typed, SLICE_ARG(buf_view(&next)));
    }
    buf_release(&next);
    return any;
}

static void advise(int argc, char **argv)
{
    char typed[200] = "";
    for (int i = 0; i < argc && i < 2 && argv[i][0] != '-'; i++) {
        snprintf(typed + strlen(typed), sizeof(typed) - strlen(typed), "%s%s", i > 0 ? " " : "", argv[i]);
    }
    if (advise_next(typed)) {
        return;
    }
    const char *best = NULL;
    unsigned best_d = 4;
    for (size_t i = 0; i < cli_verbs_len + hand_verbs_len; i++) {
        unsigned d = cli_distance(typed, words_at(i));
        if (d < best_d) {
            best_d = d;
            best = words_at(i);
        }
    }
    cli_say("\"%s\" is no verb%s%s%s; `muster help` lists them", typed, best != NULL ? ", did you mean \"" : "",
            best != NULL ? best : "", best != NULL ? "\"?" : "");
}

static bool hand_replaces(const char *words)
{
    for (size_t i = 0; i < hand_verbs_len; i++) {
        if (strcmp(hand_verbs[i].words, words) == 0) {
            return true;
        }
    }
    return false;
}

static int by_words(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void print_help(void)
{
    struct row {
        const char *words, *summary;
    } rows[256];
    size_t n = 0;
    for (size_t i = 0; i < cli_verbs_len && n < 255; i++) {
        if (!hand_replaces(cli_verbs[i].words)) {
            rows[n++] = (struct row){cli_verbs[i].words, cli_verbs[i].summary};
        }
    }
    for (size_t i = 0; i < hand_verbs_len && n < 255; i++) {
        rows[n++] = (struct row){hand_verbs[i].words, hand_verbs[i].summary};
    }
    rows[n++] = (struct row){"serve", "run the server (muster serve --help)"};
    qsort(rows, n, sizeof(rows[0]), by_words);
    puts("Usage: muster VERB [arguments] [--json]\n");
    for (size_t i = 0; i < n; i++) {
        printf("  %-24s %s\n", rows[i].words, rows[i].summary);
    }
    puts("\n`muster VERB --help` explains one. The server is found with:\n"
         "  --url URL           MUSTER_URL         default https://localhost:8443\n"
         "  --ca FILE           MUSTER_CA          the server's ca.pem\n"
         "  --token-file FILE   MUSTER_TOKEN_FILE  a file with the operator token\n"
         "Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 3 server not reached.");
}

static void hand_help(const struct hand_verb *v)
{
    printf("Usage: muster %s %s\n\n%s.\n", v->words, v->usage, v->summary);
    if (v->help != NULL) {
        printf("\n%s", v->help);
    }
}

// Takes the flags every verb has out of argv. False after telling what is wrong.
static bool take_globals(struct cli *cli, int *argc, char **argv, bool *ret_help)
{
    static const char *const names[] = {"--url", "--ca", "--token-file"};
    const char **values[] = {&cli->conf.url, &cli->conf.ca, &cli->conf.token_file};
    int kept = 0;
    for (int i = 0; i < *argc; i++) {
        bool taken = false;
        for (size_t k = 0; k < 3 && !taken; k++) {
            size_t len = strlen(names[k]);
            if (strncmp(argv[i], names[k], len) == 0 && argv[i][len] == '=') {
                *values[k] = argv[i] + len + 1;
                taken = true;
            } else if (strcmp(argv[i], names[k]) == 0) {
                if (++i >= *argc) {
                    cli_say("%s: a value is missing", names[k]);
                    return false;
                }
                *values[k] = argv[i];
                taken = true;
            }
        }
        if (taken) {
            continue;
        }
        if (strcmp(argv[i], "--json") == 0) {
            cli->json = true;
        } else if (strcmp(argv[i], "--quiet") == 0) {
            cli->quiet = true;
        } else if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            *ret_help = true;
        } else {
            argv[kept++] = argv[i];
        }
    }
    *argc = kept;
    return true;
}

static int run_verb(struct cli *cli, int argc, char **argv, bool help)
{
    struct found f = find_verb(argc, argv);
    if (f.taken == 0) {
        advise(argc, argv);
        return CLI_USAGE;
    }
    if (help) {
        if (f.hand != NULL) {
            hand_help(f.hand);
        } else {
            verb_help(f.generated);
        }
        return CLI_OK;
    }
    if (f.hand != NULL) {
        return f.hand->run(cli, argc - f.taken, argv + f.taken);
    }
    return verb_call(cli, f.generated, argc - f.taken, argv + f.taken);
}

int cli_main(int argc, char **argv)
{
    struct cli cli = {
        .conf = {.url = getenv("MUSTER_URL"), .ca = getenv("MUSTER_CA"), .token_file = getenv("MUSTER_TOKEN_FILE")}};
    if (cli.conf.url == NULL || cli.conf.url[0] == '\0') {
        cli.conf.url = "https://localhost:8443";
    }
    log_setup(LOG_ERROR, LOG_LOGFMT, 2);
    bool help = false;
    argc--;
    argv++;
    if (!take_globals(&cli, &argc, argv, &help)) {
        return CLI_USAGE;
    }
    if (argc == 1 && (strcmp(argv[0], "--version") == 0 || strcmp(argv[0], "version") == 0)) {
        printf("muster %s\n", MUSTER_VERSION);
        return CLI_OK;
    }
    if (argc > 0 && strcmp(argv[0], "help") == 0) {
        help = true;
        argc--;
        argv++;
    }
    if (argc == 0) {
        print_help();
        return help ? CLI_OK : CLI_USAGE;
    }
    int code = run_verb(&cli, argc, argv, help);
    client_close(cli.client);
    return code;
}
