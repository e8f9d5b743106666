// Devices and groups: identity data, tags, attributes, hardware keys, lifecycle state, versions.
//
// All functions run inside a tx and act within tx->who->tenant. Ids of other tenants are as unknown as ids that do not exist.
#ifndef DOMAIN_REGISTRY_H
#define DOMAIN_REGISTRY_H

#include <jansson.h>

#include "base/json.h"
#include "base/slice.h"
#include "core/core.h"

enum device_state {
    DEVICE_REGISTERED,
    DEVICE_ACTIVE,
    DEVICE_SUSPENDED,
    DEVICE_RETIRED
}; // lifecycle; table in device_state.c
const char *device_state_text(enum device_state s);

struct device_ref {
    uint64_t row;
    uint32_t tenant;
    enum device_state state;
    int64_t version;
    char id[ID_MAX + 1];
};
// ST_NOT_FOUND with a text that names the id.
enum status device_find(struct tx *tx, struct slice id, struct device_ref *ret, struct err *err);
enum status device_find_row(struct tx *tx, uint64_t row, struct device_ref *ret,
                            struct err *err); // any tenant: system use

// Creates a device from a validated description (see api/device.create.json: id, name, model, tags, attributes, keys,
// access_token). ST_EXISTS names the clashing id or hardware key. Writes audit and event.
enum status device_create(struct tx *tx, const json_t *desc, struct device_ref *ret, struct err *err);
// REGISTERED -> ACTIVE at the first successful connection; no effect otherwise.
enum status device_activate(struct tx *tx, const struct device_ref *d, struct err *err);

#endif
