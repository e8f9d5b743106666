// events.stream: which events a caller may listen to. The stream itself is the front's (http_stream.c).
#include <stdio.h>

#include "domain/registry/registry.h"
#include "front/http/api.h"

enum status op_events_stream(struct api_call *call, struct err *err);

static const enum perm type_perms[] = {
    [EV_TELEMETRY] = PERM_TELEMETRY_READ, [EV_EVENT] = PERM_TELEMETRY_READ, [EV_TWIN] = PERM_TWIN_READ,
    [EV_PRESENCE] = PERM_PRESENCE_READ,   [EV_DEVICE] = PERM_DEVICE_READ,   [EV_COMMAND] = PERM_COMMAND_READ,
    [EV_CERT] = PERM_CERT_READ,           [EV_SECURITY] = PERM_AUDIT_READ,  [EV_QUEUE] = PERM_PRESENCE_READ,
};
_Static_assert(sizeof(type_perms) / sizeof(type_perms[0]) == EV__COUNT, "every event type has a permission");

static enum status add_type(struct api_call *call, struct slice name, struct err *err)
{
    enum event_type type = EV__COUNT;
    if (!event_type_parse(name, &type)) {
        char allowed[160];
        struct buf b = buf_fixed(allowed, sizeof(allowed) - 1);
        for (unsigned t = 0; t < EV__COUNT; t++) {
            buf_printf(&b, "%s%s", t > 0 ? ", " : "", event_type_text((enum event_type)t));
        }
        allowed[b.len] = '\0';
        return err_at(err, ST_INVALID, "types", "an event type is unknown; allowed: %s", allowed);
    }
    if (!principal_may(call->tx->who, type_perms[type])) {
        return err_at(err, ST_FORBIDDEN, "types", "events of type %s need the permission %s", event_type_text(type),
                      perm_text(type_perms[type]));
    }
    call->stream.types |= 1U << type;
    return ST_OK;
}

static enum status add_listed(struct api_call *call, struct slice list, struct err *err)
{
    enum status st = ST_OK;
    while (st == ST_OK && list.len > 0) {
        size_t n = 0;
        while (n < list.len && list.p[n] != ',') {
            n++;
        }
        st = add_type(call, slice_head(list, n), err);
        list = slice_from(list, n + 1);
    }
    return st;
}

static void add_permitted(struct api_call *call)
{
    for (unsigned t = 0; t < EV__COUNT; t++) {
        if (principal_may(call->tx->who, type_perms[t])) {
            call->stream.types |= 1U << t;
        }
    }
}

enum status op_events_stream(struct api_call *call, struct err *err)
{
    call->stream = (struct events_filter){.tenant = call->tx->who->tenant};
    struct slice types = api_param(call, "types");
    struct slice device = api_param(call, "device");
    enum status st = ST_OK;
    if (types.p != NULL) {
        st = add_listed(call, types, err);
    } else {
        add_permitted(call);
    }
    if (st == ST_OK && device.p != NULL) {
        struct device_ref ref;
        st = device_find(call->tx, device, &ref, err);
        if (st == ST_OK) {
            snprintf(call->stream.device_id, sizeof(call->stream.device_id), "%s", ref.id);
        }
    }
    return st;
}
