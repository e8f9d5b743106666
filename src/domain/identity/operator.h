// Operator tokens and tenants.
//
// A token has a role; the system owner (the admin token of the first start) has every permission, those across tenants too.
// Nobody gives, or takes away, more than they have: the permissions of the token made or revoked must be among one's own.
#ifndef DOMAIN_OPERATOR_H
#define DOMAIN_OPERATOR_H

#include "domain/identity/identity.h"

#define OPERATOR_TTL_MAX_US ((int64_t)10 * 366 * 24 * 3600 * 1000000)

struct operator_conf {
    struct slice name; // unique in the tenant
    enum role role;
    int64_t ttl_us; // 0: does not expire
};
// {"token","id","name","role","created","expires"}; the token is never shown again.
enum status operator_create(struct tx *tx, const struct operator_conf *conf, struct jw *out, struct err *err);
// {"items": [{"id","name","role","system","created","created_by","expires"}], "next": cursor|null}. Any tx.
enum status operator_list(struct tx *tx, struct slice cursor, int64_t limit, struct jw *out, struct err *err);
// Who has the token of this row. ST_NOT_FOUND: it was revoked or has run out. Any tx.
enum status operator_principal(struct tx *tx, uint64_t row, struct principal *ret, struct err *err);
// A token is revoked (inside that transaction) or has run out (noticed within a second): whoever came in with it must go. At most
// one watcher, before core_start; failing fails the revocation.
typedef enum status (*operator_gone_fn)(struct tx *tx, uint32_t tenant, uint64_t row, struct err *err);
void operator_on_gone(struct core *c, operator_gone_fn fn);
// By name. ST_CONFLICT for the last token of the system owner.
enum status operator_revoke(struct tx *tx, struct slice name, struct err *err);

// Needs PERM_TENANT_WRITE, which the operation declares. {"id","created","token": an owner token of the new tenant}.
enum status tenant_create(struct tx *tx, struct slice id, struct jw *out, struct err *err);
enum status tenant_list(struct tx *tx, struct slice cursor, int64_t limit, struct jw *out, struct err *err); // any tx

#endif
