#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "front/mqtt/topics.h"
#include "proto/mqtt.h"

static void test_routes(void **state)
{
    (void)state;
    static const struct {
        const char *topic;
        enum status device, claim;
        enum route route;
        const char *param;
    } rows[] = {
        {"$muster/telemetry", ST_OK, ST_FORBIDDEN, ROUTE_TELEMETRY, ""},
        {"$muster/event/door", ST_OK, ST_FORBIDDEN, ROUTE_EVENT, "door"},
        {"$muster/twin/get", ST_OK, ST_FORBIDDEN, ROUTE_TWIN_GET, ""},
        {"$muster/twin/reported", ST_OK, ST_FORBIDDEN, ROUTE_TWIN_REPORT, ""},
        {"$muster/command/17/reply", ST_OK, ST_FORBIDDEN, ROUTE_COMMAND_REPLY, "17"},
        {"$muster/provision/request", ST_FORBIDDEN, ST_OK, ROUTE_ENROLL, ""},
        {"$muster/provision/renew", ST_OK, ST_FORBIDDEN, ROUTE_RENEW, ""},
        {"$muster/telemetry/", ST_NOT_FOUND, ST_NOT_FOUND, 0, NULL},
        {"$muster/telemetr", ST_NOT_FOUND, ST_NOT_FOUND, 0, NULL},
        {"$muster/event/", ST_NOT_FOUND, ST_NOT_FOUND, 0, NULL},
        {"$muster/event/a/b", ST_NOT_FOUND, ST_NOT_FOUND, 0, NULL},
        {"$muster/command//reply", ST_NOT_FOUND, ST_NOT_FOUND, 0, NULL},
        {"$muster/command/1/2/reply", ST_NOT_FOUND, ST_NOT_FOUND, 0, NULL},
        {"$muster/command/reply", ST_NOT_FOUND, ST_NOT_FOUND, 0, NULL},
        {"$muster/command/17/replied", ST_NOT_FOUND, ST_NOT_FOUND, 0, NULL},
        {"$muster/twin/desired", ST_NOT_FOUND, ST_NOT_FOUND, 0, NULL},
        {"muster/telemetry", ST_NOT_FOUND, ST_NOT_FOUND, 0, NULL},
        {"", ST_NOT_FOUND, ST_NOT_FOUND, 0, NULL},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        enum route r = ROUTE__COUNT;
        struct slice param = SLICE("?");
        struct err err = {.text = ""};
        assert_int_equal(topics_route(slice_str(rows[i].topic), WHO_CLAIM, &r, &param, &err), rows[i].claim);
        enum status s = topics_route(slice_str(rows[i].topic), WHO_DEVICE, &r, &param, &err);
        if (s != rows[i].device) {
            fail_msg("%s: %s", rows[i].topic, status_text(s));
        }
        if (rows[i].param != NULL) {
            assert_int_equal(r, rows[i].route);
            assert_true(slice_eq_str(param, rows[i].param));
        } else {
            assert_string_not_equal(err.text, "");
        }
        assert_int_not_equal(topics_route(slice_str(rows[i].topic), WHO_OPERATOR, &r, &param, NULL), ST_OK);
        assert_int_not_equal(topics_route(slice_str(rows[i].topic), WHO_NOBODY, &r, &param, NULL), ST_OK);
    }
}

static void test_subscriptions(void **state)
{
    (void)state;
    static const struct {
        const char *filter;
        enum status device, claim;
        const char *topic; // that it carries
    } rows[] = {
        {"$muster/twin/desired", ST_OK, ST_FORBIDDEN, "$muster/twin/desired"},
        {"$muster/twin/get/reply", ST_OK, ST_FORBIDDEN, "$muster/twin/get/reply"},
        {"$muster/command/+/+", ST_OK, ST_FORBIDDEN, "$muster/command/reboot/17"},
        {"$muster/provision/response", ST_OK, ST_OK, "$muster/provision/response"},
        {"$muster/#", ST_NOT_FOUND, ST_NOT_FOUND, NULL},
        {"#", ST_NOT_FOUND, ST_NOT_FOUND, NULL},
        {"$muster/command/+", ST_NOT_FOUND, ST_NOT_FOUND, NULL},
        {"$muster/telemetry", ST_NOT_FOUND, ST_NOT_FOUND, NULL},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        enum sub sub = SUB__COUNT;
        enum sub carried = SUB__COUNT;
        assert_int_equal(topics_sub(slice_str(rows[i].filter), WHO_CLAIM, &sub, NULL), rows[i].claim);
        assert_int_equal(topics_sub(slice_str(rows[i].filter), WHO_DEVICE, &sub, NULL), rows[i].device);
        if (rows[i].topic != NULL) {
            assert_string_equal(topics_filter(sub), rows[i].filter);
            assert_true(topics_sub_of(slice_str(rows[i].topic), &carried));
            assert_int_equal(sub, carried);
        }
    }
    enum sub none;
    assert_false(topics_sub_of(SLICE("$muster/telemetry"), &none));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_routes),
        cmocka_unit_test(test_subscriptions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
