#include "agent/options.h"

#include <stdlib.h>

#include "agent/queue.h"
#include "muster/muster.h"

struct option_row {
    const char *name; // without the dashes
    const char *arg;  // NULL: a switch
    bool required;
    enum status (*take)(struct options *o, const char *value, struct err *err);
    const char *help; // sentences; the manual prints them as they are
};

static enum status take_server(struct options *o, const char *value, struct err *err)
{
    static const char allowed[] = "must be mqtts://HOST or mqtts://HOST:PORT; an IPv6 address stands in [brackets]";
    struct slice s = slice_str(value);
    if (!slice_starts(s, SLICE("mqtts://"))) {
        return err_at(err, ST_INVALID, "--server", "%s", allowed);
    }
    s = slice_from(s, 8);
    bool bracket = s.len > 0 && s.p[0] == '[';
    const uint8_t *end = s.len > 0 ? memchr(s.p, bracket ? ']' : ':', s.len) : NULL;
    if (bracket && end == NULL) {
        return err_at(err, ST_INVALID, "--server", "%s", allowed);
    }
    size_t host_len = end != NULL ? (size_t)(end - s.p) : s.len;
    struct slice host = bracket ? slice_from(slice_head(s, host_len), 1) : slice_head(s, host_len);
    struct slice rest = slice_from(s, host_len + (bracket ? 1 : 0));
    if (host.len == 0 || !slice_to_cstr(host, o->host, sizeof(o->host)) || strpbrk(o->host, "/@ ") != NULL) {
        return err_at(err, ST_INVALID, "--server", "%s", allowed);
    }
    o->port = 8883;
    if (rest.len > 0) {
        char digits[8];
        char *stop = NULL;
        bool ok = rest.p[0] == ':' && slice_to_cstr(slice_from(rest, 1), digits, sizeof(digits)) && digits[0] >= '0' &&
                  digits[0] <= '9';
        long port = ok ? strtol(digits, &stop, 10) : 0;
        if (!ok || *stop != '\0' || port < 1 || port > 65535) {
            return err_at(err, ST_INVALID, "--server", "the port must be a number from 1 to 65535");
        }
        o->port = (uint16_t)port;
    }
    return ST_OK;
}

static enum status take_ca(struct options *o, const char *value, struct err *err)
{
    (void)err;
    o->ca_file = value;
    return ST_OK;
}
static enum status take_claim_file(struct options *o, const char *value, struct err *err)
{
    (void)err;
    o->claim_file = value;
    return ST_OK;
}
static enum status take_state(struct options *o, const char *value, struct err *err)
{
    (void)err;
    o->state_dir = value;
    return ST_OK;
}

static enum status take_device(struct options *o, const char *value, struct err *err)
{
    size_t len = strlen(value);
    size_t ok = strspn(value, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:-");
    if (len < 1 || len > 128 || ok != len) {
        return err_at(err, ST_INVALID, "--device", "must be 1 to 128 characters of A-Z a-z 0-9 . _ : -");
    }
    o->device = value;
    return ST_OK;
}

static enum status take_model(struct options *o, const char *value, struct err *err)
{
    if (value[0] == '\0' || strlen(value) > 64) {
        return err_at(err, ST_INVALID, "--model", "must be 1 to 64 bytes");
    }
    o->model = value;
    return ST_OK;
}

static enum status take_queue(struct options *o, const char *value, struct err *err)
{
    char *stop = NULL;
    bool ok = value[0] >= '0' && value[0] <= '9';
    unsigned long mib = ok ? strtoul(value, &stop, 10) : 0;
    if (!ok || *stop != '\0' || mib < 1 || mib > 1024) {
        return err_at(err, ST_INVALID, "--queue-mib", "must be a whole number from 1 to 1024");
    }
    o->queue_bytes = (uint64_t)mib << 20;
    return ST_OK;
}

static enum status take_log_level(struct options *o, const char *value, struct err *err)
{
    return log_parse_level(value, &o->log_level)
               ? ST_OK
               : err_at(err, ST_INVALID, "--log-level", "must be debug, info, warn or error");
}

static enum status take_log_format(struct options *o, const char *value, struct err *err)
{
    bool json = strcmp(value, "json") == 0;
    o->log_format = json ? LOG_JSON : LOG_LOGFMT;
    return json || strcmp(value, "logfmt") == 0 ? ST_OK
                                                : err_at(err, ST_INVALID, "--log-format", "must be logfmt or json");
}

static enum status take_no_keys(struct options *o, const char *value, struct err *err)
{
    (void)value;
    (void)err;
    o->no_keys = true;
    return ST_OK;
}
static enum status take_once(struct options *o, const char *value, struct err *err)
{
    (void)value;
    (void)err;
    o->once = true;
    return ST_OK;
}
static enum status take_help(struct options *o, const char *value, struct err *err)
{
    (void)value;
    (void)err;
    o->help = true;
    return ST_OK;
}
static enum status take_version(struct options *o, const char *value, struct err *err)
{
    (void)value;
    (void)err;
    o->version = true;
    return ST_OK;
}
static enum status take_man(struct options *o, const char *value, struct err *err)
{
    (void)value;
    (void)err;
    o->man = true;
    return ST_OK;
}

static const struct option_row rows[] = {
    {"server", "mqtts://HOST:PORT", true, take_server, "The server. Without a port 8883."},
    {"ca", "FILE", true, take_ca,
     "Certificate authorities to trust, PEM. Nothing else is trusted; the server's certificate must carry HOST."},
    {"state", "DIR", true, take_state,
     "Directory of the private key, the certificate and the queue. Made with mode 0700 when it is not there. One agent "
     "at "
     "a time."},
    {"claim-file", "FILE", false, take_claim_file,
     "File with the claim token for the first start; - reads it from standard input. It may also stand in the "
     "environment as MUSTER_CLAIM. An enrolled device needs none."},
    {"device", "ID", false, take_device, "Device id to ask for when enrolling. Without it the server chooses one."},
    {"model", "TEXT", false, take_model, "Model to register. Without it what the hardware says."},
    {"no-keys", NULL, false, take_no_keys,
     "Do not register hardware keys (machine id, MAC address, serial number). For several agents on one machine."},
    {"queue-mib", "N", false, take_queue,
     "Largest size of the queue on disk in MiB, 1 to 1024; 16 by default. When it is full the oldest messages are "
     "dropped "
     "and counted."},
    {"log-level", "LEVEL", false, take_log_level,
     "debug, info, warn or error; info by default. The desired setting agent.log_level overrides it."},
    {"log-format", "FORMAT", false, take_log_format,
     "logfmt or json; logfmt by default. The log goes to standard error."},
    {"once", NULL, false, take_once,
     "Enrol if needed, send one sample and everything that waits in the queue, and end when the server has stored it."},
    {"help", NULL, false, take_help, "Print this text."},
    {"version", NULL, false, take_version, "Print the version."},
    {"man", NULL, false, take_man, "Print the manual page (roff)."},
};
#define ROWS (sizeof(rows) / sizeof(rows[0]))

static const struct option_row *row_find(struct slice name)
{
    for (size_t i = 0; i < ROWS; i++) {
        if (slice_eq_str(name, rows[i].name)) {
            return &rows[i];
        }
    }
    return NULL;
}

// Takes argv[*at], and argv[*at + 1] when that is its value.
static enum status take_one(struct options *o, int argc, char **argv, int *at, struct err *err)
{
    struct slice arg = slice_str(argv[*at]);
    if (!slice_starts(arg, SLICE("--"))) {
        return err_at(err, ST_INVALID, argv[*at], "unexpected argument; see muster-agent --help");
    }
    arg = slice_from(arg, 2);
    const uint8_t *equals = arg.len > 0 ? memchr(arg.p, '=', arg.len) : NULL;
    const struct option_row *row = row_find(equals != NULL ? slice_head(arg, (size_t)(equals - arg.p)) : arg);
    if (row == NULL) {
        return err_at(err, ST_INVALID, argv[*at], "there is no such option; see muster-agent --help");
    }
    const char *value = equals != NULL ? (const char *)equals + 1 : NULL;
    if (row->arg == NULL && value != NULL) {
        return err_at(err, ST_INVALID, row->name, "takes no value");
    }
    if (row->arg != NULL && value == NULL) {
        if (*at + 1 >= argc) {
            return err_at(err, ST_INVALID, row->name, "needs a value: --%s %s", row->name, row->arg);
        }
        value = argv[++*at];
    }
    return row->take(o, value, err);
}

enum status options_parse(struct options *o, int argc, char **argv, struct err *err)
{
    *o = (struct options){.queue_bytes = 16u << 20, .log_level = LOG_INFO};
    for (int i = 1; i < argc; i++) {
        enum status s = take_one(o, argc, argv, &i, err);
        if (s != ST_OK) {
            return s;
        }
    }
    if (o->help || o->version || o->man) {
        return ST_OK;
    }
    const struct {
        const char *name;
        bool given;
    } required[] = {{"--server", o->host[0] != '\0'}, {"--ca", o->ca_file != NULL}, {"--state", o->state_dir != NULL}};
    for (size_t i = 0; i < sizeof(required) / sizeof(required[0]); i++) {
        if (!required[i].given) {
            return err_at(err, ST_INVALID, required[i].name, "is required; see muster-agent --help");
        }
    }
    return ST_OK;
}

// ---- Help and manual ------------------------------------------------------------------------------------------------

// The help text in lines of at most 80 columns, indented by 6.
static void put_wrapped(struct buf *out, const char *text)
{
    size_t column = 0;
    while (*text != '\0') {
        size_t word = strcspn(text, " ");
        if (column == 0 || column + 1 + word > 80) {
            buf_str(out, column == 0 ? "      " : "\n      ");
            column = 6;
        } else {
            buf_u8(out, ' ');
            column++;
        }
        buf_put(out, text, word);
        column += word;
        text += word;
        text += strspn(text, " ");
    }
    buf_u8(out, '\n');
}

void options_help(struct buf *out)
{
    buf_str(out, "muster-agent: enrols this machine, reports its health, obeys its settings.\n\nusage: muster-agent");
    for (size_t i = 0; i < ROWS; i++) {
        if (rows[i].required) {
            buf_printf(out, " --%s %s", rows[i].name, rows[i].arg);
        }
    }
    buf_str(out, " [options]\n\n");
    for (size_t i = 0; i < ROWS; i++) {
        buf_printf(out, "  --%s%s%s\n", rows[i].name, rows[i].arg != NULL ? " " : "",
                   rows[i].arg != NULL ? rows[i].arg : "");
        put_wrapped(out, rows[i].help);
    }
}

// roff wants its dashes escaped, and no dot or quote at the start of a line.
static void put_roff(struct buf *out, const char *text)
{
    for (const char *c = text; *c != '\0'; c++) {
        if (*c == '-' || *c == '\\') {
            buf_u8(out, '\\');
        }
        buf_u8(out, (uint8_t)*c);
    }
}

void options_man(struct buf *out)
{
    buf_str(out,
            ".TH MUSTER\\-AGENT 8 \"\" \"muster " MUSTER_VERSION "\"\n.SH NAME\nmuster\\-agent \\- enrols a machine "
            "with a Muster server, reports its health and obeys its settings\n.SH SYNOPSIS\n.B muster\\-agent\n");
    for (size_t i = 0; i < ROWS; i++) {
        if (rows[i].required) {
            buf_printf(out, "\\-\\-%s \\fI%s\\fR ", rows[i].name, rows[i].arg);
        }
    }
    buf_str(out, "[options]\n.SH OPTIONS\n");
    for (size_t i = 0; i < ROWS; i++) {
        buf_str(out, ".TP\n.B \\-\\-");
        put_roff(out, rows[i].name);
        if (rows[i].arg != NULL) {
            buf_printf(out, " \\fI%s\\fR", rows[i].arg);
        }
        buf_u8(out, '\n');
        put_roff(out, rows[i].help);
        buf_u8(out, '\n');
    }
    buf_printf(
        out, ".SH FILES\nIn the state directory: key.pem (private key, mode 0600), cert.pem, device (the id), queue/ "
             "(messages not yet stored by the server), settings.json (desired settings in force), lock; during a "
             "renewal next\\-key.pem and next\\-cert.pem.\n"
             ".SH ENVIRONMENT\n.TP\n.B MUSTER_CLAIM\nThe claim token, as an alternative to \\-\\-claim\\-file.\n"
             ".SH SIGNALS\nSIGTERM and SIGINT end the agent; what is not acknowledged stays in the queue.\n"
             ".SH EXIT STATUS\n0 after a signal or \\-\\-once, 1 when it cannot go on, 2 for a wrong command line or a "
             "missing claim token.\n");
}
