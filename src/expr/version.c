#include "base/reader.h"
#include "expr/value.h"

// What a version is made of. Every part is a slice of the text.
struct version {
    struct slice numbers; // "1.10.0"
    struct slice pre;     // "rc.1"; empty when there is none
};

static bool is_digit(int c)
{
    return c >= '0' && c <= '9';
}

static bool is_identifier(int c)
{
    return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-';
}

// Runs of characters `is` accepts, with single dots between. The whole of it; empty when the text begins with none.
static struct slice read_dotted(struct reader *r, bool (*is)(int c))
{
    const uint8_t *first = r->p;
    do {
        const uint8_t *part = r->p;
        while (is(rd_peek(r))) {
            rd_u8(r);
        }
        if (r->p == part) {
            return slice_make(first, 0);
        }
    } while (rd_peek(r) == '.' && (rd_u8(r), true));
    return slice_make(first, (size_t)(r->p - first));
}

static bool version_split(struct slice s, struct version *ret)
{
    struct reader r = reader_make(s);
    struct slice build = SLICE("x");
    *ret = (struct version){.numbers = {0}};
    if (rd_peek(&r) == 'v' || rd_peek(&r) == 'V') {
        rd_u8(&r);
    }
    ret->numbers = read_dotted(&r, is_digit);
    struct slice pre = SLICE("x");
    if (rd_peek(&r) == '-') {
        rd_u8(&r);
        ret->pre = pre = read_dotted(&r, is_identifier);
    }
    if (rd_peek(&r) == '+') {
        rd_u8(&r);
        build = read_dotted(&r, is_identifier);
    }
    return ret->numbers.len > 0 && pre.len > 0 && build.len > 0 && reader_done(&r);
}

bool expr_version_valid(struct slice s)
{
    struct version v;
    return s.len <= EXPR_VERSION_MAX && version_split(s, &v);
}

// The next part between dots; empty at the end. *rest loses it.
static struct slice next_part(struct slice *rest)
{
    const uint8_t *dot = rest->len > 0 ? memchr(rest->p, '.', rest->len) : NULL;
    struct slice part = slice_head(*rest, dot != NULL ? (size_t)(dot - rest->p) : rest->len);
    *rest = slice_from(*rest, part.len + 1);
    return part;
}

static int compare_bytes(struct slice a, struct slice b)
{
    size_t n = a.len < b.len ? a.len : b.len;
    int c = n > 0 ? memcmp(a.p, b.p, n) : 0;
    return c != 0 ? c : a.len < b.len ? -1 : a.len > b.len ? 1 : 0;
}

// Digits of any number: without leading zeros the longer one is larger. An empty part is 0.
static int compare_digits(struct slice a, struct slice b)
{
    while (a.len > 0 && a.p[0] == '0') {
        a = slice_from(a, 1);
    }
    while (b.len > 0 && b.p[0] == '0') {
        b = slice_from(b, 1);
    }
    return a.len != b.len ? (a.len < b.len ? -1 : 1) : compare_bytes(a, b);
}

static bool all_digits(struct slice s)
{
    for (size_t i = 0; i < s.len; i++) {
        if (!is_digit(s.p[i])) {
            return false;
        }
    }
    return true;
}

// Semver 11.4: numbers by value and before names, names by bytes, the shorter of two like beginnings first.
static int compare_pre(struct slice a, struct slice b)
{
    if (a.len == 0 || b.len == 0) {
        return a.len == b.len ? 0 : a.len == 0 ? 1 : -1; // the release comes after its pre-releases
    }
    while (a.len > 0 && b.len > 0) {
        struct slice x = next_part(&a);
        struct slice y = next_part(&b);
        bool x_number = all_digits(x);
        bool y_number = all_digits(y);
        int c = x_number && y_number   ? compare_digits(x, y)
                : x_number != y_number ? (x_number ? -1 : 1)
                                       : compare_bytes(x, y);
        if (c != 0) {
            return c;
        }
    }
    return a.len > 0 ? 1 : b.len > 0 ? -1 : 0;
}

int expr_version_compare(struct slice a, struct slice b)
{
    struct version x;
    struct version y;
    version_split(a, &x);
    version_split(b, &y);
    while (x.numbers.len > 0 || y.numbers.len > 0) {
        int c = compare_digits(next_part(&x.numbers), next_part(&y.numbers));
        if (c != 0) {
            return c;
        }
    }
    return compare_pre(x.pre, y.pre);
}
