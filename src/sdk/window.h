// Messages to the server, kept as encoded PUBLISH packets until the server has acknowledged them.
//
// First in, first out: packets lie one behind the other in one block of memory, slots (a ring) say where. Acknowledgements
// may come in any order; memory is given back from the head.
//
//   invariant: start <= end <= bytes; slot packets lie in [start, end) in slot order; 0 <= in_flight <= count <= cap;
//   sent and not acked slots are exactly in_flight many.
#ifndef SDK_WINDOW_H
#define SDK_WINDOW_H

#include "muster/muster.h"
#include "proto/mqtt.h"

struct slot {
    uint64_t cookie;
    size_t off, len; // the packet in `mem`
    uint16_t packet_id;
    bool sent;   // on this connection
    bool acked;  // waits for those before it to be given back
    bool repeat; // was sent before: DUP
};
struct window {
    struct slot *slots;
    uint16_t cap, head, count;
    uint16_t in_flight;
    uint16_t last_id;
    uint8_t *mem;
    size_t bytes, start, end;
};

// Both blocks are borrowed for the life of the window.
void window_init(struct window *w, struct slot *slots, uint16_t cap, uint8_t *mem, size_t bytes);
void window_clear(struct window *w);
// Encodes and keeps a message. MUSTER_E_FULL, MUSTER_E_TOO_LARGE (over packet_max bytes or the whole block).
enum muster_status window_put(struct window *w, enum mqtt_version v, struct slice topic, struct slice payload,
                              bool repeat, uint64_t cookie, size_t packet_max);
// The oldest message not sent on this connection, or NULL.
struct slot *window_next(struct window *w);
struct slice window_packet(const struct window *w, const struct slot *s);
void window_sent(struct window *w, struct slot *s);
// Takes the acknowledgement of a message that was sent: its cookie. False: there is none with this id.
bool window_ack(struct window *w, uint16_t packet_id, uint64_t *ret_cookie);
// A new connection: everything not acknowledged is to be sent again, with DUP where it was sent before.
void window_rewind(struct window *w);
// An id that no kept message has (for SUBSCRIBE).
uint16_t window_fresh_id(struct window *w);

#endif
