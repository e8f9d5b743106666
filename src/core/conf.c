#include "core/conf.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <yaml.h>

#include "core/conf_priv.h"

#define CONF_FILE_MAX  (1 << 20)
#define CONF_PATH_MAX  128 // bytes of a dotted key in the file
#define CONF_DEPTH_MAX 8   // sections inside sections

struct conf {
    struct conf_value *values;
    size_t len;
};

// A load on its way: problems are gathered, not returned at the first.
struct conf_load_run {
    struct conf *conf;
    struct buf *problems;
    bool bad;
};

static struct conf_value *conf_find(const struct conf *c, struct slice name, bool flags_too)
{
    for (size_t i = 0; i < c->len; i++) {
        const struct conf_key *key = c->values[i].key;
        if (slice_eq_str(name, key->name) || (flags_too && key->flag != NULL && slice_eq_str(name, key->flag))) {
            return &c->values[i];
        }
    }
    return NULL;
}

static void conf_problem(struct conf_load_run *r, const char *where, struct slice key, const char *what)
{
    r->bad = true;
    buf_printf(r->problems, "%s: " SLICE_FMT "%s%s\n", where, SLICE_ARG(key), key.len > 0 ? ": " : "", what);
}

// How many letters must be changed, added, dropped or swapped with the next to make b of a.
static unsigned conf_distance(struct slice a, const char *b)
{
    unsigned rows[3][CONF_PATH_MAX + 1];
    size_t m = strlen(b);
    if (m > CONF_PATH_MAX || a.len > CONF_PATH_MAX) {
        return UINT32_MAX;
    }
    for (size_t j = 0; j <= m; j++) {
        rows[0][j] = (unsigned)j;
    }
    for (size_t i = 1; i <= a.len; i++) {
        unsigned *now = rows[i % 3];
        const unsigned *before = rows[(i + 2) % 3];
        const unsigned *before2 = rows[(i + 1) % 3];
        now[0] = (unsigned)i;
        for (size_t j = 1; j <= m; j++) {
            unsigned best = before[j - 1] + (a.p[i - 1] != (uint8_t)b[j - 1] ? 1 : 0);
            best = before[j] + 1 < best ? before[j] + 1 : best;
            best = now[j - 1] + 1 < best ? now[j - 1] + 1 : best;
            bool swapped = i > 1 && j > 1 && a.p[i - 1] == (uint8_t)b[j - 2] && a.p[i - 2] == (uint8_t)b[j - 1];
            now[j] = swapped && before2[j - 2] + 1 < best ? before2[j - 2] + 1 : best;
        }
    }
    return rows[a.len % 3][m];
}

// The key somebody may have meant: few letters off, or the same behind a forgotten section.
static const char *conf_suggest(const struct conf *c, struct slice name)
{
    const char *best = NULL;
    unsigned best_distance = (unsigned)(name.len / 3 < 1 ? 1 : name.len / 3 > 4 ? 4 : name.len / 3) + 1;
    for (size_t i = 0; i < c->len; i++) {
        const char *full = c->values[i].key->name;
        const char *dot = strrchr(full, '.');
        unsigned d = conf_distance(name, full);
        if (dot != NULL && slice_eq_str(name, dot + 1)) {
            d = 0;
        }
        if (d < best_distance) {
            best = full;
            best_distance = d;
        }
    }
    return best;
}

static void conf_unknown(struct conf_load_run *r, const char *where, struct slice name)
{
    char what[CONF_WHY_MAX];
    char shown[CONF_PATH_MAX + 1];
    const char *meant = conf_suggest(r->conf, name);
    struct slice cut = slice_head(name, CONF_PATH_MAX);
    if (!slice_to_cstr(cut, shown, sizeof(shown))) {
        shown[0] = '\0';
    }
    if (meant != NULL) {
        snprintf(what, sizeof(what), "no such key; did you mean %s?", meant);
    } else {
        snprintf(what, sizeof(what), "no such key; the manual lists all of them");
    }
    conf_problem(r, where, slice_str(shown), what);
}

static void conf_set(struct conf_load_run *r, const char *where, struct conf_value *v, struct slice text)
{
    char why[CONF_WHY_MAX];
    if (!conf_value_set(v, text, why)) {
        conf_problem(r, where, slice_str(v->key->name), why);
    }
}

// Where the walk through the file stands.
struct conf_walk {
    struct conf_load_run *run;
    const char *file;
    char path[CONF_PATH_MAX + 1]; // the dotted key being read
    size_t path_len;
    size_t section_len[CONF_DEPTH_MAX]; // of the path at each open section
    unsigned depth;
    bool have_key; // the path ends in a key whose value comes next
    unsigned line; // of that key
    unsigned documents;
    unsigned skip; // open collections to be passed over
    bool in_list;
    struct conf_value *list; // the list being gathered
    struct buf items;        // its items, one behind the other
    struct slice item[CONF_LIST_MAX];
    size_t item_len[CONF_LIST_MAX];
    size_t items_len;
    bool done; // a problem that makes the rest meaningless
};

static void walk_problem(struct conf_walk *w, unsigned line, const char *what)
{
    char where[320];
    snprintf(where, sizeof(where), "%.300s:%u", w->file, line);
    conf_problem(w->run, where, slice_make(w->path, w->path_len), what);
}

static void walk_stop(struct conf_walk *w, unsigned line, const char *what)
{
    walk_problem(w, line, what);
    w->done = true;
}

// The value of the current key is through: back to the section it stands in.
static void walk_value_done(struct conf_walk *w)
{
    w->have_key = false;
    w->path_len = w->depth > 0 ? w->section_len[w->depth - 1] : 0;
}

static void walk_key(struct conf_walk *w, struct slice name, unsigned line)
{
    bool dot = w->path_len > 0;
    if (name.len == 0 || name.len + w->path_len + (dot ? 1 : 0) > CONF_PATH_MAX ||
        memchr(name.p, 0, name.len) != NULL) {
        walk_stop(w, line, "a key has 1 to 128 bytes");
        return;
    }
    struct buf path = buf_fixed(w->path, CONF_PATH_MAX);
    path.len = w->path_len;
    buf_str(&path, dot ? "." : "");
    buf_slice(&path, name);
    for (size_t i = w->path_len; i < path.len; i++) {
        w->path[i] = (char)(path.p[i] >= 0x20 && path.p[i] != 0x7f ? path.p[i] : '?');
    }
    w->path_len = path.len;
    w->have_key = true;
    w->line = line;
}

// Is there a key whose name begins with the path and a dot?
static bool walk_is_section(const struct conf_walk *w)
{
    const struct conf *c = w->run->conf;
    for (size_t i = 0; i < c->len; i++) {
        struct slice name = slice_str(c->values[i].key->name);
        if (name.len > w->path_len && slice_starts(name, slice_make(w->path, w->path_len)) &&
            name.p[w->path_len] == '.') {
            return true;
        }
    }
    return false;
}

// The value the path names, or NULL with the problem told. A key may be set once.
static struct conf_value *walk_target(struct conf_walk *w)
{
    struct slice path = slice_make(w->path, w->path_len);
    struct conf_value *v = conf_find(w->run->conf, path, false);
    if (v == NULL && walk_is_section(w)) {
        walk_problem(w, w->line, "this is a section: its keys stand indented on the lines below");
    } else if (v == NULL) {
        char where[320];
        snprintf(where, sizeof(where), "%.300s:%u", w->file, w->line);
        conf_unknown(w->run, where, path);
    } else if (v->file_line != 0) {
        char what[64];
        snprintf(what, sizeof(what), "set already in line %u", v->file_line);
        walk_problem(w, w->line, what);
        v = NULL;
    } else {
        v->file_line = w->line;
    }
    return v;
}

static void walk_item(struct conf_walk *w, struct slice text)
{
    if (w->items_len == CONF_LIST_MAX || !buf_slice(&w->items, text)) {
        walk_stop(w, w->line, "the list is too long");
        return;
    }
    w->item_len[w->items_len++] = text.len;
}

static void walk_scalar(struct conf_walk *w, const yaml_event_t *e, unsigned line)
{
    struct slice text = slice_make(e->data.scalar.value, e->data.scalar.length);
    if (w->in_list) {
        walk_item(w, text);
        return;
    }
    if (w->depth == 0) {
        walk_stop(w, line, "the file holds keys and values: `section:`, and indented below it `key: value`");
        return;
    }
    if (!w->have_key) {
        walk_key(w, text, line);
        return;
    }
    struct conf_value *v = walk_target(w);
    bool plain = e->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    if (v != NULL && plain && (text.len == 0 || slice_eq_str(text, "~") || slice_eq_str(text, "null"))) {
        walk_problem(w, w->line, "the value is missing");
    } else if (v != NULL) {
        char where[320];
        snprintf(where, sizeof(where), "%.300s:%u", w->file, line);
        conf_set(w->run, where, v, text);
    }
    walk_value_done(w);
}

static void walk_mapping_start(struct conf_walk *w, unsigned line)
{
    if (w->depth > 0 && !w->have_key) {
        walk_stop(w, line, "a key is plain text");
    } else if (w->depth == CONF_DEPTH_MAX) {
        walk_stop(w, line, "too many sections inside each other");
    } else if (w->have_key && conf_find(w->run->conf, slice_make(w->path, w->path_len), false) != NULL) {
        walk_problem(w, line, "this is a key with one value, not a section");
        w->skip = 1;
    } else {
        w->section_len[w->depth++] = w->path_len;
        w->have_key = false;
    }
}

static void walk_mapping_end(struct conf_walk *w)
{
    w->depth--;
    walk_value_done(w);
}

static void walk_list_start(struct conf_walk *w, unsigned line)
{
    if (!w->have_key) {
        walk_stop(w, line, "a list stands behind a key");
        return;
    }
    w->list = walk_target(w);
    if (w->list != NULL && w->list->key->type != CONF_LIST) {
        char allowed[CONF_ALLOWED_MAX];
        char what[CONF_WHY_MAX];
        conf_key_allowed(w->list->key, allowed);
        snprintf(what, sizeof(what), "a list is not allowed here; allowed is %s", allowed);
        walk_problem(w, line, what);
        w->list = NULL;
    }
    if (w->list == NULL) {
        w->skip = 1;
        return;
    }
    w->in_list = true;
    w->items_len = 0;
    buf_clear(&w->items);
}

static void walk_list_end(struct conf_walk *w, unsigned line)
{
    struct slice rest = buf_view(&w->items);
    for (size_t i = 0; i < w->items_len; i++) {
        w->item[i] = slice_head(rest, w->item_len[i]);
        rest = slice_from(rest, w->item_len[i]);
    }
    char why[CONF_WHY_MAX];
    if (!conf_value_set_list(w->list, w->item, w->items_len, why)) {
        walk_problem(w, line, why);
    }
    w->in_list = false;
    walk_value_done(w);
}

// Inside something already refused: only the nesting is followed.
static void walk_skip(struct conf_walk *w, yaml_event_type_t type)
{
    if (type == YAML_MAPPING_START_EVENT || type == YAML_SEQUENCE_START_EVENT) {
        w->skip++;
    } else if (type == YAML_MAPPING_END_EVENT || type == YAML_SEQUENCE_END_EVENT) {
        if (--w->skip == 0) {
            walk_value_done(w);
        }
    }
}

static void walk_event(struct conf_walk *w, const yaml_event_t *e)
{
    unsigned line = (unsigned)e->start_mark.line + 1;
    if (w->skip > 0) {
        walk_skip(w, e->type);
        return;
    }
    bool opens = e->type == YAML_MAPPING_START_EVENT || e->type == YAML_SEQUENCE_START_EVENT;
    if (w->in_list && opens) {
        walk_stop(w, line, "a list holds plain texts");
        return;
    }
    switch (e->type) {
    case YAML_SCALAR_EVENT:
        walk_scalar(w, e, line);
        break;
    case YAML_MAPPING_START_EVENT:
        walk_mapping_start(w, line);
        break;
    case YAML_MAPPING_END_EVENT:
        walk_mapping_end(w);
        break;
    case YAML_SEQUENCE_START_EVENT:
        walk_list_start(w, line);
        break;
    case YAML_SEQUENCE_END_EVENT:
        walk_list_end(w, line);
        break;
    case YAML_ALIAS_EVENT:
        walk_stop(w, line, "aliases are not supported");
        break;
    case YAML_DOCUMENT_START_EVENT:
        if (w->documents++ > 0) {
            walk_stop(w, line, "one document only");
        }
        break;
    default:
        break;
    }
}

static void conf_parse_yaml(struct conf_load_run *r, const char *file, struct slice text)
{
    yaml_parser_t parser;
    if (!yaml_parser_initialize(&parser)) {
        conf_problem(r, file, SLICE(""), "no memory");
        return;
    }
    yaml_parser_set_input_string(&parser, text.p, text.len);
    struct conf_walk w = {.run = r, .file = file, .items = buf_heap((size_t)CONF_LIST_MAX * CONF_TEXT_MAX)};
    for (bool more = true; more && !w.done;) {
        yaml_event_t e;
        if (!yaml_parser_parse(&parser, &e)) {
            char what[CONF_WHY_MAX];
            snprintf(what, sizeof(what), "not YAML: %s%s%s", parser.problem != NULL ? parser.problem : "no memory",
                     parser.context != NULL ? " " : "", parser.context != NULL ? parser.context : "");
            w.path_len = 0;
            walk_problem(&w, (unsigned)parser.problem_mark.line + 1, what);
            break;
        }
        more = e.type != YAML_STREAM_END_EVENT;
        walk_event(&w, &e);
        yaml_event_delete(&e);
    }
    buf_release(&w.items);
    yaml_parser_delete(&parser);
}

static void conf_read_file(struct conf_load_run *r, const char *file)
{
    FILE *f = fopen(file, "rb");
    char *text = malloc(CONF_FILE_MAX + 1);
    if (f == NULL || text == NULL) {
        char what[CONF_WHY_MAX];
        snprintf(what, sizeof(what), "cannot be read: %s", strerror(f == NULL ? errno : ENOMEM));
        conf_problem(r, file, SLICE(""), what);
    } else {
        size_t n = fread(text, 1, CONF_FILE_MAX + 1, f);
        if (ferror(f) != 0) {
            conf_problem(r, file, SLICE(""), "cannot be read: is it a file?");
        } else if (n > CONF_FILE_MAX) {
            conf_problem(r, file, SLICE(""), "more than 1 MiB is no configuration");
        } else {
            conf_parse_yaml(r, file, slice_make(text, n));
        }
    }
    free(text);
    if (f != NULL) {
        fclose(f);
    }
}

static void conf_read_environment(struct conf_load_run *r)
{
    for (size_t i = 0; i < r->conf->len; i++) {
        char name[CONF_PATH_MAX + 16];
        conf_key_env(r->conf->values[i].key, name, sizeof(name));
        const char *text = getenv(name);
        if (text != NULL) {
            conf_set(r, name, &r->conf->values[i], slice_str(text));
            r->conf->values[i].file_line = 0; // what the file says does not count
        }
    }
}

static void conf_read_overrides(struct conf_load_run *r, const char *const *overrides)
{
    for (; overrides != NULL && *overrides != NULL; overrides++) {
        size_t n = strcspn(*overrides, "=");
        struct slice name = slice_make(*overrides, n);
        struct conf_value *v = conf_find(r->conf, name, true);
        if (v == NULL) {
            conf_unknown(r, "command line", name);
        } else if ((*overrides)[n] == '\0') {
            conf_problem(r, "command line", name, "the value is missing");
        } else {
            conf_set(r, "command line", v, slice_str(*overrides + n + 1));
            v->file_line = 0; // what the file says does not count
        }
    }
}

// All keys of all modules with their defaults; NULL without memory.
static struct conf *conf_new(const struct conf_module *mods, size_t mods_len)
{
    struct conf *c = calloc(1, sizeof(*c));
    size_t len = 0;
    for (size_t m = 0; m < mods_len; m++) {
        len += mods[m].len;
    }
    if (c == NULL || (c->values = calloc(len + 1, sizeof(*c->values))) == NULL) {
        free(c);
        return NULL;
    }
    for (size_t m = 0; m < mods_len; m++) {
        for (size_t k = 0; k < mods[m].len; k++) {
            struct conf_value *v = &c->values[c->len++];
            char why[CONF_WHY_MAX];
            v->key = &mods[m].keys[k];
            if (!conf_value_set(v, slice_str(v->key->dflt != NULL ? v->key->dflt : ""), why)) {
                assert(strcmp(why, "no memory") == 0); // a default its own table refuses
                conf_free(c);
                return NULL;
            }
        }
    }
    return c;
}

enum status conf_load(const struct conf_module *mods, size_t mods_len, const char *file, const char *const *overrides,
                      struct conf **ret, struct buf *problems)
{
    struct conf_load_run r = {.conf = conf_new(mods, mods_len), .problems = problems};
    if (r.conf == NULL) {
        return ST_NOMEM;
    }
    if (file != NULL) {
        conf_read_file(&r, file);
    }
    conf_read_environment(&r);
    conf_read_overrides(&r, overrides);
    if (r.bad) {
        conf_free(r.conf);
        return ST_INVALID;
    }
    *ret = r.conf;
    return ST_OK;
}

void conf_free(struct conf *c)
{
    if (c == NULL) {
        return;
    }
    for (size_t i = 0; i < c->len; i++) {
        conf_value_release(&c->values[i]);
    }
    free(c->values);
    free(c);
}

// The value of a key that must be there and of a fitting kind: anything else is a mistake of the caller.
static const struct conf_value *conf_get(const struct conf *c, const char *key)
{
    const struct conf_value *v = conf_find(c, slice_str(key), false);
    assert(v != NULL);
    return v;
}

const char *conf_str(const struct conf *c, const char *key)
{
    const struct conf_value *v = conf_get(c, key);
    assert(v->key->type != CONF_LIST);
    return v->text;
}

int64_t conf_int(const struct conf *c, const char *key)
{
    const struct conf_value *v = conf_get(c, key);
    assert(v->key->type == CONF_INT || v->key->type == CONF_DURATION || v->key->type == CONF_SIZE ||
           v->key->type == CONF_ENUM);
    return v->num;
}

bool conf_bool(const struct conf *c, const char *key)
{
    const struct conf_value *v = conf_get(c, key);
    assert(v->key->type == CONF_BOOL);
    return v->num != 0;
}

size_t conf_list(const struct conf *c, const char *key, const char *const **ret)
{
    const struct conf_value *v = conf_get(c, key);
    assert(v->key->type == CONF_LIST);
    *ret = (const char *const *)v->list;
    return v->list_len;
}

unsigned conf_file_line(const struct conf *c, const char *key)
{
    return conf_get(c, key)->file_line;
}

void conf_diff_fixed(const struct conf *a, const struct conf *b, struct buf *out)
{
    for (size_t i = 0; i < a->len; i++) {
        const struct conf_value *v = &a->values[i];
        const struct conf_value *w = conf_find(b, slice_str(v->key->name), false);
        if (!v->key->reload && w != NULL && !conf_value_same(v, w)) {
            buf_printf(out, "%s\n", v->key->name);
        }
    }
}
