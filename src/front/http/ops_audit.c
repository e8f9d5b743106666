// audit.list: who did what, when, from where.
#include "domain/audit/audit.h"
#include "front/http/api.h"

enum status op_audit_list(struct api_call *call, struct err *err);

enum status op_audit_list(struct api_call *call, struct err *err)
{
    struct audit_filter f = {.object_kind = api_param(call, "object_kind"),
                             .object = api_param(call, "object"),
                             .actor = api_param(call, "actor"),
                             .action = api_param(call, "action"),
                             .from_us = api_param_time(call, "from", INT64_MIN),
                             .to_us = api_param_time(call, "to", INT64_MAX),
                             .cursor = api_param(call, "cursor"),
                             .limit = api_param_int(call, "limit", 100)};
    return audit_list(call->tx, &f, call->out, err);
}
