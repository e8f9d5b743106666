// session.*, retained.*: what the broker keeps for its clients.
#include "domain/broker/broker.h"
#include "front/http/api.h"

enum status op_session_list(struct api_call *call, struct err *err);
enum status op_session_get(struct api_call *call, struct err *err);
enum status op_session_delete(struct api_call *call, struct err *err);
enum status op_retained_list(struct api_call *call, struct err *err);
enum status op_retained_get(struct api_call *call, struct err *err);
enum status op_retained_delete(struct api_call *call, struct err *err);

enum status op_session_list(struct api_call *call, struct err *err)
{
    return broker_sessions_write(call->tx, api_param(call, "cursor"), api_param_int(call, "limit", 100), call->out,
                                 err);
}

enum status op_session_get(struct api_call *call, struct err *err)
{
    return broker_session_write(call->tx, api_param(call, "client_id"), call->out, err);
}

enum status op_session_delete(struct api_call *call, struct err *err)
{
    return broker_session_delete(call->tx, api_param(call, "client_id"), err);
}

enum status op_retained_list(struct api_call *call, struct err *err)
{
    return broker_retained_list(call->tx, api_param(call, "cursor"), api_param_int(call, "limit", 100), call->out, err);
}

enum status op_retained_get(struct api_call *call, struct err *err)
{
    return broker_retained_write(call->tx, api_param(call, "topic"), call->out, err);
}

enum status op_retained_delete(struct api_call *call, struct err *err)
{
    return broker_retained_delete(call->tx, api_param(call, "topic"), err);
}
