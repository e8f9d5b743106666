#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/json.h"
#include "base/rand.h"

static struct buf out;

static int setup(void **state)
{
    (void)state;
    out = buf_heap(4096);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    buf_release(&out);
    return 0;
}

static void assert_out(const char *want)
{
    assert_false(out.failed);
    assert_true(buf_u8(&out, 0));
    assert_string_equal((const char *)out.p, want);
    buf_clear(&out);
}

static void test_commas_and_nesting(void **state)
{
    (void)state;
    struct jw w;
    jw_init(&w, &out);
    jw_object(&w);
    jw_key(&w, "a");
    jw_array(&w);
    jw_int(&w, 1);
    jw_array(&w);
    jw_array_end(&w);
    jw_object(&w);
    jw_object_end(&w);
    jw_bool(&w, true);
    jw_array_end(&w);
    jw_key(&w, "b");
    jw_null(&w);
    jw_key_slice(&w, SLICE("c\"d"));
    jw_object(&w);
    jw_key(&w, "x");
    jw_bool(&w, false);
    jw_object_end(&w);
    jw_key(&w, "raw");
    jw_raw(&w, SLICE("[1,2]"));
    jw_key(&w, "u");
    jw_uint(&w, UINT64_MAX);
    jw_object_end(&w);
    assert_out("{\"a\":[1,[],{},true],\"b\":null,\"c\\\"d\":{\"x\":false},\"raw\":[1,2],\"u\":18446744073709551615}");
}

static void write_str(struct slice s, const char *want)
{
    struct jw w;
    jw_init(&w, &out);
    jw_slice(&w, s);
    assert_out(want);
}

static void test_strings(void **state)
{
    (void)state;
    write_str(SLICE(""), "\"\"");
    write_str(slice_make(NULL, 0), "null");
    write_str(SLICE("a\"b\\c/\n\t\r\b\f\x01\x1f"), "\"a\\\"b\\\\c/\\n\\t\\r\\b\\f\\u0001\\u001f\"");
    write_str(slice_make("x\0y", 3), "\"x\\u0000y\"");
    write_str(SLICE("gr\xc3\xbc\xc3\x9f dich, Welt \xf0\x9f\x98\x80"),
              "\"gr\xc3\xbc\xc3\x9f dich, Welt \xf0\x9f\x98\x80\"");
    write_str(SLICE("\xff\xc3"), "\"\xef\xbf\xbd\xef\xbf\xbd\"");
    write_str(SLICE("123456789\xed\xa0\x80"), "\"123456789\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"");
}

static void test_integers(void **state)
{
    (void)state;
    static const struct {
        int64_t v;
        const char *want;
    } rows[] = {{0, "0"}, {-1, "-1"}, {INT64_MAX, "9223372036854775807"}, {INT64_MIN, "-9223372036854775808"}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct jw w;
        jw_init(&w, &out);
        jw_int(&w, rows[i].v);
        assert_out(rows[i].want);
    }
}

static void test_doubles_are_shortest(void **state)
{
    (void)state;
    static const struct {
        double v;
        const char *want;
    } rows[] = {
        {0, "0"},
        {-0.0, "-0.0"},
        {21.4, "21.4"},
        {-0.1, "-0.1"},
        {1.0 / 3, "0.3333333333333333"},
        {2.0 / 3, "0.6666666666666666"},
        {100, "100"},
        {123456789012345680.0, "1.2345678901234568e17"},
        {12345678901234568.0, "12345678901234568"},
        {1e17, "1e17"},
        {12345e20, "1.2345e24"},
        {1e23, "1e23"},
        {0.00001, "0.00001"},
        {0.000001, "1e-6"},
        {1.25e-7, "1.25e-7"},
        {5e-324, "5e-324"},
        {2.2250738585072014e-308, "2.2250738585072014e-308"},
        {1.7976931348623157e308, "1.7976931348623157e308"},
        {9007199254740993.0, "9007199254740992"},
        {2251799813685249.5, "2251799813685249.5"},
        {5.684341886080802e-14, "5.684341886080802e-14"},
        {5.960464477539063e-8, "5.960464477539063e-8"},
        {9.5367431640625e-07, "9.5367431640625e-7"},
        {0.30000000000000004, "0.30000000000000004"},
        {INFINITY, "null"},
        {NAN, "null"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct jw w;
        jw_init(&w, &out);
        jw_double(&w, rows[i].v);
        assert_out(rows[i].want);
    }
}

static double read_back(void)
{
    struct json j;
    json_init(&j, buf_view(&out), 1);
    enum json_token t = json_next(&j);
    assert_true(t == JT_INT || t == JT_DOUBLE);
    assert_int_equal(json_next(&j), JT_END);
    return j.d;
}

static void test_any_double_reads_back(void **state)
{
    (void)state;
    rand_seed(7);
    for (unsigned i = 0; i < 200000; i++) {
        uint64_t bits = rand_u64();
        double v;
        if (i % 2 == 0) {
            memcpy(&v, &bits, sizeof(v));
        } else {
            v = (double)(int64_t)(bits >> 30) / 1000.0;
        }
        if (!isfinite(v)) {
            continue;
        }
        struct jw w;
        jw_init(&w, &out);
        jw_double(&w, v);
        double got = read_back();
        assert_memory_equal(&got, &v, sizeof(v));
        buf_u8(&out, 0);
        assert_true(strtod((const char *)out.p, NULL) == v);
        buf_clear(&out);
    }
}

static void test_a_full_buffer_is_noticed(void **state)
{
    (void)state;
    char mem[4];
    struct buf small = buf_fixed(mem, sizeof(mem));
    struct jw w;
    jw_init(&w, &small);
    jw_array(&w);
    jw_str(&w, "long");
    jw_array_end(&w);
    assert_true(small.failed);
}

// Runs misuse in a child and tells whether an assertion ended it.
static bool aborts(void (*misuse)(struct jw *w))
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        signal(SIGABRT, SIG_DFL);
        if (freopen("/dev/null", "w", stderr) == NULL) {
            _exit(1);
        }
        struct jw w;
        jw_init(&w, &out);
        misuse(&w);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

static void misuse_no_key(struct jw *w)
{
    jw_object(w);
    jw_int(w, 1);
}

static void misuse_wrong_end(struct jw *w)
{
    jw_object(w);
    jw_array_end(w);
}

static void misuse_two_values(struct jw *w)
{
    jw_int(w, 1);
    jw_int(w, 2);
}

static void misuse_key_in_array(struct jw *w)
{
    jw_array(w);
    jw_key(w, "a");
}

static void misuse_none(struct jw *w)
{
    jw_array(w);
    jw_array_end(w);
}

static void test_misuse_asserts(void **state)
{
    (void)state;
    assert_true(aborts(misuse_no_key));
    assert_true(aborts(misuse_wrong_end));
    assert_true(aborts(misuse_two_values));
    assert_true(aborts(misuse_key_in_array));
    assert_false(aborts(misuse_none));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_commas_and_nesting, setup, teardown),
        cmocka_unit_test_setup_teardown(test_strings, setup, teardown),
        cmocka_unit_test_setup_teardown(test_integers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_doubles_are_shortest, setup, teardown),
        cmocka_unit_test_setup_teardown(test_any_double_reads_back, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_full_buffer_is_noticed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_misuse_asserts, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
