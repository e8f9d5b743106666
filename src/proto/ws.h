// WebSocket frames (RFC 6455 section 5), the server's side: a pure codec that allocates nothing.
//
// A message is a stretch of the byte stream that the connection carries: its payload is passed on as it comes, so a frame is
// never gathered. Only binary messages exist here; extensions (compression) are never agreed on.
//
//   bytes -> ws_read -> payload, and events: a ping to answer, the peer's close, a broken rule
//   payload -> ws_header + payload -> bytes
#ifndef PROTO_WS_H
#define PROTO_WS_H

#include "base/buf.h"
#include "base/reader.h"

#define WS_CONTROL_MAX 125 // payload of a ping, pong or close (5.5)
#define WS_HEADER_MAX  14

enum ws_opcode { WS_CONTINUATION = 0, WS_TEXT = 1, WS_BINARY = 2, WS_CLOSE = 8, WS_PING = 9, WS_PONG = 10 };

enum ws_code { // why a connection ends, 7.4.1
    WS_NORMAL = 1000,
    WS_GOING_AWAY = 1001,
    WS_PROTOCOL_ERROR = 1002,
    WS_UNSUPPORTED = 1003,
    WS_NO_CODE = 1005, // never on the wire: the peer gave none
    WS_BAD_TEXT = 1007,
    WS_POLICY = 1008,
    WS_TOO_BIG = 1009,
    WS_TRY_LATER = 1013,
};

enum ws_event {
    WS_ALL,    // the input is used up
    WS_PINGED, // `control` holds what the pong must carry
    WS_CLOSED, // the peer's close; `code` is its reason or WS_NO_CODE. Nothing more is read.
    WS_BROKEN, // a rule was broken: `code` is what to close with, `error` says what. Nothing more is read.
};

struct ws {
    uint64_t left;          // payload of the frame at hand that is still to come
    uint64_t message_bytes; // of the message at hand, announced so far
    uint32_t message_max;
    uint16_t code;
    uint8_t opcode;  // of the frame at hand
    bool fin;        // it is its message's last
    bool in_frame;   // its header is complete
    bool in_message; // the message at hand has further frames
    bool over;       // after WS_CLOSED and WS_BROKEN
    uint8_t mask[4]; // turned as the payload goes, so that mask[0] is for its next byte
    uint8_t head_len, control_len;
    uint8_t head[WS_HEADER_MAX];     // as much of a header as has come
    uint8_t control[WS_CONTROL_MAX]; // payload of the control frame at hand
    const char *error;
};

// A message longer than `message_max` bytes is refused by its header.
void ws_init(struct ws *w, uint32_t message_max);
// Reads frames up to the next event and appends payload, unmasked, to `out`. The caller goes on until WS_ALL.
enum ws_event ws_read(struct ws *w, struct reader *in, struct buf *out);

// The header of a whole, unmasked message of `len` bytes.
bool ws_header(struct buf *out, enum ws_opcode opcode, uint64_t len);
bool ws_pong(struct buf *out, const struct ws *w); // the answer to WS_PINGED
// A close frame; WS_NO_CODE: without a reason. `text` (UTF-8) is cut to what fits.
bool ws_close(struct buf *out, uint16_t code, const char *text);

#endif
