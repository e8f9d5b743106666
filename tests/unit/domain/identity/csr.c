// Which requests are accepted, and what is taken from them.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "domain/identity/csr.h"
#include "lib/testcsr.h"

static struct err err;

static enum status parse(const char *pem)
{
    struct csr *c = NULL;
    err = (struct err){.code = ST_OK};
    enum status st = csr_parse(slice_str(pem), &c, &err);
    assert_int_equal(st == ST_OK, c != NULL);
    if (st != ST_OK) {
        assert_int_equal(err.code, st);
        assert_true(err.text[0] != '\0');
    }
    csr_free(c);
    return st;
}

static void kinds_of_keys(void **state)
{
    (void)state;
    static const struct {
        const char *kind;
        enum status want;
    } cases[] = {
        {"P-256", ST_OK},      {"P-384", ST_OK},         {"ED25519", ST_OK},        {"RSA-2048", ST_OK},
        {"RSA-3072", ST_OK},   {"P-521", ST_INVALID},    {"secp256k1", ST_INVALID}, {"P-256 explicit", ST_INVALID},
        {"ED448", ST_INVALID}, {"RSA-1024", ST_INVALID},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char pem[TESTCSR_MAX];
        testcsr(cases[i].kind, "dev", pem);
        enum status st = parse(pem);
        if (st != cases[i].want) {
            fail_msg("%s: %s %s", cases[i].kind, status_text(st), err.text);
        }
        if (st != ST_OK) {
            assert_non_null(strstr(err.text, "P-256 and P-384, Ed25519, and RSA of 2048 to 4096 bits"));
        }
    }
}

static void signatures(void **state)
{
    (void)state;
    char pem[TESTCSR_MAX];
    EVP_PKEY *key = testcsr_key("P-256");
    EVP_PKEY *other = testcsr_key("P-256");
    EVP_PKEY *rsa = testcsr_key("RSA-2048");
    testcsr_make(key, key, EVP_sha384(), "dev", pem);
    assert_int_equal(parse(pem), ST_OK);
    testcsr_make(rsa, rsa, EVP_sha512(), "dev", pem);
    assert_int_equal(parse(pem), ST_OK);
    testcsr_make(key, key, EVP_sha1(), "dev", pem);
    assert_int_equal(parse(pem), ST_INVALID);
    assert_non_null(strstr(err.text, "SHA-256"));
    testcsr_make(key, other, EVP_sha256(), "dev", pem); // the signer does not hold the key
    assert_int_equal(parse(pem), ST_INVALID);
    assert_non_null(strstr(err.text, "own key"));
    EVP_PKEY_free(key);
    EVP_PKEY_free(other);
    EVP_PKEY_free(rsa);
}

static void texts_that_are_none(void **state)
{
    (void)state;
    char pem[TESTCSR_MAX];
    static char large[CSR_PEM_MAX + 2];
    memset(large, 'A', CSR_PEM_MAX + 1);
    testcsr("P-256", "dev", pem);
    assert_int_equal(parse(""), ST_INVALID);
    assert_int_equal(parse("hello"), ST_MALFORMED);
    assert_int_equal(parse("-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n"),
                     ST_MALFORMED);
    assert_int_equal(parse("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), ST_MALFORMED);
    assert_int_equal(parse(large), ST_TOO_LARGE);
    // Cut anywhere, it is refused and nothing is read behind it.
    size_t len = strlen(pem);
    for (size_t n = 0; n + 2 < len; n += 7) {
        char cut[TESTCSR_MAX];
        snprintf(cut, sizeof(cut), "%.*s", (int)n, pem);
        assert_int_not_equal(parse(cut), ST_OK);
    }
    // Old header, and text before the block, as openssl req -text writes it.
    char old[TESTCSR_MAX + 64];
    snprintf(old, sizeof(old), "some text\n%s", pem);
    assert_int_equal(parse(old), ST_OK);
}

static void common_names(void **state)
{
    (void)state;
    char longest[ID_MAX + 2];
    char pem[TESTCSR_MAX];
    char id[ID_MAX + 1];
    memset(longest, 'x', sizeof(longest));
    longest[ID_MAX] = '\0';
    const struct {
        const char *cn, *want;
        enum status status;
    } cases[] = {
        {"dev-1", "dev-1", ST_OK}, {NULL, "", ST_OK},     {longest, longest, ST_OK},     {"a b", "", ST_INVALID},
        {"a/b", "", ST_INVALID},   {"#", "", ST_INVALID}, {"d\xc3\xa4", "", ST_INVALID},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct csr *c = NULL;
        testcsr("P-256", cases[i].cn, pem);
        assert_int_equal(csr_parse(slice_str(pem), &c, NULL), ST_OK);
        assert_int_equal(csr_device(c, id, NULL), cases[i].status);
        if (cases[i].status == ST_OK) {
            assert_string_equal(id, cases[i].want);
        }
        csr_free(c);
    }
}

static void the_key_has_a_digest(void **state)
{
    (void)state;
    char pem[TESTCSR_MAX];
    uint8_t a[SHA256_LEN], b[SHA256_LEN], other[SHA256_LEN];
    EVP_PKEY *key = testcsr_key("P-256");
    struct csr *c = NULL;
    testcsr_make(key, key, EVP_sha256(), "one", pem);
    assert_int_equal(csr_parse(slice_str(pem), &c, NULL), ST_OK);
    csr_spki(c, a);
    csr_free(c);
    testcsr_make(key, key, EVP_sha384(), "two", pem);
    assert_int_equal(csr_parse(slice_str(pem), &c, NULL), ST_OK);
    csr_spki(c, b);
    csr_free(c);
    testcsr("P-256", "one", pem);
    assert_int_equal(csr_parse(slice_str(pem), &c, NULL), ST_OK);
    csr_spki(c, other);
    csr_free(c);
    assert_memory_equal(a, b, sizeof(a));
    assert_memory_not_equal(a, other, sizeof(a));
    EVP_PKEY_free(key);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kinds_of_keys), cmocka_unit_test(signatures),           cmocka_unit_test(texts_that_are_none),
        cmocka_unit_test(common_names),  cmocka_unit_test(the_key_has_a_digest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
