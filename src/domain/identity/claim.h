// Claims: tokens that let new devices enrol, n times, for a while.
//
//   usable -> used up (uses = uses_max)   usable -> expired (time)   any -> revoked (operator)
//
// The state is never stored: it follows from uses, time and revocation (claim_state_at). Only a usable claim pays for an
// enrolment; a used-up one still answers the repetition of an enrolment it has paid for.
#ifndef DOMAIN_CLAIM_H
#define DOMAIN_CLAIM_H

#include "domain/identity/identity.h"

#define CLAIM_USES_MAX   1000000
#define CLAIM_TTL_MAX_US ((int64_t)366 * 24 * 3600 * 1000000)

enum claim_state { CLAIM_USABLE, CLAIM_USED_UP, CLAIM_EXPIRED, CLAIM_REVOKED };
const char *claim_state_text(enum claim_state s); // "used_up"; never NULL

struct claim_conf {
    int64_t uses;               // 1..CLAIM_USES_MAX
    int64_t ttl_us;             // 1 s..CLAIM_TTL_MAX_US
    struct slice device_prefix; // ids devices may take with it; p == NULL: any
    struct slice model;         // for devices made with it; p == NULL: their own
    const json_t *tags;         // the same; NULL: none
};
// {"token", and the members of claim_list}; the token is never shown again.
enum status claim_create(struct tx *tx, const struct claim_conf *conf, struct jw *out, struct err *err);
// {"items": [{"id","state","uses","uses_max","expires","device_prefix","model","tags","created","created_by"}], "next"},
// newest first. Any tx.
enum status claim_list(struct tx *tx, struct slice cursor, int64_t limit, struct jw *out, struct err *err);
enum status claim_revoke(struct tx *tx, struct slice id, struct err *err); // ST_NOT_FOUND; revoked already: no change

#endif
