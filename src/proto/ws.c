#include "proto/ws.h"

#include "base/utf8.h"

#define FIN      0x80
#define RESERVED 0x70
#define OPCODE   0x0f
#define MASKED   0x80
#define LENGTH   0x7f
#define LEN16    126
#define LEN64    127

void ws_init(struct ws *w, uint32_t message_max)
{
    *w = (struct ws){.message_max = message_max};
}

static enum ws_event broken(struct ws *w, uint16_t code, const char *error)
{
    w->over = true;
    w->code = code;
    w->error = error;
    return WS_BROKEN;
}

static bool is_control(const struct ws *w)
{
    return (w->opcode & 0x08) != 0;
}

// ---- headers ----

// Bytes of the header that begins with what is in `head` already; at least 2.
static size_t head_size(const struct ws *w)
{
    uint8_t len = w->head_len < 2 ? 0 : w->head[1] & LENGTH;
    bool masked = w->head_len >= 2 && (w->head[1] & MASKED) != 0;
    return 2 + (len == LEN16 ? 2U : len == LEN64 ? 8U : 0U) + (masked ? 4U : 0U);
}

// The announced length, in its shortest form (5.2). False: a longer form, or over 63 bits.
static bool read_length(struct reader *r, uint64_t *ret_len)
{
    uint8_t len = rd_u8(r) & LENGTH;
    if (len == LEN16) {
        *ret_len = rd_u16(r);
        return *ret_len >= LEN16;
    }
    if (len == LEN64) {
        *ret_len = rd_u64(r);
        return *ret_len > UINT16_MAX && *ret_len <= INT64_MAX;
    }
    *ret_len = len;
    return true;
}

static enum ws_event check_control(struct ws *w)
{
    if (w->opcode > WS_PONG) {
        return broken(w, WS_PROTOCOL_ERROR, "an opcode that is not defined");
    }
    if (!w->fin || w->left > WS_CONTROL_MAX) {
        return broken(w, WS_PROTOCOL_ERROR, "a control frame in pieces or over 125 bytes");
    }
    w->control_len = 0;
    return WS_ALL;
}

static enum ws_event check_data(struct ws *w)
{
    if (w->opcode > WS_BINARY) {
        return broken(w, WS_PROTOCOL_ERROR, "an opcode that is not defined");
    }
    if ((w->opcode == WS_CONTINUATION) != w->in_message) {
        return broken(w, WS_PROTOCOL_ERROR,
                      w->in_message ? "a new message inside another one" : "a continuation of nothing");
    }
    if (w->opcode == WS_TEXT) {
        return broken(w, WS_UNSUPPORTED, "a text message; allowed: binary");
    }
    w->message_bytes = (w->in_message ? w->message_bytes : 0) + w->left; // each at most 63 bits and checked below
    if (w->message_bytes > w->message_max) {
        return broken(w, WS_TOO_BIG, "a message over the limit");
    }
    w->in_message = !w->fin;
    return WS_ALL;
}

// The header is complete.
static enum ws_event begin_frame(struct ws *w)
{
    struct reader r = reader_make(slice_make(w->head, w->head_len));
    uint8_t first = rd_u8(&r);
    bool masked = (w->head[1] & MASKED) != 0;
    w->head_len = 0;
    w->opcode = first & OPCODE;
    w->fin = (first & FIN) != 0;
    if ((first & RESERVED) != 0) {
        return broken(w, WS_PROTOCOL_ERROR, "reserved bits are set");
    }
    if (!masked) {
        return broken(w, WS_PROTOCOL_ERROR, "a frame that is not masked");
    }
    if (!read_length(&r, &w->left)) {
        return broken(w, WS_PROTOCOL_ERROR, "a length that is not in its shortest form");
    }
    for (size_t i = 0; i < sizeof(w->mask); i++) {
        w->mask[i] = rd_u8(&r);
    }
    w->in_frame = true;
    return is_control(w) ? check_control(w) : check_data(w);
}

// Gathers a header. WS_ALL: either the input is used up or the frame has begun.
static enum ws_event read_head(struct ws *w, struct reader *in)
{
    while (w->head_len < head_size(w)) {
        if (reader_left(in) == 0) {
            return WS_ALL;
        }
        w->head[w->head_len++] = rd_u8(in);
    }
    return begin_frame(w);
}

// ---- payload ----

// Appends `part` unmasked. The plain loop is one that compilers do 16 bytes at a time.
static bool unmask(struct ws *w, struct slice part, struct buf *out)
{
    if (part.len == 0) {
        return true;
    }
    uint8_t *dst = buf_reserve(out, part.len);
    if (dst == NULL) {
        return false;
    }
    const uint8_t m[4] = {w->mask[0], w->mask[1], w->mask[2], w->mask[3]};
    for (size_t i = 0; i < part.len; i++) {
        dst[i] = part.p[i] ^ m[i % 4];
    }
    for (size_t i = 0; i < sizeof(w->mask); i++) {
        w->mask[i] = m[(part.len + i) % 4];
    }
    buf_commit(out, part.len);
    return true;
}

// 5.5.1 and 7.4: the code is one that may be sent, the rest is text.
static enum ws_event end_close(struct ws *w)
{
    struct reader r = reader_make(slice_make(w->control, w->control_len));
    w->over = true;
    w->code = WS_NO_CODE;
    if (w->control_len == 0) {
        return WS_CLOSED;
    }
    uint16_t code = rd_u16(&r);
    bool known = (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) || (code >= 3000 && code <= 4999);
    if (r.failed || !known) {
        return broken(w, WS_PROTOCOL_ERROR, "a close code that may not be sent");
    }
    if (!utf8_valid(rd_rest(&r))) {
        return broken(w, WS_BAD_TEXT, "a close reason that is not UTF-8");
    }
    w->code = code;
    return WS_CLOSED;
}

static enum ws_event read_control(struct ws *w, struct reader *in)
{
    size_t n = reader_left(in) < w->left ? reader_left(in) : (size_t)w->left;
    struct buf out = buf_fixed(w->control, sizeof(w->control));
    buf_commit(&out, w->control_len);
    if (!unmask(w, rd_bytes(in, n), &out)) {
        return broken(w, WS_PROTOCOL_ERROR, "a control frame over 125 bytes");
    }
    w->control_len = (uint8_t)out.len;
    w->left -= n;
    if (w->left > 0) {
        return WS_ALL;
    }
    w->in_frame = false;
    return w->opcode == WS_CLOSE ? end_close(w) : w->opcode == WS_PING ? WS_PINGED : WS_ALL;
}

static enum ws_event read_data(struct ws *w, struct reader *in, struct buf *out)
{
    size_t n = reader_left(in) < w->left ? reader_left(in) : (size_t)w->left;
    if (!unmask(w, rd_bytes(in, n), out)) {
        return broken(w, WS_TOO_BIG, "no room for a message");
    }
    w->left -= n;
    w->in_frame = w->left > 0;
    return WS_ALL;
}

enum ws_event ws_read(struct ws *w, struct reader *in, struct buf *out)
{
    enum ws_event e = WS_ALL;
    while (e == WS_ALL && !w->over) {
        bool waits = w->in_frame ? w->left > 0 : true;
        if (waits && reader_left(in) == 0) {
            break;
        }
        e = !w->in_frame ? read_head(w, in) : is_control(w) ? read_control(w, in) : read_data(w, in, out);
    }
    return e;
}

// ---- writing ----

bool ws_header(struct buf *out, enum ws_opcode opcode, uint64_t len)
{
    buf_u8(out, (uint8_t)(FIN | opcode));
    if (len < LEN16) {
        return buf_u8(out, (uint8_t)len);
    }
    if (len <= UINT16_MAX) {
        buf_u8(out, LEN16);
        return buf_u16(out, (uint16_t)len);
    }
    buf_u8(out, LEN64);
    return buf_u64(out, len);
}

bool ws_pong(struct buf *out, const struct ws *w)
{
    ws_header(out, WS_PONG, w->control_len);
    return buf_put(out, w->control, w->control_len);
}

bool ws_close(struct buf *out, uint16_t code, const char *text)
{
    if (code == WS_NO_CODE) {
        return ws_header(out, WS_CLOSE, 0);
    }
    struct slice t = slice_head(slice_str(text), WS_CONTROL_MAX - 2);
    while (!utf8_valid(t)) { // cut in the middle of a character
        t = slice_head(t, t.len - 1);
    }
    ws_header(out, WS_CLOSE, t.len + 2);
    buf_u16(out, code);
    return buf_slice(out, t);
}
