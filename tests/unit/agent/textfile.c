#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "agent/textfile.h"

static void lines_and_words(void **state)
{
    (void)state;
    struct slice text = SLICE("one  two\n\n three");
    struct slice line;
    struct slice word;
    assert_true(text_line(&text, &line));
    assert_true(text_word(&line, &word) && slice_eq_str(word, "one"));
    assert_true(text_word(&line, &word) && slice_eq_str(word, "two"));
    assert_false(text_word(&line, &word));
    assert_true(text_line(&text, &line) && line.len == 0);
    assert_true(text_line(&text, &line) && slice_eq_str(line, " three"));
    assert_false(text_line(&text, &line));
}

static void numbers(void **state)
{
    (void)state;
    uint64_t u = 7;
    double d = 7;
    assert_true(text_u64(SLICE("18446744073709551615"), &u) && u == UINT64_MAX);
    assert_false(text_u64(SLICE("18446744073709551616"), &u) || text_u64(SLICE("-1"), &u) || text_u64(SLICE(""), &u) ||
                 text_u64(SLICE("1x"), &u) || text_u64(SLICE("+1"), &u));
    assert_true(text_double(SLICE("-1.5e1"), &d) && d == -15);
    assert_false(text_double(SLICE("nan"), &d) || text_double(SLICE("inf"), &d) || text_double(SLICE("1,5"), &d) ||
                 text_double(SLICE(""), &d));
}

static void metric_names(void **state)
{
    (void)state;
    static const struct {
        const char *from, *to;
    } cases[] = {
        {"/boot/efi", "boot_efi"}, {"CPU-Thermal", "cpu_thermal"}, {"a..b__c", "a_b_c"}, {"", "x"}, {"///", "x"},
        {"temp 1 ", "temp_1"}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char name[32];
        text_metric(slice_str(cases[i].from), name, sizeof(name));
        assert_string_equal(name, cases[i].to);
    }
    char small[4];
    text_metric(SLICE("abcdef"), small, sizeof(small));
    assert_string_equal(small, "abc");
}

static void files(void **state)
{
    (void)state;
    char line[8];
    struct slice text;
    assert_false(textfile_read("", "/nonexistent", line, sizeof(line), &text));
    assert_false(textfile_read("", "/", line, sizeof(line), &text));
    assert_true(textfile_read("", "/proc/version", line, sizeof(line), &text) && text.len == 7); // cut
    assert_true(textfile_line("", "/proc/version", line, sizeof(line)) && strlen(line) == 7);
    assert_false(textfile_line("", "/dev/null", line, sizeof(line)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(lines_and_words), cmocka_unit_test(numbers),
                                       cmocka_unit_test(metric_names), cmocka_unit_test(files)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
