// Cursors as clients hand them back: any text decodes or is refused, and what decodes is encoded as the same cursor.
#include <stdlib.h>

#include "core/cursor.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t mem[CURSOR_MAX];
    uint8_t again[CURSOR_MAX];
    uint8_t again_mem[CURSOR_MAX];
    struct cursor c;
    struct cursor back;
    struct err err = {.code = ST_OK};
    enum status st = cursor_decode(slice_make(data, size), mem, &c, &err);
    if (st != ST_OK) {
        if (st != ST_INVALID || err.text[0] == '\0') {
            abort();
        }
        return 0;
    }
    struct buf out = buf_fixed(again, sizeof(again));
    if (!cursor_encode(&c, &out) || cursor_decode(buf_view(&out), again_mem, &back, NULL) != ST_OK ||
        c.kind != back.kind || c.a != back.a || c.b != back.b || !slice_eq(c.text, back.text)) {
        abort();
    }
    return 0;
}
