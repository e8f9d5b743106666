// Any bytes as a zone file: refused, or rows that ascend, with offsets of less than a day or so.
#include <assert.h>

#include "expr/zone.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct expr_zone_row rows[EXPR_ZONE_ROWS_MAX];
    unsigned count;
    enum status s = expr_zone_read(slice_make(data, size), rows, EXPR_ZONE_ROWS_MAX, &count);
    assert(s == ST_OK || count == 0);
    if (s == ST_OK) {
        assert(count > 0 && count <= EXPR_ZONE_ROWS_MAX && rows[0].from_us == INT64_MIN);
        for (unsigned i = 1; i < count; i++) {
            assert(rows[i].from_us >= rows[i - 1].from_us);
        }
    }
    int64_t us;
    if (expr_zone_fixed(slice_make(data, size), &us)) {
        assert(us > -EXPR_DAY_US && us < EXPR_DAY_US);
    }
    return 0;
}
