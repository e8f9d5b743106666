// Messages of a device that are an operation each: events, twin reports and reads, command replies, enrolment, renewal.
#ifndef FRONT_MQTT_REQUEST_H
#define FRONT_MQTT_REQUEST_H

#include "front/mqtt/mqtt_conn.h"

// Checks the payload (JSON, or CBOR made JSON) and hands the operation to the core; its end settles the acknowledgement and
// sends the answer. A status other than ST_OK: refused on arrival, nothing was submitted and nothing counted.
enum status request_submit(struct mqtt_conn *mc, enum route route, struct slice param, const struct mqtt_publish *b,
                           struct err *err);

#endif
