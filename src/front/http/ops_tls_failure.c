// tls_failure.list: handshakes that failed.
#include "core/handshakes.h"
#include "front/http/api.h"

enum status op_tls_failure_list(struct api_call *call, struct err *err);

enum status op_tls_failure_list(struct api_call *call, struct err *err)
{
    const struct handshakes_filter f = {.address = api_param(call, "address"),
                                        .since_us = api_param_time(call, "since", INT64_MIN),
                                        .cursor = api_param(call, "cursor"),
                                        .limit = api_param_int(call, "limit", 100)};
    struct handshakes *h = core_slot(call->core, CORE_SLOT_HANDSHAKES);
    return h != NULL ? handshakes_list(h, &f, call->out, err) : err_set(err, ST_NOT_FOUND, "there is no record");
}
