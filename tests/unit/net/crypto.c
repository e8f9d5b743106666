#include "net/crypto.h"

// cmocka wants these first
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

struct vector {
    const char *plain, *text;
};

static void expect_hex(const uint8_t *got, size_t len, const char *want)
{
    struct buf b = buf_heap(256);
    assert_true(hex_encode(slice_make(got, len), &b));
    assert_true(slice_eq_str(buf_view(&b), want));
    buf_release(&b);
}

static void sha256_vectors(void **state)
{
    (void)state;
    uint8_t out[SHA256_LEN];
    crypto_sha256(SLICE("abc"), out); // FIPS 180-2 appendix B.1
    expect_hex(out, sizeof(out), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    crypto_sha256((struct slice){NULL, 0}, out);
    expect_hex(out, sizeof(out), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

static void hmac_vectors(void **state)
{
    (void)state;
    uint8_t out[SHA256_LEN];
    crypto_hmac_sha256(SLICE("Jefe"), SLICE("what do ya want for nothing?"), out); // RFC 4231 case 2
    expect_hex(out, sizeof(out), "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    crypto_hmac_sha256((struct slice){NULL, 0}, (struct slice){NULL, 0}, out);
    expect_hex(out, sizeof(out), "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad");
}

static void equal_compares_length_and_bytes(void **state)
{
    (void)state;
    assert_true(crypto_equal(SLICE("token"), SLICE("token")));
    assert_false(crypto_equal(SLICE("token"), SLICE("tokem")));
    assert_false(crypto_equal(SLICE("token"), SLICE("toke")));
    assert_true(crypto_equal((struct slice){NULL, 0}, SLICE("")));
}

static void wipe_clears(void **state)
{
    (void)state;
    char secret[] = "hunter2";
    crypto_wipe(secret, sizeof(secret));
    for (size_t i = 0; i < sizeof(secret); i++) {
        assert_int_equal(secret[i], 0);
    }
}

static void hex_is_strict(void **state)
{
    (void)state;
    struct buf b = buf_heap(64);
    assert_true(hex_decode(SLICE("00fFa5"), &b));
    const uint8_t want[] = {0x00, 0xff, 0xa5};
    assert_true(slice_eq(buf_view(&b), slice_make(want, sizeof(want))));
    static const char *const bad[] = {"0", "0g", "g0", "0x00", " 00", "00 ", "000", "@0", "`0", "/0", ":0"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_false(hex_decode(slice_str(bad[i]), &b));
    }
    buf_release(&b);
    struct buf small = buf_fixed((uint8_t[2]){0}, 2);
    assert_false(hex_decode(SLICE("010203"), &small));
}

static void base64_vectors(void **state)
{
    (void)state;
    static const struct vector rfc4648[] = {{"", ""},
                                            {"f", "Zg=="},
                                            {"fo", "Zm8="},
                                            {"foo", "Zm9v"},
                                            {"foob", "Zm9vYg=="},
                                            {"fooba", "Zm9vYmE="},
                                            {"foobar", "Zm9vYmFy"}};
    struct buf b = buf_heap(64);
    for (size_t i = 0; i < sizeof(rfc4648) / sizeof(rfc4648[0]); i++) {
        buf_clear(&b);
        assert_true(base64_encode(slice_str(rfc4648[i].plain), &b));
        assert_true(slice_eq_str(buf_view(&b), rfc4648[i].text));
        buf_clear(&b);
        assert_true(base64_decode(slice_str(rfc4648[i].text), &b));
        assert_true(slice_eq_str(buf_view(&b), rfc4648[i].plain));
    }
    buf_clear(&b);
    const uint8_t high[] = {0xfb, 0xff, 0xfe, 0xff};
    assert_true(base64url_encode(slice_make(high, sizeof(high)), &b));
    assert_true(slice_eq_str(buf_view(&b), "-__-_w"));
    buf_clear(&b);
    assert_true(base64url_decode(SLICE("-__-_w"), &b));
    assert_true(slice_eq(buf_view(&b), slice_make(high, sizeof(high))));
    buf_clear(&b);
    assert_true(base64_encode(slice_make(high, sizeof(high)), &b));
    assert_true(slice_eq_str(buf_view(&b), "+//+/w=="));
    buf_release(&b);
}

static void base64_is_strict(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "Z",      "Zg",   "Zg=",  "Zh==",   "Zm9=",  "Zg==Zg==", "=Zg=", "Z===",     "====",      "Zm 9v",
        "Zm9v\n", "Zm9-", "Zm9_", "Zg==\n", "Zm9v=", "Zm8==",    "=",    "Zm9vYg=a", "Zm\xff\xff"};
    static const char *const bad_url[] = {"Z", "Zh", "Zm9", "Zg==", "Zm8=", "Zm9+", "Zm9/", "Zm9vY", " Zg", "Zg "};
    struct buf b = buf_heap(64);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_false(base64_decode(slice_str(bad[i]), &b));
    }
    for (size_t i = 0; i < sizeof(bad_url) / sizeof(bad_url[0]); i++) {
        assert_false(base64url_decode(slice_str(bad_url[i]), &b));
    }
    buf_release(&b);
}

static void token_has_the_length_and_differs(void **state)
{
    (void)state;
    char a[44], b[44], small[43];
    assert_int_equal(crypto_token(32, a, sizeof(a)), ST_OK);
    assert_int_equal(crypto_token(32, b, sizeof(b)), ST_OK);
    assert_int_equal(strlen(a), 43);
    assert_string_not_equal(a, b);
    struct buf raw = buf_heap(64);
    assert_true(base64url_decode(slice_str(a), &raw));
    assert_int_equal(raw.len, 32);
    buf_release(&raw);
    assert_int_equal(crypto_token(32, small, sizeof(small)), ST_INVALID);
    assert_int_equal(crypto_token(0, a, sizeof(a)), ST_INVALID);
    assert_int_equal(crypto_token(129, a, sizeof(a)), ST_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sha256_vectors),
        cmocka_unit_test(hmac_vectors),
        cmocka_unit_test(equal_compares_length_and_bytes),
        cmocka_unit_test(wipe_clears),
        cmocka_unit_test(hex_is_strict),
        cmocka_unit_test(base64_vectors),
        cmocka_unit_test(base64_is_strict),
        cmocka_unit_test(token_has_the_length_and_differs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
