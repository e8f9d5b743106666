// Devices together with their credentials: what the registry cannot do alone.
#ifndef DOMAIN_PROVISION_H
#define DOMAIN_PROVISION_H

#include "domain/identity/identity.h"

enum provision_mode { PROVISION_CREATE, PROVISION_UPSERT };
enum provision_result { PROVISION_CREATED, PROVISION_UPDATED, PROVISION_UNCHANGED };

// device_create, and its access_token. Upsert: a device that exists is patched with the description (an access_token is
// added to those it has). Like device_create: after ST_INVALID, ST_EXISTS or ST_LIMIT nothing has changed.
enum status provision_device(struct tx *tx, const json_t *desc, enum provision_mode mode, struct device_ref *ret,
                             enum provision_result *ret_result, struct err *err);

#define PROVISION_LINES_MAX 1000
#define PROVISION_LINE_MAX  32768 // bytes
// NDJSON, one description a line; empty lines are passed over. Each line succeeds or fails on its own.
// {"created","updated","unchanged","failed","results": [{"line","id","status","code","error"}]}; status "created", "updated",
// "unchanged" or "failed"; code and error are null but for failed lines. ST_TOO_LARGE over PROVISION_LINES_MAX lines.
enum status provision_import(struct tx *tx, struct slice ndjson, enum provision_mode mode, struct jw *out,
                             struct err *err);

#endif
