#include "agent/settings.h"

#include <stdio.h>

static const char *const level_names[] = {"debug", "info", "warn", "error"};

void settings_init(struct settings *s, enum log_level level)
{
    *s = (struct settings){.interval_s = 10, .metrics = {"*"}, .metrics_len = 1, .log_level = level};
}

static void settings_error(struct settings *s, const char *key, const char *text)
{
    if (s->errors_len < SETTINGS_ERRORS_MAX) {
        struct settings_error *e = &s->errors[s->errors_len++];
        snprintf(e->key, sizeof(e->key), "%s", key);
        snprintf(e->text, sizeof(e->text), "%s", text);
    }
}

// ---- One function per setting: NULL when applied, else what is wrong and what is allowed ----------------------------

static const char *apply_interval(struct settings *s, struct muster_text value)
{
    int64_t v;
    if (muster_json_int(value, "", &v) != MUSTER_OK || v < SETTINGS_INTERVAL_MIN || v > SETTINGS_INTERVAL_MAX) {
        return "must be a whole number of seconds from 5 to 86400";
    }
    s->interval_s = v;
    return NULL;
}

static bool pattern_valid(const char *p)
{
    for (const char *c = p; *c != '\0'; c++) {
        bool ok = (*c >= 'a' && *c <= 'z') || (*c >= '0' && *c <= '9') || *c == '.' || *c == '_' || *c == '*';
        if (!ok) {
            return false;
        }
    }
    return p[0] != '\0';
}

static const char *apply_metrics(struct settings *s, struct muster_text value)
{
    static const char allowed[] =
        "must be an array of at most 16 patterns, each 1 to 63 of [a-z0-9._*], such as \"cpu.*\"";
    struct json j;
    json_init(&j, slice_make(value.p, value.len), 2);
    if (json_next(&j) != JT_ARRAY) {
        return allowed;
    }
    struct settings found = {.metrics_len = 0};
    enum json_token t;
    for (t = json_next(&j); t == JT_STRING; t = json_next(&j)) {
        if (found.metrics_len == SETTINGS_PATTERNS_MAX) {
            return allowed;
        }
        char *to = found.metrics[found.metrics_len];
        if (j.escaped || !slice_to_cstr(j.str, to, SETTINGS_PATTERN_MAX) || !pattern_valid(to)) {
            return allowed;
        }
        found.metrics_len++;
    }
    if (t != JT_ARRAY_END) {
        return allowed;
    }
    memcpy(s->metrics, found.metrics, sizeof(s->metrics));
    s->metrics_len = found.metrics_len;
    return NULL;
}

static const char *apply_log_level(struct settings *s, struct muster_text value)
{
    char name[16];
    enum log_level level;
    if (muster_json_str(value, "", name, sizeof(name)) != MUSTER_OK || !log_parse_level(name, &level)) {
        return "must be \"debug\", \"info\", \"warn\" or \"error\"";
    }
    s->log_level = level;
    return NULL;
}

static void default_interval(struct settings *s, const struct settings *d)
{
    s->interval_s = d->interval_s;
}
static void default_metrics(struct settings *s, const struct settings *d)
{
    memcpy(s->metrics, d->metrics, sizeof(s->metrics));
    s->metrics_len = d->metrics_len;
}
static void default_log_level(struct settings *s, const struct settings *d)
{
    s->log_level = d->log_level;
}

static const struct {
    const char *key;
    const char *(*apply)(struct settings *s, struct muster_text value);
    void (*reset)(struct settings *s, const struct settings *defaults);
} setting_table[] = {
    {"interval_s", apply_interval, default_interval},
    {"metrics", apply_metrics, default_metrics},
    {"log_level", apply_log_level, default_log_level},
};
#define SETTINGS_LEN (sizeof(setting_table) / sizeof(setting_table[0]))

static bool setting_known(struct slice key)
{
    for (size_t i = 0; i < SETTINGS_LEN; i++) {
        if (slice_eq_str(key, setting_table[i].key)) {
            return true;
        }
    }
    return false;
}

static void report_unknown(struct settings *s, struct muster_text agent)
{
    struct json j;
    json_init(&j, slice_make(agent.p, agent.len), JSON_DEPTH_MAX);
    json_next(&j);
    while (json_next(&j) == JT_KEY) {
        char key[32];
        if (!setting_known(j.str) && slice_to_cstr(slice_head(j.str, sizeof(key) - 1), key, sizeof(key)) &&
            !j.escaped) {
            settings_error(s, key, "is not a setting; there are interval_s, metrics and log_level");
        }
        if (!json_skip(&j, json_next(&j))) {
            return;
        }
    }
}

void settings_apply(struct settings *s, const struct settings *defaults, struct muster_text desired)
{
    s->errors_len = 0;
    struct muster_text agent = {NULL, 0};
    enum muster_status found = muster_json_raw(desired, "agent", &agent);
    if (found == MUSTER_OK && agent.p[0] != '{' && agent.p[0] != 'n') {
        settings_error(s, "agent", "must be an object");
        return;
    }
    for (size_t i = 0; i < SETTINGS_LEN; i++) {
        struct muster_text value = {NULL, 0};
        bool has = found == MUSTER_OK && agent.p[0] == '{' &&
                   muster_json_raw(agent, setting_table[i].key, &value) == MUSTER_OK && value.p[0] != 'n';
        if (!has) {
            setting_table[i].reset(s, defaults);
            continue;
        }
        const char *wrong = setting_table[i].apply(s, value);
        if (wrong != NULL) {
            settings_error(s, setting_table[i].key, wrong);
        }
    }
    if (found == MUSTER_OK && agent.p[0] == '{') {
        report_unknown(s, agent);
    }
}

void settings_write(const struct settings *s, struct jw *w)
{
    jw_key(w, "interval_s");
    jw_int(w, s->interval_s);
    jw_key(w, "metrics");
    jw_array(w);
    for (size_t i = 0; i < s->metrics_len; i++) {
        jw_str(w, s->metrics[i]);
    }
    jw_array_end(w);
    jw_key(w, "log_level");
    jw_str(w, level_names[s->log_level]);
    jw_key(w, "errors");
    if (s->errors_len == 0) {
        jw_null(w);
        return;
    }
    jw_array(w);
    for (size_t i = 0; i < s->errors_len; i++) {
        jw_object(w);
        jw_key(w, "setting");
        jw_str(w, s->errors[i].key);
        jw_key(w, "error");
        jw_str(w, s->errors[i].text);
        jw_object_end(w);
    }
    jw_array_end(w);
}

// Greedy with one point to come back to: linear in practice, quadratic at worst, on at most 64 characters.
static bool pattern_matches(const char *pattern, const char *text)
{
    const char *star = NULL;
    const char *retry = NULL;
    while (*text != '\0') {
        if (*pattern == '*') {
            star = pattern++;
            retry = text;
        } else if (*pattern == *text) {
            pattern++;
            text++;
        } else if (star != NULL) {
            pattern = star + 1;
            text = ++retry;
        } else {
            return false;
        }
    }
    while (*pattern == '*') {
        pattern++;
    }
    return *pattern == '\0';
}

bool settings_wants(const struct settings *s, const char *metric)
{
    for (size_t i = 0; i < s->metrics_len; i++) {
        if (pattern_matches(s->metrics[i], metric)) {
            return true;
        }
    }
    return false;
}
