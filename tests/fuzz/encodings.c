// Hex and base64: whatever decodes encodes to the same text again, and every byte string survives the round trip.
#include <stdlib.h>

#include "net/crypto.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef bool coder(struct slice in, struct buf *out);

static void must(bool ok)
{
    if (!ok) {
        abort();
    }
}

// `exact`: a decoded text has one encoding, the text itself.
static void check(struct slice in, coder *encode, coder *decode, bool exact)
{
    struct buf text = buf_heap(1 << 24), bytes = buf_heap(1 << 24);
    must(encode(in, &text) && decode(buf_view(&text), &bytes) && slice_eq(buf_view(&bytes), in));
    buf_clear(&text);
    buf_clear(&bytes);
    if (decode(in, &bytes)) {
        must(encode(buf_view(&bytes), &text) && text.len == in.len);
        must(!exact || slice_eq(buf_view(&text), in));
    }
    buf_release(&text);
    buf_release(&bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice in = slice_make(data, size);
    check(in, hex_encode, hex_decode, false); // decodes either case
    check(in, base64_encode, base64_decode, true);
    check(in, base64url_encode, base64url_decode, true);
    return 0;
}
