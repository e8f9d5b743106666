// Topic patterns: topic filters whose levels may hold variables.
//
// A pattern is cut into levels once; a question walks its levels beside those of the topic or filter asked about, without
// ever joining texts: pieces of a level are compared one after the other.
#include "base/reader.h"
#include "base/utf8.h"
#include "domain/policy/policy_priv.h"

// What may stand between "${" and "}": a name as it is, or with a key behind it.
static const struct {
    const char *name;
    bool key;
} variables[] = {{"device.id", false}, {"device.model", false}, {"cert.cn", false},          {"client.id", false},
                 {"tenant.id", false}, {"device.tags.", true},  {"device.attributes.", true}};

#define VARIABLE_KEY_MAX DEVICE_TAG_KEY_MAX

static bool has_byte(struct slice s, int byte)
{
    return s.len > 0 && memchr(s.p, byte, s.len) != NULL;
}

static bool has_control(struct slice s)
{
    for (size_t i = 0; i < s.len; i++) {
        if (s.p[i] < 0x20 || s.p[i] == 0x7f) {
            return true;
        }
    }
    return false;
}

// Cuts the next level off `rest`; *more says whether there is one left. An empty last level ("a/") counts as one.
static bool next_level(struct slice *rest, bool *more, struct slice *ret)
{
    if (!*more) {
        return false;
    }
    const uint8_t *slash = rest->len > 0 ? memchr(rest->p, '/', rest->len) : NULL;
    *more = slash != NULL;
    *ret = slash != NULL ? slice_head(*rest, (size_t)(slash - rest->p)) : *rest;
    *rest = slice_from(*rest, ret->len + 1);
    return true;
}

bool pattern_piece(struct slice *rest, bool *ret_var, struct slice *ret)
{
    if (rest->len == 0) {
        return false;
    }
    struct slice s = *rest;
    const uint8_t *end = slice_starts(s, SLICE("${")) ? memchr(s.p, '}', s.len) : NULL;
    *ret_var = end != NULL;
    if (end != NULL) {
        size_t len = (size_t)(end - s.p) + 1;
        *ret = slice_from(slice_head(s, len - 1), 2);
        *rest = slice_from(s, len);
        return true;
    }
    size_t len = 1;
    while (len < s.len && !slice_starts(slice_from(s, len), SLICE("${"))) {
        len++;
    }
    *ret = slice_head(s, len);
    *rest = slice_from(s, len);
    return true;
}

bool pattern_value_ok(struct slice value)
{
    return value.len > 0 && value.len <= POLICY_TOPIC_MAX && !has_byte(value, '/') && !has_byte(value, '+') &&
           !has_byte(value, '#') && !has_control(value) && utf8_mqtt_valid(value);
}

// --- making ------------------------------------------------------------------------------------------------------

static bool variable_known(struct slice name)
{
    for (size_t i = 0; i < sizeof(variables) / sizeof(variables[0]); i++) {
        struct slice prefix = slice_str(variables[i].name);
        if (variables[i].key
                ? slice_starts(name, prefix) && name.len > prefix.len && name.len - prefix.len <= VARIABLE_KEY_MAX
                : slice_eq(name, prefix)) {
            return true;
        }
    }
    return false;
}

static const char *vars_problem(struct slice level)
{
    bool is_var = false;
    struct slice piece;
    while (pattern_piece(&level, &is_var, &piece)) {
        if (is_var && !variable_known(piece)) {
            return "variables are device.id, device.model, device.tags.KEY, device.attributes.KEY, cert.cn, client.id "
                   "and "
                   "tenant.id";
        }
        if (!is_var && slice_starts(piece, SLICE("${"))) {
            return "\"${\" needs its \"}\" in the same level";
        }
    }
    return NULL;
}

static bool has_vars(struct slice level)
{
    for (size_t i = 0; i + 1 < level.len; i++) {
        if (level.p[i] == '$' && level.p[i + 1] == '{') {
            return true;
        }
    }
    return false;
}

static const char *level_make(struct slice text, bool last, struct pattern_level *ret)
{
    *ret = (struct pattern_level){PATTERN_TEXT, text};
    if (slice_eq_str(text, "#")) {
        ret->kind = PATTERN_HASH;
        return last ? NULL : "'#' stands alone in the last level (4.7.1.2)";
    }
    if (slice_eq_str(text, "+")) {
        ret->kind = PATTERN_PLUS;
        return NULL;
    }
    if (has_byte(text, '#') || has_byte(text, '+')) {
        return "'+' and '#' stand alone in their level (4.7.1)";
    }
    if (has_vars(text)) {
        ret->kind = PATTERN_VARS;
        return vars_problem(text);
    }
    return NULL;
}

static const char *text_problem(struct slice text)
{
    if (text.len == 0 || text.len > POLICY_TOPIC_MAX) {
        return "a topic pattern is 1 to 1024 bytes";
    }
    if (!utf8_mqtt_valid(text) || has_control(text)) {
        return "a topic pattern is UTF-8 without control characters";
    }
    if (text.p[0] == '$' && !slice_starts(text, SLICE("${"))) {
        return "topics that begin with '$' are the server's own: no policy speaks of them";
    }
    return NULL;
}

const char *pattern_make(struct slice text, struct arena *a, struct pattern *ret)
{
    const char *why = text_problem(text);
    unsigned n = 1;
    for (size_t i = 0; i < text.len; i++) {
        n += text.p[i] == '/' ? 1 : 0;
    }
    if (why != NULL || n > POLICY_LEVELS_MAX) {
        return why != NULL ? why : "a topic pattern has at most 32 levels";
    }
    struct pattern_level *levels = arena_array(a, n, sizeof(*levels));
    if (levels == NULL) {
        return "no memory";
    }
    bool more = true;
    struct slice level;
    for (unsigned i = 0; next_level(&text, &more, &level); i++) {
        why = level_make(level, !more, &levels[i]);
        if (why != NULL) {
            return why;
        }
    }
    *ret = (struct pattern){n, levels};
    return NULL;
}

// --- asking ------------------------------------------------------------------------------------------------------

// Is `have` what this level says, with the variables' values in their places?
static bool vars_equal(struct slice want, const struct pattern_values *v, bool any, struct slice have)
{
    bool is_var = false;
    struct slice piece;
    while (pattern_piece(&want, &is_var, &piece)) {
        struct slice text = is_var ? v->get(v->arg, piece) : piece;
        if (text.p == NULL) {
            return any;
        }
        if (!slice_starts(have, text)) {
            return false;
        }
        have = slice_from(have, text.len);
    }
    return have.len == 0;
}

// With `any`, a level some of whose variables have no value is every level.
static bool level_open(const struct pattern_level *l, const struct pattern_values *v, bool any)
{
    if (l->kind != PATTERN_VARS || !any) {
        return l->kind == PATTERN_PLUS;
    }
    bool is_var = false;
    struct slice rest = l->text;
    struct slice piece;
    while (pattern_piece(&rest, &is_var, &piece)) {
        if (is_var && v->get(v->arg, piece).p == NULL) {
            return true;
        }
    }
    return false;
}

static bool level_covers(const struct pattern_level *l, const struct pattern_values *v, bool any, struct slice have,
                         bool filter)
{
    if (filter && slice_eq_str(have, "#")) {
        return false; // only a '#' covers a '#'
    }
    if (level_open(l, v, any)) {
        return true;
    }
    if (filter && slice_eq_str(have, "+")) {
        return false;
    }
    return l->kind == PATTERN_TEXT ? slice_eq(l->text, have) : vars_equal(l->text, v, any, have);
}

static bool walk(const struct pattern *p, const struct pattern_values *v, bool any, struct slice topic, bool filter)
{
    if (topic.len == 0 || topic.p[0] == '$') {
        return false;
    }
    bool more = true;
    struct slice have;
    for (unsigned i = 0; i < p->levels_len; i++) {
        if (p->levels[i].kind == PATTERN_HASH) {
            return true; // also the parent level itself: "a/#" matches "a" (4.7.1.2)
        }
        if (!next_level(&topic, &more, &have) || !level_covers(&p->levels[i], v, any, have, filter)) {
            return false;
        }
    }
    return !more;
}

bool pattern_matches(const struct pattern *p, const struct pattern_values *v, bool any, struct slice topic)
{
    return walk(p, v, any, topic, false);
}

bool pattern_covers(const struct pattern *p, const struct pattern_values *v, bool any, struct slice filter)
{
    return walk(p, v, any, filter, true);
}
