// Generated verbs: arguments to a call of the API, the reply to a table, a record or the unchanged JSON.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "cli/print.h"
#include "cli/verb.h"

#define PATH_TEXT_MAX 8192
#define BODY_MAX      (4u << 20)

struct call {
    const struct cli_verb *v;
    const char *values[64]; // per flag, the path and query ones
    json_t *body;
    int64_t if_match;
    const char *file; // body that is not JSON
    bool all;         // --all: follow "next"
};

void cli_encode(struct buf *out, const char *text)
{
    for (const char *p = text; *p != '\0'; p++) {
        unsigned char ch = (unsigned char)*p;
        if ((ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') || (ch >= '0' && ch <= '9') ||
            strchr("-._~", ch) != NULL) {
            buf_u8(out, ch);
        } else {
            buf_printf(out, "%%%02X", ch);
        }
    }
}

bool cli_time(const char *text, struct buf *out)
{
    int64_t us = 0;
    char iso[CLOCK_RFC3339_MAX];
    if (strcmp(text, "now") == 0) {
        us = clock_wall_us();
    } else if (text[0] == '-' && clock_parse_duration(slice_str(text + 1), &us)) {
        us = clock_wall_us() - us;
    } else if (!clock_parse(slice_str(text), &us)) {
        return false;
    }
    clock_rfc3339(us, iso);
    return buf_str(out, iso);
}

static const struct cli_flag *find_flag(const struct cli_verb *v, const char *name, size_t len)
{
    for (size_t i = 0; i < v->flags_len; i++) {
        const char *f = v->flags[i].name;
        size_t k = 0;
        while (k < len && f[k] != '\0' && (f[k] == name[k] || (f[k] == '_' && name[k] == '-'))) {
            k++;
        }
        if (k == len && f[k] == '\0') {
            return &v->flags[i];
        }
    }
    return NULL;
}

// The text of "@file" and "-"; otherwise the text itself. Caller frees.
static char *read_value(const char *text)
{
    if (text[0] != '@' && strcmp(text, "-") != 0) {
        return strdup(text);
    }
    FILE *f = text[0] == '@' ? fopen(text + 1, "rb") : stdin;
    if (f == NULL) {
        perror(text + 1);
        return NULL;
    }
    char *data = calloc(1, BODY_MAX + 1);
    size_t n = data != NULL ? fread(data, 1, BODY_MAX, f) : 0;
    if (data != NULL && n == BODY_MAX) {
        cli_say("%s: longer than 4 MiB", text);
        free(data);
        data = NULL;
    }
    if (f != stdin) {
        fclose(f);
    }
    return data;
}

static json_t *parse_json(const struct cli_flag *f, const char *text)
{
    char *data = read_value(text);
    json_error_t e;
    json_t *v = data != NULL ? json_loads(data, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, &e) : NULL;
    if (data != NULL && v == NULL) {
        cli_say("--%s: not JSON: %s (line %d, column %d)", f->name, e.text, e.line, e.column);
    }
    free(data);
    return v;
}

// "site=berlin" into an object flag, "a,b" into an array flag.
static json_t *add_member(const struct cli_flag *f, json_t *now, const char *text)
{
    if (f->type == CLI_ARRAY) {
        now = now != NULL ? json_incref(now) : json_array();
        while (*text != '\0') {
            size_t n = strcspn(text, ",");
            json_array_append_new(now, json_stringn(text, n));
            text += n + (text[n] == ',');
        }
        return now;
    }
    const char *eq = strchr(text, '=');
    if (eq == NULL) {
        cli_say("--%s: expected KEY=VALUE or a JSON object, got \"%s\"", f->name, text);
        return NULL;
    }
    now = now != NULL ? json_incref(now) : json_object();
    char *key = strndup(text, (size_t)(eq - text));
    json_t *v = eq[1] == '\0' ? json_null()
                : f->strings  ? json_string(eq + 1)
                              : json_loads(eq + 1, JSON_DECODE_ANY, NULL);
    if (v == NULL) {
        v = json_string(eq + 1);
    }
    if (key == NULL || json_object_set_new(now, key, v) != 0) {
        cli_say("--%s: \"%s\" is not UTF-8", f->name, text);
        json_decref(now);
        now = NULL;
    }
    free(key);
    return now;
}

static json_t *number(const struct cli_flag *f, const char *text)
{
    char *end = NULL;
    json_t *v = NULL;
    if (f->type == CLI_INTEGER) {
        long long n = strtoll(text, &end, 10);
        v = json_integer(n);
    } else {
        v = json_real(strtod(text, &end));
    }
    if (end == text || *end != '\0') {
        cli_say("--%s: \"%s\" is not a%s", f->name, text, f->type == CLI_INTEGER ? "n integer" : " number");
        json_decref(v);
        return NULL;
    }
    return v;
}

static json_t *body_value(const struct cli_flag *f, json_t *now, const char *text)
{
    char *data;
    json_t *v;
    switch (f->type) {
    case CLI_INTEGER:
    case CLI_NUMBER:
        return number(f, text);
    case CLI_BOOLEAN:
        return json_boolean(strcmp(text, "true") == 0);
    case CLI_ANY:
        return parse_json(f, text);
    case CLI_OBJECT:
        return text[0] == '{' || text[0] == '@' || strcmp(text, "-") == 0 ? parse_json(f, text)
                                                                          : add_member(f, now, text);
    case CLI_ARRAY:
        return text[0] == '[' || text[0] == '@' ? parse_json(f, text) : add_member(f, now, text);
    case CLI_STRING:
    case CLI_TIME:
    case CLI_DURATION:
    default:
        data = read_value(text);
        v = data != NULL ? json_string(data) : NULL;
        if (data != NULL && v == NULL) {
            cli_say("--%s: not UTF-8", f->name);
        }
        free(data);
        return v;
    }
}

static bool check_choice(const struct cli_flag *f, const char *text)
{
    if (f->choices == NULL) {
        return true;
    }
    for (size_t i = 0; f->choices[i] != NULL; i++) {
        if (strcmp(f->choices[i], text) == 0) {
            return true;
        }
    }
    fprintf(stderr, "muster: --%s: \"%s\" is not allowed; one of:", f->name, text);
    for (size_t i = 0; f->choices[i] != NULL; i++) {
        fprintf(stderr, " %s", f->choices[i]);
    }
    fputc('\n', stderr);
    return false;
}

// The request itself: a JSON object, or KEY=VALUE for one member of it.
static bool set_whole(struct call *c, const struct cli_flag *f, const char *text)
{
    json_t *v = body_value(f, c->body, text);
    if (v == NULL) {
        return false;
    }
    json_decref(c->body);
    c->body = v;
    return true;
}

static bool set_flag(struct call *c, const struct cli_flag *f, const char *text)
{
    if (!check_choice(f, text)) {
        return false;
    }
    if (f->where != CLI_BODY) {
        c->values[f - c->v->flags] = text;
        return f->where != CLI_WHOLE || set_whole(c, f, text);
    }
    json_t *now = json_object_get(c->body, f->name);
    json_t *v = body_value(f, now, text);
    if (v == NULL) {
        return false;
    }
    return json_object_set_new(c->body, f->name, v) == 0;
}

static void advise_option(const struct cli_verb *v, const char *name, size_t len)
{
    char typed[64];
    char best[64] = "";
    unsigned best_d = 3;
    snprintf(typed, sizeof(typed), "%.*s", (int)len, name);
    for (size_t i = 0; i < v->flags_len; i++) {
        char flag[64];
        snprintf(flag, sizeof(flag), "%s", v->flags[i].name);
        for (char *p = flag; *p != '\0'; p++) {
            *p = *p == '_' ? '-' : *p;
        }
        unsigned d = strncmp(flag, typed, len) == 0 ? 1 : cli_distance(typed, flag);
        if (d < best_d) {
            best_d = d;
            snprintf(best, sizeof(best), "%s", flag);
        }
    }
    cli_say("--%s: no such option%s%s%s; `muster %s --help` lists them", typed,
            best[0] != '\0' ? ", did you mean --" : "", best, best[0] != '\0' ? "?" : "", v->words);
}

static bool set_if_match(struct call *c, const char *text)
{
    char *end = NULL;
    long long version = strtoll(text, &end, 10);
    if (end == text || *end != '\0' || version < 0) {
        cli_say("--if-match: \"%s\" is no version; versions are whole numbers", text);
        return false;
    }
    c->if_match = version;
    return true;
}

// One option at argv[0]; returns how many arguments it took, 0 after telling what is wrong.
static int parse_option(struct call *c, int argc, char **argv)
{
    const char *name = argv[0] + 2;
    size_t len = strcspn(name, "=");
    const char *value = name[len] == '=' ? name + len + 1 : NULL;
    bool negated = strncmp(name, "no-", 3) == 0;
    const struct cli_flag *f = find_flag(c->v, name, len);
    if (f == NULL && negated && value == NULL) {
        f = find_flag(c->v, name + 3, len - 3);
        if (f != NULL && f->type == CLI_BOOLEAN) {
            return set_flag(c, f, "false") ? 1 : 0;
        }
    }
    if (f == NULL && c->v->list && len == 3 && strncmp(name, "all", 3) == 0) {
        c->all = true;
        return 1;
    }
    bool if_match = f == NULL && c->v->if_match && len == 8 && strncmp(name, "if-match", 8) == 0;
    bool file = f == NULL && c->v->content != NULL && len == 4 && strncmp(name, "file", 4) == 0;
    if (f == NULL && !if_match && !file) {
        advise_option(c->v, name, len);
        return 0;
    }
    if (f != NULL && f->type == CLI_BOOLEAN && value == NULL) {
        return set_flag(c, f, "true") ? 1 : 0;
    }
    int taken = value != NULL ? 1 : 2;
    if (value == NULL && argc < 2) {
        cli_say("--%.*s: a value is missing", (int)len, name);
        return 0;
    }
    value = value != NULL ? value : argv[1];
    if (if_match) {
        return set_if_match(c, value) ? taken : 0;
    }
    if (file) {
        c->file = value;
        return taken;
    }
    return set_flag(c, f, value) ? taken : 0;
}

static bool parse_args(struct call *c, int argc, char **argv)
{
    size_t position = 0;
    int i = 0;
    while (i < argc) {
        if (strncmp(argv[i], "--", 2) == 0 && argv[i][2] != '\0') {
            int taken = parse_option(c, argc - i, argv + i);
            if (taken == 0) {
                return false;
            }
            i += taken;
            continue;
        }
        const char *name = c->v->args[position];
        const struct cli_flag *f = name != NULL ? find_flag(c->v, name, strlen(name)) : NULL;
        if (f == NULL) {
            cli_say("\"%s\" is too much; `muster %s --help` explains", argv[i], c->v->words);
            return false;
        }
        if (!set_flag(c, f, argv[i++])) {
            return false;
        }
        position += f->where != CLI_WHOLE; // it may be given in several KEY=VALUE
    }
    for (size_t k = 0; k < c->v->flags_len; k++) {
        const struct cli_flag *f = &c->v->flags[k];
        bool have = f->where == CLI_BODY ? json_object_get(c->body, f->name) != NULL : c->values[k] != NULL;
        if (f->required && !have) {
            cli_say("%s is missing; `muster %s --help` explains", f->name, c->v->words);
            return false;
        }
    }
    return true;
}

static const char *flag_value(const struct call *c, const char *name, size_t len)
{
    const struct cli_flag *f = find_flag(c->v, name, len);
    return f != NULL ? c->values[f - c->v->flags] : NULL;
}

static void put_value(const struct cli_flag *f, const char *value, struct buf *out)
{
    struct buf text = buf_heap(64);
    if (f->type == CLI_TIME && cli_time(value, &text)) {
        buf_u8(&text, 0);
        cli_encode(out, (const char *)text.p);
    } else {
        cli_encode(out, value);
    }
    buf_release(&text);
}

static void build_path(const struct call *c, const char *cursor, struct buf *out)
{
    const char *p = c->v->path;
    while (*p != '\0') {
        if (*p == '{') {
            size_t n = strcspn(p, "}");
            const char *value = flag_value(c, p + 1, n - 1);
            if (value != NULL) {
                cli_encode(out, value);
            } else {
                out->len--; // the last part, which may be left out: its slash goes too
            }
            p += n + 1;
        } else {
            buf_u8(out, (uint8_t)*p++);
        }
    }
    char sep = '?';
    for (size_t i = 0; i < c->v->flags_len; i++) {
        const struct cli_flag *f = &c->v->flags[i];
        const char *value = cursor != NULL && strcmp(f->name, "cursor") == 0 ? cursor : c->values[i];
        if (f->where == CLI_QUERY && value != NULL) {
            buf_u8(out, (uint8_t)sep);
            buf_printf(out, "%s=", f->name);
            put_value(f, value, out);
            sep = '&';
        }
    }
    buf_u8(out, 0);
}

static void print_reply(const struct cli *cli, const struct cli_verb *v, const struct client_reply *reply)
{
    struct slice text = buf_view(&reply->body);
    if (cli->json || v->reply_content != NULL) {
        fwrite(text.p, 1, text.len, stdout);
        bool binary = v->reply_content != NULL && strncmp(v->reply_content, "text/", 5) != 0;
        if (!binary && text.len > 0 && text.p[text.len - 1] != '\n') {
            putchar('\n');
        }
        return;
    }
    json_t *doc = text.len > 0 ? json_loadb((const char *)text.p, text.len, JSON_DECODE_ANY, NULL) : NULL;
    const json_t *items = json_object_get(doc, "items");
    if (doc == NULL) {
        if (!cli->quiet) {
            puts("done");
        }
    } else if (items != NULL && v->columns != NULL) {
        print_table(items, v->columns);
    } else if (json_is_object(json_object_get(doc, "metrics")) && json_object_size(doc) == 1) {
        print_metrics(json_object_get(doc, "metrics"));
    } else if (json_is_array(json_object_get(doc, "points"))) {
        print_points(json_object_get(doc, "points"));
    } else if (json_is_object(doc)) {
        print_record(doc);
    } else {
        fwrite(text.p, 1, text.len, stdout);
        putchar('\n');
    }
    json_decref(doc);
}

// The "next" cursor of a list reply, or NULL. Caller frees.
static char *next_cursor(const struct client_reply *reply)
{
    json_t *doc = json_loadb((const char *)reply->body.p, reply->body.len, 0, NULL);
    const char *next = json_string_value(json_object_get(doc, "next"));
    char *copy = next != NULL ? strdup(next) : NULL;
    json_decref(doc);
    return copy;
}

static int send_call(struct cli *cli, struct call *c, struct slice body)
{
    char *cursor = NULL;
    int code = CLI_OK;
    bool more = true;
    while (more && code == CLI_OK) {
        struct buf path = buf_heap(PATH_TEXT_MAX);
        build_path(c, cursor, &path);
        free(cursor);
        cursor = NULL;
        struct client_request req = {.method = c->v->method,
                                     .path = (const char *)path.p,
                                     .if_match = c->if_match,
                                     .body = body,
                                     .content_type = body.p == NULL          ? NULL
                                                     : c->v->content != NULL ? c->v->content
                                                                             : "application/json"};
        struct client_reply reply = {0};
        if (path.failed) {
            cli_say("the arguments are too long");
            code = CLI_USAGE;
        } else if (cli_call(cli, &req, &reply, &code)) {
            print_reply(cli, c->v, &reply);
            cursor = c->v->list ? next_cursor(&reply) : NULL;
            buf_release(&reply.body);
        }
        buf_release(&path);
        more = cursor != NULL && c->all;
    }
    if (cursor != NULL && !cli->json && !cli->quiet) {
        fprintf(stderr, "More: --cursor %s or --all\n", cursor);
    }
    free(cursor);
    return code;
}

int verb_call(struct cli *cli, const struct cli_verb *v, int argc, char **argv)
{
    struct call c = {.v = v, .if_match = -1};
    c.body = json_object();
    int code = CLI_USAGE;
    if (c.body != NULL && v->flags_len <= sizeof(c.values) / sizeof(c.values[0]) && parse_args(&c, argc, argv)) {
        char *text = NULL;
        if (v->content != NULL) {
            char at[4200];
            snprintf(at, sizeof(at), "@%s", c.file != NULL ? c.file : "/dev/stdin");
            text = read_value(at);
        } else if (v->has_body) {
            text = json_dumps(c.body, JSON_COMPACT | JSON_ENCODE_ANY);
        }
        code = v->content != NULL && text == NULL ? CLI_USAGE : send_call(cli, &c, slice_str(text));
        free(text);
    }
    json_decref(c.body);
    return code;
}

static bool is_positional(const struct cli_verb *v, const char *name)
{
    for (size_t i = 0; v->args[i] != NULL; i++) {
        if (strcmp(v->args[i], name) == 0) {
            return true;
        }
    }
    return false;
}

void verb_help(const struct cli_verb *v)
{
    printf("Usage: muster %s", v->words);
    for (size_t i = 0; v->args[i] != NULL; i++) {
        const struct cli_flag *f = find_flag(v, v->args[i], strlen(v->args[i]));
        bool required = f != NULL && f->required;
        printf(required ? " %s" : " [%s]", v->args[i]);
    }
    printf(" [options]\n\n%s.\n%s%s", v->summary, v->description, v->description[0] != '\0' ? "\n" : "");
    puts("");
    for (size_t i = 0; i < v->flags_len; i++) {
        const struct cli_flag *f = &v->flags[i];
        char name[100];
        snprintf(name, sizeof(name), "%s%s", is_positional(v, f->name) ? "" : "--", f->name);
        for (char *p = name; *p != '\0'; p++) {
            *p = *p == '_' && !is_positional(v, f->name) ? '-' : *p;
        }
        printf("  %-20s %s", name, f->help);
        for (size_t k = 0; f->choices != NULL && f->choices[k] != NULL; k++) {
            printf("%s%s", k == 0 ? " (" : ", ", f->choices[k]);
        }
        printf("%s%s%s%s\n", f->choices != NULL ? ")" : "", f->dflt != NULL ? " [default " : "",
               f->dflt != NULL ? f->dflt : "", f->dflt != NULL ? "]" : "");
    }
    if (v->if_match) {
        puts("  --if-match           version the change expects; refused when it is another by now");
    }
    if (v->list) {
        puts("  --all                all pages");
    }
    puts("  --json               the API's reply unchanged");
    printf("\nNeeds %s. Calls %s %s.\n", v->permission, v->method, v->path);
}
