// SCRAM messages from anywhere: the first line is the client's first message, the rest its last one. Nothing but the right proof
// is let in, states are kept, and a name that is taken is valid text.
#include <stdlib.h>

#include "base/utf8.h"
#include "domain/identity/scram.h"

static void must(bool ok)
{
    if (!ok) {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice in = slice_make(data, size);
    const uint8_t *end = size > 0 ? memchr(data, '\n', size) : NULL;
    struct slice first = end != NULL ? slice_head(in, (size_t)(end - data)) : in;
    struct slice last = slice_from(in, first.len + 1);
    struct err err = {.code = ST_OK};
    struct scram_verifier v;
    struct scram *s = scram_new();
    must(s != NULL);
    scram_verifier_fake(SLICE("key"), SLICE("name"), SCRAM_ITERATIONS_MIN, &v);
    if (scram_first(s, first, &err) == ST_OK) {
        struct buf out = buf_heap(4096);
        must(scram_state(s) == SCRAM_NAMED && scram_name(s).len > 0 && utf8_valid(scram_name(s)));
        must(scram_challenge(s, &v, &out, &err) == ST_OK && slice_starts(buf_view(&out), SLICE("r=")));
        buf_clear(&out);
        must(scram_final(s, last, &out, &err) != ST_OK && out.len == 0 && scram_state(s) == SCRAM_FAILED);
        buf_release(&out);
    } else {
        must(scram_state(s) == SCRAM_FAILED && err.text[0] != '\0');
    }
    scram_free(s);
    return 0;
}
