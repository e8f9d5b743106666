// Path and query parameters: percent-decoded, checked against the description, in the order of the description.
#ifndef FRONT_HTTP_PARAMS_H
#define FRONT_HTTP_PARAMS_H

#include "base/arena.h"
#include "front/http/route.h"

// `query` is what follows "?", or empty. Decoded text lives in `arena` and is NUL-terminated. ST_INVALID with err->where
// the name of the parameter; unknown, repeated and missing ones are refused. ST_NOMEM when the arena is full.
enum status params_read(const struct api_op *op, const struct api_match *route, struct slice query, struct arena *arena,
                        struct slice params[API_PARAMS_MAX], struct err *err);

// RFC 3986 percent-decoding; `plus`: "+" is a space (query). ST_INVALID when an escape is broken, or the text has a NUL byte
// or is not UTF-8; ST_NOMEM.
enum status percent_decode(struct arena *arena, struct slice text, bool plus, struct slice *ret);

#endif
