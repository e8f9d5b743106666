// command.*: send, show, list.
#include "base/clock.h"
#include "domain/command/command.h"
#include "domain/doc/doc.h"
#include "front/http/api.h"

enum status op_command_send(struct api_call *call, struct err *err);
enum status op_command_get(struct api_call *call, struct err *err);
enum status op_command_list(struct api_call *call, struct err *err);

static void buf_cleanup(struct buf *b)
{
    buf_release(b);
}

enum status op_command_send(struct api_call *call, struct err *err)
{
    struct device_ref d;
    enum status st = device_find(call->tx, api_param(call, "device"), &d, err);
    if (st != ST_OK) {
        return st;
    }
    struct slice ttl = doc_str(call->body, "ttl");
    int64_t ttl_us = COMMAND_TTL_DFLT_US;
    if (ttl.p != NULL && (!clock_parse_duration(ttl, &ttl_us) || ttl_us == 0)) {
        return err_at(err, ST_INVALID, "/ttl", "a number and unit from 1s to 7d");
    }
    struct buf payload __attribute__((cleanup(buf_cleanup))) = buf_heap((size_t)2 * COMMAND_PAYLOAD_MAX);
    const json_t *v = json_object_get(call->body, "payload");
    if (v == NULL ? !buf_str(&payload, "{}") : !doc_text(v, &payload)) {
        return payload.starved
                   ? err_set(err, ST_NOMEM, "no memory for the payload")
                   : err_at(err, ST_TOO_LARGE, "/payload", "the payload has more than %d bytes", COMMAND_PAYLOAD_MAX);
    }
    uint64_t id = 0;
    st = command_send(call->tx, &d, doc_str(call->body, "name"), buf_view(&payload), ttl_us, &id, err);
    return st == ST_OK ? command_write(call->tx, &d, id, call->out, err) : st;
}

enum status op_command_get(struct api_call *call, struct err *err)
{
    struct device_ref d;
    enum status st = device_find(call->tx, api_param(call, "device"), &d, err);
    if (st != ST_OK) {
        return st;
    }
    uint64_t id = 0;
    struct slice text = api_param(call, "command");
    if (!command_id_parse(text, &id)) {
        return err_set(err, ST_NOT_FOUND, "device %s has no command " SLICE_FMT, d.id, SLICE_ARG(text));
    }
    return command_write(call->tx, &d, id, call->out, err);
}

enum status op_command_list(struct api_call *call, struct err *err)
{
    struct device_ref d;
    enum status st = device_find(call->tx, api_param(call, "device"), &d, err);
    if (st != ST_OK) {
        return st;
    }
    enum command_state state = COMMAND_STATE__COUNT;
    const struct command_filter f = {
        .state = command_state_parse(api_param(call, "state"), &state) ? (int)state : -1,
        .cursor = api_param(call, "cursor"),
        .limit = (unsigned)api_param_int(call, "limit", 100),
    };
    return command_list(call->tx, &d, &f, call->out, err);
}
