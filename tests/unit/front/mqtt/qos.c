// The two tables of a packet id, cell by cell.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "front/mqtt/qos.h"

// Columns: PUBACK, PUBREC, PUBREC that refuses, PUBCOMP, stored. Each is the act and the next state.
//   acts: i ignore, v violation, s stray, u unknown, k keep, r release, d done
//   states: - none, 1 SENT1, 2 SENT2, R RECEIVING, L RELEASED
static const char *const flights[FLIGHT__COUNT] = {
    [FLIGHT_NONE] = "s- u- s- i- i-",      [FLIGHT_SENT1] = "d- v1 v1 v1 i1",    [FLIGHT_SENT2] = "v2 kR d- v2 i2",
    [FLIGHT_RECEIVING] = "vR iR vR vR rL", [FLIGHT_RELEASED] = "vL rL d- d- iL",
};

static void test_flights(void **state)
{
    (void)state;
    static const char acts[] = "ivsukrd";
    static const char states[] = "-12RL";
    for (unsigned s = 0; s < FLIGHT__COUNT; s++) {
        for (unsigned e = 0; e < FLIGHT_EVENT__COUNT; e++) {
            struct flight_step step = flight_next((enum flight_state)s, (enum flight_event)e);
            assert_int_equal(acts[step.act], flights[s][3 * e]);
            assert_int_equal(states[step.next], flights[s][3 * e + 1]);
        }
    }
}

// Columns: PUBLISH, kept, refused, PUBREL, stored.
//   acts: i ignore, v violation, t take, a again, x in use, u unknown, f forget, d done
//   states: - none, P PENDING, R RECEIVED, L RELEASING
static const char *const inbounds[INBOUND__COUNT] = {
    [INBOUND_NONE] = "tP i- i- u- i-",
    [INBOUND_PENDING] = "iP iR i- vP iP",
    [INBOUND_RECEIVED] = "aR iR iR fL iR",
    [INBOUND_RELEASING] = "xL iL iL iL d-",
};

static void test_inbound(void **state)
{
    (void)state;
    static const char acts[] = "ivtaxufd";
    static const char states[] = "-PRL";
    for (unsigned s = 0; s < INBOUND__COUNT; s++) {
        for (unsigned e = 0; e < INBOUND_EVENT__COUNT; e++) {
            struct inbound_step step = inbound_next((enum inbound_state)s, (enum inbound_event)e);
            assert_int_equal(acts[step.act], inbounds[s][3 * e]);
            assert_int_equal(states[step.next], inbounds[s][3 * e + 1]);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_flights),
        cmocka_unit_test(test_inbound),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
