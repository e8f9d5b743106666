// presence.*: who is connected, and connections of the past.
#include "domain/presence/presence.h"
#include "front/http/api.h"

enum status op_presence_get(struct api_call *call, struct err *err);
enum status op_presence_list(struct api_call *call, struct err *err);
enum status op_presence_sessions(struct api_call *call, struct err *err);

enum status op_presence_get(struct api_call *call, struct err *err)
{
    struct device_ref d;
    enum status st = device_find(call->tx, api_param(call, "device"), &d, err);
    return st == ST_OK ? presence_write(call->tx, &d, call->out, err) : st;
}

enum status op_presence_list(struct api_call *call, struct err *err)
{
    const struct presence_filter f = {
        .online = api_param(call, "online").p == NULL ? -1 : api_param_bool(call, "online", false),
        .seen_before_us = api_param_time(call, "seen_before", INT64_MAX),
        .cursor = api_param(call, "cursor"),
        .limit = (unsigned)api_param_int(call, "limit", 100),
    };
    return presence_list(call->tx, &f, call->out, err);
}

enum status op_presence_sessions(struct api_call *call, struct err *err)
{
    struct device_ref d;
    enum status st = device_find(call->tx, api_param(call, "device"), &d, err);
    if (st != ST_OK) {
        return st;
    }
    return presence_sessions(call->tx, &d, api_param(call, "cursor"), (unsigned)api_param_int(call, "limit", 100),
                             call->out, err);
}
