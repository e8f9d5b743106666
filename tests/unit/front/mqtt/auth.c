// The exchange of AUTH packets, before CONNACK and on an open connection.
#include "lib/mqtt_talk.h"
#include "lib/testscram.h"

#include "front/mqtt/mqtt_conn.h"

#define METHOD "SCRAM-SHA-256"
#define BARE   "n=dev,r=abcdefghijklmnop"

static void say_packet(struct fake *f, struct conn *c, const struct mqtt_packet *p)
{
    struct buf b = buf_heap(4096);
    assert_true(mqtt_encode(&b, MQTT_V5, p));
    fake_input(f, c, buf_view(&b));
    buf_release(&b);
}

static void say_connect(struct fake *f, struct conn *c, const char *method, const char *data)
{
    struct mqtt_packet p;
    p.type = MQTT_CONNECT;
    p.u.connect =
        (struct mqtt_connect){.version = MQTT_V5, .clean_start = true, .keep_alive_s = 60, .client_id = SLICE("c1")};
    p.u.connect.props.present = MQTT_P_AUTH_METHOD | (data != NULL ? (unsigned)MQTT_P_AUTH_DATA : 0);
    p.u.connect.props.auth_method = slice_str(method);
    p.u.connect.props.auth_data = slice_str(data != NULL ? data : "");
    say_packet(f, c, &p);
}

static void say_auth(struct fake *f, struct conn *c, uint8_t reason, const char *method, const char *data)
{
    struct mqtt_packet p;
    p.type = MQTT_AUTH;
    p.u.disconnect = (struct mqtt_disconnect){.reason = reason};
    p.u.disconnect.props.present = MQTT_P_AUTH_METHOD | MQTT_P_AUTH_DATA;
    p.u.disconnect.props.auth_method = slice_str(method);
    p.u.disconnect.props.auth_data = slice_str(data);
    say_packet(f, c, &p);
}

// The one packet that the server has said; its authentication data as text.
static uint8_t hear(struct conn *c, enum mqtt_type type, char *ret_data, size_t size)
{
    struct mqtt_packet p;
    struct mqtt_error err;
    size_t used = 0;
    assert_int_equal(mqtt_decode(buf_view(&c->out), MQTT_V5, &mqtt_limits_default, &p, &used, NULL, &err), MQTT_DONE);
    assert_int_equal(p.type, type);
    assert_int_equal(used, c->out.len);
    const struct mqtt_props *props = type == MQTT_CONNACK ? &p.u.connack.props : &p.u.disconnect.props;
    if (ret_data != NULL) {
        assert_true(MQTT_HAS(props, MQTT_P_AUTH_METHOD) && slice_eq_str(props->auth_method, METHOD));
        assert_true(slice_to_cstr(props->auth_data, ret_data, size));
    }
    uint8_t reason = type == MQTT_CONNACK ? p.u.connack.reason : p.u.disconnect.reason;
    buf_clear(&c->out);
    return reason;
}

// CONNECT and the answer to its challenge with this password.
static struct conn *exchange(struct fake *f, const char *password, char *ret_server_final)
{
    char challenge[1024];
    char final[1024];
    struct conn *c = fake_open(f);
    say_connect(f, c, METHOD, "n,," BARE);
    assert_true(c->paused);
    fake_settle(f);
    assert_int_equal(hear(c, MQTT_AUTH, challenge, sizeof(challenge)), MQTT_RC_CONTINUE_AUTH);
    assert_false(c->paused);
    testscram_final(password, "n,,", BARE, challenge, final, ret_server_final);
    say_auth(f, c, MQTT_RC_CONTINUE_AUTH, METHOD, final);
    fake_settle(f);
    return c;
}

static void test_right(void **state)
{
    (void)state;
    struct fake *f = fake_new(NULL);
    char want[64];
    char got[64];
    struct conn *c = exchange(f, "pencil", want);
    assert_int_equal(hear(c, MQTT_CONNACK, got, sizeof(got)), MQTT_RC_SUCCESS);
    assert_string_equal(got, want); // the server has proved itself too
    assert_true(c->authenticated);
    assert_int_equal(f->core.connected, 1);
    assert_int_equal(f->core.auth_failures, 0);
    fake_free(f);
}

static void test_wrong(void **state)
{
    (void)state;
    struct fake *f = fake_new(NULL);
    char want[64];
    struct conn *c = exchange(f, "crayon", want);
    assert_int_equal(hear(c, MQTT_CONNACK, NULL, 0), MQTT_RC_BAD_CREDENTIALS);
    assert_true(c->closing);
    assert_int_equal(f->core.connected, 0);
    assert_int_equal(f->core.auth_failures, 1);
    fake_free(f);
}

static void test_refused(void **state)
{
    (void)state;
    static const struct {
        const char *method, *data;
        uint8_t reason;
    } rows[] = {
        {"GS2-KRB5", "x", MQTT_RC_BAD_AUTH_METHOD},
        {METHOD, NULL, MQTT_RC_NOT_AUTHORIZED},
        {METHOD, "nonsense", MQTT_RC_MALFORMED},
        {METHOD, "p=tls-unique,,n=dev,r=abcdefghijklmnop", MQTT_RC_IMPLEMENTATION},
        {METHOD, "n,,n=often,r=abcdefghijklmnop", MQTT_RC_QUOTA},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct fake *f = fake_new(NULL);
        struct conn *c = fake_open(f);
        say_connect(f, c, rows[i].method, rows[i].data);
        fake_settle(f);
        assert_int_equal(hear(c, MQTT_CONNACK, NULL, 0), rows[i].reason);
        assert_true(c->closing);
        fake_free(f);
    }
}

// Between CONNECT and CONNACK: what may not be said, and clients that leave in every state.
static void test_broken_off(void **state)
{
    (void)state;
    char want[64];
    for (unsigned how = 0; how < 6; how++) {
        struct fake *f = fake_new(NULL);
        struct conn *c = fake_open(f);
        say_connect(f, c, METHOD, "n,," BARE);
        if (how == 0) {
            fake_gone(f, c, CLOSE_RESET); // the verifier is being read
            fake_settle(f);
            fake_free(f);
            continue;
        }
        fake_settle(f);
        buf_clear(&c->out);
        if (how == 1) {
            say(f, c, "30 'a' 00 (x)");
            assert_true(c->closing);
        } else if (how == 2) {
            say_auth(f, c, MQTT_RC_CONTINUE_AUTH, "OTHER", "x");
            assert_true(c->closing);
        } else if (how == 3) {
            say_auth(f, c, MQTT_RC_REAUTHENTICATE, METHOD, "n,," BARE);
            assert_true(c->closing);
        } else if (how == 4) {
            say(f, c, "e0");
            assert_true(c->closing);
        } else {
            fake_gone(f, c, CLOSE_RESET);
            c = exchange(f, "pencil", want); // gone before the answer is looked at
        }
        fake_settle(f);
        fake_free(f);
    }
}

static void test_again(void **state)
{
    (void)state;
    struct fake *f = fake_new(NULL);
    char text[1024];
    char final[1024];
    char want[64];
    struct conn *c = exchange(f, "pencil", want);
    buf_clear(&c->out);
    for (unsigned right = 2; right-- > 0;) {
        say_auth(f, c, MQTT_RC_REAUTHENTICATE, METHOD, "n,," BARE);
        say(f, c, "c0");
        heard(c, "d0"); // the connection goes on meanwhile
        fake_settle(f);
        assert_int_equal(hear(c, MQTT_AUTH, text, sizeof(text)), MQTT_RC_CONTINUE_AUTH);
        testscram_final(right ? "pencil" : "crayon", "n,,", BARE, text, final, want);
        say_auth(f, c, MQTT_RC_CONTINUE_AUTH, METHOD, final);
        fake_settle(f);
        if (right) {
            assert_int_equal(hear(c, MQTT_AUTH, text, sizeof(text)), MQTT_RC_SUCCESS);
            assert_string_equal(text, want);
        }
    }
    heard(c, "e0 87 *");
    assert_true(c->closing);
    fake_free(f);
}

static void test_again_as_somebody_else(void **state)
{
    (void)state;
    struct fake *f = fake_new(NULL);
    char text[1024];
    char final[1024];
    char want[64];
    struct conn *c = exchange(f, "pencil", want);
    buf_clear(&c->out);
    say_auth(f, c, MQTT_RC_REAUTHENTICATE, METHOD, "n,,n=other,r=abcdefghijklmnop");
    fake_settle(f);
    assert_int_equal(hear(c, MQTT_AUTH, text, sizeof(text)), MQTT_RC_CONTINUE_AUTH);
    testscram_final("pencil", "n,,", "n=other,r=abcdefghijklmnop", text, final, want);
    say_auth(f, c, MQTT_RC_CONTINUE_AUTH, METHOD, final);
    fake_settle(f);
    heard(c, "e0 87 *");
    fake_free(f);
}

static void test_out_of_place(void **state)
{
    (void)state;
    struct fake *f = fake_new(NULL);
    char want[64];
    struct conn *c = talk_connected(f, CONNECT5); // without a method
    say_auth(f, c, MQTT_RC_REAUTHENTICATE, METHOD, "n,," BARE);
    heard(c, "e0 82 *");
    c = exchange(f, "pencil", want);
    buf_clear(&c->out);
    say_auth(f, c, MQTT_RC_CONTINUE_AUTH, METHOD, "x"); // nobody asked
    heard(c, "e0 82 *");
    c = exchange(f, "pencil", want);
    buf_clear(&c->out);
    say_auth(f, c, MQTT_RC_REAUTHENTICATE, METHOD, "n,," BARE);
    say_auth(f, c, MQTT_RC_REAUTHENTICATE, METHOD, "n,," BARE); // twice
    heard(c, "e0 82 *");
    fake_free(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_right),        cmocka_unit_test(test_wrong),
        cmocka_unit_test(test_refused),      cmocka_unit_test(test_broken_off),
        cmocka_unit_test(test_again),        cmocka_unit_test(test_again_as_somebody_else),
        cmocka_unit_test(test_out_of_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
