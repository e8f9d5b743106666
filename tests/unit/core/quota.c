// Quotas: rates of a client and of a tenant over several loops, amounts, a tenant's own limits, many threads at once.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "core/metrics.h"
#include "core/quota.h"

#define SECOND_US 1000000LL

static struct quotas *make(struct quota_conf conf, unsigned loops)
{
    struct quotas *q = NULL;
    assert_int_equal(quotas_new(&conf, loops, &q, NULL), ST_OK);
    return q;
}

static void test_names(void **state)
{
    (void)state;
    for (unsigned i = 0; i < QUOTA__COUNT; i++) {
        enum quota_what w = QUOTA__COUNT;
        assert_true(quota_parse(slice_str(quota_text((enum quota_what)i)), &w));
        assert_int_equal(w, i);
    }
    enum quota_what w;
    assert_false(quota_parse(SLICE("nothing"), &w));
    assert_string_equal(quota_text(QUOTA__COUNT), "unknown");
}

static void test_defaults_limit_what_they_say(void **state)
{
    (void)state;
    const struct conf_key mqtt[] = {
        {.name = "mqtt.publishes_per_client", .type = CONF_INT, .dflt = "100", .min = 0, .max = 1000000, .help = "-"},
        {.name = "mqtt.publishes_burst", .type = CONF_INT, .dflt = "1000", .min = 1, .max = 1000000, .help = "-"}};
    const struct conf_module mods[] = {quota_conf_module, {"MQTT", mqtt, 2}};
    const char *const overrides[] = {"quota.tenant_connections=7", NULL};
    struct conf *conf = NULL;
    struct buf problems = buf_heap(4096);
    assert_int_equal(conf_load(mods, 2, NULL, overrides, &conf, &problems), ST_OK);
    struct quota_conf qc;
    quota_conf_read(conf, &qc);
    assert_int_equal(qc.client_messages, 100);
    assert_int_equal(qc.client_messages_burst, 1000);
    assert_int_equal(qc.client_bytes, 0);
    assert_int_equal(qc.tenant[QUOTA_CONNECTIONS], 7);
    assert_int_equal(qc.tenant[QUOTA_SUBSCRIPTIONS], 1000000);
    conf_free(conf);
    buf_release(&problems);
}

// Sends for `seconds` at full speed, waiting as told; how many messages went through.
static int64_t run_client(struct quota *q, struct quota_loop *l, size_t bytes, int64_t seconds)
{
    int64_t sent = 0;
    int64_t now_us = SECOND_US;
    int64_t end_us = now_us + seconds * SECOND_US;
    while (now_us < end_us) {
        int64_t wait_us = quota_message(q, l, bytes, now_us);
        sent++;
        assert_true(quota_wait(q, l, now_us + wait_us) == 0); // the wait told is enough
        now_us += wait_us > 0 ? wait_us : 1;
    }
    return sent;
}

static void test_a_clients_own_rate(void **state)
{
    (void)state;
    struct quotas *q = make((struct quota_conf){.client_messages = 100, .client_messages_burst = 1000}, 1);
    struct quota c = {0};
    int64_t sent = run_client(&c, quota_loop(q, 0), 10, 10);
    assert_in_range(sent, 1990, 2010); // the burst and ten seconds' worth
    quotas_free(q);
    q = make((struct quota_conf){.client_bytes = 1000, .client_bytes_burst = 2000}, 1);
    c = (struct quota){0};
    sent = run_client(&c, quota_loop(q, 0), 100, 10);
    assert_in_range(sent, 118, 122);
    quotas_free(q);
    q = make((struct quota_conf){0}, 1);
    c = (struct quota){0};
    for (int i = 0; i < 1000; i++) {
        assert_int_equal(quota_message(&c, quota_loop(q, 0), 1 << 20, 5), 0); // no limit
    }
    quotas_free(q);
}

// Two loops, one tenant: together they get its rate, whoever asks.
static void test_a_tenants_rate_over_two_loops(void **state)
{
    (void)state;
    struct quota_conf conf = {0};
    conf.tenant[QUOTA_MESSAGES] = 1000;
    struct quotas *q = make(conf, 2);
    struct quota c[2] = {{0}, {0}};
    int64_t ready_us[2] = {SECOND_US, SECOND_US};
    int64_t sent = 0;
    assert_int_equal(quota_open(&c[0], quota_loop(q, 0), 4), ST_OK);
    assert_int_equal(quota_open(&c[1], quota_loop(q, 1), 4), ST_OK);
    for (int64_t now_us = SECOND_US; now_us < 11 * SECOND_US; now_us += 50) {
        for (unsigned i = 0; i < 2; i++) {
            if (now_us >= ready_us[i]) {
                ready_us[i] = now_us + quota_message(&c[i], quota_loop(q, i), 10, now_us);
                sent++;
            }
        }
    }
    assert_in_range(sent, 11900, 12200); // two seconds' worth at once, and ten
    assert_true(quota_exceeded(q, 4, QUOTA_MESSAGES) > 0);
    assert_int_equal(quota_exceeded(q, 5, QUOTA_MESSAGES), 0);
    struct quota other = {0};
    assert_int_equal(quota_open(&other, quota_loop(q, 0), 5), ST_OK);
    assert_int_equal(quota_message(&other, quota_loop(q, 0), 10, 11 * SECOND_US), 0); // another tenant is not held up
    quotas_free(q);
}

static void test_amounts_at_their_edge(void **state)
{
    (void)state;
    struct quota_conf conf = {0};
    conf.tenant[QUOTA_CONNECTIONS] = 3;
    struct quotas *q = make(conf, 1);
    assert_true(quota_take(q, 1, QUOTA_CONNECTIONS, 2));
    assert_true(quota_take(q, 1, QUOTA_CONNECTIONS, 1));
    assert_false(quota_take(q, 1, QUOTA_CONNECTIONS, 1));
    assert_int_equal(quota_used(q, 1, QUOTA_CONNECTIONS), 3);
    assert_int_equal(quota_exceeded(q, 1, QUOTA_CONNECTIONS), 1);
    assert_true(quota_take(q, 2, QUOTA_CONNECTIONS, 3)); // another tenant
    quota_give(q, 1, QUOTA_CONNECTIONS, 1);
    assert_true(quota_take(q, 1, QUOTA_CONNECTIONS, 1));
    quota_count(q, 1, QUOTA_CONNECTIONS, 5); // what is there is there
    assert_false(quota_take(q, 1, QUOTA_CONNECTIONS, 1));
    assert_true(quota_take(q, 1, QUOTA_QUEUED_BYTES, (int64_t)1 << 40)); // no limit
    assert_true(quota_room(q, 1, QUOTA_QUEUED_BYTES, (int64_t)1 << 40));
    assert_false(quota_room(q, 1, QUOTA_CONNECTIONS, 1));
    assert_int_equal(quota_exceeded(q, 1, QUOTA_CONNECTIONS), 3);
    assert_false(quota_room(q, 3, QUOTA_CONNECTIONS, 4));
    assert_true(quota_room(q, 3, QUOTA_CONNECTIONS, 3));
    assert_int_equal(quota_used(q, 3, QUOTA_CONNECTIONS), 0); // nothing is taken
    assert_true(quota_take(NULL, 1, QUOTA_CONNECTIONS, 1) && quota_room(NULL, 1, QUOTA_CONNECTIONS, 1));
    quota_give(NULL, 1, QUOTA_CONNECTIONS, 1);
    quotas_free(q);
}

static void test_a_tenants_own_limits(void **state)
{
    (void)state;
    struct quota_conf conf = {0};
    conf.tenant[QUOTA_SUBSCRIPTIONS] = 1;
    struct quotas *q = make(conf, 1);
    quota_set(q, 1, QUOTA_SUBSCRIPTIONS, 2);
    assert_int_equal(quota_limit(q, 1, QUOTA_SUBSCRIPTIONS), 2);
    assert_int_equal(quota_limit(q, 2, QUOTA_SUBSCRIPTIONS), 1);
    assert_true(quota_take(q, 1, QUOTA_SUBSCRIPTIONS, 2));
    quota_set(q, 1, QUOTA_SUBSCRIPTIONS, QUOTA_DEFAULT);
    assert_false(quota_take(q, 1, QUOTA_SUBSCRIPTIONS, 1));
    quota_set(q, 1, QUOTA_SUBSCRIPTIONS, 0); // none
    assert_true(quota_take(q, 1, QUOTA_SUBSCRIPTIONS, 1000));
    quotas_free(q);
}

static void test_metrics_tell(void **state)
{
    (void)state;
    struct quota_conf conf = {0};
    conf.tenant[QUOTA_CONNECTIONS] = 1;
    struct quotas *q = make(conf, 1);
    assert_false(quota_take(q, 1, QUOTA_CONNECTIONS, 2));
    struct buf out = buf_heap(1 << 20);
    metrics_write(&out);
    assert_true(buf_u8(&out, 0));
    assert_non_null(strstr((const char *)out.p, "muster_quota_exceeded_total{limit=\"tenant_connections\"} 1\n"));
    assert_non_null(strstr((const char *)out.p, "muster_quota_exceeded_total{limit=\"client_bytes\"} 0\n"));
    quotas_free(q);
    buf_clear(&out);
    metrics_write(&out);
    assert_true(buf_u8(&out, 0));
    assert_null(strstr((const char *)out.p, "muster_quota_exceeded_total"));
    buf_release(&out);
}

// --- threads -----------------------------------------------------------------------------------------------------

#define THREADS 4
#define TIMES   20000

struct worker {
    struct quotas *q;
    unsigned index;
    _Atomic int64_t *most;
};

static void *work(void *arg)
{
    const struct worker *w = arg;
    struct quota c = {0};
    if (quota_open(&c, quota_loop(w->q, w->index), 1) != ST_OK) {
        return NULL;
    }
    for (int i = 0; i < TIMES; i++) {
        (void)quota_message(&c, quota_loop(w->q, w->index), 10, SECOND_US);
        if (quota_take(w->q, 1, QUOTA_CONNECTIONS, 1)) {
            int64_t used = quota_used(w->q, 1, QUOTA_CONNECTIONS);
            if (used > atomic_load(w->most)) {
                atomic_store(w->most, used);
            }
            quota_give(w->q, 1, QUOTA_CONNECTIONS, 1);
        }
    }
    return NULL;
}

static void test_many_threads(void **state)
{
    (void)state;
    struct quota_conf conf = {0};
    conf.tenant[QUOTA_MESSAGES] = 1000000;
    conf.tenant[QUOTA_CONNECTIONS] = 2;
    struct quotas *q = make(conf, THREADS);
    _Atomic int64_t most = 0;
    pthread_t ids[THREADS];
    struct worker ws[THREADS];
    for (unsigned i = 0; i < THREADS; i++) {
        ws[i] = (struct worker){q, i, &most};
        assert_int_equal(pthread_create(&ids[i], NULL, work, &ws[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(ids[i], NULL), 0);
    }
    assert_int_equal(quota_used(q, 1, QUOTA_CONNECTIONS), 0); // nothing is lost
    assert_true(most >= 1);
    quotas_free(q);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_defaults_limit_what_they_say),
        cmocka_unit_test(test_a_clients_own_rate),
        cmocka_unit_test(test_a_tenants_rate_over_two_loops),
        cmocka_unit_test(test_amounts_at_their_edge),
        cmocka_unit_test(test_a_tenants_own_limits),
        cmocka_unit_test(test_metrics_tell),
        cmocka_unit_test(test_many_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
