// Limits of tenants that differ from the configuration: stored, and handed to the quotas (core/quota.h).
//
// A tenant reads its own limits; only the system owner sets them (tenant:write), for any tenant.
#ifndef DOMAIN_LIMIT_H
#define DOMAIN_LIMIT_H

#include "base/json.h"
#include "core/core.h"
#include "core/quota.h"

// core_boot, after quotas_set: gives the quotas what is stored. arg unused.
enum status limit_start(struct tx *tx, void *arg, struct err *err);

// {"tenant","limits": [{"name","limit","default": is it as configured?,"used": null for rates,"exceeded"}]}. tenant: id; p ==
// NULL or one's own: tx->who's; another's needs PERM_TENANT_READ, else ST_NOT_FOUND. Any tx.
enum status limit_write(struct tx *tx, struct slice tenant, struct jw *out, struct err *err);
// value: 0 no limit, QUOTA_DEFAULT as configured again. In force after the commit. ST_NOT_FOUND.
enum status limit_set(struct tx *tx, struct slice tenant, enum quota_what w, int64_t value, struct err *err);

#endif
