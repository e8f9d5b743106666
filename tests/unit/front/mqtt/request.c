#include "lib/mqtt_talk.h"

static void test_stored_kinds(void **state)
{
    (void)state;
    struct fake *f = fake_new(NULL);
    struct conn *c = talk_connected(f, CONNECT5);
    say(f, c,
        "32 '$muster/event/door' 0001 00 ({\"open\":true}) | 32 '$muster/twin/reported' 0002 00 ({\"fw\":1}) | "
        "32 '$muster/command/1234567890123/reply' 0003 00 ([1])");
    heard(c, "");
    assert_int_equal(atomic_load(&f->core.link->in_flight), 3);
    fake_settle(f);
    heard(c, "40 0001 | 40 0002 | 40 0003");
    assert_int_equal(f->core.events, 1);
    assert_int_equal(f->core.reports, 1);
    assert_int_equal(f->core.replies, 1);
    assert_true(f->core.reply_id == 1234567890123);
    assert_int_equal(f->core.stored, 3);
    assert_int_equal(atomic_load(&f->core.link->in_flight), 0);
    fake_free(f);
}

static void test_payload_forms(void **state)
{
    (void)state;
    struct fake *f = fake_new(NULL);
    struct conn *c = talk_connected(f, CONNECT5);
    say(f, c, "32 '$muster/event/e' 0001 00");
    fake_settle(f);
    assert_string_equal(f->core.payload, "null");
    say(f, c, "32 '$muster/twin/reported' 0002 00 a1 61 61 05"); // CBOR told by its first byte
    fake_settle(f);
    assert_string_equal(f->core.payload, "{\"a\":5}");
    say(f, c, "32 '$muster/twin/reported' 0003 13 03 'application/cbor' a1 61 62 06");
    fake_settle(f);
    assert_string_equal(f->core.payload, "{\"b\":6}");
    heard(c, "40 0001 | 40 0002 | 40 0003");
    say(f, c, "32 '$muster/twin/reported' 0004 13 03 'application/json' a1 61 62 06"); // it says JSON and is none
    heard(c, "40 0004 99 *");
    assert_int_equal(fake_ingest->refused[ST_MALFORMED], 1);
    fake_free(f);
}

static void test_refusals(void **state)
{
    (void)state;
    struct fake *f = fake_new(NULL);
    struct conn *c = talk_connected(f, CONNECT5);
    say(f, c,
        "32 '$muster/twin/reported' 0001 00 ({\"a\":) | 32 '$muster/twin/reported' 0002 00 | "
        "32 '$muster/command/12x/reply' 0003 00 ({}) | 32 '$muster/command/99999999999999999999/reply' 0004 00 ({})");
    fake_settle(f);
    heard(c, "40 0001 99 * | 40 0002 99 * | 40 0003 90 * | 40 0004 90 *");
    assert_int_equal(f->core.reports + f->core.replies, 0);

    say(f, c, "32 '$muster/event/bad' 0005 00 ({})"); // refused by the domain
    fake_settle(f);
    heard(c, "40 0005 99 0c 1f 'bad event'");
    assert_int_equal(fake_ingest->failed[ST_INVALID], 1);
    assert_int_equal(atomic_load(&f->core.link->in_flight), 0);

    fake_device_state = DEVICE_SUSPENDED;
    say(f, c, "32 '$muster/event/e' 0006 00 ({})");
    fake_settle(f);
    heard(c, "40 0006 87 *");
    fake_free(f);
}

static void test_commit_fails(void **state)
{
    (void)state;
    struct fake *f = fake_new(NULL);
    struct conn *c = talk_connected(f, CONNECT5);
    f->core.commit = ST_FULL;
    say(f, c, "32 '$muster/event/e' 0001 00 ({})");
    fake_settle(f);
    heard(c, "40 0001 97 *");
    assert_int_equal(fake_ingest->failed[ST_FULL], 1);
    f->core.commit = ST_OK;
    f->core.refuse = ST_BUSY;
    say(f, c, "32 '$muster/event/e' 0002 00 ({})");
    fake_settle(f);
    heard(c, "40 0002 97 *");
    f->core.refuse = ST_OK;
    fake_free(f);
}

static void test_twin_get(void **state)
{
    (void)state;
    struct fake *f = fake_new(NULL);
    struct conn *c = talk_connected(f, CONNECT4);
    say(f, c, "32 '$muster/twin/get' 0001 (anything)");
    fake_settle(f);
    heard(c, "40 0001"); // nobody listens for the answer
    say(f, c, "82 0002 '$muster/twin/get/reply' 01 | 32 '$muster/twin/get' 0003");
    fake_settle(f);
    heard(c, "90 0002 01 | 32 '$muster/twin/get/reply' c000 ({\"reported\":true}) | 40 0003");
    assert_int_equal(f->core.stored, 0); // a question is no data
    fake_free(f);
}

static void test_too_many_at_once(void **state)
{
    (void)state;
    struct fake *f = fake_new(NULL);
    struct conn *c = talk_connected(f, CONNECT4);
    for (int i = 0; i < 16; i++) {
        assert_false(c->paused);
        say(f, c, "30 '$muster/event/e' ({})");
    }
    assert_true(c->paused);
    say(f, c, "30 '$muster/event/e' ({})");
    fake_settle(f);
    assert_false(c->paused);
    assert_int_equal(f->core.events, 17);
    fake_free(f);
}

static void test_enroll(void **state)
{
    (void)state;
    struct fake *f = fake_new(NULL);
    struct conn *c = talk_connected(f, CLAIM4);
    say(f, c, "82 0001 '$muster/provision/response' 01 '$muster/twin/desired' 01");
    fake_settle(f);
    heard(c, "90 0001 01 80"); // a claim hears of nothing else
    say(f, c, "32 '$muster/provision/request' 0002 ({\"csr\":\"CSR\",\"device\":\"d9\",\"model\":\"m\"})");
    fake_settle(f);
    heard(c, "32 '$muster/provision/response' c000 ({\"device\":\"d9\"}) | 40 0002");
    assert_int_equal(f->core.enrolled, 1);
    assert_string_equal(f->core.payload, "d9 1");
    say(f, c, "32 '$muster/provision/request' 0003 ({\"csr\":\"no\"})"); // the answer says why, the claim may try again
    fake_settle(f);
    heard(c, "32 '$muster/provision/response' c001 ({\"error\":{\"code\":\"invalid\",\"detail\":\"no "
             "CSR\",\"where\":\"/csr\"}}) "
             "| 40 0003");
    assert_false(c->closing);
    say(f, c, "32 '$muster/telemetry' 0004 ({})");
    assert_true(c->closing);
    assert_int_equal(fake_ingest->put, 0);
    assert_int_equal(fake_ingest->refused[ST_FORBIDDEN], 0); // a claim has no ledger
    fake_free(f);
}

static void test_enroll_bad_requests(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "32 '$muster/provision/request' 0007 00 (nonsense)",
        "32 '$muster/provision/request' 0007 00 ([])",
        "32 '$muster/provision/request' 0007 00 ({})",
        "32 '$muster/provision/request' 0007 00 ({\"csr\":5})",
        "32 '$muster/provision/request' 0007 00 ({\"csr\":\"CSR\",\"device\":5})",
        "32 '$muster/provision/request' 0007 00 ({\"csr\":\"CSR\",\"colour\":\"red\"})",
        "32 '$muster/provision/request' 0007 00",
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct fake *f = fake_new(NULL);
        struct conn *c = talk_connected(f, CLAIM5);
        say(f, c, "82 0001 00 '$muster/provision/response' 00");
        fake_settle(f);
        heard(c, "90 0001 00 00");
        say(f, c, bad[i]);
        fake_settle(f);
        heard(
            c,
            "30 '$muster/provision/response' 15 01 01 03 'application/json' ({\"error\":{\"code\":) * | 40 0007 99 *");
        assert_int_equal(f->core.enrolled, 0);
        fake_free(f);
    }
}

static void test_renew(void **state)
{
    (void)state;
    struct fake *f = fake_new(NULL);
    struct conn *c = talk_connected(f, CONNECT4);
    say(f, c, "82 0001 '$muster/provision/response' 01 | 32 '$muster/provision/renew' 0002 ({\"csr\":\"CSR\"})");
    fake_settle(f);
    heard(c, "90 0001 01 | 32 '$muster/provision/response' c000 ({}) | 40 0002");
    assert_int_equal(f->core.renewed, 1);
    fake_free(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stored_kinds), cmocka_unit_test(test_payload_forms),
        cmocka_unit_test(test_refusals),     cmocka_unit_test(test_commit_fails),
        cmocka_unit_test(test_twin_get),     cmocka_unit_test(test_too_many_at_once),
        cmocka_unit_test(test_enroll),       cmocka_unit_test(test_enroll_bad_requests),
        cmocka_unit_test(test_renew),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
