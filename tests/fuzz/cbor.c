// Whatever the bytes are, the result is either valid JSON within the limits or an error that leaves the output alone.
#include <assert.h>

#include "base/json.h"
#include "proto/cbor.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct buf out = buf_heap(1 << 20);
    buf_str(&out, "kept");
    struct cbor_limits limits = {.depth_max = 8, .items_max = 500};
    struct err err = {0};
    enum status s = cbor_to_json(slice_make(data, size), &limits, &out, &err);
    if (s == ST_OK) {
        enum status checked = json_check(slice_from(buf_view(&out), 4), 8, 500, NULL);
        assert(checked == ST_OK || checked == ST_INVALID); // duplicate keys are json_check's to refuse
    } else {
        assert(err.code == s && err.text[0] != '\0' && out.len == 4);
    }
    assert(out.len >= 4 && memcmp(out.p, "kept", 4) == 0);
    buf_release(&out);
    return 0;
}
