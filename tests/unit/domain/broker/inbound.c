// QoS 2 and takeovers: whatever order the core sees the message, its copy on the next connection, the takeover and the end of
// the first connection in, everybody who wants the message gets it once, and its packet id is free when it was released.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/testbroker.h"

#define ID 5

static struct testbroker b;
static const struct broker_open clean = {.clean_start = true};
static const struct broker_open keep = {.expiry_s = 3600};

static int setup(void **state)
{
    (void)state;
    testbroker_open(&b, 2);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    testbroker_close(&b);
    return 0;
}

// --- operations that run in one batch of the core ----------------------------------------------------------------

static enum status run_slow(struct tx *tx, void *arg, struct err *err)
{
    (void)tx;
    (void)arg;
    (void)err;
    const struct timespec ms = {.tv_nsec = 60000000};
    nanosleep(&ms, NULL);
    return ST_OK;
}

enum step_kind { MESSAGE, TAKEOVER, END };
struct step_call {
    struct tb_call call;
    struct tb_connect connect;
    struct tb_close close;
};

static void submit(struct step_call *s, testcore_fn run, void *arg)
{
    s->call = (struct tb_call){.b = &b,
                               .run = run,
                               .arg = arg,
                               .op = {.run = tb_op_run, .done = tb_op_done, .reply_to = b.loops[0], .name = "test"},
                               .lock = PTHREAD_MUTEX_INITIALIZER,
                               .wake = PTHREAD_COND_INITIALIZER};
    core_submit(b.core.core, &s->call.op);
}

static struct client *client_new(unsigned loop)
{
    struct client *c = calloc(1, sizeof(*c));
    assert_non_null(c);
    c->b = &b;
    c->loop = b.loops[loop];
    c->bl = broker_loop(b.broker, c->loop);
    c->link = link_new(c->loop, b.next_conn++, tb_on_down);
    c->got = calloc(TB_GOT, sizeof(*c->got));
    assert_true(c->link != NULL && c->got != NULL);
    pthread_mutex_lock(&b.lock);
    b.clients[b.clients_len++] = c;
    pthread_mutex_unlock(&b.lock);
    return c;
}

static void say(struct client *c)
{
    struct tb_publish k = {.c = c, .topic = "t/a", .publish = {.qos = 2, .packet_id = ID, .payload = SLICE("once")}};
    tb_on_loop(c->loop, tb_do_publish, &k);
    assert_int_equal(k.went, BROKER_LATER);
    tb_on_loop(c->loop, tb_nothing, NULL); // the turn has ended: the batch is with the core
}

// --- the table ---------------------------------------------------------------------------------------------------

// What reaches the core, in this order. together: as one batch with one commit.
static const struct {
    enum step_kind steps[3];
    unsigned len;
    bool together;
    bool kept; // the next connection is told the id
} table[] = {
    {{MESSAGE, TAKEOVER}, 2, false, true},       {{MESSAGE, TAKEOVER}, 2, true, true},
    {{TAKEOVER, MESSAGE}, 2, false, false},      {{TAKEOVER, MESSAGE}, 2, true, false},
    {{MESSAGE, TAKEOVER, END}, 3, false, true},  {{MESSAGE, TAKEOVER, END}, 3, true, true},
    {{TAKEOVER, MESSAGE, END}, 3, false, false}, {{TAKEOVER, MESSAGE, END}, 3, true, false},
    {{TAKEOVER, END, MESSAGE}, 3, false, false}, {{TAKEOVER, END, MESSAGE}, 3, true, false},
    {{MESSAGE, END, TAKEOVER}, 3, false, true},  {{MESSAGE, END, TAKEOVER}, 3, true, true},
    {{END, MESSAGE, TAKEOVER}, 3, false, false}, {{END, MESSAGE, TAKEOVER}, 3, true, false},
    {{END, TAKEOVER, MESSAGE}, 3, false, false}, {{END, TAKEOVER, MESSAGE}, 3, true, false},
};

static void begin_step(enum step_kind kind, struct step_call *s, struct client *a, struct client *next)
{
    switch (kind) {
    case MESSAGE:
        say(a);
        break;
    case TAKEOVER:
        s->connect = (struct tb_connect){.c = next, .device = "p", .open = keep};
        submit(s, tb_do_connect, &s->connect);
        break;
    case END:
        s->close = (struct tb_close){a, false, BROKER_EXPIRY_KEEP};
        submit(s, tb_do_close, &s->close);
        break;
    }
}

static void end_step(enum step_kind kind, struct step_call *s)
{
    if (kind != MESSAGE) {
        tb_call_wait(&s->call);
        assert_int_equal(s->call.op.status, ST_OK);
    }
}

static struct client *interleave(size_t row)
{
    struct step_call slow, calls[3] = {0};
    struct client *a = tb_connect(&b, 0, "p", keep);
    struct client *next = client_new(1);
    if (table[row].together) {
        submit(&slow, run_slow, NULL);
    }
    for (unsigned i = 0; i < table[row].len; i++) {
        begin_step(table[row].steps[i], &calls[i], a, next);
        if (!table[row].together) {
            end_step(table[row].steps[i], &calls[i]);
            tb_settle(&b);
        }
    }
    if (table[row].together) {
        tb_call_wait(&slow.call);
        for (unsigned i = 0; i < table[row].len; i++) {
            end_step(table[row].steps[i], &calls[i]);
        }
        tb_settle(&b);
    }
    return next;
}

static void a_message_is_there_once_in_every_order(void **state)
{
    (void)state;
    struct client *stored = tb_connect(&b, 1, "stored", keep);
    struct client *live = tb_connect(&b, 1, "live", clean);
    struct client *near = tb_connect(&b, 0, "near", clean);
    struct client *group = tb_connect(&b, 0, "group", clean);
    tb_subscribe(stored, "t/#", 2);
    tb_subscribe(live, "t/#", 2);
    tb_subscribe(near, "t/a", 0);
    tb_subscribe(group, "$share/g/t/a", 1);
    for (size_t row = 0; row < sizeof(table) / sizeof(table[0]); row++) {
        struct client *next = interleave(row);
        assert_true(next->present);
        assert_int_equal(next->inbound_len, table[row].kept ? 1 : 0);
        if (table[row].kept) {
            assert_int_equal(next->inbound[0], ID);
        } else {
            say(next); // the client has no PUBREC: it sends the message again
            assert_true(tb_wait(&b, &next->acks_len, 1));
            assert_int_equal(next->acks[0].status, ST_OK);
        }
        tb_expect(stored, "once");
        tb_expect(live, "once");
        tb_expect(near, "once");
        tb_expect(group, "once");
        tb_quiet(stored);
        tb_quiet(live);
        tb_quiet(near);
        tb_quiet(group);
        tb_ack(next, SETTLE_INBOUND, ID);
        tb_ack(stored, SETTLE_RECEIVED, stored->got[stored->got_len - 1].seq);
        tb_ack(stored, SETTLE_DONE, stored->got[stored->got_len - 1].seq);
        tb_close(next, false);
        struct client *last = tb_connect(&b, 1, "p", keep);
        assert_true(last->present);
        assert_int_equal(last->inbound_len, 0);
        tb_close(last, false);
    }
}

static void what_comes_too_late_is_not_acknowledged(void **state)
{
    (void)state;
    struct client *a = tb_connect(&b, 0, "p", keep);
    (void)tb_connect(&b, 1, "p", keep);
    say(a);
    assert_true(tb_wait(&b, &a->acks_len, 1));
    assert_int_equal(a->acks[0].status, ST_CONFLICT);
}

static void sessions_that_end_with_their_connection_do_not_wait(void **state)
{
    (void)state;
    struct client *p = tb_connect(&b, 0, "p", clean);
    struct client *live = tb_connect(&b, 1, "live", clean);
    tb_subscribe(live, "t/#", 2);
    assert_int_equal(tb_publish(p, "t/a", 2, false, "now").went, BROKER_DONE);
    tb_expect(live, "now");
}

// --- ids whose message is in the telemetry store -----------------------------------------------------------------

struct put {
    struct client *c;
    uint16_t packet_id;
    bool staged;
    bool is_new;
};
static enum status run_put(struct tx *tx, void *arg, struct err *err)
{
    struct put *p = arg;
    return broker_inbound_put(tx, p->c->session, p->c->link->conn, p->packet_id, p->staged, &p->is_new, err);
}

// The process dies between the two commits: the id is kept, the points are not.
static void an_id_without_its_points_is_forgotten_at_the_start(void **state)
{
    (void)state;
    struct client *c = tb_connect(&b, 0, "p", keep);
    struct put in_state = {.c = c, .packet_id = 1}, torn = {.c = c, .packet_id = 2, .staged = true};
    assert_int_equal(tb_run(&b, run_put, &in_state), ST_OK);
    assert_int_equal(tb_run(&b, run_put, &torn), ST_OK); // nothing is staged with it: that commit never comes
    assert_true(in_state.is_new && torn.is_new);
    testbroker_kill(&b);
    c = tb_connect(&b, 0, "p", keep);
    assert_int_equal(c->inbound_len, 1);
    assert_int_equal(c->inbound[0], 1);
}

static enum status run_lost(struct tx *tx, void *arg, struct err *err)
{
    const struct put *p = arg;
    (void)err;
    broker_inbound_lost(tx->core, p->c->session, p->packet_id);
    return ST_OK;
}

static void an_id_whose_points_were_refused_is_free_again(void **state)
{
    (void)state;
    struct client *c = tb_connect(&b, 0, "p", keep);
    struct put p = {.c = c, .packet_id = 2, .staged = true};
    assert_int_equal(tb_run(&b, run_put, &p), ST_OK);
    assert_int_equal(tb_run(&b, run_lost, &p), ST_OK);
    tb_settle(&b);
    c = tb_connect(&b, 1, "p", keep);
    assert_int_equal(c->inbound_len, 0);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_message_is_there_once_in_every_order),
        TEST(what_comes_too_late_is_not_acknowledged),
        TEST(sessions_that_end_with_their_connection_do_not_wait),
        TEST(an_id_without_its_points_is_forgotten_at_the_start),
        TEST(an_id_whose_points_were_refused_is_free_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
