// SCRAM-SHA-256: the vector of RFC 7677, whole exchanges, every step refused where it should be.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "domain/identity/scram.h"
#include "lib/testscram.h"

#define SALT "W22ZaJ0SNY7soEsUEjb6gQ=="

// RFC 7677 section 3: our test client gives what stands there, so what it proves below is what any client proves.
static void test_the_vector_of_the_rfc(void **state)
{
    (void)state;
    char final[1024];
    char server[64];
    testscram_final("pencil", "n,,", "n=user,r=rOprNGfwEbeRWgbNEkqO",
                    "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=" SALT ",i=4096", final, server);
    assert_string_equal(final, "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
                               "p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=");
    assert_string_equal(server, "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
}

struct exchange {
    const char *password, *typed, *gs2, *bare;
    enum status want;
};

static void run(const struct exchange *e)
{
    struct scram_verifier v;
    struct err err = {.code = ST_OK};
    char first[700];
    char challenge[1024];
    char final[1024];
    char want[64];
    uint8_t mem[1024];
    struct buf out = buf_fixed(mem, sizeof(mem) - 1);
    assert_int_equal(scram_verifier_make(slice_str(e->password), SCRAM_ITERATIONS_MIN, &v, &err), ST_OK);
    struct scram *s = scram_new();
    snprintf(first, sizeof(first), "%s%s", e->gs2, e->bare);
    assert_int_equal(scram_first(s, slice_str(first), &err), ST_OK);
    assert_int_equal(scram_challenge(s, &v, &out, &err), ST_OK);
    snprintf(challenge, sizeof(challenge), "%.*s", (int)out.len, (const char *)mem);
    testscram_final(e->typed, e->gs2, e->bare, challenge, final, want);
    buf_clear(&out);
    assert_int_equal(scram_final(s, slice_str(final), &out, &err), e->want);
    if (e->want == ST_OK) {
        assert_int_equal(scram_state(s), SCRAM_PROVED);
        assert_true(slice_eq_str(buf_view(&out), want)); // and the server has proved that it knows it too
    } else {
        assert_int_equal(scram_state(s), SCRAM_FAILED);
        assert_int_equal(out.len, 0);
    }
    assert_int_equal(scram_final(s, slice_str(final), &out, &err), ST_PROTOCOL); // nothing is proved twice
    scram_free(s);
}

static void test_whole_exchanges(void **state)
{
    (void)state;
    const struct exchange rows[] = {
        {"secret-1", "secret-1", "n,,", "n=d-1,r=abc", ST_OK},
        {"secret-1", "secret-1", "y,,", "n=d-1,r=abc", ST_OK},
        {"secret-1", "secret-1", "n,,", "n=d=2C=3D1,r=abc,x=ignored", ST_OK},
        {"secret-1", "secret-2", "n,,", "n=d-1,r=abc", ST_UNAUTHENTICATED},
        {"p\xc3\xa4ssword", "p\xc3\xa4ssword", "n,,", "n=d-1,r=abc", ST_OK},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        run(&rows[i]);
    }
}

static void test_first_messages(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum status want;
        const char *name;
    } rows[] = {
        {"n,,n=user,r=x", ST_OK, "user"},
        {"n,,n=a=2Cb=3Dc,r=x", ST_OK, "a,b=c"},
        {"y,,n=user,r=x", ST_OK, "user"},
        {"", ST_MALFORMED, NULL},
        {"n", ST_UNSUPPORTED, NULL},
        {"x,,n=user,r=x", ST_MALFORMED, NULL},
        {"p=tls-unique,,n=user,r=x", ST_UNSUPPORTED, NULL},
        {"n,a=other,n=user,r=x", ST_UNSUPPORTED, NULL},
        {"n,,m=ext,n=user,r=x", ST_UNSUPPORTED, NULL},
        {"n,,r=x,n=user", ST_MALFORMED, NULL},
        {"n,,n=,r=x", ST_MALFORMED, NULL},
        {"n,,n=a=2D,r=x", ST_MALFORMED, NULL},
        {"n,,n=a=2,r=x", ST_MALFORMED, NULL},
        {"n,,n=\xff,r=x", ST_MALFORMED, NULL},
        {"n,,n=user", ST_MALFORMED, NULL},
        {"n,,n=user,r=", ST_MALFORMED, NULL},
        {"n,,n=user,r=a b", ST_MALFORMED, NULL},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct err err = {.code = ST_OK};
        struct scram *s = scram_new();
        assert_int_equal(scram_first(s, slice_str(rows[i].text), &err), rows[i].want);
        if (rows[i].name != NULL) {
            assert_true(slice_eq_str(scram_name(s), rows[i].name));
        } else {
            assert_int_equal(scram_state(s), SCRAM_FAILED);
            assert_true(err.text[0] != '\0');
        }
        assert_int_equal(scram_first(s, SLICE("n,,n=user,r=x"), &err), ST_PROTOCOL);
        scram_free(s);
    }
}

// What comes of a final message; %s stands for the nonce.
static enum status final_of(const char *before, const char *after)
{
    struct scram_verifier v;
    struct err err = {.code = ST_OK};
    uint8_t mem[1024];
    struct buf out = buf_fixed(mem, sizeof(mem));
    scram_verifier_fake(SLICE("key"), SLICE("user"), SCRAM_ITERATIONS_MIN, &v);
    struct scram *s = scram_new();
    assert_int_equal(scram_first(s, SLICE("n,,n=user,r=x"), &err), ST_OK);
    assert_int_equal(scram_challenge(s, &v, &out, &err), ST_OK);
    char filled[2048];
    char nonce[128];
    assert_int_equal(sscanf((const char *)mem, "r=%127[^,]", nonce), 1);
    snprintf(filled, sizeof(filled), "%s%s%s", before, after != NULL ? nonce : "", after != NULL ? after : "");
    enum status st = scram_final(s, slice_str(filled), &out, &err);
    scram_free(s);
    return st;
}

#define PROOF "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="

static void test_final_messages(void **state)
{
    (void)state;
    assert_int_equal(final_of("c=biws,r=", ",p=" PROOF),
                     ST_UNAUTHENTICATED); // well formed, but no password fits a fake
    assert_int_equal(final_of("c=biws,r=", ",x=1,p=" PROOF), ST_UNAUTHENTICATED);
    assert_int_equal(final_of("c=eSws,r=", ",p=" PROOF), ST_MALFORMED); // "y,,": not what it said first
    assert_int_equal(final_of("c=biws,r=", "x,p=" PROOF), ST_UNAUTHENTICATED);
    assert_int_equal(final_of("r=", ",c=biws,p=" PROOF), ST_MALFORMED);
    assert_int_equal(final_of("c=biws,r=", ",p=" PROOF ",x=1"), ST_MALFORMED);
    assert_int_equal(final_of("c=biws,r=", ""), ST_MALFORMED);
    assert_int_equal(final_of("c=biws,r=", ","), ST_MALFORMED);
    assert_int_equal(final_of("c=biws,r=", ",p=AAAA"), ST_MALFORMED);
    assert_int_equal(final_of("", NULL), ST_MALFORMED);
}

static void test_steps_in_order_only(void **state)
{
    (void)state;
    struct scram_verifier v;
    struct err err = {.code = ST_OK};
    uint8_t mem[16];
    struct buf out = buf_fixed(mem, sizeof(mem));
    scram_verifier_fake(SLICE("key"), SLICE("user"), SCRAM_ITERATIONS_MIN, &v);
    struct scram *s = scram_new();
    assert_int_equal(scram_challenge(s, &v, &out, &err), ST_PROTOCOL);
    assert_int_equal(scram_state(s), SCRAM_FAILED);
    scram_free(s);
    s = scram_new();
    assert_int_equal(scram_first(s, SLICE("n,,n=user,r=x"), &err), ST_OK);
    assert_int_equal(scram_challenge(s, &v, &out, &err), ST_NOMEM); // no room
    scram_free(s);
    scram_free(NULL);
}

static void test_messages_have_a_limit(void **state)
{
    (void)state;
    struct err err = {.code = ST_OK};
    char text[SCRAM_MESSAGE_MAX + 64];
    memset(text, 'a', sizeof(text));
    snprintf(text, 16, "n,,n=user,r=aaa");
    text[15] = 'a';
    struct scram *s = scram_new();
    assert_int_equal(scram_first(s, slice_make(text, 15 + 252), &err), ST_OK); // 255 or 256 of nonce
    scram_free(s);
    s = scram_new();
    assert_int_equal(scram_first(s, slice_make(text, 15 + 260), &err), ST_MALFORMED);
    scram_free(s);
    s = scram_new();
    assert_int_equal(scram_first(s, slice_make(text, sizeof(text)), &err), ST_MALFORMED);
    scram_free(s);
}

static void test_fakes_are_stable_and_fit_nothing(void **state)
{
    (void)state;
    struct scram_verifier a;
    struct scram_verifier b;
    struct scram_verifier c;
    scram_verifier_fake(SLICE("key"), SLICE("user"), SCRAM_ITERATIONS_MIN, &a);
    scram_verifier_fake(SLICE("key"), SLICE("user"), SCRAM_ITERATIONS_MIN, &b);
    scram_verifier_fake(SLICE("key"), SLICE("usex"), SCRAM_ITERATIONS_MIN, &c);
    assert_memory_equal(a.salt, b.salt, SCRAM_SALT_LEN);
    assert_memory_not_equal(a.salt, c.salt, SCRAM_SALT_LEN);
    assert_false(scram_verifier_fits(&a, SLICE("user")));
}

static void test_verifiers(void **state)
{
    (void)state;
    struct scram_verifier v;
    struct err err = {.code = ST_OK};
    assert_int_equal(scram_verifier_make(SLICE(""), 4096, &v, &err), ST_INVALID);
    assert_int_equal(scram_verifier_make(SLICE("x"), SCRAM_ITERATIONS_MIN - 1, &v, &err), ST_INVALID);
    assert_int_equal(scram_verifier_make(SLICE("x"), SCRAM_ITERATIONS_MAX + 1, &v, &err), ST_INVALID);
    assert_int_equal(scram_verifier_make(SLICE("right"), 5000, &v, &err), ST_OK);
    assert_true(scram_verifier_fits(&v, SLICE("right")));
    assert_false(scram_verifier_fits(&v, SLICE("Right")));
    assert_false(scram_verifier_fits(&v, SLICE("")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_vector_of_the_rfc),
        cmocka_unit_test(test_whole_exchanges),
        cmocka_unit_test(test_first_messages),
        cmocka_unit_test(test_final_messages),
        cmocka_unit_test(test_steps_in_order_only),
        cmocka_unit_test(test_messages_have_a_limit),
        cmocka_unit_test(test_fakes_are_stable_and_fit_nothing),
        cmocka_unit_test(test_verifiers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
