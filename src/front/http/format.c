#include "front/http/format.h"

#include "base/clock.h"
#include "base/utf8.h"
#include "core/principal.h"

#define TOKEN_MAX  128
#define CURSOR_MAX 512
#define METRIC_MAX 128

static bool is_alnum(uint8_t c)
{
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

static bool all_of(struct slice s, size_t max, const char *extra)
{
    if (s.len == 0 || s.len > max) {
        return false;
    }
    for (size_t i = 0; i < s.len; i++) {
        if (!is_alnum(s.p[i]) && (s.p[i] == '\0' || strchr(extra, s.p[i]) == NULL)) {
            return false;
        }
    }
    return true;
}

static bool check_any(struct slice s)
{
    (void)s;
    return true;
}

static bool check_token(struct slice s)
{
    return all_of(s, TOKEN_MAX, "._~-");
}

static bool check_cursor(struct slice s)
{
    return all_of(s, CURSOR_MAX, "_-");
}

static bool check_metric(struct slice s)
{
    if (s.len == 0 || s.len > METRIC_MAX || !utf8_valid(s)) {
        return false;
    }
    for (size_t i = 0; i < s.len; i++) {
        if (s.p[i] < 0x20 || s.p[i] == 0x7f) {
            return false;
        }
    }
    return true;
}

static bool check_time(struct slice s)
{
    int64_t us = 0;
    return clock_parse(s, &us);
}

static bool check_duration(struct slice s)
{
    int64_t us = 0;
    return clock_parse_duration(s, &us);
}

static bool (*const checks[])(struct slice s) = {
    [FORMAT_NONE] = check_any,          [FORMAT_ID] = id_valid,         [FORMAT_TOKEN] = check_token,
    [FORMAT_CURSOR] = check_cursor,     [FORMAT_METRIC] = check_metric, [FORMAT_TIME] = check_time,
    [FORMAT_DURATION] = check_duration,
};
_Static_assert(sizeof(checks) / sizeof(checks[0]) == FORMAT__COUNT, "every format has a check");

bool format_check(enum format f, struct slice s)
{
    return checks[f](s);
}

const char *format_allowed(enum format f)
{
    static const char *const allowed[] = {
#define X(name, text, allowed) allowed,
        FORMAT_MAP(X)
#undef X
    };
    return allowed[f];
}
