#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"

static int pipe_fds[2];
static char line[8192];

// What was written since the last call.
static const char *written(void)
{
    ssize_t n = read(pipe_fds[0], line, sizeof(line) - 1);
    assert_true(n > 0);
    line[n] = '\0';
    return line;
}

#define TS "2026-11-23T18:11:00.000001Z"

static int setup(void **state)
{
    (void)state;
    clock_fake(INT64_C(1795457460000001), 0);
    return pipe(pipe_fds);
}

static int teardown(void **state)
{
    (void)state;
    clock_fake_off();
    log_setup(LOG_INFO, LOG_LOGFMT, STDERR_FILENO);
    close(pipe_fds[0]);
    close(pipe_fds[1]);
    return 0;
}

static void test_logfmt(void **state)
{
    (void)state;
    log_setup(LOG_INFO, LOG_LOGFMT, pipe_fds[1]);
    log_info("mqtt", "connected", LOGS("device", "d-1"), LOGU("conn", 7), LOGI("n", -3), LOGF("f", 1.5));
    assert_string_equal(written(), "ts=" TS " level=info component=mqtt msg=connected device=d-1 conn=7 n=-3 f=1.5\n");
    log_warn("mqtt", "two words", LOGS("empty", ""), LOGS("absent", NULL));
    assert_string_equal(written(), "ts=" TS " level=warn component=mqtt msg=\"two words\" empty=\"\" absent=\"\"\n");
}

static void test_json(void **state)
{
    (void)state;
    log_setup(LOG_DEBUG, LOG_JSON, pipe_fds[1]);
    log_error("store", "no \"room\"", LOGS("file", "a b"), LOGI("n", 1), LOGF("f", NAN));
    assert_string_equal(written(), "{\"ts\":\"" TS "\",\"level\":\"error\",\"component\":\"store\",\"msg\":\"no "
                                   "\\\"room\\\"\",\"file\":\"a b\",\"n\":1,\"f\":\"not a finite number\"}\n");
    log_debug("x", "y");
    assert_string_equal(written(), "{\"ts\":\"" TS "\",\"level\":\"debug\",\"component\":\"x\",\"msg\":\"y\"}\n");
}

static void test_levels(void **state)
{
    (void)state;
    log_setup(LOG_WARN, LOG_LOGFMT, pipe_fds[1]);
    assert_false(log_on(LOG_INFO));
    assert_true(log_on(LOG_WARN));
    log_info("a", "not written");
    log_error("a", "written");
    assert_non_null(strstr(written(), "msg=written"));
    assert_null(strstr(line, "not"));
    log_set_level(LOG_ERROR);
    assert_false(log_on(LOG_WARN));
    enum log_level l;
    assert_true(log_parse_level("debug", &l));
    assert_int_equal(l, LOG_DEBUG);
    assert_false(log_parse_level("loud", &l));
}

static void test_strangers_forge_nothing(void **state)
{
    (void)state;
    log_setup(LOG_INFO, LOG_LOGFMT, pipe_fds[1]);
    log_info("mqtt", "refused", LOGS("id", "x\nts=2020 level=error msg=owned"), LOGS("q", "a\"b\\"),
             LOGS("esc", "\x1b[31m\xc2\x9b"), LOGS("bidi", "\xe2\x80\xae"), LOGS("bad", "\xff"),
             LOGS("ok", "\xc3\xbc"));
    assert_string_equal(written(),
                        "ts=" TS " level=info component=mqtt msg=refused "
                        "id=\"x\\u000ats=2020 level=error msg=owned\" q=\"a\\\"b\\\\\" "
                        "esc=\"\\u001b[31m\\u009b\" bidi=\"\\u202e\" bad=\"\xef\xbf\xbd\" ok=\"\xc3\xbc\"\n");
}

static void test_long_lines_are_cut_and_stay_whole(void **state)
{
    (void)state;
    static char text[6000];
    memset(text, '\n', sizeof(text) - 1);
    for (int json = 0; json < 2; json++) {
        log_setup(LOG_INFO, json ? LOG_JSON : LOG_LOGFMT, pipe_fds[1]);
        log_info("a", text, LOGS("b", text), LOGS("c", "x"));
        size_t len = strlen(written());
        assert_in_range(len, 4000, 4096);
        assert_int_equal(line[len - 1], '\n');
        assert_ptr_equal(strchr(line, '\n'), line + len - 1);
        if (json) {
            assert_int_equal(json_check(slice_make(line, len), 2, 100, NULL), ST_OK);
        } else {
            assert_int_equal(line[len - 2], '"');
        }
    }
    memset(text, 'x', sizeof(text) - 1);
    log_info("a", text);
    size_t len = strlen(written());
    assert_int_equal(json_check(slice_make(line, len), 2, 100, NULL), ST_OK);
}

static void test_a_broken_sink_is_survived(void **state)
{
    (void)state;
    log_setup(LOG_INFO, LOG_LOGFMT, -1);
    log_info("a", "nowhere");
    log_setup(LOG_INFO, LOG_LOGFMT, pipe_fds[1]);
    log_info("a", "here");
    assert_non_null(strstr(written(), "msg=here"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_logfmt, setup, teardown),
        cmocka_unit_test_setup_teardown(test_json, setup, teardown),
        cmocka_unit_test_setup_teardown(test_levels, setup, teardown),
        cmocka_unit_test_setup_teardown(test_strangers_forge_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_long_lines_are_cut_and_stay_whole, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_broken_sink_is_survived, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
