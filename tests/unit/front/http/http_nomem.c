// Memory that is not to be had: every allocation of a conversation fails once, ours and jansson's. The answer is a refusal or
// the end of the connection, nothing leaks, and the same conversation works right after.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/fake_wire.h"

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t size);

static int left = -1; // allocations that go well before one fails; negative: none fails
static bool failed;

static bool fails_now(void)
{
    if (left < 0 || left-- > 0) {
        return false;
    }
    failed = true;
    return true;
}

void *__wrap_malloc(size_t size)
{
    return fails_now() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size)
{
    return fails_now() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t size)
{
    return fails_now() ? NULL : __real_realloc(p, size);
}

// What the server said; the wire itself takes its memory before anything fails.
static char said[1 << 20];
static size_t said_len;

static void take_output(void)
{
    assert_true(said_len + wire.out.len < sizeof(said));
    memcpy(said + said_len, wire.out.p, wire.out.len);
    said_len += wire.out.len;
    said[said_len] = '\0';
}

static void talk(const char *text)
{
    said_len = 0;
    int armed = left;
    left = -1;
    (void)wire_front();
    wire_deliver_event(); // makes its event
    left = armed;
    bool opened = wire_open(1 << 20);
    armed = left;
    left = -1;
    assert_non_null(buf_reserve(&wire.out, 1 << 19));
    assert_true(buf_slice(&wire.in, slice_str(text)));
    left = armed;
    if (opened) {
        wire_offer();
        wire_deliver_event();
    }
    left = -1;
    take_output();
    wire_close(opened);
}

#define AS_OWNER "HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer owner\r\n"

static void every_allocation_fails_once(void **state)
{
    (void)state;
    static const struct {
        const char *text, *answer;
    } conversations[] = {
        {"GET /api/v1/things/a%3Ab " AS_OWNER "If-None-Match: \"9\"\r\n\r\n", "\"thing\":\"a:b\""},
        {"POST /api/v1/things " AS_OWNER
         "Content-Type: application/json\r\nIdempotency-Key: k\r\nContent-Length: 45\r\n\r\n"
         "{\"id\":\"a\",\"tags\":{\"k\":\"v\"},\"parts\":[{\"n\":1}]}",
         "201 Created"},
        {"GET /api/v1/large?n=500 " AS_OWNER "Accept-Encoding: gzip\r\n\r\n", "200 OK"},
        {"GET /api/v1/steps " AS_OWNER "\r\n", "\"second\":true"},
        {"GET /api/v1/watch " AS_OWNER "\r\n", "event: twin"},
        {"GET /api/v1/text HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer nobody\r\n\r\n", "401 Unauthorized"},
        {"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n", "404 Not Found"},
        {"nonsense\r\n", "400 Bad Request"},
    };
    unsigned failures = 0;
    for (size_t i = 0; i < sizeof(conversations) / sizeof(conversations[0]); i++) {
        failed = true;
        for (int n = 0; failed; n++) {
            failed = false;
            left = n;
            talk(conversations[i].text);
            failures += failed;
            bool right = strstr(said, conversations[i].answer) != NULL;
            bool refused = said_len == 0 || strncmp(said, "HTTP/1.1 503", 12) == 0 ||
                           strncmp(said, "HTTP/1.1 413", 12) == 0 || strncmp(said, "HTTP/1.1 200", 12) == 0;
            if (!right && !(failed && refused)) {
                fail_msg("allocation %d of %s: %s", n, conversations[i].text, said);
            }
            talk(conversations[i].text);
            if (strstr(said, conversations[i].answer) == NULL) {
                fail_msg("after allocation %d of %s: %s", n, conversations[i].text, said);
            }
            assert_true(n < 10000);
        }
    }
    print_message("%u allocations failed\n", failures);
    assert_true(failures > 50);
}

int main(void)
{
    json_set_alloc_funcs(malloc, free);
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_allocation_fails_once)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
