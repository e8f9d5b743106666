// The device twin: desired (operators write), reported (the device writes), delta (computed), versions, per-leaf times.
//
// Limits: 64 KiB JSON per section, depth 16. Patches are JSON merge patches (RFC 7396): null deletes.
#ifndef DOMAIN_TWIN_H
#define DOMAIN_TWIN_H

#include "base/json.h"
#include "core/core.h"
#include "core/link.h"
#include "domain/registry/registry.h"

// The device reports. `patch`: JSON object text.
enum status twin_report(struct tx *tx, const struct device_ref *d, struct slice patch, struct err *err);
// An operator (or the system) sets desired values. if_version: expected desired version or -1. Pushes to the device after
// the commit when it is online; otherwise the change waits in the store.
enum status twin_set_desired(struct tx *tx, const struct device_ref *d, struct slice patch, bool replace,
                             int64_t if_version, struct err *err);
// {"version","desired","reported","delta","desired_version","reported_version","meta":{...}}
enum status twin_write(struct tx *tx, const struct device_ref *d, struct jw *out, int64_t *ret_version,
                       struct err *err);
// What the device gets on $muster/twin/desired and as answer to $muster/twin/get:
// {"version": desired_version, "desired": {...}, "delta": {...}} and, in the answer, "reported" too.
enum status twin_write_for_device(struct tx *tx, const struct device_ref *d, bool with_reported, struct jw *out,
                                  struct err *err);
// Sends desired to the link when the delta is not empty (called when a device subscribes to $muster/twin/desired).
enum status twin_push_pending(struct tx *tx, const struct device_ref *d, struct link *link, struct err *err);

#endif
