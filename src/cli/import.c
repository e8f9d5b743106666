// muster device import: streams a file of one JSON object a line to the server, in calls of a few hundred lines, with progress;
// refused lines go to a file with line number and reason. Memory does not grow with the file.
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "cli/verb.h"

// A call is one operation of the server's core: small enough that devices do not wait for it (15 ms), large enough to be fast.
#define LINES_PER_CALL 250
#define BYTES_PER_CALL (900u << 10) // below the 1 MiB a call may have
#define LINE_MAX_BYTES (64u << 10)

struct import {
    struct cli *cli;
    FILE *in;
    FILE *errors; // opened with the first error
    const char *errors_path;
    const char *mode;
    int64_t size; // of the input; 0: unknown
    int64_t read_bytes;
    int64_t lines;        // read so far
    int64_t first_line;   // number of the first line in the call being gathered
    int64_t done, failed; // lines
    int64_t start_us, shown_us;
    bool show;
    struct buf body;
    unsigned body_lines;
};

static void progress(struct import *im, bool last)
{
    int64_t now = clock_mono_us();
    if (!im->show || (!last && now - im->shown_us < 200000)) {
        return;
    }
    im->shown_us = now;
    double seconds = (double)(now - im->start_us) / 1e6;
    double rate = seconds > 0 ? (double)im->done / seconds : 0;
    fprintf(stderr, "\r");
    if (im->size > 0) {
        double part = (double)im->read_bytes / (double)im->size;
        int filled = (int)(part * 30);
        fprintf(stderr, "[%.*s%*s] %3.0f %%  ", filled, "##############################", 30 - filled, "", part * 100);
        if (part > 0.01 && !last) {
            fprintf(stderr, "%.0f s left  ", seconds / part - seconds);
        }
    }
    fprintf(stderr, "%lld devices, %.0f/s, %lld refused   ", (long long)im->done, rate, (long long)im->failed);
    if (last) {
        fprintf(stderr, "\n");
    }
}

static bool report(struct import *im, int64_t line, const char *id, const char *reason)
{
    im->failed++;
    if (im->errors == NULL) {
        im->errors = fopen(im->errors_path, "w");
        if (im->errors == NULL) {
            cli_say("%s: %s", im->errors_path, strerror(errno));
            return false;
        }
    }
    json_t *row = json_pack("{sI ss? ss}", "line", (json_int_t)line, "id", id, "error", reason);
    char *text = json_dumps(row, JSON_COMPACT);
    json_decref(row);
    bool ok = text != NULL && fprintf(im->errors, "%s\n", text) > 0;
    free(text);
    return ok;
}

// "results" of the reply: {"line": 1-based within the call, "id", "status", "code", "error"}; error is null but for refused ones.
static bool read_results(struct import *im, const struct client_reply *reply)
{
    json_t *doc = json_loadb((const char *)reply->body.p, reply->body.len, 0, NULL);
    json_t *items = json_object_get(doc, "results");
    bool ok = json_is_array(items);
    size_t i;
    json_t *row;
    unsigned failed = 0;
    json_array_foreach(items, i, row)
    {
        const json_t *error = json_object_get(row, "error");
        if (error != NULL && !json_is_null(error)) {
            const char *text = json_string_value(error);
            text = text != NULL ? text : json_string_value(json_object_get(error, "detail"));
            int64_t line = im->first_line + json_integer_value(json_object_get(row, "line")) - 1;
            ok = report(im, line, json_string_value(json_object_get(row, "id")), text != NULL ? text : "refused") && ok;
            failed++;
        }
    }
    im->done += ok ? im->body_lines - failed : 0;
    json_decref(doc);
    return ok;
}

static int send_lines(struct import *im)
{
    int code = CLI_OK;
    if (im->body_lines > 0) {
        char path[128];
        snprintf(path, sizeof(path), "/api/v1/devices/import?mode=%s", im->mode);
        struct client_request req = {.method = "POST",
                                     .path = path,
                                     .content_type = "application/x-ndjson",
                                     .body = buf_view(&im->body),
                                     .if_match = -1};
        struct client_reply reply = {0};
        if (cli_call(im->cli, &req, &reply, &code)) {
            if (!read_results(im, &reply)) {
                cli_say("the reply to an import call could not be used");
                code = CLI_FAILED;
            }
            buf_release(&reply.body);
        } else if (code == CLI_FAILED || code == CLI_UNREACHABLE) {
            cli_say("stopped before line %lld; %lld devices are stored. Run the rest again with --upsert.",
                    (long long)im->first_line, (long long)im->done);
        }
    }
    buf_clear(&im->body);
    im->body_lines = 0;
    im->first_line = im->lines + 1;
    return code;
}

// The next line with its newline, if it has one, into `line` of LINE_MAX_BYTES; *ret_long when it is longer and only its
// beginning is there. 0: no more.
static size_t next_line(struct import *im, char *line, bool *ret_long)
{
    size_t n = 0;
    *ret_long = false;
    for (int c = getc_unlocked(im->in); c != EOF; c = getc_unlocked(im->in)) {
        im->read_bytes++;
        if (n < LINE_MAX_BYTES) {
            line[n++] = (char)c;
        } else {
            *ret_long = true;
        }
        if (c == '\n') {
            break;
        }
    }
    return n;
}

static int refuse_long(struct import *im)
{
    int code = send_lines(im);
    im->lines++;
    im->first_line = im->lines + 1;
    return code == CLI_OK && !report(im, im->lines, NULL, "the line is longer than 64 KiB") ? CLI_FAILED : code;
}

static int take_line(struct import *im, const char *line, size_t n)
{
    int code = CLI_OK;
    if (im->body.len + n + 1 > BYTES_PER_CALL || im->body_lines == LINES_PER_CALL) {
        code = send_lines(im);
    }
    im->lines++;
    buf_put(&im->body, line, n);
    if (line[n - 1] != '\n') {
        buf_str(&im->body, "\n");
    }
    im->body_lines++;
    progress(im, false);
    return code;
}

static int run(struct import *im)
{
    char *line = malloc(LINE_MAX_BYTES);
    int code = line != NULL ? CLI_OK : CLI_FAILED;
    bool too_long = false;
    size_t n;
    while (code == CLI_OK && (n = next_line(im, line, &too_long)) > 0) {
        code = too_long ? refuse_long(im) : take_line(im, line, n);
    }
    if (code == CLI_OK && ferror(im->in)) {
        cli_say("reading stopped after line %lld: %s", (long long)im->lines, strerror(errno));
        (void)send_lines(im);
        code = CLI_FAILED;
    }
    if (code == CLI_OK) {
        code = send_lines(im);
    }
    free(line);
    progress(im, true);
    return code;
}

static bool parse(struct import *im, int argc, char **argv, const char **ret_file)
{
    *ret_file = NULL;
    im->mode = "create";
    for (int i = 0; i < argc; i++) {
        if (strcmp(argv[i], "--upsert") == 0) {
            im->mode = "upsert";
        } else if (strncmp(argv[i], "--errors=", 9) == 0) {
            im->errors_path = argv[i] + 9;
        } else if (strcmp(argv[i], "--errors") == 0 && i + 1 < argc) {
            im->errors_path = argv[++i];
        } else if ((argv[i][0] != '-' || argv[i][1] == '\0') && *ret_file == NULL) {
            *ret_file = argv[i];
        } else {
            cli_say("device import: \"%s\" is not expected; `muster device import --help` explains", argv[i]);
            return false;
        }
    }
    if (*ret_file == NULL) {
        cli_say("device import: which file? FILE.ndjson, or - for standard input");
    }
    return *ret_file != NULL;
}

int verb_import(struct cli *cli, int argc, char **argv)
{
    struct import im = {
        .cli = cli, .first_line = 1, .body = buf_heap(BYTES_PER_CALL + LINE_MAX_BYTES), .start_us = clock_mono_us()};
    const char *file;
    char default_errors[4096];
    if (!parse(&im, argc, argv, &file)) {
        return CLI_USAGE;
    }
    bool from_stdin = strcmp(file, "-") == 0;
    im.in = from_stdin ? stdin : fopen(file, "r");
    if (im.in == NULL) {
        cli_say("%s: %s", file, strerror(errno));
        return CLI_USAGE;
    }
    struct stat st;
    im.size = fstat(fileno(im.in), &st) == 0 && S_ISREG(st.st_mode) ? st.st_size : 0;
    im.show = isatty(STDERR_FILENO) && !cli->quiet;
    if (im.errors_path == NULL) {
        snprintf(default_errors, sizeof(default_errors), "%.4000s.errors", from_stdin ? "import" : file);
        im.errors_path = default_errors;
    }
    int code = run(&im);
    if (cli->json) {
        printf("{\"imported\":%lld,\"refused\":%lld}\n", (long long)im.done, (long long)im.failed);
    } else {
        printf("%lld devices imported, %lld lines refused%s%s\n", (long long)im.done, (long long)im.failed,
               im.failed > 0 ? ", see " : "", im.failed > 0 ? im.errors_path : "");
    }
    if (im.errors != NULL && fclose(im.errors) != 0) {
        cli_say("%s: %s", im.errors_path, strerror(errno));
        code = CLI_FAILED;
    }
    if (!from_stdin) {
        fclose(im.in);
    }
    buf_release(&im.body);
    return code == CLI_OK && im.failed > 0 ? CLI_FAILED : code;
}
