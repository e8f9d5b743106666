// Policies with a store: permits follow attachments, groups, tags, claims and documents; those who keep permits are told.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "domain/identity/claim.h"
#include "domain/identity/operator.h"
#include "domain/policy/policy.h"
#include "lib/testcore.h"
#include "lib/testcsr.h"
#include "lib/testidentity.h"

static struct testcore t;
static struct policy_change told[64];
static unsigned told_len;
static bool refuse_change;

static enum status on_change(struct tx *tx, const struct policy_change *change, void *arg, struct err *err)
{
    (void)tx;
    (void)arg;
    if (refuse_change) {
        return err_set(err, ST_NOMEM, "no memory for the change");
    }
    assert_true(told_len < 64);
    told[told_len++] = *change;
    return ST_OK;
}

static enum status run_start(struct tx *tx, void *arg, struct err *err)
{
    return policy_start(tx, arg, err);
}

static int setup(void **state)
{
    struct policy_conf conf = {.anonymous = "guests"};
    (void)state;
    testcore_open(&t);
    assert_int_equal(testcore_identity(&t), ST_OK);
    assert_int_equal(testcore_run(&t, run_start, &conf), ST_OK);
    policy_on_change(t.core, on_change, NULL);
    told_len = 0;
    refuse_change = false;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    policy_stop(t.core);
    testcore_close(&t);
    return 0;
}

// --- steps -------------------------------------------------------------------------------------------------------

static enum status run_device(struct tx *tx, void *arg, struct err *err)
{
    struct device_ref d;
    json_t *doc = testcore_doc(arg);
    enum status st = device_create(tx, doc, &d, err);
    json_decref(doc);
    return st;
}

static void device(const char *desc)
{
    assert_int_equal(testcore_run(&t, run_device, (void *)desc), ST_OK);
}

struct patch {
    const char *id, *patch;
};
static enum status run_patch(struct tx *tx, void *arg, struct err *err)
{
    const struct patch *p = arg;
    struct device_ref d;
    json_t *doc = testcore_doc(p->patch);
    enum status st = device_find(tx, slice_str(p->id), &d, err);
    if (st == ST_OK) {
        st = device_update(tx, &d, doc, -1, NULL, err);
    }
    json_decref(doc);
    return st;
}

struct step {
    const char *id, *doc;
    int64_t if_version;
    enum policy_target_kind kind;
    const char *target;
    bool changed;
};
static enum status run_create(struct tx *tx, void *arg, struct err *err)
{
    const struct step *s = arg;
    struct policy_ref p;
    json_t *doc = testcore_doc(s->doc);
    enum status st = policy_create(tx, slice_str(s->id), SLICE("of a test"), doc, &p, err);
    if (st == ST_OK) {
        st = policy_write(tx, &p, &t.w, err);
    }
    json_decref(doc);
    return st;
}

static enum status run_update(struct tx *tx, void *arg, struct err *err)
{
    const struct step *s = arg;
    struct policy_ref p;
    json_t *doc = s->doc != NULL ? testcore_doc(s->doc) : NULL;
    enum status st = policy_find(tx, slice_str(s->id), &p, err);
    if (st == ST_OK) {
        st = policy_update(tx, &p, (struct slice){NULL, 0}, doc, s->if_version, err);
    }
    json_decref(doc);
    return st;
}

static enum status run_delete(struct tx *tx, void *arg, struct err *err)
{
    const struct step *s = arg;
    struct policy_ref p;
    enum status st = policy_find(tx, slice_str(s->id), &p, err);
    return st == ST_OK ? policy_delete(tx, &p, err) : st;
}

static enum status find_both(struct tx *tx, const struct step *s, struct policy_ref *p, struct policy_target *target,
                             struct err *err)
{
    enum status st = policy_find(tx, slice_str(s->id), p, err);
    return st == ST_OK ? policy_target_find(tx, s->kind, slice_str(s->target), target, err) : st;
}

static enum status run_attach(struct tx *tx, void *arg, struct err *err)
{
    struct step *s = arg;
    struct policy_ref p;
    struct policy_target target;
    enum status st = find_both(tx, s, &p, &target, err);
    return st == ST_OK ? policy_attach(tx, &p, &target, &s->changed, err) : st;
}

static enum status run_detach(struct tx *tx, void *arg, struct err *err)
{
    struct step *s = arg;
    struct policy_ref p;
    struct policy_target target;
    enum status st = find_both(tx, s, &p, &target, err);
    return st == ST_OK ? policy_detach(tx, &p, &target, &s->changed, err) : st;
}

static void policy(const char *id, const char *doc)
{
    struct step s = {.id = id, .doc = doc};
    assert_int_equal(testcore_run(&t, run_create, &s), ST_OK);
}

static void attach(const char *id, enum policy_target_kind kind, const char *target)
{
    struct step s = {.id = id, .kind = kind, .target = target};
    assert_int_equal(testcore_run(&t, run_attach, &s), ST_OK);
    assert_true(s.changed);
}

static void detach(const char *id, enum policy_target_kind kind, const char *target)
{
    struct step s = {.id = id, .kind = kind, .target = target};
    assert_int_equal(testcore_run(&t, run_detach, &s), ST_OK);
    assert_true(s.changed);
}

struct want {
    struct principal who;
    const char *device;
    struct permit *old, *permit;
};
static enum status run_permit(struct tx *tx, void *arg, struct err *err)
{
    struct want *w = arg;
    struct device_ref d;
    if (w->old != NULL) {
        return policy_permit_again(tx, w->old, &w->permit, err);
    }
    if (w->device != NULL) {
        enum status st = device_find(tx, slice_str(w->device), &d, err);
        if (st != ST_OK) {
            return st;
        }
        w->who = (struct principal){.kind = WHO_DEVICE, .tenant = d.tenant, .row = d.row};
    }
    return policy_permit(tx, &w->who, SLICE("client-1"), &w->permit, err);
}

static struct permit *permit_for(const char *id)
{
    struct want w = {.device = id};
    assert_int_equal(testcore_run(&t, run_permit, &w), ST_OK);
    assert_non_null(w.permit);
    return w.permit;
}

static bool may_publish(const char *id, const char *topic)
{
    struct permit *p = permit_for(id);
    bool may = permit_publish(p, slice_str(topic));
    permit_unref(p);
    return may;
}

#define ALLOW(topic) "{'statements':[{'effect':'allow','actions':['publish'],'topics':['" topic "']}]}"

// --- tests -------------------------------------------------------------------------------------------------------

static void test_nothing_is_allowed_without_a_policy(void **state)
{
    (void)state;
    device("{'id':'d-1'}");
    policy("all", ALLOW("#"));
    assert_false(may_publish("d-1", "a"));
    attach("all", TARGET_DEVICE, "d-1");
    assert_true(may_publish("d-1", "a"));
    detach("all", TARGET_DEVICE, "d-1");
    assert_false(may_publish("d-1", "a"));
}

static void test_tenant_group_and_device_add_up(void **state)
{
    (void)state;
    device("{'id':'d-1'}");
    device("{'id':'d-2'}");
    policy("mine", ALLOW("own/${device.id}/#"));
    policy("groups", ALLOW("group/x"));
    policy("everybody", "{'statements':[{'effect':'deny','actions':['publish'],'topics':['own/d-1/no']}]}");
    attach("mine", TARGET_TENANT, "");
    attach("everybody", TARGET_TENANT, "default");
    struct step s = {.id = "groups", .kind = TARGET_GROUP, .target = "g"};
    assert_int_equal(testcore_run(&t, run_attach, &s), ST_NOT_FOUND);
    assert_true(may_publish("d-1", "own/d-1/a"));
    assert_false(may_publish("d-1", "own/d-1/no"));
    assert_false(may_publish("d-2", "own/d-1/a"));
    assert_true(may_publish("d-2", "own/d-2/no"));
}

static enum status run_group(struct tx *tx, void *arg, struct err *err)
{
    struct group_ref g;
    (void)arg;
    return group_create(tx, SLICE("g"), (struct slice){NULL, 0}, &g, err);
}

static enum status run_join(struct tx *tx, void *arg, struct err *err)
{
    struct group_ref g;
    struct device_ref d;
    bool add = arg != NULL;
    enum status st = group_find(tx, SLICE("g"), &g, err);
    if (st == ST_OK) {
        st = device_find(tx, SLICE("d-1"), &d, err);
    }
    if (st != ST_OK) {
        return st;
    }
    return add ? group_add(tx, &g, &d, NULL, err) : group_remove(tx, &g, &d, NULL, err);
}

static enum status run_group_delete(struct tx *tx, void *arg, struct err *err)
{
    struct group_ref g;
    (void)arg;
    enum status st = group_find(tx, SLICE("g"), &g, err);
    return st == ST_OK ? group_delete(tx, &g, err) : st;
}

static void test_groups(void **state)
{
    (void)state;
    device("{'id':'d-1'}");
    policy("p", ALLOW("g/#"));
    assert_int_equal(testcore_run(&t, run_group, NULL), ST_OK);
    attach("p", TARGET_GROUP, "g");
    assert_false(may_publish("d-1", "g/1"));
    told_len = 0;
    assert_int_equal(testcore_run(&t, run_join, &t), ST_OK);
    assert_int_equal(told_len, 1);
    assert_int_equal(told[0].scope, POLICY_OF_PRINCIPAL);
    assert_int_equal(told[0].kind, WHO_DEVICE);
    assert_true(may_publish("d-1", "g/1"));
    assert_int_equal(testcore_run(&t, run_join, NULL), ST_OK);
    assert_int_equal(told_len, 2);
    assert_false(may_publish("d-1", "g/1"));
    assert_int_equal(testcore_run(&t, run_join, &t), ST_OK);
    told_len = 0;
    assert_int_equal(testcore_run(&t, run_group_delete, NULL), ST_OK); // takes its attachments along
    assert_int_equal(told[0].scope, POLICY_OF_TENANT);
    assert_false(may_publish("d-1", "g/1"));
    struct step s = {.id = "p"};
    assert_int_equal(testcore_run(&t, run_delete, &s), ST_OK);
}

static void test_tags_attributes_and_the_client_id(void **state)
{
    (void)state;
    device("{'id':'d-1','model':'TH-20','tags':{'site':'berlin'},'attributes':{'line':'7','n':5}}");
    policy("p", ALLOW("${tenant.id}/${device.model}/${device.tags.site}/${device.attributes.line}/${client.id}"));
    policy("n", ALLOW("n/${device.attributes.n}"));
    attach("p", TARGET_DEVICE, "d-1");
    attach("n", TARGET_DEVICE, "d-1");
    assert_true(may_publish("d-1", "default/TH-20/berlin/7/client-1"));
    assert_false(may_publish("d-1", "n/5")); // numbers are no texts
    struct permit *old = permit_for("d-1");
    told_len = 0;
    struct patch move = {"d-1", "{'tags':{'site':'hamburg'}}"};
    assert_int_equal(testcore_run(&t, run_patch, &move), ST_OK);
    assert_int_equal(told_len, 1);
    assert_int_equal(told[0].row, permit_row(old));
    struct want w = {.old = old};
    assert_int_equal(testcore_run(&t, run_permit, &w), ST_OK);
    assert_true(permit_version(w.permit) > permit_version(old));
    assert_false(permit_publish(w.permit, SLICE("default/TH-20/berlin/7/client-1")));
    assert_true(permit_publish(w.permit, SLICE("default/TH-20/hamburg/7/client-1")));
    permit_unref(w.permit);
    permit_unref(old);
    struct patch hostile = {"d-1", "{'tags':{'site':'#'}}"};
    assert_int_equal(testcore_run(&t, run_patch, &hostile), ST_OK);
    assert_false(may_publish("d-1", "default/TH-20/x/7/client-1"));
}

static void test_a_new_document_reaches_old_permits(void **state)
{
    (void)state;
    device("{'id':'d-1'}");
    policy("p", ALLOW("a"));
    attach("p", TARGET_DEVICE, "d-1");
    struct permit *p = permit_for("d-1");
    uint64_t before = permit_version(p);
    told_len = 0;
    struct step s = {.id = "p", .doc = ALLOW("b"), .if_version = 2};
    assert_int_equal(testcore_run(&t, run_update, &s), ST_VERSION);
    s.if_version = 1;
    refuse_change = true;
    assert_int_equal(testcore_run(&t, run_update, &s), ST_NOMEM); // the change fails whole: memory stays as the store
    refuse_change = false;
    assert_true(permit_publish(p, SLICE("a")));
    assert_int_equal(permit_version(p), before);
    assert_int_equal(testcore_run(&t, run_update, &s), ST_OK);
    assert_int_equal(told[0].scope, POLICY_DOCUMENT);
    assert_false(permit_publish(p, SLICE("a")));
    assert_true(permit_publish(p, SLICE("b")));
    assert_true(permit_version(p) > before);
    permit_unref(p);
}

static void test_deleting(void **state)
{
    (void)state;
    device("{'id':'d-1'}");
    policy("p", ALLOW("a"));
    struct step s = {.id = "p", .doc = ALLOW("a")};
    assert_int_equal(testcore_run(&t, run_create, &s), ST_EXISTS);
    attach("p", TARGET_DEVICE, "d-1");
    assert_int_equal(testcore_run(&t, run_delete, &s), ST_CONFLICT);
    struct permit *p = permit_for("d-1");
    detach("p", TARGET_DEVICE, "d-1");
    assert_int_equal(testcore_run(&t, run_delete, &s), ST_OK);
    assert_false(permit_publish(p, SLICE("a"))); // an old permit gains nothing from it either
    permit_unref(p);
    assert_int_equal(testcore_run(&t, run_delete, &s), ST_NOT_FOUND);
}

static void test_limits_of_a_target(void **state)
{
    (void)state;
    device("{'id':'d-1'}");
    for (int i = 0; i <= POLICY_PER_TARGET_MAX; i++) {
        char id[16];
        snprintf(id, sizeof(id), "p-%d", i);
        policy(id, ALLOW("a"));
        struct step s = {.id = id, .kind = TARGET_DEVICE, .target = "d-1"};
        assert_int_equal(testcore_run(&t, run_attach, &s), i < POLICY_PER_TARGET_MAX ? ST_OK : ST_LIMIT);
    }
    struct step again = {.id = "p-0", .kind = TARGET_DEVICE, .target = "d-1"};
    assert_int_equal(testcore_run(&t, run_attach, &again), ST_OK);
    assert_false(again.changed);
}

// --- applications ------------------------------------------------------------------------------------------------

static enum status run_token(struct tx *tx, void *arg, struct err *err)
{
    const struct operator_conf conf = {.name = SLICE("app"), .role = ROLE_OPERATOR, .ttl_us = 60000000};
    (void)arg;
    return operator_create(tx, &conf, &t.w, err);
}

static enum status run_revoke(struct tx *tx, void *arg, struct err *err)
{
    (void)arg;
    return operator_revoke(tx, SLICE("app"), err);
}

static void test_applications(void **state)
{
    (void)state;
    assert_int_equal(testcore_run(&t, run_token, NULL), ST_OK);
    json_t *made = testcore_json(&t);
    uint64_t row = strtoull(json_string_value(json_object_get(made, "id")), NULL, 16);
    json_decref(made);
    policy("p", ALLOW("app/${client.id}/#"));
    attach("p", TARGET_TOKEN, "app");
    struct want w = {.who = {.kind = WHO_OPERATOR, .tenant = 1, .row = row}};
    assert_int_equal(testcore_run(&t, run_permit, &w), ST_OK);
    assert_true(permit_publish(w.permit, SLICE("app/client-1/x")));
    assert_true(permit_subscribe(w.permit, SLICE("devices/+/telemetry"))); // what the role may read
    assert_false(permit_publish(w.permit, SLICE("app/client-2/x")));
    told_len = 0;
    assert_int_equal(testcore_run(&t, run_revoke, NULL), ST_OK);
    assert_int_equal(told_len, 1); // whoever came in with it must go
    assert_int_equal(told[0].scope, POLICY_OF_PRINCIPAL);
    assert_int_equal(told[0].kind, WHO_OPERATOR);
    assert_int_equal(told[0].row, row);
    struct want again = {.old = w.permit};
    assert_int_equal(testcore_run(&t, run_permit, &again), ST_NOT_FOUND);
    permit_unref(w.permit);
}

static void test_anonymous(void **state)
{
    (void)state;
    struct want w = {.who = {.kind = WHO_ANONYMOUS, .tenant = 1}};
    assert_int_equal(testcore_run(&t, run_permit, &w), ST_OK);
    assert_false(permit_publish(w.permit, SLICE("open/x"))); // the policy of the configuration does not exist
    permit_unref(w.permit);
    policy("guests", ALLOW("open/#"));
    assert_int_equal(testcore_run(&t, run_permit, &w), ST_OK);
    assert_true(permit_publish(w.permit, SLICE("open/x")));
    permit_unref(w.permit);
    w.who.kind = WHO_CLAIM;
    assert_int_equal(testcore_run(&t, run_permit, &w), ST_FORBIDDEN);
}

// --- claims and certificates -------------------------------------------------------------------------------------

static void test_enrolled_devices_get_the_claims_policies(void **state)
{
    (void)state;
    char token[TESTID_TEXT];
    char id[TESTID_TEXT];
    char csr[TESTCSR_MAX];
    const struct claim_conf conf = {.uses = 2, .ttl_us = 60000000};
    policy("p", ALLOW("new/${cert.cn}"));
    assert_int_equal(testid_claim(&t, conf, token, id), ST_OK);
    attach("p", TARGET_CLAIM, id);
    testcsr("P-256", "d-new", csr);
    assert_int_equal(testid_enrol(&t, token, csr, "d-new"), ST_OK);
    assert_true(may_publish("d-new", "new/d-new"));
    assert_false(may_publish("d-new", "new/other"));
    detach("p", TARGET_CLAIM, id);
    assert_true(may_publish("d-new", "new/d-new")); // it has its own attachment
    struct step s = {.id = "p", .kind = TARGET_CLAIM, .target = "0123"};
    assert_int_equal(testcore_run(&t, run_attach, &s), ST_NOT_FOUND);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_nothing_is_allowed_without_a_policy, setup, teardown),
        cmocka_unit_test_setup_teardown(test_tenant_group_and_device_add_up, setup, teardown),
        cmocka_unit_test_setup_teardown(test_groups, setup, teardown),
        cmocka_unit_test_setup_teardown(test_tags_attributes_and_the_client_id, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_new_document_reaches_old_permits, setup, teardown),
        cmocka_unit_test_setup_teardown(test_deleting, setup, teardown),
        cmocka_unit_test_setup_teardown(test_limits_of_a_target, setup, teardown),
        cmocka_unit_test_setup_teardown(test_applications, setup, teardown),
        cmocka_unit_test_setup_teardown(test_anonymous, setup, teardown),
        cmocka_unit_test_setup_teardown(test_enrolled_devices_get_the_claims_policies, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
