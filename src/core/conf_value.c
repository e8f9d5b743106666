#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/reader.h"
#include "core/conf_priv.h"

struct conf_unit {
    const char *name;
    int64_t factor;
};

// Largest first, for printing. The ones behind are read too, never printed.
static const struct conf_unit conf_size_units[] = {
    {"TiB", INT64_C(1) << 40}, {"GiB", INT64_C(1) << 30}, {"MiB", INT64_C(1) << 20}, {"KiB", INT64_C(1) << 10}, {"", 1},
};
static const struct conf_unit conf_time_units[] = {
    {"d", INT64_C(86400000000)}, {"h", INT64_C(3600000000)}, {"m", 60000000}, {"s", 1000000}, {"ms", 1000}, {"us", 1},
};
#define CONF_LEN(a) (sizeof(a) / sizeof((a)[0]))

// The number in the largest unit that divides it.
static void conf_print_unit(int64_t v, const struct conf_unit *units, size_t n, char *dst, size_t dst_size)
{
    size_t i = 0;
    while (i + 1 < n && (v == 0 || v % units[i].factor != 0)) {
        i++;
    }
    snprintf(dst, dst_size, "%lld%s", (long long)(v / units[i].factor), units[i].name);
}

static void conf_print_number(const struct conf_key *key, int64_t v, char *dst, size_t dst_size)
{
    switch (key->type) {
    case CONF_DURATION:
        conf_print_unit(v, conf_time_units, CONF_LEN(conf_time_units), dst, dst_size);
        break;
    case CONF_SIZE:
        conf_print_unit(v, conf_size_units, CONF_LEN(conf_size_units), dst, dst_size);
        break;
    default:
        snprintf(dst, dst_size, "%lld", (long long)v);
        break;
    }
}

static bool conf_bounded(const struct conf_key *key)
{
    return key->min != 0 || key->max != 0;
}

// "what from A to B, example"
static void conf_allowed_range(const struct conf_key *key, const char *what, const char *example, char *dst)
{
    char min[32];
    char max[32];
    conf_print_number(key, key->min, min, sizeof(min));
    conf_print_number(key, key->max, max, sizeof(max));
    if (!conf_bounded(key)) {
        snprintf(dst, CONF_ALLOWED_MAX, "%s%s", what, example);
    } else if (key->max == INT64_MAX) {
        snprintf(dst, CONF_ALLOWED_MAX, "%s of at least %s%s", what, min, example);
    } else {
        snprintf(dst, CONF_ALLOWED_MAX, "%s from %s to %s%s", what, min, max, example);
    }
}

// "debug, info or warn" for "debug info warn"
static void conf_allowed_choices(const char *choices, char *dst)
{
    struct buf b = buf_fixed(dst, CONF_ALLOWED_MAX - 1);
    for (const char *p = choices; *p != '\0';) {
        size_t n = strcspn(p, " ");
        bool last = p[n] == '\0';
        buf_str(&b, p == choices ? "" : last ? " or " : ", ");
        buf_put(&b, p, n);
        p += last ? n : n + 1;
    }
    dst[b.len] = '\0';
}

void conf_key_allowed(const struct conf_key *key, char dst[CONF_ALLOWED_MAX])
{
    switch (key->type) {
    case CONF_STRING:
        snprintf(dst, CONF_ALLOWED_MAX, "text of at most %d bytes", CONF_TEXT_MAX);
        break;
    case CONF_INT:
        conf_allowed_range(key, "a whole number", "", dst);
        break;
    case CONF_BOOL:
        snprintf(dst, CONF_ALLOWED_MAX, "true or false");
        break;
    case CONF_DURATION:
        conf_allowed_range(key, "a duration", ", such as 90s, 1h30m or 7d", dst);
        break;
    case CONF_SIZE:
        conf_allowed_range(key, "a size", ", such as 64KiB, 1GiB or plain bytes", dst);
        break;
    case CONF_ENUM:
        conf_allowed_choices(key->choices, dst);
        break;
    case CONF_ADDR:
        snprintf(dst, CONF_ALLOWED_MAX, "HOST:PORT, [IPV6]:PORT, :PORT for all addresses, or off");
        break;
    case CONF_LIST:
        snprintf(dst, CONF_ALLOWED_MAX, "a list of at most %d texts", CONF_LIST_MAX);
        break;
    }
}

void conf_key_env(const struct conf_key *key, char *dst, size_t dst_size)
{
    snprintf(dst, dst_size, "MUSTER_%s", key->name);
    for (char *p = dst; *p != '\0'; p++) {
        *p = *p >= 'a' && *p <= 'z' ? (char)(*p - 'a' + 'A') : *p == '.' || *p == '-' ? '_' : *p;
    }
}

static bool conf_parse_int(struct slice text, int64_t *ret)
{
    struct reader r = reader_make(text);
    bool negative = rd_peek(&r) == '-';
    if (negative) {
        rd_u8(&r);
    }
    int64_t v = 0;
    bool ok = reader_left(&r) > 0;
    while (ok && reader_left(&r) > 0) {
        uint8_t c = rd_u8(&r);
        ok = c >= '0' && c <= '9' && !__builtin_mul_overflow(v, 10, &v) && !__builtin_sub_overflow(v, c - '0', &v);
    }
    // Counted downwards: the smallest number has no positive twin.
    if (!ok || (!negative && v == INT64_MIN)) {
        return false;
    }
    *ret = negative ? v : -v;
    return true;
}

static bool conf_parse_size(struct slice text, int64_t *ret)
{
    size_t digits = 0;
    while (digits < text.len && text.p[digits] >= '0' && text.p[digits] <= '9') {
        digits++;
    }
    struct slice unit = slice_from(text, digits);
    if (slice_eq_str(unit, "B")) {
        unit.len = 0;
    }
    for (size_t i = 0; i < CONF_LEN(conf_size_units); i++) {
        if (slice_eq_str(unit, conf_size_units[i].name)) {
            return conf_parse_int(slice_head(text, digits), ret) &&
                   !__builtin_mul_overflow(*ret, conf_size_units[i].factor, ret);
        }
    }
    return false;
}

static bool conf_parse_bool(struct slice text, int64_t *ret)
{
    static const char *const words[] = {"false", "true", "no", "yes", "off", "on"}; // odd ones are true
    for (size_t i = 0; i < CONF_LEN(words); i++) {
        if (slice_eq_str(text, words[i])) {
            *ret = (int64_t)(i & 1);
            return true;
        }
    }
    return false;
}

static bool conf_parse_choice(const char *choices, struct slice text, int64_t *ret)
{
    int64_t index = 0;
    for (const char *p = choices; *p != '\0'; index++) {
        size_t n = strcspn(p, " ");
        if (slice_eq(text, slice_make(p, n))) {
            *ret = index;
            return true;
        }
        p += p[n] == '\0' ? n : n + 1;
    }
    return false;
}

static bool conf_addr_valid(struct slice text)
{
    if (slice_eq_str(text, "off")) {
        return true;
    }
    size_t colon = text.len;
    while (colon > 0 && text.p[colon - 1] != ':') {
        colon--;
    }
    int64_t port;
    if (colon == 0 || !conf_parse_int(slice_from(text, colon), &port) || port < 0 || port > 65535) {
        return false;
    }
    struct slice host = slice_head(text, colon - 1);
    bool v6 = host.len > 2 && host.p[0] == '[' && host.p[host.len - 1] == ']';
    if (v6) {
        host = slice_make(host.p + 1, host.len - 2);
    }
    for (size_t i = 0; i < host.len; i++) {
        uint8_t c = host.p[i];
        bool name = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
                    c == '-' || c == '_';
        if (!name && !(v6 && (c == ':' || c == '%'))) {
            return false;
        }
    }
    return true;
}

static bool conf_text_clean(struct slice text)
{
    for (size_t i = 0; i < text.len; i++) {
        if (text.p[i] < 0x20 || text.p[i] == 0x7f) {
            return false;
        }
    }
    return text.len <= CONF_TEXT_MAX;
}

// "'VALUE' is not allowed here: WHAT IS"; foreign bytes are shown harmless and short.
static bool conf_refuse(const struct conf_key *key, struct slice text, const char *wrong, char *why)
{
    char shown[49];
    size_t n = 0;
    for (; n < text.len && n < sizeof(shown) - 1; n++) {
        shown[n] = (char)(text.p[n] >= 0x20 && text.p[n] < 0x7f ? text.p[n] : '?');
    }
    shown[n] = '\0';
    char allowed[CONF_ALLOWED_MAX];
    conf_key_allowed(key, allowed);
    snprintf(why, CONF_WHY_MAX, "'%s%s' %s; allowed is %s", shown, n < text.len ? "..." : "", wrong, allowed);
    return false;
}

// The number of a value that has one. False with why.
static bool conf_parse_number(const struct conf_key *key, struct slice text, int64_t *ret, char *why)
{
    bool ok = true;
    switch (key->type) {
    case CONF_INT:
        ok = conf_parse_int(text, ret);
        break;
    case CONF_BOOL:
        ok = conf_parse_bool(text, ret);
        break;
    case CONF_DURATION:
        ok = clock_parse_duration(text, ret);
        break;
    case CONF_SIZE:
        ok = conf_parse_size(text, ret);
        break;
    case CONF_ENUM:
        ok = conf_parse_choice(key->choices, text, ret);
        break;
    case CONF_ADDR:
        ok = conf_addr_valid(text);
        break;
    case CONF_STRING:
    case CONF_LIST:
        break;
    }
    if (!ok) {
        return conf_refuse(key, text, "is not understood", why);
    }
    bool ranged = key->type == CONF_INT || key->type == CONF_DURATION || key->type == CONF_SIZE;
    if (ranged && conf_bounded(key) && *ret < key->min) {
        return conf_refuse(key, text, "is too small", why);
    }
    if (ranged && conf_bounded(key) && *ret > key->max) {
        return conf_refuse(key, text, "is too large", why);
    }
    return true;
}

static struct slice conf_trim(struct slice s)
{
    while (s.len > 0 && s.p[s.len - 1] == ' ') {
        s.len--;
    }
    while (s.len > 0 && s.p[0] == ' ') {
        s = slice_from(s, 1);
    }
    return s;
}

// "a, b,c" on the command line and in the environment; nothing at all is the empty list.
static bool conf_set_joined(struct conf_value *v, struct slice text, char *why)
{
    struct slice items[CONF_LIST_MAX];
    size_t n = 0;
    for (struct slice rest = conf_trim(text); rest.len > 0; n++) {
        const uint8_t *comma = memchr(rest.p, ',', rest.len);
        size_t len = comma != NULL ? (size_t)(comma - rest.p) : rest.len;
        if (n == CONF_LIST_MAX) {
            return conf_refuse(v->key, text, "has too many items", why);
        }
        items[n] = conf_trim(slice_head(rest, len));
        rest = slice_from(rest, len + 1);
    }
    return conf_value_set_list(v, items, n, why);
}

bool conf_value_set(struct conf_value *v, struct slice text, char why[CONF_WHY_MAX])
{
    int64_t num = 0;
    if (!conf_text_clean(text)) {
        return conf_refuse(v->key, text, "is too long or holds control characters", why);
    }
    if (v->key->type == CONF_LIST) {
        return conf_set_joined(v, text, why);
    }
    if (!conf_parse_number(v->key, text, &num, why)) {
        return false;
    }
    char *copy = malloc(text.len + 1);
    if (copy == NULL || !slice_to_cstr(text, copy, text.len + 1)) {
        snprintf(why, CONF_WHY_MAX, "no memory");
        free(copy);
        return false;
    }
    conf_value_release(v);
    v->text = copy;
    v->num = num;
    return true;
}

bool conf_value_set_list(struct conf_value *v, const struct slice *items, size_t n, char why[CONF_WHY_MAX])
{
    struct conf_value fresh = {.key = v->key, .file_line = v->file_line, .list = calloc(n + 1, sizeof(char *))};
    bool ok = fresh.list != NULL;
    for (size_t i = 0; ok && i < n; i++) {
        if (items[i].len == 0 || !conf_text_clean(items[i])) {
            conf_value_release(&fresh);
            return conf_refuse(v->key, items[i], "is empty, too long or holds control characters", why);
        }
        fresh.list[i] = malloc(items[i].len + 1);
        ok = fresh.list[i] != NULL && slice_to_cstr(items[i], fresh.list[i], items[i].len + 1);
        fresh.list_len = ok ? i + 1 : i;
    }
    if (!ok) {
        if (fresh.list != NULL) {
            free(fresh.list[fresh.list_len]);
        }
        conf_value_release(&fresh);
        snprintf(why, CONF_WHY_MAX, "no memory");
        return false;
    }
    conf_value_release(v);
    *v = fresh;
    return true;
}

void conf_value_release(struct conf_value *v)
{
    free(v->text);
    for (size_t i = 0; i < v->list_len; i++) {
        free(v->list[i]);
    }
    free(v->list);
    v->text = NULL;
    v->list = NULL;
    v->list_len = 0;
}

bool conf_value_same(const struct conf_value *a, const struct conf_value *b)
{
    if (a->key->type == CONF_STRING || a->key->type == CONF_ADDR) {
        return strcmp(a->text, b->text) == 0;
    }
    if (a->num != b->num || a->list_len != b->list_len) {
        return false;
    }
    for (size_t i = 0; i < a->list_len; i++) {
        if (strcmp(a->list[i], b->list[i]) != 0) {
            return false;
        }
    }
    return true;
}
