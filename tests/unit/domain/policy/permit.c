// Permits against a naive oracle, with random policies, filters and topics; variables with hostile values; deny rules.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/rand.h"
#include "domain/policy/policy_priv.h"
#include "lib/testcore.h"
#include "proto/mqtt.h"

static struct policy_doc *doc_of(const char *text)
{
    json_t *json = testcore_doc(text);
    struct policy_doc *doc = NULL;
    struct err err = {.code = ST_OK};
    if (policy_doc_make(json, &doc, &err) != ST_OK) {
        fail_msg("%s %s", err.where, err.text);
    }
    json_decref(json);
    return doc;
}

static struct policy *policy_of(const char *text)
{
    static uint64_t version = 100;
    struct policy *p = policy_new(7, 1, SLICE("p"), doc_of(text), ++version);
    assert_non_null(p);
    return p;
}

// A permit of one policy; it keeps the only reference.
static struct permit *permit_of(const char *text, const struct permit_value *values, size_t values_len)
{
    struct policy *p = policy_of(text);
    struct permit_make m = {.kind = WHO_DEVICE,
                            .tenant = 1,
                            .row = 5,
                            .version = 1,
                            .client_id = SLICE("c-1"),
                            .policies = &p,
                            .policies_len = 1,
                            .values = values,
                            .values_len = values_len};
    struct permit *pm = permit_new(&m);
    assert_non_null(pm);
    policy_put(p);
    return pm;
}

static void test_plain_rules(void **state)
{
    (void)state;
    struct permit *p = permit_of("{'statements':[{'effect':'allow','actions':['publish'],'topics':['a/+/c','b/#']},"
                                 "{'effect':'allow','actions':['subscribe'],'topics':['s/#']},"
                                 "{'effect':'allow','actions':['retain'],'topics':['b/#']}]}",
                                 NULL, 0);
    assert_true(permit_publish(p, SLICE("a/b/c")));
    assert_true(permit_publish(p, SLICE("a//c")));
    assert_false(permit_publish(p, SLICE("a/b/c/d")));
    assert_false(permit_publish(p, SLICE("a/b")));
    assert_true(permit_publish(p, SLICE("b")));
    assert_true(permit_publish(p, SLICE("b/x/y")));
    assert_false(permit_publish(p, SLICE("s/x")));
    assert_false(permit_retain(p, SLICE("a/b/c")));
    assert_true(permit_retain(p, SLICE("b/1")));
    assert_true(permit_subscribe(p, SLICE("s/+/x")));
    assert_false(permit_subscribe(p, SLICE("b/1")));
    assert_true(permit_receive(p, SLICE("s/1")));
    assert_false(permit_receive(p, SLICE("b/1")));
    assert_int_equal(permit_row(p), 5);
    permit_unref(p);
}

// S10: `#` is not granted where `t/+/x` was meant.
static void test_inclusion_not_intersection(void **state)
{
    (void)state;
    static const struct {
        const char *filter;
        bool covered;
    } rows[] = {{"t/+/x", true},  {"t/1/x", true},    {"#", false},   {"t/#", false}, {"t/+/+", false},
                {"+/+/x", false}, {"t/+/x/#", false}, {"t/+", false}, {"t//x", true}, {"t/1/x/2", false}};
    struct permit *p =
        permit_of("{'statements':[{'effect':'allow','actions':['subscribe'],'topics':['t/+/x']}]}", NULL, 0);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        assert_int_equal(permit_subscribe(p, slice_str(rows[i].filter)), rows[i].covered);
    }
    permit_unref(p);
}

static void test_deny_beats_allow(void **state)
{
    (void)state;
    struct permit *p = permit_of("{'statements':[{'effect':'allow','actions':['publish','subscribe'],'topics':['#']},"
                                 "{'effect':'deny','actions':['subscribe'],'topics':['secret/#']},"
                                 "{'effect':'deny','actions':['receive'],'topics':['quiet/+']},"
                                 "{'effect':'deny','actions':['publish'],'topics':['locked']}]}",
                                 NULL, 0);
    assert_true(permit_subscribe(p, SLICE("#"))); // takes effect message by message
    assert_true(permit_receive(p, SLICE("other")));
    assert_false(permit_receive(p, SLICE("secret")));
    assert_false(permit_receive(p, SLICE("secret/1")));
    assert_false(permit_receive(p, SLICE("quiet/1")));
    assert_true(permit_receive(p, SLICE("quiet/1/2")));
    assert_false(permit_subscribe(p, SLICE("secret/+")));
    assert_false(permit_subscribe(p, SLICE("quiet/1")));
    assert_true(permit_publish(p, SLICE("secret/1")));
    assert_false(permit_publish(p, SLICE("locked")));
    permit_unref(p);
}

static void test_the_servers_own_topics(void **state)
{
    (void)state;
    struct permit *p = permit_of(
        "{'statements':[{'effect':'allow','actions':['publish','subscribe','retain'],'topics':['#','+/+/+']}]}", NULL,
        0);
    assert_false(permit_publish(p, SLICE("$SYS/x")));
    assert_false(permit_subscribe(p, SLICE("$SYS/#")));
    assert_false(permit_receive(p, SLICE("$muster/twin")));
    assert_false(permit_publish(p, SLICE("devices/d/telemetry")));
    assert_false(permit_retain(p, SLICE("devices/d/telemetry")));
    assert_false(permit_publish(p, SLICE("devices")));
    assert_true(permit_publish(p, SLICE("devices2/d")));
    assert_true(permit_subscribe(p, SLICE("devices/+/twin")));
    assert_false(permit_publish(p, SLICE("")));
    permit_unref(p);
    assert_false(permit_publish(NULL, SLICE("a")));
    assert_int_equal(permit_version(NULL), 0);
}

static void test_mirror_topics_by_permission(void **state)
{
    (void)state;
    struct permit_make m = {.kind = WHO_OPERATOR,
                            .tenant = 1,
                            .row = 9,
                            .perms = UINT64_C(1) << PERM_TWIN_READ | UINT64_C(1) << PERM_MQTT_CONNECT,
                            .version = 3};
    struct permit *p = permit_new(&m);
    assert_true(permit_subscribe(p, SLICE("devices/+/twin")));
    assert_true(permit_subscribe(p, SLICE("devices/d-1/twin")));
    assert_true(permit_receive(p, SLICE("devices/d-1/twin")));
    assert_false(permit_subscribe(p, SLICE("devices/+/telemetry")));
    assert_false(permit_subscribe(p, SLICE("devices/#")));
    assert_false(permit_receive(p, SLICE("devices/d-1/telemetry")));
    assert_false(permit_publish(p, SLICE("devices/d-1/twin")));
    permit_unref(p);
    m.kind = WHO_DEVICE; // a device has no permissions, whatever stands there
    p = permit_new(&m);
    assert_false(permit_subscribe(p, SLICE("devices/+/twin")));
    permit_unref(p);
}

static void test_variables(void **state)
{
    (void)state;
    const struct permit_value values[] = {{SLICE("device.id"), SLICE("d-1")},
                                          {SLICE("device.tags.site"), SLICE("berlin")},
                                          {SLICE("client.id"), SLICE("$x")}};
    struct permit *p =
        permit_of("{'statements':[{'effect':'allow','actions':['publish','subscribe'],'topics':['plant/"
                  "${device.tags.site}/${device.id}/#',"
                  "'x-${device.id}-y-${device.tags.site}','${device.tags.none}/#','u/${cert.cn}','${client.id}/a']}]}",
                  values, 3);
    assert_true(permit_publish(p, SLICE("plant/berlin/d-1/t")));
    assert_true(permit_publish(p, SLICE("plant/berlin/d-1")));
    assert_false(permit_publish(p, SLICE("plant/berlin/d-10/t")));
    assert_false(permit_publish(p, SLICE("plant/berlin")));
    assert_true(permit_publish(p, SLICE("x-d-1-y-berlin")));
    assert_false(permit_publish(p, SLICE("x-d-1-y-berlinx")));
    assert_false(permit_publish(p, SLICE("x-d-1-y")));
    assert_false(permit_publish(p, SLICE("/a")));
    assert_false(permit_publish(p, SLICE("u/")));
    assert_false(permit_publish(p, SLICE("u/x")));
    assert_false(permit_publish(p, SLICE("$x/a"))); // '$' stays the server's, from a value too
    assert_true(permit_subscribe(p, SLICE("plant/berlin/d-1/#")));
    assert_false(permit_subscribe(p, SLICE("plant/+/d-1/#")));
    assert_false(permit_subscribe(p, SLICE("plant/berlin/+/#")));
    permit_unref(p);
}

// Values nobody may smuggle wildcards or levels in with: allow rules match nothing, deny rules everything they might.
static void test_hostile_values(void **state)
{
    (void)state;
    static const char *const bad[] = {"#", "+", "a/b", "a/#", "x+", "", "a\nb", "\x7f", "\xff\xfe", "a\x1f"};
    static const char *const doc =
        "{'statements':[{'effect':'allow','actions':['publish','subscribe'],'topics':['t/${device.tags.v}/x','o/#']},"
        "{'effect':'deny','actions':['publish','subscribe'],'topics':['o/${device.tags.v}/k','o/"
        "p-${device.tags.v}']}]}";
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        const struct permit_value v = {SLICE("device.tags.v"), slice_str(bad[i])};
        struct permit *p = permit_of(doc, &v, 1);
        assert_false(permit_publish(p, SLICE("t/a/x")));
        assert_false(permit_publish(p, SLICE("t/a/b/x")));
        assert_false(permit_subscribe(p, SLICE("t/+/x")));
        assert_false(permit_subscribe(p, SLICE("t/#/x")));
        assert_false(permit_publish(p, SLICE("o/anything/k")));
        assert_false(permit_publish(p, SLICE("o/p-1")));
        assert_false(permit_subscribe(p, SLICE("o/+/k")));
        assert_true(permit_publish(p, SLICE("o/anything/l")));
        permit_unref(p);
    }
    const struct permit_value good = {SLICE("device.tags.v"), SLICE("a")};
    struct permit *p = permit_of(doc, &good, 1);
    assert_true(permit_publish(p, SLICE("t/a/x")));
    assert_false(permit_publish(p, SLICE("o/a/k")));
    assert_true(permit_publish(p, SLICE("o/b/k")));
    permit_unref(p);
}

static void test_a_new_document_is_seen_at_once(void **state)
{
    (void)state;
    struct policy *policy = policy_of("{'statements':[{'effect':'allow','actions':['publish'],'topics':['a']}]}");
    struct permit_make m = {.kind = WHO_DEVICE, .version = 1, .policies = &policy, .policies_len = 1};
    struct permit *p = permit_new(&m);
    uint64_t before = permit_version(p);
    assert_true(permit_publish(p, SLICE("a")));
    policy_swap(policy, doc_of("{'statements':[{'effect':'allow','actions':['publish'],'topics':['b']}]}"), 5000);
    assert_int_not_equal(permit_version(p), before);
    assert_false(permit_publish(p, SLICE("a")));
    assert_true(permit_publish(p, SLICE("b")));
    policy_swap(policy, NULL, 5001);
    assert_false(permit_publish(p, SLICE("b")));
    struct permit *again = permit_ref(p);
    permit_unref(p);
    assert_int_equal(permit_version(again), 5001);
    permit_unref(again);
    policy_put(policy);
}

static void test_explains_what_decides(void **state)
{
    (void)state;
    struct permit *p = permit_of("{'statements':[{'effect':'allow','actions':['publish'],'topics':['x','a/#']},"
                                 "{'effect':'deny','actions':['publish'],'topics':['a/no']}]}",
                                 NULL, 0);
    struct permit_why why;
    permit_explain(p, PERMIT_PUBLISH, SLICE("a/yes"), &why);
    assert_true(why.allowed && why.by_rule);
    assert_string_equal(why.policy, "p");
    assert_int_equal(why.statement, 0);
    assert_int_equal(why.topic, 1);
    permit_explain(p, PERMIT_PUBLISH, SLICE("a/no"), &why);
    assert_false(why.allowed);
    assert_true(why.by_rule);
    assert_int_equal(why.statement, 1);
    permit_explain(p, PERMIT_PUBLISH, SLICE("b"), &why);
    assert_false(why.allowed || why.by_rule);
    permit_unref(p);
}

// --- random policies ---------------------------------------------------------------------------------------------

#define ROUNDS 3000

static const char *const words[] = {"a", "b", "", "c"};

// A random filter (or, without wildcards, topic) of 1 to 4 levels.
static void random_filter(bool wild, char dst[64])
{
    unsigned levels = 1 + (unsigned)(rand_u64() % 4);
    size_t n = 0;
    dst[0] = '\0';
    for (unsigned i = 0; i < levels; i++) {
        unsigned r = (unsigned)(rand_u64() % 8);
        const char *level = wild && r == 0 ? "+" : wild && r == 1 && i + 1 == levels ? "#" : words[r % 4];
        n += (size_t)snprintf(dst + n, 64 - n, "%s%s", i > 0 ? "/" : "", level);
    }
    if (n == 0) {
        snprintf(dst, 64, "a");
    }
}

struct random_rule {
    bool deny;
    char topic[64];
};

static struct permit *random_permit(struct random_rule *rules, unsigned n)
{
    char text[2048] = "{'statements':[";
    for (unsigned i = 0; i < n; i++) {
        rules[i].deny = rand_u64() % 3 == 0;
        random_filter(true, rules[i].topic);
        size_t at = strlen(text);
        snprintf(text + at, sizeof(text) - at, "%s{'effect':'%s','actions':['subscribe','publish'],'topics':['%s']}",
                 i > 0 ? "," : "", rules[i].deny ? "deny" : "allow", rules[i].topic);
    }
    size_t end = strlen(text);
    snprintf(text + end, sizeof(text) - end, "]}");
    return permit_of(text, NULL, 0);
}

// The oracle: matches each rule with the codec's own matcher.
static bool allowed(const struct random_rule *rules, unsigned n, struct slice topic)
{
    bool yes = false;
    for (unsigned i = 0; i < n; i++) {
        if (mqtt_topic_matches(slice_str(rules[i].topic), topic)) {
            if (rules[i].deny) {
                return false;
            }
            yes = true;
        }
    }
    return yes;
}

// What is delivered (subscription granted, filter matches, permit_receive) is a subset of what is allowed.
static void test_delivered_is_a_subset_of_allowed(void **state)
{
    (void)state;
    unsigned granted = 0;
    unsigned delivered = 0;
    rand_seed(4711);
    for (unsigned round = 0; round < ROUNDS; round++) {
        struct random_rule rules[4];
        unsigned n = 1 + (unsigned)(rand_u64() % 4);
        struct permit *p = random_permit(rules, n);
        char filter[64];
        random_filter(true, filter);
        bool may = permit_subscribe(p, slice_str(filter));
        granted += may ? 1 : 0;
        for (unsigned i = 0; i < 40; i++) {
            char topic[64];
            random_filter(false, topic);
            struct slice t = slice_str(topic);
            bool ok = allowed(rules, n, t);
            assert_int_equal(permit_publish(p, t), ok);
            assert_int_equal(permit_receive(p, t), ok);
            if (may && mqtt_topic_matches(slice_str(filter), t) && permit_receive(p, t)) {
                delivered++;
                assert_true(ok);
            }
        }
        permit_unref(p);
    }
    assert_true(granted > 100 && delivered > 100); // the test has met the case
}

// A granted filter matches nothing that its permit does not allow, deny rules aside: inclusion is exact in that direction.
static void test_granted_filters_are_included(void **state)
{
    (void)state;
    unsigned granted = 0;
    rand_seed(1234);
    for (unsigned round = 0; round < ROUNDS; round++) {
        struct random_rule rule = {.deny = false};
        char text[256];
        char filter[64];
        random_filter(true, rule.topic);
        random_filter(true, filter);
        snprintf(text, sizeof(text), "{'statements':[{'effect':'allow','actions':['subscribe'],'topics':['%s']}]}",
                 rule.topic);
        struct permit *p = permit_of(text, NULL, 0);
        bool may = permit_subscribe(p, slice_str(filter));
        bool outside = false;
        for (unsigned i = 0; i < 200; i++) {
            char topic[64];
            random_filter(false, topic);
            outside = outside || (mqtt_topic_matches(slice_str(filter), slice_str(topic)) &&
                                  !mqtt_topic_matches(slice_str(rule.topic), slice_str(topic)));
        }
        if (may && outside) {
            fail_msg("%s was granted under %s", filter, rule.topic);
        }
        granted += may ? 1 : 0;
        permit_unref(p);
    }
    assert_true(granted > 100);
}

// --- threads -----------------------------------------------------------------------------------------------------

struct asker {
    struct permit *permit;
    _Atomic bool stop;
    _Atomic unsigned answers;
};

// Whoever asks while a document is replaced gets the answer of the old one or of the new one, never another: a/1 and b/1 are
// allowed by every version, c/1 by none.
static void *ask_on(void *arg)
{
    struct asker *a = arg;
    while (!atomic_load(&a->stop)) {
        uint64_t version = permit_version(a->permit);
        if (!permit_publish(a->permit, SLICE("a/1")) || !permit_publish(a->permit, SLICE("b/1")) ||
            permit_publish(a->permit, SLICE("c/1")) || permit_version(a->permit) < version) {
            return a;
        }
        atomic_fetch_add(&a->answers, 1);
    }
    return NULL;
}

static void test_asked_while_it_changes(void **state)
{
    (void)state;
    static const char *const docs[] = {
        "{'statements':[{'effect':'allow','actions':['publish'],'topics':['a/+','b/+']}]}",
        "{'statements':[{'effect':'allow','actions':['publish'],'topics':['#']},"
        "{'effect':'deny','actions':['publish'],'topics':['c/${device.tags.none}']}]}"};
    struct policy *policy = policy_of(docs[0]);
    struct permit_make m = {.kind = WHO_DEVICE, .version = 1, .policies = &policy, .policies_len = 1};
    struct asker a = {.permit = permit_new(&m)};
    pthread_t threads[2];
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, ask_on, &a), 0);
    }
    for (unsigned i = 1; i < 2000 || atomic_load(&a.answers) < 100; i++) {
        policy_swap(policy, doc_of(docs[i % 2]), 1000000 + i);
    }
    atomic_store(&a.stop, true);
    for (unsigned i = 0; i < 2; i++) {
        void *wrong = NULL;
        assert_int_equal(pthread_join(threads[i], &wrong), 0);
        assert_null(wrong);
    }
    policy_put(policy);
    permit_unref(a.permit);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain_rules),
        cmocka_unit_test(test_inclusion_not_intersection),
        cmocka_unit_test(test_deny_beats_allow),
        cmocka_unit_test(test_the_servers_own_topics),
        cmocka_unit_test(test_mirror_topics_by_permission),
        cmocka_unit_test(test_variables),
        cmocka_unit_test(test_hostile_values),
        cmocka_unit_test(test_a_new_document_is_seen_at_once),
        cmocka_unit_test(test_explains_what_decides),
        cmocka_unit_test(test_delivered_is_a_subset_of_allowed),
        cmocka_unit_test(test_granted_filters_are_included),
        cmocka_unit_test(test_asked_while_it_changes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
