// gzip of reply bodies.
#ifndef FRONT_HTTP_GZIP_H
#define FRONT_HTTP_GZIP_H

#include "base/buf.h"

#define GZIP_MIN 1024 // smaller bodies are sent as they are

// False (and `out` to be dropped) when there is no memory or it would not get smaller. Any thread.
bool gzip_body(struct slice in, struct buf *out);
// Does this Accept-Encoding header (RFC 9110 section 12.5.3) take gzip?
bool gzip_accepted(struct slice accept_encoding);

#endif
