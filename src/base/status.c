#include "base/status.h"

#include <stdio.h>
#include <string.h>

struct status_row {
    const char *text;
    uint8_t mqtt;
    int http;
};

static const struct status_row status_rows[] = {
#define X(name, text, mqtt, http) [ST_##name] = {text, mqtt, http},
    STATUS_MAP(X)
#undef X
};

static const struct status_row *status_row(enum status s)
{
    return &status_rows[(unsigned)s < ST__COUNT ? s : ST_INTERNAL];
}

const char *status_text(enum status s)
{
    return status_row(s)->text;
}

uint8_t status_mqtt(enum status s)
{
    return status_row(s)->mqtt;
}

int status_http(enum status s)
{
    return status_row(s)->http;
}

bool status_parse(const char *text, enum status *ret_s)
{
    for (unsigned i = 0; i < ST__COUNT; i++) {
        if (strcmp(status_rows[i].text, text) == 0) {
            *ret_s = (enum status)i;
            return true;
        }
    }
    return false;
}

__attribute__((format(printf, 4, 0))) static void err_fill(struct err *err, enum status code, const char *where,
                                                           const char *fmt, va_list ap)
{
    // The text may be built from what is in `err` now, so it is made aside first.
    char text[sizeof(err->text)];
    vsnprintf(text, sizeof(text), fmt, ap);
    char place[sizeof(err->where)];
    snprintf(place, sizeof(place), "%s", where != NULL ? where : "");
    err->code = code;
    snprintf(err->text, sizeof(err->text), "%s", text);
    snprintf(err->where, sizeof(err->where), "%s", place);
}

// In brackets: under analysis the names are macros too.
enum status(err_set)(struct err *err, enum status code, const char *fmt, ...)
{
    if (err != NULL) {
        va_list ap;
        va_start(ap, fmt);
        err_fill(err, code, NULL, fmt, ap);
        va_end(ap);
    }
    return code;
}

enum status(err_at)(struct err *err, enum status code, const char *where, const char *fmt, ...)
{
    if (err != NULL) {
        va_list ap;
        va_start(ap, fmt);
        err_fill(err, code, where, fmt, ap);
        va_end(ap);
    }
    return code;
}

enum status err_wrap(struct err *err, const char *fmt, ...)
{
    if (err == NULL) {
        return ST_INTERNAL;
    }
    char what[sizeof(err->text)];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof(what), fmt, ap);
    va_end(ap);
    char told[sizeof(err->text)];
    snprintf(told, sizeof(told), "%s", err->text);
    int n = snprintf(err->text, sizeof(err->text), "%s: %s", what, told);
    if (n >= (int)sizeof(err->text)) {
        memcpy(err->text + sizeof(err->text) - 4, "...", 4); // cut, and shown to be
    }
    return err->code;
}
