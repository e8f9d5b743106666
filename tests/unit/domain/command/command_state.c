#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "domain/command/command.h"

#define NO COMMAND_STATE__COUNT

// Written apart from the table of the program: every state with every input.
static void every_step(void **state)
{
    (void)state;
    static const struct {
        enum command_state from;
        enum command_input in;
        enum command_state to;
    } want[] = {
        {COMMAND_PENDING, COMMAND_IN_DELIVER, COMMAND_SENT},
        {COMMAND_PENDING, COMMAND_IN_REPLY, COMMAND_REPLIED},
        {COMMAND_PENDING, COMMAND_IN_EXPIRE, COMMAND_EXPIRED},
        {COMMAND_SENT, COMMAND_IN_DELIVER, COMMAND_SENT},
        {COMMAND_SENT, COMMAND_IN_REPLY, COMMAND_REPLIED},
        {COMMAND_SENT, COMMAND_IN_EXPIRE, COMMAND_EXPIRED},
        {COMMAND_REPLIED, COMMAND_IN_DELIVER, NO},
        {COMMAND_REPLIED, COMMAND_IN_REPLY, NO},
        {COMMAND_REPLIED, COMMAND_IN_EXPIRE, NO},
        {COMMAND_EXPIRED, COMMAND_IN_DELIVER, NO},
        {COMMAND_EXPIRED, COMMAND_IN_REPLY, COMMAND_REPLIED},
        {COMMAND_EXPIRED, COMMAND_IN_EXPIRE, NO},
    };
    assert_int_equal(sizeof(want) / sizeof(want[0]), COMMAND_STATE__COUNT * COMMAND_INPUT__COUNT);
    for (size_t i = 0; i < sizeof(want) / sizeof(want[0]); i++) {
        enum command_state to = NO;
        assert_int_equal(command_next(want[i].from, want[i].in, &to), want[i].to != NO);
        assert_int_equal(to, want[i].to);
    }
    enum command_state to = NO;
    assert_false(command_next(COMMAND_STATE__COUNT, COMMAND_IN_REPLY, &to));
    assert_false(command_next(COMMAND_PENDING, COMMAND_INPUT__COUNT, &to));
}

static void texts_read_back(void **state)
{
    (void)state;
    for (int i = 0; i < COMMAND_STATE__COUNT; i++) {
        enum command_state back = NO;
        assert_true(command_state_parse(slice_str(command_state_text((enum command_state)i)), &back));
        assert_int_equal(back, i);
    }
    enum command_state back = NO;
    assert_false(command_state_parse(SLICE("unknown"), &back));
    assert_false(command_state_parse(SLICE(""), &back));
}

static void ids(void **state)
{
    (void)state;
    uint64_t id = 0;
    assert_true(command_id_parse(SLICE("9223372036854775807"), &id));
    assert_true(id == INT64_MAX);
    assert_true(command_id_parse(SLICE("1"), &id));
    static const char *const bad[] = {"", "0", "01", "-1", "9223372036854775808", "18446744073709551616", "1x", " 1"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_false(command_id_parse(slice_str(bad[i]), &id));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_step),
        cmocka_unit_test(texts_read_back),
        cmocka_unit_test(ids),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
