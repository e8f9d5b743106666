// A PROXY header of any bytes. What must hold:
//   * cut short it is incomplete or bad, never complete, and what is bad stays bad whatever follows;
//   * its length is within the limit, and what follows it changes nothing.
#include <stdlib.h>

#include "proto/proxy_header.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool ok)
{
    if (!ok) {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice in = slice_make(data, size);
    struct proxy_header whole, part;
    size_t used = 0, part_used = 0;
    const char *error = NULL;
    enum proxy_step step = proxy_header_read(in, &whole, &used, &error);
    require(step != PROXY_BAD || error != NULL);
    require(step != PROXY_MORE || size < PROXY_HEADER_MAX);
    size_t limit = size < PROXY_HEADER_MAX ? size : PROXY_HEADER_MAX;
    if (step == PROXY_DONE) {
        require(used > 0 && used <= limit);
        require(proxy_header_read(slice_head(in, used), &part, &part_used, &error) == PROXY_DONE && part_used == used);
        require(memcmp(&part, &whole, sizeof(part)) == 0);
        limit = used;
    }
    bool was_bad = false;
    for (size_t n = 0; n < limit; n++) {
        enum proxy_step s = proxy_header_read(slice_head(in, n), &part, &part_used, &error);
        require(s != PROXY_DONE && (!was_bad || s == PROXY_BAD));
        was_bad = s == PROXY_BAD;
    }
    require(!was_bad || step == PROXY_BAD);
    return 0;
}
