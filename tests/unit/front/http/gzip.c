// What is compressed, and for whom.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "front/http/gzip.h"

static void knows_who_takes_gzip(void **state)
{
    (void)state;
    static const struct {
        const char *header;
        bool takes;
    } cases[] = {
        {"", false},
        {"gzip", true},
        {"br, GZip ;q=0.1", true},
        {"gzip;q=0", false},
        {"gzip;q=0.000, *", false},
        {"*", true},
        {"*;q=0", false},
        {"identity", false},
        {"xgzip", false},
        {"gzipx", false},
        {",,gzip", true},
        {"*;q=0, gzip", true},
        {"gzip; q=0", false},
        {"deflate , gzip ", true},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        if (gzip_accepted(slice_str(cases[i].header)) != cases[i].takes) {
            fail_msg("%s", cases[i].header);
        }
    }
}

static void what_does_not_shrink_is_left(void **state)
{
    (void)state;
    struct buf out = buf_heap(1 << 20);
    uint8_t noise[256];
    for (unsigned i = 0; i < sizeof(noise); i++) {
        noise[i] = (uint8_t)(i * 167 + 13);
    }
    assert_false(gzip_body(slice_make(noise, sizeof(noise)), &out));
    assert_false(gzip_body(SLICE(""), &out));
    buf_release(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(knows_who_takes_gzip),
        cmocka_unit_test(what_does_not_shrink_is_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
