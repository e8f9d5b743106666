// tenant.*: for the system owner alone.
#include "domain/doc/doc.h"
#include "domain/identity/operator.h"
#include "front/http/api.h"

enum status op_tenant_create(struct api_call *call, struct err *err);
enum status op_tenant_list(struct api_call *call, struct err *err);

enum status op_tenant_create(struct api_call *call, struct err *err)
{
    return tenant_create(call->tx, doc_str(call->body, "id"), call->out, err);
}

enum status op_tenant_list(struct api_call *call, struct err *err)
{
    return tenant_list(call->tx, api_param(call, "cursor"), api_param_int(call, "limit", 100), call->out, err);
}
