// event.list: named events devices have sent. (The live stream of all kinds of events is ops_events.c.)
#include "domain/command/command.h"
#include "front/http/api.h"

enum status op_event_list(struct api_call *call, struct err *err);

enum status op_event_list(struct api_call *call, struct err *err)
{
    struct device_ref d;
    enum status st = device_find(call->tx, api_param(call, "device"), &d, err);
    if (st != ST_OK) {
        return st;
    }
    return device_event_list(call->tx, &d, api_param(call, "name"), api_param(call, "cursor"),
                             (unsigned)api_param_int(call, "limit", 100), call->out, err);
}
