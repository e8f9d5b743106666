// Policy documents: what is refused, where, and that limits hold at their edge.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "domain/policy/policy_priv.h"
#include "lib/testcore.h"

static void test_refusals_say_where(void **state)
{
    (void)state;
    static const struct {
        const char *doc, *where;
    } rows[] = {
        {"[]", ""},
        {"{'statement':[]}", ""},
        {"{'statements':{}}", "/statements"},
        {"{'statements':[1]}", "/statements/0"},
        {"{'statements':[{'effect':'allow','actions':['publish'],'topics':['a'],'x':1}]}", "/statements/0"},
        {"{'statements':[{'effect':'maybe','actions':['publish'],'topics':['a']}]}", "/statements/0/effect"},
        {"{'statements':[{'effect':'deny','actions':[],'topics':['a']}]}", "/statements/0/actions"},
        {"{'statements':[{'effect':'deny','actions':['publish','read'],'topics':['a']}]}", "/statements/0/actions/1"},
        {"{'statements':[{'effect':'deny','actions':['retain','retain'],'topics':['a']}]}", "/statements/0/actions/1"},
        {"{'statements':[{'effect':'deny','actions':['publish'],'topics':[]}]}", "/statements/0/topics"},
        {"{'statements':[{'effect':'deny','actions':['publish'],'topics':[7]}]}", "/statements/0/topics/0"},
        {"{'statements':[{'effect':'deny','actions':['publish'],'topics':['']}]}", "/statements/0/topics/0"},
        {"{'statements':[{'effect':'deny','actions':['publish'],'topics':['a','a/#/b']}]}", "/statements/0/topics/1"},
        {"{'statements':[{'effect':'deny','actions':['publish'],'topics':['a+']}]}", "/statements/0/topics/0"},
        {"{'statements':[{'effect':'deny','actions':['publish'],'topics':['$SYS/a']}]}", "/statements/0/topics/0"},
        {"{'statements':[{'effect':'deny','actions':['publish'],'topics':['${device.i}']}]}", "/statements/0/topics/0"},
        {"{'statements':[{'effect':'deny','actions':['publish'],'topics':['${device.tags.}']}]}",
         "/statements/0/topics/0"},
        {"{'statements':[{'effect':'deny','actions':['publish'],'topics':['a/${device.id']}]}",
         "/statements/0/topics/0"},
        {"{'statements':[{'effect':'deny','actions':['publish'],'topics':['${device.id/x}']}]}",
         "/statements/0/topics/0"},
        {"{'statements':[{'effect':'deny','actions':['publish'],'topics':['a\\u0001']}]}", "/statements/0/topics/0"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct err err = {.code = ST_OK};
        json_t *doc = testcore_doc(rows[i].doc);
        assert_int_equal(policy_check(doc, &err), ST_INVALID);
        assert_string_equal(err.where, rows[i].where);
        assert_true(err.text[0] != '\0');
        json_decref(doc);
    }
}

static void add_statement(json_t *list, unsigned topics)
{
    json_t *t = json_array();
    for (unsigned i = 0; i < topics; i++) {
        json_array_append_new(t, json_string("a/b"));
    }
    json_array_append_new(list, json_pack("{s:s, s:[s], s:o}", "effect", "allow", "actions", "publish", "topics", t));
}

static enum status check_sizes(unsigned statements, unsigned topics)
{
    json_t *list = json_array();
    for (unsigned i = 0; i < statements; i++) {
        add_statement(list, topics);
    }
    json_t *doc = json_pack("{s:o}", "statements", list);
    enum status st = policy_check(doc, NULL);
    json_decref(doc);
    return st;
}

static void test_limits_at_their_edge(void **state)
{
    (void)state;
    assert_int_equal(check_sizes(0, 0), ST_OK);
    assert_int_equal(check_sizes(POLICY_STATEMENTS_MAX, 1), ST_OK);
    assert_int_equal(check_sizes(POLICY_STATEMENTS_MAX + 1, 1), ST_INVALID);
    assert_int_equal(check_sizes(1, POLICY_TOPICS_MAX), ST_OK);
    assert_int_equal(check_sizes(1, POLICY_TOPICS_MAX + 1), ST_INVALID);
    assert_int_equal(check_sizes(8, 64), ST_OK);
    assert_int_equal(check_sizes(9, 57), ST_INVALID); // 513 topics in all
}

static void check_topic(size_t len, unsigned levels, enum status want)
{
    char topic[POLICY_TOPIC_MAX + 8];
    memset(topic, 'a', sizeof(topic));
    for (unsigned i = 1; i < levels; i++) {
        topic[2 * i - 1] = '/';
    }
    topic[len] = '\0';
    json_t *doc =
        json_pack("{s:[{s:s, s:[s], s:[s]}]}", "statements", "effect", "deny", "actions", "retain", "topics", topic);
    assert_non_null(doc);
    assert_int_equal(policy_check(doc, NULL), want);
    json_decref(doc);
}

static void test_topics_at_their_edge(void **state)
{
    (void)state;
    check_topic(1, 1, ST_OK);
    check_topic(POLICY_TOPIC_MAX, 1, ST_OK);
    check_topic(POLICY_TOPIC_MAX + 1, 1, ST_INVALID);
    check_topic(100, POLICY_LEVELS_MAX, ST_OK);
    check_topic(100, POLICY_LEVELS_MAX + 1, ST_INVALID);
}

static void test_variables_at_their_edge(void **state)
{
    (void)state;
    for (unsigned n = POLICY_VARS_MAX; n <= POLICY_VARS_MAX + 1; n++) {
        json_t *topics = json_array();
        for (unsigned i = 0; i < n; i++) {
            char topic[64];
            snprintf(topic, sizeof(topic), "a/${device.tags.t%u}/${device.tags.t0}", i);
            json_array_append_new(topics, json_string(topic));
        }
        json_t *doc = json_pack("{s:[{s:s, s:[s], s:o}]}", "statements", "effect", "allow", "actions", "receive",
                                "topics", topics);
        struct policy_doc *compiled = NULL;
        assert_int_equal(policy_doc_make(doc, &compiled, NULL), n == POLICY_VARS_MAX ? ST_OK : ST_INVALID);
        if (compiled != NULL) {
            assert_int_equal(compiled->vars_len, POLICY_VARS_MAX);
            policy_doc_free(compiled);
        }
        json_decref(doc);
    }
}

static void test_actions_by_name(void **state)
{
    (void)state;
    for (unsigned i = 0; i < PERMIT_ACTION__COUNT; i++) {
        enum permit_action a = PERMIT_ACTION__COUNT;
        assert_true(permit_action_parse(slice_str(permit_action_text((enum permit_action)i)), &a));
        assert_int_equal(a, i);
    }
    enum permit_action a;
    assert_false(permit_action_parse(SLICE("read"), &a));
    assert_string_equal(permit_action_text(PERMIT_ACTION__COUNT), "unknown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refusals_say_where),   cmocka_unit_test(test_limits_at_their_edge),
        cmocka_unit_test(test_topics_at_their_edge), cmocka_unit_test(test_variables_at_their_edge),
        cmocka_unit_test(test_actions_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
