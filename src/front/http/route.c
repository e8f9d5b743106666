#include "front/http/route.h"

#include "base/buf.h"

const char *api_method_text(enum api_method m)
{
    static const char *const names[] = {"GET", "POST", "PUT", "PATCH", "DELETE"};
    return names[m];
}

void api_route_allow(unsigned methods, char dst[64])
{
    struct buf b = buf_fixed(dst, 63);
    for (unsigned m = 0; m < API_METHOD__COUNT; m++) {
        if ((methods & 1U << m) != 0) {
            buf_printf(&b, "%s%s", b.len > 0 ? ", " : "", m == API_GET ? "GET, HEAD" : api_method_text(m));
        }
    }
    dst[b.len] = '\0';
}

// False when the path does not start with a slash or has more segments than any route.
static bool split(struct slice path, struct api_match *m)
{
    m->segments_len = 0;
    if (path.len == 0 || path.p[0] != '/') {
        return false;
    }
    struct slice rest = slice_from(path, 1);
    for (;;) {
        size_t n = 0;
        while (n < rest.len && rest.p[n] != '/') {
            n++;
        }
        if (m->segments_len == API_SEGMENTS_MAX) {
            return false;
        }
        m->segments[m->segments_len++] = slice_head(rest, n);
        if (n == rest.len) {
            return true;
        }
        rest = slice_from(rest, n + 1);
    }
}

static const struct api_route *literal(const struct api_route *node, struct slice segment)
{
    size_t lo = 0;
    size_t hi = node->literals_len;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        struct slice name = slice_str(node->children[mid].segment);
        size_t n = name.len < segment.len ? name.len : segment.len;
        int c = n > 0 ? memcmp(segment.p, name.p, n) : 0;
        if (c == 0 && name.len == segment.len) {
            return &node->children[mid];
        }
        if (c < 0 || (c == 0 && segment.len < name.len)) {
            hi = mid;
        } else {
            lo = mid + 1;
        }
    }
    return NULL;
}

void api_route_find(const struct api_table *table, enum api_method method, struct slice path, struct api_match *ret)
{
    *ret = (struct api_match){.op = -1};
    if (!split(path, ret)) {
        return;
    }
    // Depth first, the literal child before the parameter child; at most one entry waits per segment.
    struct {
        const struct api_route *node;
        unsigned depth;
    } stack[API_SEGMENTS_MAX + 2] = {{table->root, 0}};
    unsigned n = 1;
    while (n > 0) {
        n--;
        const struct api_route *node = stack[n].node;
        unsigned depth = stack[n].depth;
        if (depth == ret->segments_len) {
            for (unsigned m = 0; m < API_METHOD__COUNT; m++) {
                ret->methods |= node->ops[m] >= 0 ? 1U << m : 0;
            }
            if (method < API_METHOD__COUNT && node->ops[method] >= 0) {
                ret->op = node->ops[method];
                return;
            }
            continue;
        }
        struct slice segment = ret->segments[depth];
        if (node->has_param && segment.len > 0) {
            stack[n].node = &node->children[node->literals_len];
            stack[n++].depth = depth + 1;
        }
        const struct api_route *lit = literal(node, segment);
        if (lit != NULL) {
            stack[n].node = lit;
            stack[n++].depth = depth + 1;
        }
    }
}
