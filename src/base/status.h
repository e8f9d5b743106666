// One list of outcomes for the whole house, with what each becomes on the wire, and errors that carry their story.
//
// A function that can fail returns `enum status` (0 is success) and, where a person will read the reason, takes a
// `struct err *` as its last argument. Rules: a function either logs or returns an error, never both; each level may add
// what it was doing with err_wrap; on success the err is left untouched; NULL is always accepted.
#ifndef BASE_STATUS_H
#define BASE_STATUS_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>

//       name             text (stable, used in APIs and the ledger)   MQTT 5 reason   HTTP
#define STATUS_MAP(X)                                                                                                  \
    X(OK, "ok", 0x00, 200)                                                                                             \
    X(INVALID, "invalid", 0x99, 400)     /* understood, but the content is wrong */                                    \
    X(MALFORMED, "malformed", 0x81, 400) /* cannot be parsed at all */                                                 \
    X(PROTOCOL, "protocol_error", 0x82, 400)                                                                           \
    X(UNAUTHENTICATED, "unauthenticated", 0x86, 401) /* who are you: wrong or missing credential */                    \
    X(FORBIDDEN, "forbidden", 0x87, 403)                                                                               \
    X(NOT_FOUND, "not_found", 0x90, 404) /* also for what one may not see */                                           \
    X(METHOD, "method_not_allowed", 0x80, 405)                                                                         \
    X(EXISTS, "exists", 0x80, 409)                                                                                     \
    X(CONFLICT, "conflict", 0x80, 409) /* not possible in the present state */                                         \
    X(VERSION, "version_mismatch", 0x80, 412)                                                                          \
    X(TOO_LARGE, "too_large", 0x95, 413)                                                                               \
    X(UNSUPPORTED, "unsupported", 0x83, 415)                                                                           \
    X(LIMIT, "limit", 0x97, 429) /* a rate or count limit of the caller */                                             \
    X(INTERNAL, "internal", 0x80, 500)                                                                                 \
    X(BUSY, "busy", 0x89, 503)                                                                                         \
    X(NOMEM, "no_memory", 0x97, 503)                                                                                   \
    X(SHUTDOWN, "shutting_down", 0x8b, 503)                                                                            \
    X(TIMEOUT, "timeout", 0x80, 504)                                                                                   \
    X(FULL, "storage_full", 0x97, 507) /* the disk: nothing was stored, try again later */                             \
    X(IO, "io", 0x80, 500)                                                                                             \
    X(CORRUPT, "corrupt", 0x80, 500)

enum status {
#define X(name, text, mqtt, http) ST_##name,
    STATUS_MAP(X)
#undef X
        ST__COUNT
};

const char *status_text(enum status s); // "not_found"; never NULL
uint8_t status_mqtt(enum status s);     // MQTT 5 reason code
int status_http(enum status s);         // HTTP status code
bool status_parse(const char *text, enum status *ret_s);

struct err {
    enum status code;
    char where[96]; // what the error is about: a JSON pointer ("/tags/site"), "file:line", a key; "" when unknown
    char text[320]; // one sentence: what is wrong and what is allowed
};

// Sets code and text (truncating); returns `code`, so callers write `return err_set(err, ST_INVALID, "...")`.
enum status err_set(struct err *err, enum status code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
// The same with a place.
enum status err_at(struct err *err, enum status code, const char *where, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
// Prefixes the text with "<what>: "; keeps code and place. Returns err->code (ST_INTERNAL when err is NULL).
enum status err_wrap(struct err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#ifdef __clang_analyzer__ // it looks at one file at a time and must be told what these return
static inline enum status err_told_(enum status told, enum status code)
{
    (void)told;
    return code;
}
#define err_set(err, code, ...)       err_told_(err_set((err), (code), __VA_ARGS__), (code))
#define err_at(err, code, where, ...) err_told_(err_at((err), (code), (where), __VA_ARGS__), (code))
#endif

#endif
