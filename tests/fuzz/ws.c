// WebSocket frames of a client: any bytes in any pieces. What must hold:
//   * however the bytes are cut, payload, events and the end are the same;
//   * the payload is never more than the bytes, nothing follows an end, and what is answered is a frame.
#include <stdlib.h>

#include "proto/ws.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MESSAGE_MAX 1000

struct seen {
    struct buf payload;
    unsigned pings;
    enum ws_event end;
    uint16_t code;
};

static void require(bool ok)
{
    if (!ok) {
        abort();
    }
}

static void answer(const struct ws *w, enum ws_event e)
{
    uint8_t mem[WS_CONTROL_MAX + 2];
    struct buf out = buf_fixed(mem, sizeof(mem));
    require(e == WS_PINGED ? ws_pong(&out, w) : ws_close(&out, w->code, e == WS_BROKEN ? w->error : ""));
    require(out.len >= 2 && out.len == (size_t)mem[1] + 2);
}

static struct seen play(struct slice in, size_t piece)
{
    struct seen s = {.payload = buf_heap(in.len), .end = WS_ALL};
    struct ws w;
    ws_init(&w, MESSAGE_MAX);
    while (in.len > 0 && s.end == WS_ALL) {
        struct slice part = slice_head(in, piece);
        in = slice_from(in, part.len);
        struct reader r = reader_make(part);
        for (enum ws_event e = ws_read(&w, &r, &s.payload); e != WS_ALL; e = ws_read(&w, &r, &s.payload)) {
            answer(&w, e);
            s.pings += e == WS_PINGED;
            s.end = e == WS_PINGED ? s.end : e;
            s.code = w.code;
        }
        require(s.end != WS_ALL || reader_left(&r) == 0);
    }
    require(!s.payload.failed && (s.end == WS_BROKEN || w.message_bytes <= MESSAGE_MAX));
    return s;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1) {
        return 0;
    }
    struct slice in = slice_make(data + 1, size - 1);
    struct seen whole = play(in, in.len > 0 ? in.len : 1);
    struct seen cut = play(in, (data[0] & 0x3f) + 1U);
    require(slice_eq(buf_view(&whole.payload), buf_view(&cut.payload)));
    require(whole.pings == cut.pings && whole.end == cut.end && whole.code == cut.code);
    buf_release(&whole.payload);
    buf_release(&cut.payload);
    return 0;
}
