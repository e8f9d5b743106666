// policy.*, policy_attachment.*, device_password.*, quota.*, ban.*: who may do what, how much, and who may not come in.
#include <stdio.h>

#include "base/clock.h"
#include "domain/doc/doc.h"
#include "domain/identity/device_password.h"
#include "domain/policy/ban.h"
#include "domain/policy/limit.h"
#include "domain/policy/policy.h"
#include "front/http/api.h"

enum status op_policy_create(struct api_call *call, struct err *err);
enum status op_policy_list(struct api_call *call, struct err *err);
enum status op_policy_get(struct api_call *call, struct err *err);
enum status op_policy_update(struct api_call *call, struct err *err);
enum status op_policy_delete(struct api_call *call, struct err *err);
enum status op_policy_test(struct api_call *call, struct err *err);
enum status op_policy_attachment_add(struct api_call *call, struct err *err);
enum status op_policy_attachment_list(struct api_call *call, struct err *err);
enum status op_policy_attachment_of(struct api_call *call, struct err *err);
enum status op_policy_attachment_remove(struct api_call *call, struct err *err);
enum status op_policy_attachment_remove_tenant(struct api_call *call, struct err *err);
enum status op_device_password_set(struct api_call *call, struct err *err);
enum status op_device_password_list(struct api_call *call, struct err *err);
enum status op_device_password_revoke(struct api_call *call, struct err *err);
enum status op_quota_get(struct api_call *call, struct err *err);
enum status op_quota_set(struct api_call *call, struct err *err);
enum status op_ban_create(struct api_call *call, struct err *err);
enum status op_ban_list(struct api_call *call, struct err *err);
enum status op_ban_delete(struct api_call *call, struct err *err);

// --- policies ----------------------------------------------------------------------------------------------------

static enum status find(struct api_call *call, struct policy_ref *ret, struct err *err)
{
    return policy_find(call->tx, api_param(call, "policy"), ret, err);
}

static enum status answer(struct api_call *call, const struct policy_ref *p, struct err *err)
{
    call->etag = p->version;
    return policy_write(call->tx, p, call->out, err);
}

enum status op_policy_create(struct api_call *call, struct err *err)
{
    struct policy_ref p;
    enum status st = policy_create(call->tx, doc_str(call->body, "id"), doc_str(call->body, "description"),
                                   json_object_get(call->body, "document"), &p, err);
    if (st == ST_OK) {
        (void)snprintf(call->location, sizeof(call->location), "/api/v1/policies/%s", p.id);
        st = answer(call, &p, err);
    }
    return st;
}

enum status op_policy_list(struct api_call *call, struct err *err)
{
    return policy_list(call->tx, api_param(call, "cursor"), api_param_int(call, "limit", 100), call->out, err);
}

enum status op_policy_get(struct api_call *call, struct err *err)
{
    struct policy_ref p;
    enum status st = find(call, &p, err);
    return st == ST_OK ? answer(call, &p, err) : st;
}

enum status op_policy_update(struct api_call *call, struct err *err)
{
    struct policy_ref p;
    enum status st = find(call, &p, err);
    if (st == ST_OK) {
        st = policy_update(call->tx, &p, doc_str(call->body, "description"), json_object_get(call->body, "document"),
                           call->if_match, err);
    }
    return st == ST_OK ? answer(call, &p, err) : st;
}

enum status op_policy_delete(struct api_call *call, struct err *err)
{
    struct policy_ref p;
    enum status st = find(call, &p, err);
    return st == ST_OK ? policy_delete(call->tx, &p, err) : st;
}

// --- asking ------------------------------------------------------------------------------------------------------

// Whose permit is asked: a device's or a token's, one of the two.
static enum status subject(struct api_call *call, struct principal *ret, struct err *err)
{
    struct slice device = doc_str(call->body, "device");
    struct slice token = doc_str(call->body, "token");
    struct policy_target t;
    if ((device.p != NULL) == (token.p != NULL)) {
        return err_at(err, ST_INVALID, "/device", "give either a device or a token");
    }
    enum status st = policy_target_find(call->tx, device.p != NULL ? TARGET_DEVICE : TARGET_TOKEN,
                                        device.p != NULL ? device : token, &t, err);
    if (st == ST_OK) {
        *ret = (struct principal){
            .kind = device.p != NULL ? WHO_DEVICE : WHO_OPERATOR, .tenant = call->tx->who->tenant, .row = t.row};
    }
    return st;
}

static void write_why(const struct permit_why *why, struct jw *out)
{
    jw_object(out);
    jw_key(out, "allowed");
    jw_bool(out, why->allowed);
    jw_key(out, "reason");
    jw_str(out, why->text);
    jw_key(out, "policy");
    jw_str(out, why->by_rule ? why->policy : NULL);
    const struct {
        const char *key;
        unsigned value;
    } places[] = {{"statement", why->statement}, {"topic", why->topic}};
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        jw_key(out, places[i].key);
        if (why->by_rule) {
            jw_uint(out, places[i].value);
        } else {
            jw_null(out);
        }
    }
    jw_object_end(out);
}

enum status op_policy_test(struct api_call *call, struct err *err)
{
    struct principal who;
    struct permit *permit = NULL;
    struct permit_why why;
    enum permit_action action = PERMIT_PUBLISH;
    if (!permit_action_parse(doc_str(call->body, "action"), &action)) {
        return err_at(err, ST_INVALID, "/action", "must be publish, subscribe, receive or retain");
    }
    enum status st = subject(call, &who, err);
    if (st == ST_OK) {
        st = policy_permit(call->tx, &who, doc_str(call->body, "client_id"), &permit, err);
    }
    if (st == ST_OK) {
        permit_explain(permit, action, doc_str(call->body, "topic"), &why);
        write_why(&why, call->out);
    }
    permit_unref(permit);
    return st;
}

// --- attachments -------------------------------------------------------------------------------------------------

static enum status find_target(struct api_call *call, struct slice kind_text, struct slice id,
                               struct policy_target *ret, struct err *err)
{
    enum policy_target_kind kind = TARGET_DEVICE;
    if (!policy_target_kind_parse(kind_text, &kind)) {
        return err_at(err, ST_INVALID, "/kind", "must be device, group, claim, token or tenant");
    }
    if (id.len == 0 && kind != TARGET_TENANT) {
        return err_at(err, ST_INVALID, "/target", "say which %s", policy_target_kind_text(kind));
    }
    return policy_target_find(call->tx, kind, id, ret, err);
}

enum status op_policy_attachment_add(struct api_call *call, struct err *err)
{
    struct policy_ref p;
    struct policy_target t;
    bool changed = false;
    enum status st = find(call, &p, err);
    if (st == ST_OK) {
        st = find_target(call, doc_str(call->body, "kind"), doc_str(call->body, "target"), &t, err);
    }
    if (st == ST_OK) {
        st = policy_attach(call->tx, &p, &t, &changed, err);
    }
    if (st == ST_OK) {
        jw_object(call->out);
        jw_key(call->out, "changed");
        jw_bool(call->out, changed);
        jw_object_end(call->out);
    }
    return st;
}

enum status op_policy_attachment_list(struct api_call *call, struct err *err)
{
    struct policy_ref p;
    enum status st = find(call, &p, err);
    return st == ST_OK ? policy_attachments(call->tx, &p, NULL, api_param(call, "cursor"),
                                            api_param_int(call, "limit", 100), call->out, err)
                       : st;
}

enum status op_policy_attachment_of(struct api_call *call, struct err *err)
{
    struct policy_target t;
    const struct slice start = {NULL, 0};
    enum status st = find_target(call, api_param(call, "kind"), api_param(call, "target"), &t, err);
    return st == ST_OK ? policy_attachments(call->tx, NULL, &t, start, POLICY_PER_TARGET_MAX, call->out, err) : st;
}

static enum status detach(struct api_call *call, struct slice kind, struct slice target, struct err *err)
{
    struct policy_ref p;
    struct policy_target t;
    bool changed = false;
    enum status st = find(call, &p, err);
    if (st == ST_OK) {
        st = find_target(call, kind, target, &t, err);
    }
    if (st == ST_OK) {
        st = policy_detach(call->tx, &p, &t, &changed, err);
    }
    if (st == ST_OK && !changed) {
        st = err_set(err, ST_NOT_FOUND, "policy \"%s\" is not attached to %s \"%s\"", p.id,
                     policy_target_kind_text(t.kind), t.id);
    }
    return st;
}

enum status op_policy_attachment_remove(struct api_call *call, struct err *err)
{
    return detach(call, api_param(call, "kind"), api_param(call, "target"), err);
}

enum status op_policy_attachment_remove_tenant(struct api_call *call, struct err *err)
{
    return detach(call, api_param(call, "kind"), (struct slice){NULL, 0}, err);
}

// --- passwords of devices ----------------------------------------------------------------------------------------

static enum status find_device(struct api_call *call, struct device_ref *ret, struct err *err)
{
    return device_find(call->tx, api_param(call, "device"), ret, err);
}

enum status op_device_password_set(struct api_call *call, struct err *err)
{
    struct device_ref d;
    enum status st = find_device(call, &d, err);
    return st == ST_OK ? device_password_set(call->tx, &d, doc_str(call->body, "password"), call->out, err) : st;
}

enum status op_device_password_list(struct api_call *call, struct err *err)
{
    struct device_ref d;
    enum status st = find_device(call, &d, err);
    return st == ST_OK ? device_password_list(call->tx, &d, call->out, err) : st;
}

enum status op_device_password_revoke(struct api_call *call, struct err *err)
{
    struct device_ref d;
    enum status st = find_device(call, &d, err);
    return st == ST_OK ? device_password_revoke(call->tx, &d, err) : st;
}

// --- quotas ------------------------------------------------------------------------------------------------------

enum status op_quota_get(struct api_call *call, struct err *err)
{
    return limit_write(call->tx, api_param(call, "tenant"), call->out, err);
}

enum status op_quota_set(struct api_call *call, struct err *err)
{
    struct slice tenant = doc_str(call->body, "tenant");
    const json_t *limit = json_object_get(call->body, "limit");
    enum quota_what w = QUOTA_MESSAGES;
    if (!quota_parse(doc_str(call->body, "name"), &w)) {
        return err_at(err, ST_INVALID, "/name", "there is no such limit");
    }
    enum status st =
        limit_set(call->tx, tenant, w, json_is_integer(limit) ? json_integer_value(limit) : QUOTA_DEFAULT, err);
    return st == ST_OK ? limit_write(call->tx, tenant, call->out, err) : st;
}

// --- bans --------------------------------------------------------------------------------------------------------

enum status op_ban_create(struct api_call *call, struct err *err)
{
    struct slice ttl = doc_str(call->body, "ttl");
    struct ban_make m = {.value = doc_str(call->body, "value"), .reason = doc_str(call->body, "reason")};
    if (!ban_kind_parse(doc_str(call->body, "kind"), &m.kind)) {
        return err_at(err, ST_INVALID, "/kind", "must be address, client_id or device");
    }
    if (ttl.p != NULL && (!clock_parse_duration(ttl, &m.ttl_us) || m.ttl_us <= 0)) {
        return err_at(err, ST_INVALID, "/ttl", "must be a duration such as 30m, 1h or 7d");
    }
    return ban_create(call->tx, &m, call->out, err);
}

enum status op_ban_list(struct api_call *call, struct err *err)
{
    return ban_list(call->tx, api_param(call, "cursor"), api_param_int(call, "limit", 100), call->out, err);
}

enum status op_ban_delete(struct api_call *call, struct err *err)
{
    return ban_delete(call->tx, api_param(call, "ban"), err);
}
