#include "core/cursor.h"

#include "base/reader.h"
#include "net/crypto.h"

bool cursor_encode(const struct cursor *c, struct buf *out)
{
    uint8_t mem[1 + 8 + 8 + CURSOR_TEXT_MAX];
    struct buf raw = buf_fixed(mem, sizeof(mem));
    buf_u8(&raw, c->kind);
    buf_u64(&raw, (uint64_t)c->a);
    buf_u64(&raw, (uint64_t)c->b);
    buf_slice(&raw, c->text);
    return !raw.failed && base64url_encode(buf_view(&raw), out);
}

enum status cursor_decode(struct slice encoded, uint8_t mem[CURSOR_MAX], struct cursor *ret, struct err *err)
{
    struct buf raw = buf_fixed(mem, CURSOR_MAX);
    if (encoded.len == 0 || encoded.len > CURSOR_MAX || !base64url_decode(encoded, &raw)) {
        return err_at(err, ST_INVALID, "cursor", "the cursor is not one this server gave out; start without one");
    }
    struct reader r = reader_make(buf_view(&raw));
    struct cursor c = {.kind = rd_u8(&r), .a = (int64_t)rd_u64(&r), .b = (int64_t)rd_u64(&r)};
    c.text = rd_rest(&r);
    if (r.failed || c.text.len > CURSOR_TEXT_MAX) {
        return err_at(err, ST_INVALID, "cursor", "the cursor is not one this server gave out; start without one");
    }
    *ret = c;
    return ST_OK;
}

enum status cursor_read(struct slice encoded, uint8_t kind, uint8_t mem[CURSOR_MAX], struct cursor *ret,
                        struct err *err)
{
    if (encoded.p == NULL) {
        return ST_OK;
    }
    struct cursor c = {.kind = 0};
    enum status st = cursor_decode(encoded, mem, &c, err);
    if (st != ST_OK) {
        return st;
    }
    if (c.kind != kind) {
        return err_at(err, ST_INVALID, "cursor", "the cursor belongs to another query; keep the filters while paging");
    }
    *ret = c;
    return ST_OK;
}

enum status cursor_write(const struct cursor *c, struct jw *out, struct err *err)
{
    if (c == NULL) {
        jw_null(out);
        return ST_OK;
    }
    uint8_t mem[CURSOR_MAX];
    struct buf text = buf_fixed(mem, sizeof(mem));
    if (!cursor_encode(c, &text)) {
        return err_set(err, ST_INTERNAL, "a paging key is longer than a cursor can hold");
    }
    jw_slice(out, buf_view(&text));
    return ST_OK;
}
