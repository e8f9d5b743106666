// The device twin: desired (operators write), reported (the device writes), delta (computed), versions, per-leaf times.
//
// Limits: 64 KiB JSON per section, depth 16. Patches are JSON merge patches (RFC 7396): null deletes. Names that begin with
// '$' are reserved and refused.
//
// Versions: one counter per twin grows by one with every change of either section. `version` is its value; a section's own
// version is the value at that section's last change. A writer that saw version N may therefore demand "desired has not
// changed since N" without being disturbed by the device's reports in between.
//
// Delivery of desired:  changed --device connected and subscribed--> pushed after the commit
//                              \--otherwise--> waits in the store --device subscribes--> pushed when the delta is not empty
#ifndef DOMAIN_TWIN_H
#define DOMAIN_TWIN_H

#include "base/json.h"
#include "core/core.h"
#include "core/link.h"
#include "domain/registry/registry.h"

#define TWIN_SECTION_MAX 65536 // bytes of JSON

// The device reports. `patch`: JSON object text. ST_MALFORMED (no JSON), ST_INVALID (with a pointer), ST_TOO_LARGE (the
// section would pass its limit). An event, no audit record: reports are data. Core thread.
enum status twin_report(struct tx *tx, const struct device_ref *d, struct slice patch, struct err *err);
// An operator (or the system) sets desired values; `replace`: the patch becomes the whole section. if_version: a version the
// writer has seen, or -1: ST_VERSION when desired has changed since, or when there is no such version yet. Pushes to the
// device after the commit when it is online; otherwise the change waits in the store. The audit record holds the patch and
// the patch that undoes it. *ret_version (may be NULL): the twin's version afterwards.
enum status twin_set_desired(struct tx *tx, const struct device_ref *d, struct slice patch, bool replace,
                             int64_t if_version, int64_t *ret_version, struct err *err);
// {"version","desired","reported","delta","desired_version","reported_version","meta":{"desired","reported"}}; meta has the
// documents' shape with epoch milliseconds at the leaves. Any tx.
enum status twin_write(struct tx *tx, const struct device_ref *d, struct jw *out, int64_t *ret_version,
                       struct err *err);
// What the device gets on $muster/twin/desired and as answer to $muster/twin/get:
// {"version": desired_version, "desired": {...}, "delta": {...}} and, in the answer, "reported" too. Any tx.
enum status twin_write_for_device(struct tx *tx, const struct device_ref *d, bool with_reported, struct jw *out,
                                  struct err *err);
// Sends desired to the link when the delta is not empty (called when a device subscribes to $muster/twin/desired). From then
// on changes of desired are pushed to this link. Core thread.
enum status twin_push_pending(struct tx *tx, const struct device_ref *d, struct link *link, struct err *err);

#endif
