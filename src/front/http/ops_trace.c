// trace.*: looking into connections.
#include "base/clock.h"
#include "domain/doc/doc.h"
#include "domain/trace/trace.h"
#include "front/http/api.h"

#define TRACE_TIME_US ((int64_t)600 * 1000000) // as in trace.create.json

enum status op_trace_create(struct api_call *call, struct err *err);
enum status op_trace_list(struct api_call *call, struct err *err);
enum status op_trace_get(struct api_call *call, struct err *err);
enum status op_trace_stop(struct api_call *call, struct err *err);
enum status op_trace_delete(struct api_call *call, struct err *err);
enum status op_trace_records(struct api_call *call, struct err *err);
enum status op_trace_text(struct api_call *call, struct err *err);
enum status op_trace_pcapng(struct api_call *call, struct err *err);

enum status op_trace_create(struct api_call *call, struct err *err)
{
    static const char *const names[TRACE_SUBJECT__COUNT] = {
        [TRACE_DEVICE] = "device", [TRACE_CLIENT] = "client", [TRACE_ADDRESS] = "address"};
    struct trace_conf conf = {.time_us = TRACE_TIME_US};
    unsigned given = 0;
    for (unsigned i = 0; i < TRACE_SUBJECT__COUNT; i++) {
        struct slice value = doc_str(call->body, names[i]);
        if (value.p != NULL) {
            conf.subject = (enum trace_subject)i;
            conf.value = value;
            given++;
        }
    }
    if (given != 1) {
        return err_at(err, ST_INVALID, "", "give one of device, client and address");
    }
    struct slice time = doc_str(call->body, "for");
    if (time.p != NULL && !clock_parse_duration(time, &conf.time_us)) {
        return err_at(err, ST_INVALID, "/for", "must be a duration such as 30s, 10m or 2h");
    }
    return trace_create(call->tx, &conf, call->out, err);
}

enum status op_trace_list(struct api_call *call, struct err *err)
{
    return trace_list(call->tx, api_param(call, "cursor"), api_param_int(call, "limit", 100), call->out, err);
}

enum status op_trace_get(struct api_call *call, struct err *err)
{
    return trace_write(call->tx, api_param(call, "trace"), call->out, err);
}

enum status op_trace_stop(struct api_call *call, struct err *err)
{
    return trace_stop(call->tx, api_param(call, "trace"), call->out, err);
}

enum status op_trace_delete(struct api_call *call, struct err *err)
{
    return trace_delete(call->tx, api_param(call, "trace"), err);
}

enum status op_trace_records(struct api_call *call, struct err *err)
{
    return trace_records(call->tx, api_param(call, "trace"), api_param_int(call, "after", 0),
                         api_param_int(call, "limit", 100), call->out, err);
}

enum status op_trace_text(struct api_call *call, struct err *err)
{
    return trace_text(call->tx, api_param(call, "trace"), call->out->out, err);
}

enum status op_trace_pcapng(struct api_call *call, struct err *err)
{
    return trace_pcapng(call->tx, api_param(call, "trace"), call->out->out, err);
}
