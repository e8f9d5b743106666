// Text formats of parameters and string members: one list of names, rules and what to tell people.
#ifndef FRONT_HTTP_FORMAT_H
#define FRONT_HTTP_FORMAT_H

#include "base/slice.h"

//    enum suffix  name in api/*.json  allowed, for error texts
#define FORMAT_MAP(X)                                                                                                  \
    X(NONE, "", "any text")                                                                                            \
    X(ID, "id", "1 to 128 of letters, digits, '.', '_', ':' and '-'")                                                  \
    X(TOKEN, "token", "1 to 128 of letters, digits, '.', '_', '~' and '-'")                                            \
    X(CURSOR, "cursor", "the \"next\" of a former reply")                                                              \
    X(METRIC, "metric", "1 to 128 bytes without control characters")                                                   \
    X(TIME, "time", "RFC 3339 (2026-01-31T12:00:00Z) or milliseconds since 1970")                                      \
    X(DURATION, "duration", "a number and unit: 90s, 5m, 1h30m, 7d, 2w")

enum format {
#define X(name, text, allowed) FORMAT_##name,
    FORMAT_MAP(X)
#undef X
        FORMAT__COUNT
};

bool format_check(enum format f, struct slice s); // does the text follow it? Any thread.
const char *format_allowed(enum format f);        // for people; never NULL

#endif
