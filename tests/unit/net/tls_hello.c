#include "net/tls_hello.h"

// clang-format off
#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>
// clang-format on
#include <openssl/ssl.h>
#include <stdlib.h>

// ---- a real client's first flight ----

static uint8_t flight_mem[16384];

static struct slice flight_of(SSL_CTX *ctx, const char *sni)
{
    SSL *c = SSL_new(ctx);
    BIO *in = BIO_new(BIO_s_mem()), *out = BIO_new(BIO_s_mem());
    SSL_set_bio(c, in, out);
    SSL_set_connect_state(c);
    assert_true(sni == NULL || SSL_set_tlsext_host_name(c, sni) == 1);
    assert_int_equal(SSL_do_handshake(c), -1);
    char *p = NULL;
    long n = BIO_get_mem_data(out, &p);
    struct buf b = buf_fixed(flight_mem, sizeof(flight_mem));
    assert_true(buf_put(&b, p, (size_t)n));
    SSL_free(c);
    return buf_view(&b);
}

static enum tls_hello_result read_hello(struct slice cipher, struct tls_hello *ret)
{
    struct buf join = buf_heap(TLS_HELLO_BYTES_MAX);
    enum tls_hello_result result = tls_hello_read(cipher, &join, ret);
    buf_release(&join);
    return result;
}

static void what_openssl_sends_is_read(void **state)
{
    (void)state;
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);
    SSL_CTX_set_alpn_protos(ctx, (const unsigned char *)"\x04mqtt\x08http/1.1", 14);
    assert_int_equal(SSL_CTX_set_cipher_list(ctx, "ECDHE-ECDSA-AES128-GCM-SHA256"), 1);
    struct slice flight = flight_of(ctx, "Hub.Example.COM");
    struct tls_hello h;
    assert_int_equal(read_hello(flight, &h), TLS_HELLO_OK);
    assert_string_equal(h.sni, "hub.example.com");
    assert_string_equal(h.alpn, "mqtt,http/1.1");
    assert_int_equal(h.versions_len, 2);
    assert_int_equal(h.versions[0], 0x0304);
    assert_int_equal(h.versions[1], 0x0303);
    assert_int_equal(h.suites[0], 0x1302);
    bool found = false;
    for (int i = 0; i < h.suites_len; i++) {
        found = found || h.suites[i] == 0xc02b;
    }
    assert_true(found);
    assert_int_equal(h.session_id_len, 32); // middlebox compatibility
    assert_int_equal(h.psk_id_len, 0);
    for (size_t n = 0; n < flight.len; n++) {
        assert_int_equal(read_hello(slice_head(flight, n), &h), TLS_HELLO_MORE);
    }
    SSL_CTX_free(ctx);
}

static void old_client_has_its_version(void **state)
{
    (void)state;
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_max_proto_version(ctx, TLS1_2_VERSION);
    struct tls_hello h;
    assert_int_equal(read_hello(flight_of(ctx, NULL), &h), TLS_HELLO_OK);
    assert_int_equal(h.versions_len, 1);
    assert_int_equal(h.versions[0], 0x0303);
    assert_string_equal(h.sni, "");
    assert_string_equal(h.alpn, "");
    SSL_CTX_free(ctx);
}

// The same message cut into records of `step` bytes.
static void fragments_are_joined(void **state)
{
    (void)state;
    static uint8_t mem[65536];
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    struct slice message = slice_from(flight_of(ctx, "cut.example"), 5);
    for (size_t step = 1; step < message.len; step += 13) {
        struct buf cut = buf_fixed(mem, sizeof(mem));
        for (size_t at = 0; at < message.len; at += step) {
            struct slice part = slice_head(slice_from(message, at), step);
            buf_u8(&cut, 22);
            buf_u16(&cut, 0x0301);
            buf_u16(&cut, (uint16_t)part.len);
            buf_slice(&cut, part);
        }
        struct tls_hello h;
        assert_int_equal(read_hello(slice_head(buf_view(&cut), cut.len - 1), &h), TLS_HELLO_MORE);
        assert_int_equal(read_hello(buf_view(&cut), &h), TLS_HELLO_OK);
        assert_string_equal(h.sni, "cut.example");
    }
    SSL_CTX_free(ctx);
}

static void what_is_no_hello(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t len;
        enum tls_hello_result want;
    } cases[] = {
        {"", 0, TLS_HELLO_MORE},
        {"G", 1, TLS_HELLO_OTHER},
        {"\x16", 1, TLS_HELLO_MORE},
        {"\x16\x03\x01\x00\x05\x02", 6, TLS_HELLO_MORE},              // a ServerHello shows when its record is whole
        {"\x16\x03\x01\x00\x01\x02", 6, TLS_HELLO_OTHER},             //
        {"\x16\x03\x01\x00\x00", 5, TLS_HELLO_OTHER},                 // an empty record
        {"\x16\x02\x01\x00\x04", 5, TLS_HELLO_OTHER},                 // SSL 2
        {"\x16\x03\x01\x40\x01", 5, TLS_HELLO_OTHER},                 // a record too long
        {"\x16\x03\x01\x00\x04\x01\x01\x00\x00", 9, TLS_HELLO_OTHER}, // a message of 64 KiB
        {"\x16\x03\x01\x00\x06\x01\x00\x00\x02\x03\x03", 11, TLS_HELLO_OTHER},                     // cut short
        {"\x16\x03\x01\x00\x04\x01\x00\x00\x02\x15\x03\x01\x00\x02\x01\x00", 16, TLS_HELLO_OTHER}, // an alert inside
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct tls_hello h;
        enum tls_hello_result got = read_hello(slice_make(cases[i].bytes, cases[i].len), &h);
        if (got != cases[i].want) {
            fail_msg("case %zu: %d", i, (int)got);
        }
    }
}

// A name that is no host name does not reach logs or comparisons as it is.
static void strange_names(void **state)
{
    (void)state;
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    struct tls_hello h;
    assert_int_equal(read_hello(flight_of(ctx, "a\nb\x80"), &h), TLS_HELLO_OK);
    assert_string_equal(h.sni, "a?b?");
    SSL_CTX_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_openssl_sends_is_read),
        cmocka_unit_test(old_client_has_its_version),
        cmocka_unit_test(fragments_are_joined),
        cmocka_unit_test(what_is_no_hello),
        cmocka_unit_test(strange_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
