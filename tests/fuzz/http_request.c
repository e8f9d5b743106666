// A whole HTTP connection over a core that answers at once. The first byte says how the rest is cut: its low 7 bits are the
// size of the pieces (0: all at once), the high bit lets the connection's timer fire between them.
#include "../lib/fake_wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1) {
        return 0;
    }
    struct slice rest = slice_make(data + 1, size - 1);
    size_t piece = data[0] & 0x7f;
    bool timers = (data[0] & 0x80) != 0;
    bool opened = wire_open(size);
    assert(opened);
    while (rest.len > 0 && !wire.closed) {
        size_t n = piece == 0 || piece > rest.len ? rest.len : piece;
        buf_slice(&wire.in, slice_head(rest, n));
        rest = slice_from(rest, n);
        wire_offer();
        if (timers) {
            wire_fire_timer();
            wire_offer();
        }
        wire_deliver_event();
        wire_drain();
        wire_offer();
    }
    wire_drain();
    wire_close(opened);
    return 0;
}
