// group.*, group_member.*: named sets of devices.
#include <stdio.h>

#include "domain/doc/doc.h"
#include "domain/registry/registry.h"
#include "front/http/api.h"

enum status op_group_create(struct api_call *call, struct err *err);
enum status op_group_list(struct api_call *call, struct err *err);
enum status op_group_get(struct api_call *call, struct err *err);
enum status op_group_delete(struct api_call *call, struct err *err);
enum status op_group_member_add(struct api_call *call, struct err *err);
enum status op_group_member_remove(struct api_call *call, struct err *err);

static enum status find(struct api_call *call, struct group_ref *ret, struct err *err)
{
    return group_find(call->tx, api_param(call, "group"), ret, err);
}

enum status op_group_create(struct api_call *call, struct err *err)
{
    struct group_ref g;
    enum status st = group_create(call->tx, doc_str(call->body, "id"), doc_str(call->body, "description"), &g, err);
    if (st == ST_OK) {
        (void)snprintf(call->location, sizeof(call->location), "/api/v1/groups/%s", g.id);
        st = group_write(call->tx, &g, call->out, err);
    }
    return st;
}

enum status op_group_list(struct api_call *call, struct err *err)
{
    return group_list(call->tx, api_param(call, "cursor"), api_param_int(call, "limit", 100), call->out, err);
}

enum status op_group_get(struct api_call *call, struct err *err)
{
    struct group_ref g;
    enum status st = find(call, &g, err);
    return st == ST_OK ? group_write(call->tx, &g, call->out, err) : st;
}

enum status op_group_delete(struct api_call *call, struct err *err)
{
    struct group_ref g;
    enum status st = find(call, &g, err);
    return st == ST_OK ? group_delete(call->tx, &g, err) : st;
}

enum status op_group_member_add(struct api_call *call, struct err *err)
{
    struct group_ref g;
    const json_t *devices = json_object_get(call->body, "devices");
    int64_t added = 0;
    enum status st = find(call, &g, err);
    for (size_t i = 0; st == ST_OK && i < json_array_size(devices); i++) {
        struct device_ref d;
        bool changed = false;
        st = device_find(call->tx, doc_slice(json_array_get(devices, i)), &d, err);
        if (st == ST_OK) {
            st = group_add(call->tx, &g, &d, &changed, err);
        }
        added += changed ? 1 : 0;
    }
    if (st == ST_OK) {
        jw_object(call->out);
        jw_key(call->out, "added");
        jw_int(call->out, added);
        jw_object_end(call->out);
    }
    return st;
}

enum status op_group_member_remove(struct api_call *call, struct err *err)
{
    struct group_ref g;
    struct device_ref d;
    bool changed = false;
    enum status st = find(call, &g, err);
    if (st == ST_OK) {
        st = device_find(call->tx, api_param(call, "device"), &d, err);
    }
    if (st == ST_OK) {
        st = group_remove(call->tx, &g, &d, &changed, err);
    }
    if (st == ST_OK && !changed) {
        st = err_set(err, ST_NOT_FOUND, "device \"%s\" is not in group \"%s\"", d.id, g.id);
    }
    return st;
}
