// system.*: is the server alive, can it store, what are its figures, what is its API.
#include "core/metrics.h"
#include "front/http/api.h"
#include "front/http/openapi.h"

enum status op_system_health(struct api_call *call, struct err *err);
enum status op_system_ready(struct api_call *call, struct err *err);
enum status op_system_metrics(struct api_call *call, struct err *err);
enum status op_system_openapi(struct api_call *call, struct err *err);

static void put_status(struct api_call *call, const char *status)
{
    jw_object(call->out);
    jw_key(call->out, "status");
    jw_str(call->out, status);
    jw_object_end(call->out);
}

enum status op_system_health(struct api_call *call, struct err *err)
{
    (void)err;
    put_status(call, "ok");
    return ST_OK;
}

enum status op_system_ready(struct api_call *call, struct err *err)
{
    static const char *const texts[] = {[CORE_STARTING] = "starting",
                                        [CORE_READY] = "ready",
                                        [CORE_FULL] = "storage_full",
                                        [CORE_STOPPING] = "stopping"};
    (void)err;
    enum core_state state = core_state(call->core);
    put_status(call, texts[state]);
    if (state != CORE_READY) {
        call->status = 503;
    }
    return ST_OK;
}

enum status op_system_metrics(struct api_call *call, struct err *err)
{
    (void)err;
    metrics_write(call->out->out);
    return ST_OK;
}

enum status op_system_openapi(struct api_call *call, struct err *err)
{
    (void)err;
    jw_raw(call->out, slice_make(api_openapi, api_openapi_len));
    return ST_OK;
}
