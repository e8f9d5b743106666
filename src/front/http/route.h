// From a path to an operation. Literal segments win over parameters; a literal that does not know the method does not
// hide a parameter that does ("/devices/import" takes POST, GET goes to the device of that name).
#ifndef FRONT_HTTP_ROUTE_H
#define FRONT_HTTP_ROUTE_H

#include "front/http/table.h"

struct api_match {
    int op;           // index into the table, -1: none
    unsigned methods; // when op is -1: bits of the methods this path has (405), 0: no such path (404)
    struct slice segments[API_SEGMENTS_MAX]; // as sent, still percent-encoded
    unsigned segments_len;
};

// `path` starts with "/" and ends before "?". Borrowed by the match. API_METHOD__COUNT: a method no operation has.
void api_route_find(const struct api_table *table, enum api_method method, struct slice path, struct api_match *ret);
// "GET, HEAD, PUT" for the Allow header.
void api_route_allow(unsigned methods, char dst[64]);
const char *api_method_text(enum api_method m);

#endif
