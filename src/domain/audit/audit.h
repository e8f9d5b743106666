// The audit record: every state change, by whom, when, from where, before and after, in the same transaction.
#ifndef DOMAIN_AUDIT_H
#define DOMAIN_AUDIT_H

#include "base/slice.h"
#include "base/status.h"
#include "core/core.h"

// `action`: "device.create"; `object_kind`: "device"; `object`: its id for people. before/after: JSON text or {NULL,0}.
// Secrets never appear in them. Fails only when the store does, and then the change must fail too.
enum status audit_write(struct tx *tx, const char *action, const char *object_kind, struct slice object,
                        struct slice before, struct slice after, struct err *err);

#endif
