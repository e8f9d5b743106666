#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "agent/options.h"
#include "agent/textfile.h"

#define ARGS_MAX 32

static enum status parse(struct options *o, struct err *err, const char *line)
{
    static char words[ARGS_MAX][64];
    char *argv[ARGS_MAX] = {"muster-agent"};
    int argc = 1;
    struct slice rest = slice_str(line);
    struct slice word;
    while (argc < ARGS_MAX && text_word(&rest, &word)) {
        assert_true(slice_to_cstr(word, words[argc], sizeof(words[0])));
        argv[argc] = words[argc];
        argc++;
    }
    return options_parse(o, argc, argv, err);
}

static void takes_what_is_right(void **state)
{
    (void)state;
    struct options o;
    struct err err = {.code = ST_OK};
    assert_int_equal(parse(&o, &err, "--server mqtts://example.org:1883 --ca=ca.pem --state dir"), ST_OK);
    assert_string_equal(o.host, "example.org");
    assert_int_equal(o.port, 1883);
    assert_string_equal(o.ca_file, "ca.pem");
    assert_int_equal(o.queue_bytes, 16 << 20);
    assert_int_equal(parse(&o, &err,
                           "--server mqtts://[::1] --ca c --state d --claim-file - --device a:b --queue-mib 1 "
                           "--once --no-keys --log-level debug --log-format json"),
                     ST_OK);
    assert_string_equal(o.host, "::1");
    assert_int_equal(o.port, 8883);
    assert_true(o.once && o.no_keys && o.log_level == LOG_DEBUG && o.log_format == LOG_JSON);
    assert_int_equal(parse(&o, &err, "--server mqtts://[::1]:99 --ca c --state d"), ST_OK);
    assert_int_equal(o.port, 99);
    assert_int_equal(parse(&o, &err, "--help"), ST_OK);
    assert_true(o.help);
}

static void says_what_is_wrong(void **state)
{
    (void)state;
    static const struct {
        const char *line, *where;
    } cases[] = {
        {"--ca c --state d", "--server"},
        {"--server mqtts://h --state d", "--ca"},
        {"--server mqtts://h --ca c", "--state"},
        {"--server mqtt://h --ca c --state d", "--server"},
        {"--server mqtts:// --ca c --state d", "--server"},
        {"--server mqtts://h:0 --ca c --state d", "--server"},
        {"--server mqtts://h:65536 --ca c --state d", "--server"},
        {"--server mqtts://h:12x --ca c --state d", "--server"},
        {"--server mqtts://u@h --ca c --state d", "--server"},
        {"--server mqtts://[::1 --ca c --state d", "--server"},
        {"--device a/b", "--device"},
        {"--queue-mib 0", "--queue-mib"},
        {"--queue-mib 1025", "--queue-mib"},
        {"--queue-mib -1", "--queue-mib"},
        {"--log-level loud", "--log-level"},
        {"--log-format xml", "--log-format"},
        {"--once=1", "once"},
        {"--state", "state"},
        {"--frobnicate", "--frobnicate"},
        {"stray", "stray"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct options o;
        struct err err = {.code = ST_OK};
        assert_int_equal(parse(&o, &err, cases[i].line), ST_INVALID);
        assert_string_equal(err.where, cases[i].where);
        assert_true(err.text[0] != '\0');
    }
}

static void help_and_manual_name_every_option(void **state)
{
    (void)state;
    struct buf help = buf_heap(65536);
    struct buf man = buf_heap(65536);
    options_help(&help);
    options_man(&man);
    buf_u8(&help, 0);
    buf_u8(&man, 0);
    static const char *const names[] = {"server", "ca", "state", "claim-file", "device", "once", "version"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        assert_non_null(strstr((char *)help.p, names[i]));
    }
    assert_non_null(strstr((char *)man.p, ".B \\-\\-claim\\-file \\fIFILE\\fR"));
    struct slice text = buf_view(&help);
    struct slice line;
    while (text_line(&text, &line)) {
        assert_true(line.len <= 80);
    }
    buf_release(&help);
    buf_release(&man);
}

// docs/man/muster-agent.8 is what --man prints: `muster-agent --man > docs/man/muster-agent.8` after a change.
static void manual_is_current(void **state)
{
    (void)state;
    char path[512];
    snprintf(path, sizeof(path), "%s", __FILE__);
    char *tests = strstr(path, "/tests/unit/");
    assert_non_null(tests);
    snprintf(tests, sizeof(path) - (size_t)(tests - path), "/docs/man/muster-agent.8");
    struct buf man = buf_heap(65536);
    options_man(&man);
    static char file[65536];
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    size_t len = fread(file, 1, sizeof(file), f);
    fclose(f);
    assert_true(slice_eq(buf_view(&man), slice_make(file, len)));
    buf_release(&man);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_what_is_right),
        cmocka_unit_test(says_what_is_wrong),
        cmocka_unit_test(help_and_manual_name_every_option),
        cmocka_unit_test(manual_is_current),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
