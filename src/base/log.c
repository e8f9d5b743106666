#include "base/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/utf8.h"

#define LOG_LINE_BYTES   4096
#define LOG_FIELDS_MAX   16
#define LOG_TAIL_RESERVE 16 // always left for closing quotes, a brace and the newline

// Set at start and on reload; read by every thread.
static _Atomic int log_min = LOG_INFO;
static _Atomic int log_line_format = LOG_LOGFMT;
static _Atomic int log_fd = STDERR_FILENO;

static const char *const log_level_texts[] = {"debug", "info", "warn", "error"};
#define LOG_LEVELS (sizeof(log_level_texts) / sizeof(log_level_texts[0]))

void log_setup(enum log_level min, enum log_format format, int fd)
{
    atomic_store_explicit(&log_fd, fd, memory_order_relaxed);
    atomic_store_explicit(&log_line_format, (int)format, memory_order_relaxed);
    log_set_level(min);
}

void log_set_level(enum log_level min)
{
    atomic_store_explicit(&log_min, (int)min, memory_order_relaxed);
}

bool log_parse_level(const char *text, enum log_level *ret)
{
    for (size_t i = 0; i < LOG_LEVELS; i++) {
        if (strcmp(text, log_level_texts[i]) == 0) {
            *ret = (enum log_level)i;
            return true;
        }
    }
    return false;
}

bool log_on(enum log_level level)
{
    return (int)level >= atomic_load_explicit(&log_min, memory_order_relaxed);
}

// One line in the making. What does not fit is dropped; the reserve keeps room to close what is open.
struct log_line {
    bool json;
    size_t len;
    char text[LOG_LINE_BYTES];
};

static void line_bytes(struct log_line *l, const void *p, size_t n, size_t reserve)
{
    if (n <= sizeof(l->text) - reserve - l->len) {
        memcpy(l->text + l->len, p, n);
        l->len += n;
    }
}

static bool line_has_room(const struct log_line *l, size_t n)
{
    return sizeof(l->text) - LOG_TAIL_RESERVE - l->len >= n;
}

// Control characters, and those that reorder or break lines in a viewer: none may reach a terminal raw.
static bool log_must_escape(uint32_t cp)
{
    return cp < 0x20 || (cp >= 0x7f && cp <= 0x9f) || (cp >= 0x200e && cp <= 0x200f) ||
           (cp >= 0x2028 && cp <= 0x202e) || (cp >= 0x2066 && cp <= 0x2069) || cp == 0xfeff;
}

static const char log_replacement[] = {'\xef', '\xbf', '\xbd'}; // U+FFFD

// The text between quotes, up to what fits; both formats use JSON's escapes. Broken UTF-8 becomes U+FFFD.
static void line_escaped(struct log_line *l, struct slice s)
{
    while (s.len > 0) {
        size_t n = utf8_sequence(s);
        uint32_t cp = n > 0 ? utf8_code_point(s, n) : 0xfffd;
        char out[8];
        size_t out_len = n;
        if (n == 0) {
            n = 1;
            out_len = sizeof(log_replacement);
            memcpy(out, log_replacement, sizeof(log_replacement));
        } else if (cp == '"' || cp == '\\') {
            out_len = 2;
            out[0] = '\\';
            out[1] = (char)cp;
        } else if (log_must_escape(cp)) {
            out_len = (size_t)snprintf(out, sizeof(out), "\\u%04x", (unsigned)cp & 0xffffU);
        } else {
            memcpy(out, s.p, n);
        }
        if (!line_has_room(l, out_len)) {
            return;
        }
        line_bytes(l, out, out_len, LOG_TAIL_RESERVE);
        s = slice_from(s, n);
    }
}

static bool log_is_bare(struct slice s)
{
    for (size_t i = 0; i < s.len; i++) {
        uint8_t c = s.p[i];
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                     (c != 0 && strchr("._:-/+@,", c) != NULL);
        if (!plain) {
            return false;
        }
    }
    return s.len > 0;
}

static void line_quoted(struct log_line *l, struct slice s)
{
    line_bytes(l, "\"", 1, LOG_TAIL_RESERVE - 8);
    line_escaped(l, s);
    line_bytes(l, "\"", 1, 2);
}

// Begins "key=" or ,"key": and says whether there was room for it and a value.
static bool line_key(struct log_line *l, const char *key)
{
    size_t n = strlen(key);
    if (!line_has_room(l, n + 32)) {
        return false;
    }
    if (l->json) {
        line_bytes(l, l->len > 1 ? ",\"" : "\"", l->len > 1 ? 2 : 1, LOG_TAIL_RESERVE);
        line_bytes(l, key, n, LOG_TAIL_RESERVE);
        line_bytes(l, "\":", 2, LOG_TAIL_RESERVE);
    } else {
        line_bytes(l, " ", l->len > 0 ? 1 : 0, LOG_TAIL_RESERVE);
        line_bytes(l, key, n, LOG_TAIL_RESERVE);
        line_bytes(l, "=", 1, LOG_TAIL_RESERVE);
    }
    return true;
}

static void line_str(struct log_line *l, const char *key, struct slice s)
{
    if (!line_key(l, key)) {
        return;
    }
    if (!l->json && log_is_bare(s) && line_has_room(l, s.len)) {
        line_bytes(l, s.p, s.len, LOG_TAIL_RESERVE);
    } else {
        line_quoted(l, s);
    }
}

__attribute__((format(printf, 3, 4))) static void line_number(struct log_line *l, const char *key, const char *fmt, ...)
{
    if (!line_key(l, key)) {
        return;
    }
    char num[32];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(num, sizeof(num), fmt, ap);
    va_end(ap);
    if (n > 0 && (size_t)n < sizeof(num)) {
        line_bytes(l, num, (size_t)n, LOG_TAIL_RESERVE);
    }
}

static void line_field(struct log_line *l, const struct log_field *f)
{
    switch (f->val.type) {
    case LOGV_STR:
        line_str(l, f->key, f->val.s);
        break;
    case LOGV_I64:
        line_number(l, f->key, "%lld", (long long)f->val.i);
        break;
    case LOGV_U64:
        line_number(l, f->key, "%llu", (unsigned long long)f->val.u);
        break;
    case LOGV_F64:
        if (f->val.f - f->val.f == 0) {
            line_number(l, f->key, "%.6g", f->val.f);
        } else {
            line_str(l, f->key, SLICE("not a finite number"));
        }
        break;
    case LOGV_END:
        break;
    }
}

void log_write(enum log_level level, const char *component, const char *msg, const struct log_field *fields, size_t n)
{
    struct log_line l = {.json = atomic_load_explicit(&log_line_format, memory_order_relaxed) == LOG_JSON};
    char ts[CLOCK_RFC3339_MAX];
    clock_rfc3339(clock_wall_us(), ts);
    line_bytes(&l, "{", l.json ? 1 : 0, 0);
    line_str(&l, "ts", slice_str(ts));
    line_str(&l, "level", slice_str(log_level_texts[(size_t)level < LOG_LEVELS ? level : LOG_ERROR]));
    line_str(&l, "component", slice_str(component));
    line_str(&l, "msg", slice_str(msg));
    for (size_t i = 0; i < n && i < LOG_FIELDS_MAX; i++) {
        line_field(&l, &fields[i]);
    }
    line_bytes(&l, "}\n", 2, 0);
    if (!l.json) {
        l.text[l.len - 2] = '\n';
        l.len--;
    }
    // A line that cannot be written has nowhere to be reported.
    ssize_t written = write(atomic_load_explicit(&log_fd, memory_order_relaxed), l.text, l.len);
    (void)written;
}
