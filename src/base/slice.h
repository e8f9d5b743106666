// Borrowed bytes: a pointer and a length, passed by value, never owning.
//
// A slice is valid as long as the memory it was cut from; every function that keeps bytes longer says "copies".
// An absent value is {NULL, 0}; an empty one has p != NULL and len == 0 where the difference matters.
#ifndef BASE_SLICE_H
#define BASE_SLICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct slice {
    const uint8_t *p;
    size_t len;
};

// For "%.*s": bounded to INT_MAX by the limits every input already has.
#define SLICE_FMT    "%.*s"
#define SLICE_ARG(s) (int)(s).len, (const char *)((s).p != NULL ? (s).p : (const uint8_t *)"")

// A slice over a string literal.
#define SLICE(lit) ((struct slice){(const uint8_t *)("" lit), sizeof(lit) - 1})

static inline struct slice slice_make(const void *p, size_t len)
{
    return (struct slice){(const uint8_t *)p, len};
}

static inline struct slice slice_str(const char *s)
{
    return (struct slice){(const uint8_t *)s, s != NULL ? strlen(s) : 0};
}

static inline bool slice_eq(struct slice a, struct slice b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.p, b.p, a.len) == 0);
}

static inline bool slice_eq_str(struct slice a, const char *s)
{
    return slice_eq(a, slice_str(s));
}

static inline bool slice_starts(struct slice a, struct slice prefix)
{
    return a.len >= prefix.len && (prefix.len == 0 || memcmp(a.p, prefix.p, prefix.len) == 0);
}

// The part from `off` on; empty when `off` lies behind the end.
static inline struct slice slice_from(struct slice a, size_t off)
{
    return off >= a.len ? (struct slice){a.p, 0} : (struct slice){a.p + off, a.len - off};
}

static inline struct slice slice_head(struct slice a, size_t len)
{
    return (struct slice){a.p, len < a.len ? len : a.len};
}

// Copies into `dst` with a terminating NUL. False (dst = "") when it does not fit or contains a NUL byte.
static inline bool slice_to_cstr(struct slice a, char *dst, size_t dst_size)
{
    if (dst_size == 0) {
        return false;
    }
    dst[0] = '\0';
    if (a.len >= dst_size || (a.len > 0 && memchr(a.p, 0, a.len) != NULL)) {
        return false;
    }
    if (a.len > 0) {
        memcpy(dst, a.p, a.len);
    }
    dst[a.len] = '\0';
    return true;
}

#endif
