// Verbs that follow the server's event stream: events, telemetry watch, twin watch; and the export of one metric.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "cli/print.h"
#include "cli/verb.h"

#define PATH_MAX_BYTES 2048
#define PATH_BOTH_MAX  4096  // with the cursor behind it
#define LINE_MAX_BYTES 16384 // a string value of 1,024 bytes, escaped
#define EXPORT_PAGE    10000

struct watch {
    const struct cli *cli;
    void (*print)(const struct watch *w, const json_t *event);
};

// "12:30:05.123" of an event's "ts" (epoch milliseconds) or "time".
static void print_time(const json_t *event)
{
    char iso[CLOCK_RFC3339_MAX];
    double ms = json_number_value(json_object_get(event, "ts"));
    clock_rfc3339(ms > 0 ? (int64_t)(ms * 1000) : clock_wall_us(), iso);
    printf("%.12s  ", iso + 11);
}

static void print_pairs(const json_t *object)
{
    const char *key;
    json_t *val;
    json_object_foreach((json_t *)object, key, val)
    {
        char *text = json_dumps(val, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(10));
        if (text != NULL) {
            print_clean(text);
        }
        printf(" %s=%s", key, text != NULL ? text : "?");
        free(text);
    }
    printf("\n");
}

static void print_telemetry(const struct watch *w, const json_t *event)
{
    (void)w;
    print_time(event);
    printf("%-20s", json_string_value(json_object_get(event, "device")));
    print_pairs(json_object_get(event, "values"));
}

static void print_twin(const struct watch *w, const json_t *event)
{
    (void)w;
    char *patch = json_dumps(json_object_get(event, "patch"), JSON_ENCODE_ANY | JSON_COMPACT);
    if (patch != NULL) {
        print_clean(patch);
    }
    print_time(event);
    printf("%-20s %-8s v%lld %s\n", json_string_value(json_object_get(event, "device")),
           json_string_value(json_object_get(event, "section")),
           (long long)json_integer_value(json_object_get(event, "version")), patch != NULL ? patch : "");
    free(patch);
}

static bool on_event(void *arg, struct slice event, struct slice data)
{
    const struct watch *w = arg;
    if (slice_eq_str(event, "gap")) {
        cli_say("some events were missed");
        return true;
    }
    if (w->cli->json || w->print == NULL) {
        printf("{\"type\":\"" SLICE_FMT "\",\"data\":" SLICE_FMT "}\n", SLICE_ARG(event), SLICE_ARG(data));
    } else {
        json_t *doc = json_loadb((const char *)data.p, data.len, 0, NULL);
        if (doc != NULL) {
            w->print(w, doc);
            json_decref(doc);
        }
    }
    fflush(stdout);
    return ferror(stdout) == 0;
}

static int follow(struct cli *cli, const char *types, const char *device,
                  void (*print)(const struct watch *, const json_t *))
{
    struct client *c = cli_client(cli);
    if (c == NULL) {
        return CLI_USAGE;
    }
    struct buf path = buf_heap(PATH_MAX_BYTES);
    buf_str(&path, "/api/v1/events?");
    if (types != NULL) {
        buf_str(&path, "types=");
        cli_encode(&path, types);
    }
    if (device != NULL) {
        buf_str(&path, types != NULL ? "&device=" : "device=");
        cli_encode(&path, device);
    }
    buf_u8(&path, 0);
    struct watch w = {cli, print};
    struct err err = {.code = ST_OK};
    enum status s = path.failed ? err_set(&err, ST_TOO_LARGE, "the arguments are too long")
                                : client_events(c, (const char *)path.p, on_event, &w, &err);
    buf_release(&path);
    if (s != ST_OK) {
        cli_say("%s", err.text);
        return s == ST_IO ? CLI_UNREACHABLE : CLI_FAILED;
    }
    return CLI_OK;
}

int verb_events(struct cli *cli, int argc, char **argv)
{
    const char *types = cli_option(&argc, argv, "--types");
    const char *device = cli_option(&argc, argv, "--device");
    return cli_arguments("events", argc, argv, 0, 0) ? follow(cli, types, device, NULL) : CLI_USAGE;
}

int verb_telemetry_watch(struct cli *cli, int argc, char **argv)
{
    return cli_arguments("telemetry watch", argc, argv, 0, 1)
               ? follow(cli, "telemetry", argc > 0 ? argv[0] : NULL, print_telemetry)
               : CLI_USAGE;
}

int verb_twin_watch(struct cli *cli, int argc, char **argv)
{
    return cli_arguments("twin watch", argc, argv, 0, 1) ? follow(cli, "twin", argc > 0 ? argv[0] : NULL, print_twin)
                                                         : CLI_USAGE;
}

// One point, [time, value], with its numbers as short as they were.
static void print_point(const json_t *point)
{
    struct buf line = buf_heap(LINE_MAX_BYTES);
    struct jw w;
    jw_init(&w, &line);
    jw_array(&w);
    size_t i;
    const json_t *v;
    json_array_foreach(point, i, v)
    {
        if (json_is_integer(v)) {
            jw_int(&w, json_integer_value(v));
        } else if (json_is_real(v)) {
            jw_double(&w, json_real_value(v));
        } else if (json_is_string(v)) {
            jw_slice(&w, slice_make(json_string_value(v), json_string_length(v)));
        } else {
            jw_bool(&w, json_is_true(v));
        }
    }
    jw_array_end(&w);
    buf_u8(&line, '\n');
    fwrite(line.p, 1, line.len, stdout);
    buf_release(&line);
}

// Prints the points of one page; returns the cursor of the next (caller frees) or NULL.
static char *export_page(const struct client_reply *reply)
{
    json_t *doc = json_loadb((const char *)reply->body.p, reply->body.len, 0, NULL);
    size_t i;
    json_t *point;
    json_array_foreach(json_object_get(doc, "points"), i, point)
    {
        print_point(point);
    }
    const char *next = json_string_value(json_object_get(doc, "next"));
    char *copy = next != NULL ? strdup(next) : NULL;
    json_decref(doc);
    return copy;
}

static bool put_time(struct buf *path, const char *name, const char *text)
{
    struct buf iso = buf_heap(64);
    bool ok = cli_time(text, &iso) && buf_u8(&iso, 0);
    if (ok) {
        buf_printf(path, "&%s=", name);
        cli_encode(path, (const char *)iso.p);
    } else {
        cli_say("--%s: \"%s\" is no time; RFC 3339, epoch milliseconds, now, or -1h", name, text);
    }
    buf_release(&iso);
    return ok;
}

int verb_telemetry_export(struct cli *cli, int argc, char **argv)
{
    const char *metric = cli_option(&argc, argv, "--metric");
    const char *from = cli_option(&argc, argv, "--from");
    const char *to = cli_option(&argc, argv, "--to");
    if (!cli_arguments("telemetry export", argc, argv, 1, 1)) {
        return CLI_USAGE;
    }
    if (metric == NULL) {
        cli_say("telemetry export: --metric is missing");
        return CLI_USAGE;
    }
    struct buf base = buf_heap(PATH_MAX_BYTES);
    buf_str(&base, "/api/v1/devices/");
    cli_encode(&base, argv[0]);
    buf_str(&base, "/telemetry/");
    cli_encode(&base, metric);
    buf_printf(&base, "?limit=%d", EXPORT_PAGE);
    int code = put_time(&base, "from", from != NULL ? from : "0") && put_time(&base, "to", to != NULL ? to : "now")
                   ? CLI_OK
                   : CLI_USAGE;
    char *cursor = NULL;
    do {
        struct buf path = buf_heap(PATH_BOTH_MAX);
        buf_slice(&path, buf_view(&base));
        if (cursor != NULL) {
            buf_str(&path, "&cursor=");
            cli_encode(&path, cursor);
        }
        buf_u8(&path, 0);
        free(cursor);
        cursor = NULL;
        struct client_request req = {.method = "GET", .path = (const char *)path.p, .if_match = -1};
        struct client_reply reply = {0};
        if (code == CLI_OK && cli_call(cli, &req, &reply, &code)) {
            cursor = export_page(&reply);
            buf_release(&reply.body);
        }
        buf_release(&path);
    } while (cursor != NULL);
    buf_release(&base);
    return code;
}
