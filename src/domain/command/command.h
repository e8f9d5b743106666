// Commands to devices and named events from them.
//
//   pending -> sent -> replied            (device answered: ok or error)
//      \        \----> expired            (ttl over; also from pending)
// A command is durable before it is sent, sent again after a reconnect while not replied and not expired, and delivered at
// least once: its id lets the device recognise a repeat.
#ifndef DOMAIN_COMMAND_H
#define DOMAIN_COMMAND_H

#include "base/json.h"
#include "core/core.h"
#include "core/link.h"
#include "domain/registry/registry.h"

// name: 1..64 of [A-Za-z0-9._-]; payload: JSON text, at most 64 KiB.
enum status command_send(struct tx *tx, const struct device_ref *d, struct slice name, struct slice payload,
                         int64_t ttl_us, uint64_t *ret_id, struct err *err);
// From $muster/command/{id}/reply. Unknown or finished: ST_NOT_FOUND / ST_CONFLICT.
enum status command_reply(struct tx *tx, const struct device_ref *d, uint64_t id, struct slice payload,
                          struct err *err);
enum status command_write(struct tx *tx, const struct device_ref *d, uint64_t id, struct jw *out, struct err *err);
// Delivers what is pending (called when the device subscribes to $muster/command/+/+).
enum status command_push_pending(struct tx *tx, const struct device_ref *d, struct link *link, struct err *err);

// $muster/event/{name}: stored with time and payload.
enum status device_event(struct tx *tx, const struct device_ref *d, struct slice name, struct slice payload,
                         int64_t ts_us, struct err *err);

#endif
