#include "front/http/gzip.h"

#include <limits.h>
#include <strings.h>
#include <zlib.h>

#define GZIP_LEVEL  4         // JSON: nearly the ratio of 6 at twice the speed
#define GZIP_WINDOW (15 + 16) // +16: gzip header and trailer

bool gzip_body(struct slice in, struct buf *out)
{
    if (in.len == 0 || in.len > INT_MAX) {
        return false;
    }
    z_stream z = {0};
    if (deflateInit2(&z, GZIP_LEVEL, Z_DEFLATED, GZIP_WINDOW, 8, Z_DEFAULT_STRATEGY) != Z_OK) {
        return false;
    }
    uint8_t *dst = buf_reserve(out, in.len);
    bool done = false;
    if (dst != NULL) {
        z.next_in = (Bytef *)in.p; // zlib does not write to it
        z.avail_in = (uInt)in.len;
        z.next_out = dst;
        z.avail_out = (uInt)in.len; // running out of it means it does not get smaller
        done = deflate(&z, Z_FINISH) == Z_STREAM_END;
        if (done) {
            buf_commit(out, in.len - z.avail_out);
        }
    }
    deflateEnd(&z);
    return done;
}

static struct slice trim(struct slice s)
{
    while (s.len > 0 && (s.p[0] == ' ' || s.p[0] == '\t')) {
        s = slice_from(s, 1);
    }
    while (s.len > 0 && (s.p[s.len - 1] == ' ' || s.p[s.len - 1] == '\t')) {
        s = slice_head(s, s.len - 1);
    }
    return s;
}

// Cuts off and returns what stands before `sep`.
static struct slice cut(struct slice *rest, uint8_t sep)
{
    size_t n = 0;
    while (n < rest->len && rest->p[n] != sep) {
        n++;
    }
    struct slice head = slice_head(*rest, n);
    *rest = slice_from(*rest, n + 1);
    return trim(head);
}

// "q=0", "q=0.0", "q=0.000"
static bool is_zero_weight(struct slice param)
{
    if (param.len < 3 || (param.p[0] | 0x20) != 'q' || param.p[1] != '=') {
        return false;
    }
    for (size_t i = 2; i < param.len; i++) {
        if (param.p[i] != '0' && param.p[i] != '.') {
            return false;
        }
    }
    return true;
}

static bool is_gzip(struct slice coding)
{
    return coding.len == 4 && strncasecmp((const char *)coding.p, "gzip", 4) == 0;
}

bool gzip_accepted(struct slice accept_encoding)
{
    bool any = false;
    while (accept_encoding.len > 0) {
        struct slice item = cut(&accept_encoding, ',');
        struct slice coding = cut(&item, ';');
        bool wanted = !is_zero_weight(trim(item));
        if (is_gzip(coding)) {
            return wanted;
        }
        any = any || (wanted && slice_eq(coding, SLICE("*")));
    }
    return any;
}
