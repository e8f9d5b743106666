// twin.*: read the twin, change what operators want.
#include "domain/doc/doc.h"
#include "domain/twin/twin.h"
#include "front/http/api.h"

enum status op_twin_get(struct api_call *call, struct err *err);
enum status op_twin_update(struct api_call *call, struct err *err);
enum status op_twin_replace(struct api_call *call, struct err *err);

static void buf_cleanup(struct buf *b)
{
    buf_release(b);
}

enum status op_twin_get(struct api_call *call, struct err *err)
{
    struct device_ref d;
    enum status st = device_find(call->tx, api_param(call, "device"), &d, err);
    return st == ST_OK ? twin_write(call->tx, &d, call->out, &call->etag, err) : st;
}

static enum status set_desired(struct api_call *call, bool replace, struct err *err)
{
    struct device_ref d;
    enum status st = device_find(call->tx, api_param(call, "device"), &d, err);
    if (st != ST_OK) {
        return st;
    }
    struct buf patch __attribute__((cleanup(buf_cleanup))) = buf_heap((size_t)2 * TWIN_SECTION_MAX);
    if (!doc_text(call->body, &patch)) {
        return patch.starved ? err_set(err, ST_NOMEM, "no memory for the patch")
                             : err_set(err, ST_TOO_LARGE, "the patch has more than %d bytes", TWIN_SECTION_MAX);
    }
    st = twin_set_desired(call->tx, &d, buf_view(&patch), replace, call->if_match, NULL, err);
    return st == ST_OK ? twin_write(call->tx, &d, call->out, &call->etag, err) : st;
}

enum status op_twin_update(struct api_call *call, struct err *err)
{
    return set_desired(call, false, err);
}

enum status op_twin_replace(struct api_call *call, struct err *err)
{
    return set_desired(call, true, err);
}
