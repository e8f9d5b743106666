// The native topics: who may publish what, who may subscribe to what. Everything else is refused.
#ifndef FRONT_MQTT_TOPICS_H
#define FRONT_MQTT_TOPICS_H

#include "base/slice.h"
#include "base/status.h"
#include "core/principal.h"

enum route {
    ROUTE_TELEMETRY,
    ROUTE_EVENT,
    ROUTE_TWIN_GET,
    ROUTE_TWIN_REPORT,
    ROUTE_COMMAND_REPLY,
    ROUTE_ENROLL,
    ROUTE_RENEW,
    ROUTE__COUNT
};
// ST_OK: *ret_param is the variable part of the topic ("" for topics without one). ST_NOT_FOUND: no such topic.
// ST_FORBIDDEN: not for this kind of principal.
enum status topics_route(struct slice topic, enum principal_kind who, enum route *ret, struct slice *ret_param,
                         struct err *err);

enum sub { SUB_TWIN_DESIRED, SUB_TWIN_REPLY, SUB_COMMAND, SUB_PROVISION, SUB__COUNT };
// The subscription of this exact filter. Statuses as of topics_route.
enum status topics_sub(struct slice filter, enum principal_kind who, enum sub *ret, struct err *err);
// The subscription that a downlink topic belongs to; false for none.
bool topics_sub_of(struct slice topic, enum sub *ret);
const char *topics_filter(enum sub s);
// A topic or filter under $muster/: the server's own, never the broker's.
bool topics_is_native(struct slice topic);

#endif
