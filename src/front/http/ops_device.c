// device.*, device_state.*, device_token.*, device_psk.*: devices as operators see them.
#include <stdio.h>

#include "domain/doc/doc.h"
#include "domain/identity/device_psk.h"
#include "domain/identity/device_token.h"
#include "domain/identity/provision.h"
#include "domain/registry/registry.h"
#include "front/http/api.h"

enum status op_device_create(struct api_call *call, struct err *err);
enum status op_device_list(struct api_call *call, struct err *err);
enum status op_device_get(struct api_call *call, struct err *err);
enum status op_device_update(struct api_call *call, struct err *err);
enum status op_device_delete(struct api_call *call, struct err *err);
enum status op_device_import(struct api_call *call, struct err *err);
enum status op_device_state_set(struct api_call *call, struct err *err);
enum status op_device_token_create(struct api_call *call, struct err *err);
enum status op_device_token_list(struct api_call *call, struct err *err);
enum status op_device_token_revoke(struct api_call *call, struct err *err);
enum status op_device_psk_create(struct api_call *call, struct err *err);
enum status op_device_psk_list(struct api_call *call, struct err *err);
enum status op_device_psk_revoke(struct api_call *call, struct err *err);

static enum status find(struct api_call *call, struct device_ref *ret, struct err *err)
{
    return device_find(call->tx, api_param(call, "device"), ret, err);
}

static enum status answer(struct api_call *call, const struct device_ref *d, struct err *err)
{
    call->etag = d->version;
    return device_write(call->tx, d, call->out, err);
}

enum status op_device_create(struct api_call *call, struct err *err)
{
    struct device_ref d;
    enum provision_result result = PROVISION_CREATED;
    enum status st = provision_device(call->tx, call->body, PROVISION_CREATE, &d, &result, err);
    if (st == ST_OK) {
        (void)snprintf(call->location, sizeof(call->location), "/api/v1/devices/%s", d.id);
        st = answer(call, &d, err);
    }
    return st;
}

// "site=berlin" -> site, berlin. The name before the first equals sign; absent text leaves both absent.
static enum status split_pair(struct slice text, const char *param, struct slice *ret_name, struct slice *ret_value,
                              struct err *err)
{
    size_t n = 0;
    if (text.p == NULL) {
        return ST_OK;
    }
    while (n < text.len && text.p[n] != '=') {
        n++;
    }
    if (n == 0 || n == text.len) {
        return err_at(err, ST_INVALID, param, "must be NAME=VALUE");
    }
    *ret_name = slice_head(text, n);
    *ret_value = slice_from(text, n + 1);
    return ST_OK;
}

enum status op_device_list(struct api_call *call, struct err *err)
{
    struct device_filter f = {.state = -1,
                              .model = api_param(call, "model"),
                              .group = api_param(call, "group"),
                              .text = api_param(call, "text"),
                              .cursor = api_param(call, "cursor"),
                              .limit = api_param_int(call, "limit", 100)};
    enum device_state state = DEVICE_REGISTERED;
    if (device_state_parse(api_param(call, "state"), &state)) {
        f.state = (int)state;
    }
    enum status st = split_pair(api_param(call, "tag"), "tag", &f.tag_key, &f.tag_value, err);
    if (st == ST_OK) {
        st = split_pair(api_param(call, "key"), "key", &f.key_kind, &f.key_value, err);
    }
    return st == ST_OK ? device_list(call->tx, &f, call->out, err) : st;
}

enum status op_device_get(struct api_call *call, struct err *err)
{
    struct device_ref d;
    enum status st = find(call, &d, err);
    return st == ST_OK ? answer(call, &d, err) : st;
}

enum status op_device_update(struct api_call *call, struct err *err)
{
    struct device_ref d;
    enum status st = find(call, &d, err);
    if (st == ST_OK) {
        st = device_update(call->tx, &d, call->body, call->if_match, NULL, err);
    }
    return st == ST_OK ? answer(call, &d, err) : st;
}

enum status op_device_delete(struct api_call *call, struct err *err)
{
    struct device_ref d;
    enum status st = find(call, &d, err);
    return st == ST_OK ? device_delete(call->tx, &d, call->if_match, err) : st;
}

enum status op_device_import(struct api_call *call, struct err *err)
{
    bool upsert = slice_eq_str(api_param(call, "mode"), "upsert");
    return provision_import(call->tx, call->body_raw, upsert ? PROVISION_UPSERT : PROVISION_CREATE, call->out, err);
}

enum status op_device_state_set(struct api_call *call, struct err *err)
{
    struct device_ref d;
    enum device_state to = DEVICE_ACTIVE;
    if (!device_state_parse(doc_str(call->body, "state"), &to)) {
        return err_at(err, ST_INVALID, "/state", "must be active, suspended or retired");
    }
    enum status st = find(call, &d, err);
    if (st == ST_OK) {
        st = device_set_state(call->tx, &d, to, call->if_match, err);
    }
    return st == ST_OK ? answer(call, &d, err) : st;
}

enum status op_device_token_create(struct api_call *call, struct err *err)
{
    struct device_ref d;
    enum status st = find(call, &d, err);
    return st == ST_OK ? device_token_create(call->tx, &d, doc_str(call->body, "label"),
                                             doc_str(call->body, "replaces"), call->out, err)
                       : st;
}

enum status op_device_token_list(struct api_call *call, struct err *err)
{
    struct device_ref d;
    enum status st = find(call, &d, err);
    return st == ST_OK ? device_token_list(call->tx, &d, call->out, err) : st;
}

enum status op_device_token_revoke(struct api_call *call, struct err *err)
{
    struct device_ref d;
    enum status st = find(call, &d, err);
    return st == ST_OK ? device_token_revoke(call->tx, &d, api_param(call, "token"), err) : st;
}

enum status op_device_psk_create(struct api_call *call, struct err *err)
{
    struct device_ref d;
    const struct psk_conf conf = {.identity = doc_str(call->body, "identity"),
                                  .key_hex = doc_str(call->body, "key"),
                                  .label = doc_str(call->body, "label"),
                                  .replaces = doc_str(call->body, "replaces")};
    enum status st = find(call, &d, err);
    return st == ST_OK ? device_psk_create(call->tx, &d, &conf, call->out, err) : st;
}

enum status op_device_psk_list(struct api_call *call, struct err *err)
{
    struct device_ref d;
    enum status st = find(call, &d, err);
    return st == ST_OK ? device_psk_list(call->tx, &d, call->out, err) : st;
}

enum status op_device_psk_revoke(struct api_call *call, struct err *err)
{
    struct device_ref d;
    enum status st = find(call, &d, err);
    return st == ST_OK ? device_psk_revoke(call->tx, &d, api_param(call, "psk"), err) : st;
}
