// A ClientHello in whole, and the same bytes one by one: what is said of a beginning never contradicts what is said of more.
#include <assert.h>
#include <stdlib.h>

#include "net/tls_hello.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static enum tls_hello_result read_hello(const uint8_t *data, size_t len, struct tls_hello *ret)
{
    struct buf join = buf_heap(TLS_HELLO_BYTES_MAX);
    enum tls_hello_result result = tls_hello_read(slice_make(data, len), &join, ret);
    buf_release(&join);
    return result;
}

static bool is_text(const char *s, size_t size)
{
    size_t n = strnlen(s, size);
    for (size_t i = 0; i < n; i++) {
        if (s[i] <= ' ' || s[i] >= 0x7f) {
            return false;
        }
    }
    return n < size;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct tls_hello h, part;
    enum tls_hello_result whole = read_hello(data, len, &h);
    assert(h.versions_len <= TLS_HELLO_VERSIONS_MAX && h.suites_len <= TLS_HELLO_SUITES_MAX);
    assert(h.session_id_len <= TLS_SESSION_ID_LEN && h.psk_id_len <= TLS_SESSION_ID_LEN);
    assert(is_text(h.sni, sizeof(h.sni)) && is_text(h.alpn, sizeof(h.alpn)));
    enum tls_hello_result last = TLS_HELLO_MORE;
    for (size_t n = 0; n <= len && n < 1024; n++) {
        enum tls_hello_result now = read_hello(data, n, &part);
        assert(last == TLS_HELLO_MORE || now == last); // a verdict stays
        last = now;
    }
    assert(len >= 1024 || last == whole);
    return 0;
}
