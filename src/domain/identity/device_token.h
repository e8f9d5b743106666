// Access tokens of devices: several per device, shown once, stored hashed.
#ifndef DOMAIN_DEVICE_TOKEN_H
#define DOMAIN_DEVICE_TOKEN_H

#include "domain/identity/identity.h"

#define DEVICE_TOKENS_MAX 16 // per device
#define TOKEN_LABEL_MAX   128
#define TOKEN_TEXT_MAX    96 // longest token this server makes, with its NUL

// ST_INVALID when another device of the tenant has this token (the text does not say so), ST_LIMIT when the
// device has DEVICE_TOKENS_MAX. Checks only; *ret_present: this very device has it already. device == 0: a device about to
// be created.
enum status device_token_check(struct tx *tx, uint64_t device, struct slice token, bool *ret_present, struct err *err);
// Adds a token the operator chose (checked before with device_token_check).
enum status device_token_add(struct tx *tx, const struct device_ref *d, struct slice token, struct slice label,
                             struct err *err);
// Makes one: {"id","token","label","created"}; the token is never shown again. `replaces` (len 0: none): whose sessions it goes
// on with (lineage.h); that one stays valid until it is revoked.
enum status device_token_create(struct tx *tx, const struct device_ref *d, struct slice label, struct slice replaces,
                                struct jw *out, struct err *err);
// {"items": [{"id","label","created"}], "next": null}. Any tx.
enum status device_token_list(struct tx *tx, const struct device_ref *d, struct jw *out, struct err *err);
// Closes the device's live session.
enum status device_token_revoke(struct tx *tx, const struct device_ref *d, struct slice id, struct err *err);
enum status device_token_count(struct tx *tx, uint64_t device, int64_t *ret_n, struct err *err); // any tx

#endif
