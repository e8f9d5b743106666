// Commands to devices and named events from them.
//
//   PENDING --delivered to a connection--> SENT      SENT --delivered again (reconnect)--> SENT
//   PENDING, SENT --answer--> REPLIED                PENDING, SENT --time is over--> EXPIRED
//   EXPIRED --late answer--> REPLIED                 nothing leaves REPLIED
//
// The table stands in command_state.c. A command is durable before it is sent, sent again after a reconnect while it is
// neither answered nor expired, and delivered at least once: its id lets the device recognise a repeat. "Sent" means handed
// to a connection that had subscribed, not received. A late answer counts: the device did act.
#ifndef DOMAIN_COMMAND_H
#define DOMAIN_COMMAND_H

#include "base/json.h"
#include "core/core.h"
#include "core/link.h"
#include "domain/registry/registry.h"

#define COMMAND_NAME_MAX    64
#define COMMAND_PAYLOAD_MAX 65536 // bytes of JSON, command and answer
#define COMMAND_DEPTH_MAX   32
#define COMMAND_TTL_DFLT_US (3600LL * 1000000)
#define COMMAND_TTL_MAX_US  (7LL * 86400 * 1000000)
#define COMMAND_OPEN_MAX    100   // neither answered nor expired, per device: ST_LIMIT
#define COMMAND_KEEP_MAX    1000  // per device; and 90 days
#define EVENT_KEEP_MAX      10000 // per device; and 90 days

// Numbers are stored: never renumber.
enum command_state { COMMAND_PENDING, COMMAND_SENT, COMMAND_REPLIED, COMMAND_EXPIRED, COMMAND_STATE__COUNT };
enum command_input { COMMAND_IN_DELIVER, COMMAND_IN_REPLY, COMMAND_IN_EXPIRE, COMMAND_INPUT__COUNT };
const char *command_state_text(enum command_state s);
bool command_state_parse(struct slice text, enum command_state *ret);
// False: there is no such step.
bool command_next(enum command_state s, enum command_input in, enum command_state *ret);

// name: 1..64 of [A-Za-z0-9._-]; payload: JSON text, at most 64 KiB. ttl_us: 0 for the default of one hour, at most 7 days.
// Delivered after the commit when the device is connected and has subscribed. Audited (without the payload, which may hold
// secrets). Core thread.
enum status command_send(struct tx *tx, const struct device_ref *d, struct slice name, struct slice payload,
                         int64_t ttl_us, uint64_t *ret_id, struct err *err);
// From $muster/command/{id}/reply. ST_NOT_FOUND: no such command of this device; ST_CONFLICT: answered before with something
// else (the same answer again is no change: devices repeat after a lost acknowledgement). Core thread.
enum status command_reply(struct tx *tx, const struct device_ref *d, uint64_t id, struct slice payload,
                          struct err *err);
// {"id","device","name","payload","state","created","created_by","expires","sent","sends","finished","late","reply"}; id is
// text, times are RFC 3339 or null. Any tx.
enum status command_write(struct tx *tx, const struct device_ref *d, uint64_t id, struct jw *out, struct err *err);
struct command_filter {
    int state; // enum command_state or -1
    struct slice cursor;
    unsigned limit;
};
// {"items":[...],"next"} newest first. Any tx.
enum status command_list(struct tx *tx, const struct device_ref *d, const struct command_filter *f, struct jw *out,
                         struct err *err);
bool command_id_parse(struct slice text, uint64_t *ret_id); // decimal, as it stands in topics and JSON
// Delivers what is open (called when the device subscribes to $muster/command/+/+); from then on commands go to this link at
// once. Core thread.
enum status command_push_pending(struct tx *tx, const struct device_ref *d, struct link *link, struct err *err);

// $muster/event/{name}: stored with time and payload. ts_us: the device's time, or 0 for now. Core thread.
enum status device_event(struct tx *tx, const struct device_ref *d, struct slice name, struct slice payload,
                         int64_t ts_us, struct err *err);
// {"items":[{"ts","received","name","data"}],"next"} newest first; name empty: all. Any tx.
enum status device_event_list(struct tx *tx, const struct device_ref *d, struct slice name, struct slice cursor,
                              unsigned limit, struct jw *out, struct err *err);

// core_boot, after presence_start: expiry and retention.
enum status command_start(struct tx *tx, void *arg, struct err *err);

#endif
