// Frames as a WebSocket client sends them.
#ifndef TESTS_LIB_WS_FRAME_H
#define TESTS_LIB_WS_FRAME_H

#include "base/buf.h"

// Appends a masked frame with whatever first byte.
static inline void ws_frame(struct buf *b, uint8_t first, const void *p, size_t len)
{
    static const uint8_t mask[4] = {0x37, 0xfa, 0x21, 0x3d};
    buf_u8(b, first);
    if (len < 126) {
        buf_u8(b, (uint8_t)(0x80 | len));
    } else if (len <= UINT16_MAX) {
        buf_u8(b, 0x80 | 126);
        buf_u16(b, (uint16_t)len);
    } else {
        buf_u8(b, 0x80 | 127);
        buf_u64(b, len);
    }
    buf_put(b, mask, sizeof(mask));
    for (size_t i = 0; i < len; i++) {
        buf_u8(b, ((const uint8_t *)p)[i] ^ mask[i % 4]);
    }
}

static inline void ws_frame_text(struct buf *b, uint8_t first, const char *text)
{
    ws_frame(b, first, text, strlen(text));
}

#endif
