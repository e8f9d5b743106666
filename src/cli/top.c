// muster top: a live view of the fleet, or of the one device there is, drawn anew every two seconds.
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "cli/print.h"
#include "cli/verb.h"

#define REFRESH_MS   2000
#define ROWS_MAX     200
#define NAME_COLUMNS 33 // device and state
#define CELL_COLUMNS 10

// A column of the table: a metric and how to show it.
static const struct {
    const char *metric, *title;
    double scale;
    const char *format;
} columns[] = {
    {"cpu.util", "cpu %", 1, "%7.1f"},        {"load.1", "load", 1, "%6.2f"},
    {"mem.used", "mem MB", 1e-6, "%8.0f"},    {"disk.used", "disk GB", 1e-9, "%8.1f"},
    {"net.rx_bytes", "rx MB", 1e-6, "%9.1f"}, {"net.tx_bytes", "tx MB", 1e-6, "%9.1f"},
    {"net.rtt_ms", "rtt ms", 1, "%7.2f"},     {"battery.level", "bat %", 1, "%6.0f"},
};
#define COLUMNS (sizeof(columns) / sizeof(columns[0]))

// How a picture is drawn: as many columns as fit, and what clears the rest of a line on a terminal.
struct view {
    size_t columns;
    const char *clear;
};

static struct view view_of(bool live)
{
    int room = (print_terminal_width() - NAME_COLUMNS) / CELL_COLUMNS;
    return (struct view){.columns = room < 0                 ? 0
                                    : (size_t)room < COLUMNS ? (size_t)room
                                                             : COLUMNS,
                         .clear = live ? "\x1b[K" : ""};
}

static json_t *get(struct cli *cli, const char *path, int *ret_code)
{
    struct client_request req = {.method = "GET", .path = path, .if_match = -1};
    struct client_reply reply = {0};
    if (!cli_call(cli, &req, &reply, ret_code)) {
        return NULL;
    }
    json_t *doc = json_loadb((const char *)reply.body.p, reply.body.len, 0, NULL);
    buf_release(&reply.body);
    if (doc == NULL) {
        *ret_code = CLI_FAILED;
    }
    return doc;
}

static void draw_device(struct cli *cli, const json_t *row, const struct view *v)
{
    const char *id = json_string_value(json_object_get(row, "device"));
    bool online = json_is_true(json_object_get(row, "online"));
    struct buf path = buf_heap(1024);
    int code = CLI_OK;
    buf_str(&path, "/api/v1/devices/");
    cli_encode(&path, id != NULL ? id : "");
    buf_str(&path, "/telemetry");
    buf_u8(&path, 0);
    json_t *last = path.failed ? NULL : get(cli, (const char *)path.p, &code);
    buf_release(&path);
    const json_t *metrics = json_object_get(last, "metrics");
    printf("%-24.24s %-8s", id != NULL ? id : "?", online ? "online" : "offline");
    for (size_t i = 0; i < v->columns; i++) {
        const json_t *value = json_object_get(json_object_get(metrics, columns[i].metric), "value");
        char cell[32];
        if (json_is_number(value)) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
            snprintf(cell, sizeof(cell), columns[i].format, json_number_value(value) * columns[i].scale);
#pragma GCC diagnostic pop
        } else {
            snprintf(cell, sizeof(cell), "-");
        }
        printf(" %9s", cell + strspn(cell, " "));
    }
    printf("%s\n", v->clear);
    json_decref(last);
}

static int terminal_rows(void)
{
    struct winsize w;
    return ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_row > 8 ? w.ws_row : 24;
}

static int draw(struct cli *cli, bool live)
{
    struct view v = view_of(live);
    int code = CLI_OK;
    int rows = live ? terminal_rows() - 6 : ROWS_MAX;
    char path[64];
    snprintf(path, sizeof(path), "/api/v1/presence?limit=%d", rows > ROWS_MAX ? ROWS_MAX : rows);
    json_t *presence = get(cli, path, &code);
    json_t *ledger = presence != NULL ? get(cli, "/api/v1/ledger", &code) : NULL;
    if (ledger != NULL) {
        char now[CLOCK_RFC3339_MAX];
        clock_rfc3339(clock_wall_us(), now);
        if (live) {
            printf("\x1b[H");
        }
        json_int_t refused = 0;
        const char *reason;
        json_t *n;
        json_object_foreach(json_object_get(ledger, "refused"), reason, n)
        {
            refused += json_integer_value(n);
        }
        printf("%.19s  %s%s\n", now, cli->conf.url, v.clear);
        printf("messages: received %lld, stored %lld, refused %lld%s\n",
               (long long)json_integer_value(json_object_get(ledger, "received")),
               (long long)json_integer_value(json_object_get(ledger, "stored")), (long long)refused, v.clear);
        printf("%-24s %-8s", "device", "state");
        for (size_t i = 0; i < v.columns; i++) {
            printf(" %9s", columns[i].title);
        }
        printf("%s\n", v.clear);
        size_t i;
        json_t *row;
        json_array_foreach(json_object_get(presence, "items"), i, row)
        {
            draw_device(cli, row, &v);
        }
        printf(live ? "\x1b[J\n q ends this view\x1b[K" : "");
        fflush(stdout);
    }
    json_decref(presence);
    json_decref(ledger);
    return code;
}

// Waits for the next refresh; true when a person wants to end.
static bool wait_or_quit(void)
{
    struct pollfd p = {.fd = STDIN_FILENO, .events = POLLIN};
    if (poll(&p, 1, REFRESH_MS) > 0) {
        char ch = 0;
        return read(STDIN_FILENO, &ch, 1) <= 0 || ch == 'q' || ch == 3;
    }
    return false;
}

int verb_top(struct cli *cli, int argc, char **argv)
{
    bool once = argc == 1 && strcmp(argv[0], "--once") == 0;
    if (argc > 1 || (argc == 1 && !once)) {
        cli_say("top: only --once is known");
        return CLI_USAGE;
    }
    if (once || !isatty(STDOUT_FILENO) || !isatty(STDIN_FILENO)) {
        return draw(cli, false);
    }
    struct termios old, raw;
    tcgetattr(STDIN_FILENO, &old);
    raw = old;
    raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO | ISIG);
    tcsetattr(STDIN_FILENO, TCSANOW, &raw);
    printf("\x1b[?1049h\x1b[?25l\x1b[2J");
    int code;
    do {
        code = draw(cli, true);
    } while (code == CLI_OK && !wait_or_quit());
    printf("\x1b[?25h\x1b[?1049l");
    fflush(stdout);
    tcsetattr(STDIN_FILENO, TCSANOW, &old);
    return code;
}
