// A capture file Wireshark opens (pcapng, draft-ietf-opsawg-pcapng): byte streams of connections dressed as TCP over IP.
//
// What is recorded lies above TCP (and above TLS and WebSocket), so IP and TCP headers are made up: addresses and the peer's
// port as they were, the server's port 1883, sequence numbers that follow from the bytes. Wireshark then dissects MQTT.
#ifndef PROTO_PCAPNG_H
#define PROTO_PCAPNG_H

#include "base/buf.h"
#include "base/slice.h"

#define PCAPNG_STREAMS_MAX 256 // connections whose sequence numbers are kept; further ones begin anew

struct pcapng_stream {
    uint64_t conn;
    uint32_t seq_in, seq_out; // next TCP sequence number, from the peer and to it
    bool begun;
};
struct pcapng {
    struct buf *out;
    unsigned streams_len;
    struct pcapng_stream streams[PCAPNG_STREAMS_MAX];
};
struct pcapng_packet {
    int64_t ts_us;     // wall clock
    uint64_t conn;     // which connection
    const char *peer;  // "192.0.2.1:1234" or "[2001:db8::1]:1234"; anything else is shown as 0.0.0.0:0
    bool to_peer;      // direction
    struct slice data; // as recorded
    size_t data_len;   // as it was on the wire; more than data.len when it was cut
    const char *note;  // a comment on the packet, or NULL
};
// Section header, interface description. False when `out` is full.
bool pcapng_begin(struct pcapng *w, struct buf *out, const char *application);
// One piece of a stream, in order of time; long ones become several TCP segments. A packet without data is a note of its own (an
// empty segment with the comment).
bool pcapng_put(struct pcapng *w, const struct pcapng_packet *p);

#endif
