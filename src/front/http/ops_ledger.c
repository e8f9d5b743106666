// ledger.*: the fate of every message, of one device and of the tenant.
#include "domain/registry/registry.h"
#include "domain/telemetry/ledger.h"
#include "front/http/api.h"

enum status op_ledger_get(struct api_call *call, struct err *err);
enum status op_ledger_tenant(struct api_call *call, struct err *err);

enum status op_ledger_get(struct api_call *call, struct err *err)
{
    struct device_ref d;
    enum status st = device_find(call->tx, api_param(call, "device"), &d, err);
    return st == ST_OK ? ledger_write(call->tx, d.row, call->out, err) : st;
}

enum status op_ledger_tenant(struct api_call *call, struct err *err)
{
    return ledger_write_tenant(call->tx, call->tx->who->tenant, call->out, err);
}
