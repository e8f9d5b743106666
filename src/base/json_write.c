#include <assert.h>
#include <math.h>

#include "base/json.h"
#include "base/json_priv.h"
#include "base/utf8.h"

void jw_init(struct jw *w, struct buf *out)
{
    *w = (struct jw){.out = out};
}

// Before every value: the comma of an array, or the check that a key came first.
static void jw_before(struct jw *w)
{
    if (w->depth == 0) {
        assert(w->has_items == 0); // one value is the whole text
        w->has_items = 1;
        return;
    }
    uint32_t bit = UINT32_C(1) << (w->depth - 1);
    if ((w->in_object & bit) != 0) {
        assert(w->after_key);
        w->after_key = false;
        return;
    }
    if ((w->has_items & bit) != 0) {
        buf_u8(w->out, ',');
    }
    w->has_items |= bit;
}

static void jw_open(struct jw *w, bool object)
{
    jw_before(w);
    assert(w->depth < JSON_DEPTH_MAX);
    uint32_t bit = UINT32_C(1) << w->depth++;
    w->in_object = object ? w->in_object | bit : w->in_object & ~bit;
    w->has_items &= ~bit;
    buf_u8(w->out, object ? '{' : '[');
}

static void jw_close(struct jw *w, bool object)
{
    assert(w->depth > 0);
    assert(!w->after_key);
    uint32_t bit = UINT32_C(1) << --w->depth;
    assert(((w->in_object & bit) != 0) == object);
    w->has_items |= w->depth == 0 ? 1U : 0U;
    buf_u8(w->out, object ? '}' : ']');
}

void jw_object(struct jw *w)
{
    jw_open(w, true);
}

void jw_object_end(struct jw *w)
{
    jw_close(w, true);
}

void jw_array(struct jw *w)
{
    jw_open(w, false);
}

void jw_array_end(struct jw *w)
{
    jw_close(w, false);
}

// The byte s begins with cannot stand as it is. Writes what stands for it and returns how many bytes of s that covers.
static size_t jw_special(struct buf *out, struct slice s)
{
    static const char letters[] = "\b\f\n\r\t\"\\";
    static const char *const escapes[] = {"\\b", "\\f", "\\n", "\\r", "\\t", "\\\"", "\\\\"};
    uint8_t c = s.p[0];
    const char *letter = c != 0 ? strchr(letters, c) : NULL;
    if (letter != NULL) {
        buf_put(out, escapes[letter - letters], 2);
        return 1;
    }
    if (c < 0x20) {
        static const char hex[] = "0123456789abcdef";
        const char text[6] = {'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]};
        buf_put(out, text, sizeof(text));
        return 1;
    }
    size_t n = utf8_sequence(s);
    if (n > 0) {
        buf_put(out, s.p, n);
        return n;
    }
    buf_put(out, "\xef\xbf\xbd", 3);
    return 1;
}

static void jw_text(struct jw *w, struct slice s)
{
    buf_u8(w->out, '"');
    while (s.len > 0) {
        size_t plain = (size_t)(json_scan_plain(s.p, s.p + s.len) - s.p);
        buf_put(w->out, s.p, plain);
        s = slice_from(s, plain);
        if (s.len > 0) {
            s = slice_from(s, jw_special(w->out, s));
        }
    }
    buf_u8(w->out, '"');
}

void jw_key_slice(struct jw *w, struct slice key)
{
    assert(w->depth > 0 && !w->after_key);
    uint32_t bit = UINT32_C(1) << (w->depth - 1);
    assert((w->in_object & bit) != 0);
    if ((w->has_items & bit) != 0) {
        buf_u8(w->out, ',');
    }
    w->has_items |= bit;
    w->after_key = true;
    jw_text(w, key);
    buf_u8(w->out, ':');
}

void jw_key(struct jw *w, const char *key)
{
    jw_key_slice(w, slice_str(key));
}

void jw_slice(struct jw *w, struct slice s)
{
    if (s.p == NULL) {
        jw_null(w);
        return;
    }
    jw_before(w);
    jw_text(w, s);
}

void jw_str(struct jw *w, const char *s)
{
    jw_slice(w, slice_str(s));
}

// Decimal digits of v at the end of dst; the first of them.
static char *jw_digits(uint64_t v, char *end)
{
    do {
        *--end = (char)('0' + v % 10);
        v /= 10;
    } while (v > 0);
    return end;
}

void jw_uint(struct jw *w, uint64_t v)
{
    char text[24];
    const char *first = jw_digits(v, text + sizeof(text));
    jw_before(w);
    buf_put(w->out, first, (size_t)(text + sizeof(text) - first));
}

void jw_int(struct jw *w, int64_t v)
{
    char text[24];
    char *first = jw_digits(v < 0 ? 0 - (uint64_t)v : (uint64_t)v, text + sizeof(text));
    if (v < 0) {
        *--first = '-';
    }
    jw_before(w);
    buf_put(w->out, first, (size_t)(text + sizeof(text) - first));
}

void jw_double(struct jw *w, double v)
{
    if (!isfinite(v)) {
        jw_null(w);
        return;
    }
    char text[JSON_DOUBLE_TEXT_MAX];
    size_t n = json_double_text(v, text);
    jw_before(w);
    buf_put(w->out, text, n);
}

void jw_bool(struct jw *w, bool v)
{
    jw_before(w);
    buf_str(w->out, v ? "true" : "false");
}

void jw_null(struct jw *w)
{
    jw_before(w);
    buf_put(w->out, "null", 4);
}

void jw_raw(struct jw *w, struct slice json_text)
{
    jw_before(w);
    buf_slice(w->out, json_text);
}
