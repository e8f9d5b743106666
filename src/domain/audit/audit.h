// The audit record: every state change, by whom, when, from where, before and after, in the same transaction.
//
// Append-only: triggers refuse UPDATE and DELETE. Written on the core thread only; read from any tx.
#ifndef DOMAIN_AUDIT_H
#define DOMAIN_AUDIT_H

#include "base/json.h"
#include "base/slice.h"
#include "base/status.h"
#include "core/core.h"

// `action`: "device.create"; `object_kind`: "device"; `object`: its id for people. before/after: JSON text or {NULL,0}.
// Secrets never appear in them. Fails only when the store does, and then the change must fail too.
// Tenant, actor, address and time come from the tx; a change by the system in a tenant's row uses audit_write_for.
enum status audit_write(struct tx *tx, const char *action, const char *object_kind, struct slice object,
                        struct slice before, struct slice after, struct err *err);
// The same in the record of `tenant` (row id): for the system and for work across tenants.
enum status audit_write_for(struct tx *tx, uint32_t tenant, const char *action, const char *object_kind,
                            struct slice object, struct slice before, struct slice after, struct err *err);

// Which rows of tx->who->tenant: absent (p == NULL) means any. Times in microseconds, [from_us, to_us).
struct audit_filter {
    struct slice object_kind, object, actor, action;
    int64_t from_us, to_us; // INT64_MIN, INT64_MAX: no bound
    struct slice cursor;    // from the last page; absent: the newest rows
    int64_t limit;          // 1..1000 rows
};
// Writes {"items": [...], "next": cursor|null}, newest first. A page may be shorter than `limit` while `next` is set:
// one call looks at no more than 20,000 rows. ST_INVALID: the cursor is not one of this query.
enum status audit_list(struct tx *tx, const struct audit_filter *f, struct jw *out, struct err *err);

#endif
