// Policy documents and topics from anywhere: two lines (a topic or filter, a value of a tag), then a document. What passes the
// check compiles, is asked without a fault, and never gives more than it says: a granted filter's own topic may be received
// unless a deny rule speaks; no answer allows a topic of the server's.
#include <stdlib.h>

#include "domain/doc/doc.h"
#include "domain/policy/policy_priv.h"
#include "proto/mqtt.h"

static void must(bool ok)
{
    if (!ok) {
        abort();
    }
}

static struct slice next_line(struct slice *rest)
{
    const uint8_t *end = rest->len > 0 ? memchr(rest->p, '\n', rest->len) : NULL;
    struct slice line = end != NULL ? slice_head(*rest, (size_t)(end - rest->p)) : *rest;
    *rest = slice_from(*rest, line.len + 1);
    return line;
}

static bool denies(const struct policy_doc *d)
{
    for (unsigned i = 0; i < d->rules_len; i++) {
        if (d->rules[i].deny) {
            return true;
        }
    }
    return false;
}

static void ask(const struct permit *p, struct slice topic, bool may_deny)
{
    static const struct mqtt_limits limits = {.topic_max = 1024, .levels_max = 64};
    if (!mqtt_filter_valid(topic, &limits)) {
        return;
    }
    bool subscribe = permit_subscribe(p, topic);
    if (topic.p[0] == '$') {
        must(!subscribe && !permit_publish(p, topic) && !permit_receive(p, topic) && !permit_retain(p, topic));
    }
    if (slice_starts(topic, SLICE("devices/"))) {
        must(!permit_publish(p, topic) && !permit_retain(p, topic));
    }
    if (mqtt_topic_valid(topic, &limits) && subscribe && !may_deny) {
        must(permit_receive(p, topic));
    }
    for (unsigned a = 0; a < PERMIT_ACTION__COUNT; a++) {
        struct permit_why why;
        permit_explain(p, (enum permit_action)a, topic, &why);
        must(why.text != NULL && (!why.by_rule || why.policy[0] != '\0'));
    }
}

static void with_document(struct policy_doc *doc, struct slice topic, struct slice tag)
{
    const struct permit_value values[] = {{SLICE("device.id"), SLICE("d-1")}, {SLICE("device.tags.site"), tag}};
    bool may_deny = denies(doc);
    struct policy *policy = policy_new(1, 1, SLICE("p"), doc, 1);
    must(policy != NULL);
    const struct permit_make m = {.kind = WHO_DEVICE,
                                  .version = 2,
                                  .client_id = SLICE("c"),
                                  .policies = &policy,
                                  .policies_len = 1,
                                  .values = values,
                                  .values_len = 2};
    struct permit *p = permit_new(&m);
    must(p != NULL && permit_version(p) == 2);
    ask(p, topic, may_deny);
    permit_unref(p);
    policy_put(policy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice rest = slice_make(data, size);
    struct slice topic = next_line(&rest);
    struct slice tag = next_line(&rest);
    struct err err = {.code = ST_OK};
    json_t *json = NULL;
    struct policy_doc *doc = NULL;
    if (doc_parse(rest, DOC_DEPTH_MAX, &json, &err) != ST_OK) {
        return 0;
    }
    err = (struct err){.code = ST_OK};
    enum status st = policy_doc_make(json, &doc, &err);
    must((st == ST_OK) == (doc != NULL) && (st == ST_OK || err.text[0] != '\0'));
    if (doc != NULL) {
        must(doc->rules_len <= POLICY_RULES_MAX && doc->vars_len <= POLICY_VARS_MAX);
        with_document(doc, topic, tag);
    }
    json_decref(json);
    return 0;
}
