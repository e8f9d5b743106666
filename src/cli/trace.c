// muster trace: starts a trace, prints what it catches, ends it with Ctrl-C, and may leave a capture file.
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/print.h"
#include "cli/verb.h"

#define ASK_EVERY_MS 300
#define PATH_BYTES   128

static volatile sig_atomic_t interrupted;

static void on_interrupt(int signum)
{
    (void)signum;
    interrupted = 1;
}

// A call whose reply is JSON, or NULL after telling why. *ret_code is the exit code.
static json_t *call_json(struct cli *cli, const char *method, const char *path, struct slice body, int *ret_code)
{
    struct client_request req = {.method = method,
                                 .path = path,
                                 .content_type = body.len > 0 ? "application/json" : NULL,
                                 .body = body,
                                 .if_match = -1};
    struct client_reply reply = {0};
    if (!cli_call(cli, &req, &reply, ret_code)) {
        return NULL;
    }
    json_t *doc = json_loadb((const char *)reply.body.p, reply.body.len, 0, NULL);
    buf_release(&reply.body);
    if (doc == NULL) {
        cli_say("the server's answer is no JSON");
        *ret_code = CLI_FAILED;
    }
    return doc;
}

static void print_record_line(const struct cli *cli, const json_t *r)
{
    static const struct {
        const char *direction, *mark;
    } marks[] = {{"in", "-->"}, {"out", "<--"}, {"note", " . "}};
    if (cli->json) {
        char *text = json_dumps(r, JSON_COMPACT | JSON_REAL_PRECISION(16));
        printf("%s\n", text != NULL ? text : "{}");
        free(text);
        return;
    }
    const char *time = json_string_value(json_object_get(r, "time"));
    const char *peer = json_string_value(json_object_get(r, "peer"));
    const char *direction = json_string_value(json_object_get(r, "direction"));
    const char *mark = "";
    for (size_t i = 0; direction != NULL && i < sizeof(marks) / sizeof(marks[0]); i++) {
        mark = strcmp(direction, marks[i].direction) == 0 ? marks[i].mark : mark;
    }
    const char *text = json_string_value(json_object_get(r, "text"));
    char *clean = strdup(text != NULL ? text : "");
    if (clean != NULL) {
        print_clean(clean);
    }
    printf("%.12s %-21s %s %s\n", time != NULL && strlen(time) > 11 ? time + 11 : "", peer != NULL ? peer : "", mark,
           clean != NULL ? clean : "");
    free(clean);
}

// Prints everything there is after *after. False: the trace has ended and all is said, or the server is gone.
static bool print_news(struct cli *cli, const char *id, json_int_t *after, int *ret_code)
{
    for (;;) {
        char path[PATH_BYTES];
        snprintf(path, sizeof(path), "/api/v1/traces/%s/records?limit=1000&after=%lld", id, (long long)*after);
        json_t *doc = call_json(cli, "GET", path, (struct slice){NULL, 0}, ret_code);
        if (doc == NULL) {
            return false;
        }
        size_t i;
        const json_t *r;
        json_array_foreach(json_object_get(doc, "items"), i, r)
        {
            print_record_line(cli, r);
        }
        fflush(stdout);
        *after = json_integer_value(json_object_get(doc, "last"));
        bool more = json_is_true(json_object_get(doc, "more"));
        const char *state = json_string_value(json_object_get(doc, "state"));
        bool running = state != NULL && strcmp(state, "running") == 0;
        json_decref(doc);
        if (!more) {
            return running;
        }
    }
}

static int save(struct cli *cli, const char *id, const char *file)
{
    char path[PATH_BYTES];
    snprintf(path, sizeof(path), "/api/v1/traces/%s/pcapng", id);
    struct client_request req = {.method = "GET", .path = path, .if_match = -1};
    struct client_reply reply = {0};
    int code = CLI_OK;
    if (!cli_call(cli, &req, &reply, &code)) {
        return code;
    }
    FILE *f = fopen(file, "wb");
    bool ok = f != NULL && fwrite(reply.body.p, 1, reply.body.len, f) == reply.body.len;
    ok = f != NULL && fclose(f) == 0 && ok;
    buf_release(&reply.body);
    if (!ok) {
        cli_say("%s: %s", file, strerror(errno));
        return CLI_FAILED;
    }
    if (!cli->quiet) {
        fprintf(stderr, "%s: open it with Wireshark\n", file);
    }
    return CLI_OK;
}

static int follow(struct cli *cli, const char *id, const char *file)
{
    struct sigaction act = {.sa_handler = on_interrupt};
    struct sigaction before;
    json_int_t after = 0;
    int code = CLI_OK;
    sigaction(SIGINT, &act, &before);
    while (print_news(cli, id, &after, &code) && interrupted == 0) {
        (void)poll(NULL, 0, ASK_EVERY_MS);
    }
    sigaction(SIGINT, &before, NULL);
    if (code != CLI_OK) {
        return code;
    }
    char path[PATH_BYTES];
    snprintf(path, sizeof(path), "/api/v1/traces/%s/stop", id);
    json_t *end = call_json(cli, "POST", path, (struct slice){NULL, 0}, &code);
    if (end != NULL && !cli->quiet && !cli->json) {
        fprintf(stderr, "trace %s: %lld records, %lld lost\n", id,
                (long long)json_integer_value(json_object_get(end, "records")),
                (long long)json_integer_value(json_object_get(end, "lost")));
    }
    json_decref(end);
    return code == CLI_OK && file != NULL ? save(cli, id, file) : code;
}

int verb_trace(struct cli *cli, int argc, char **argv)
{
    static const char *const options[] = {"--device", "--client", "--address", "--for"};
    const char *file = cli_option(&argc, argv, "--output");
    json_t *body = json_object();
    for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
        const char *value = cli_option(&argc, argv, options[i]);
        if (value != NULL) {
            json_object_set_new(body, options[i] + 2, json_string(value));
        }
    }
    if (!cli_arguments("trace", argc, argv, 0, 0)) {
        json_decref(body);
        return CLI_USAGE;
    }
    char *text = json_dumps(body, JSON_COMPACT);
    json_decref(body);
    int code = CLI_FAILED;
    json_t *trace = text != NULL ? call_json(cli, "POST", "/api/v1/traces", slice_str(text), &code) : NULL;
    free(text);
    const char *id = json_string_value(json_object_get(trace, "id"));
    if (id != NULL) {
        if (!cli->quiet && !cli->json) {
            fprintf(stderr, "trace %s until %s; Ctrl-C ends it\n", id,
                    json_string_value(json_object_get(trace, "until")));
        }
        code = follow(cli, id, file);
    }
    json_decref(trace);
    return code;
}
