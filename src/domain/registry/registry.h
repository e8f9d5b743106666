// Devices and groups: identity data, tags, attributes, hardware keys, lifecycle state, versions.
//
// All functions run inside a tx, on the core thread unless a line says "any tx" (readers too), and act within
// tx->who->tenant, or within the tenant of the device_ref they are given. Ids of other tenants are as unknown as ids that
// do not exist. Every change writes the audit record and publishes an EV_DEVICE event.
#ifndef DOMAIN_REGISTRY_H
#define DOMAIN_REGISTRY_H

#include <jansson.h>

#include "base/json.h"
#include "base/slice.h"
#include "core/core.h"
#include "expr/schema.h"

// Lifecycle; the table stands in device_state.c. Numbers are stored: never renumber.
//
//   REGISTERED --first connection, or operator--> ACTIVE <--operator--> SUSPENDED --operator--> RETIRED
//   REGISTERED and ACTIVE go to SUSPENDED and RETIRED directly as well; nothing leaves RETIRED but deletion.
//
// A suspended or retired device may not connect; a live session of it is closed.
enum device_state { DEVICE_REGISTERED, DEVICE_ACTIVE, DEVICE_SUSPENDED, DEVICE_RETIRED, DEVICE_STATE__COUNT };
const char *device_state_text(enum device_state s); // "registered"; never NULL
bool device_state_parse(struct slice text, enum device_state *ret);
bool device_state_may(enum device_state from, enum device_state to);

// Limits.
#define DEVICE_NAME_MAX         256
#define DEVICE_MODEL_MAX        128
#define DEVICE_TAGS_MAX         64
#define DEVICE_TAG_KEY_MAX      64
#define DEVICE_TAG_VALUE_MAX    256
#define DEVICE_KEYS_MAX         16
#define DEVICE_KEY_KIND_MAX     32
#define DEVICE_KEY_VALUE_MAX    128
#define DEVICE_ATTRIBUTES_MAX   16384 // bytes of JSON
#define DEVICE_ATTRIBUTES_DEPTH 16
#define GROUP_DESCRIPTION_MAX   1024
#define GROUP_MEMBERS_PER_CALL  1000

struct device_ref {
    uint64_t row;
    uint32_t tenant;
    enum device_state state;
    int64_t version;
    char id[ID_MAX + 1];
};
// ST_NOT_FOUND with a text that names the id. Any tx.
enum status device_find(struct tx *tx, struct slice id, struct device_ref *ret, struct err *err);
enum status device_find_row(struct tx *tx, uint64_t row, struct device_ref *ret,
                            struct err *err); // any tenant: system use; any tx

// Checks a description without touching the store: an object of id, name, model, tags, attributes, keys, access_token with
// the limits above; ST_INVALID with a JSON pointer. `id` may be absent. The registry keeps no access token: that is
// identity's (provision_device).
enum status device_check(const json_t *desc, struct err *err);
// Creates a device from a description; the id is required. ST_EXISTS names the clashing id or hardware key. Nothing is
// written before every such check has passed, so a bulk caller needs no savepoint of its own: after a refusal
// (ST_INVALID, ST_EXISTS) nothing has changed, and any other failure must fail the whole operation.
enum status device_create(struct tx *tx, const json_t *desc, struct device_ref *ret, struct err *err);
// JSON merge patch over {name, model, tags, attributes, keys}. if_version: expected version or -1 (ST_VERSION). A patch that
// changes nothing writes nothing. *d is updated; *ret_changed may be NULL. The same promise about refusals.
enum status device_update(struct tx *tx, struct device_ref *d, const json_t *patch, int64_t if_version,
                          bool *ret_changed, struct err *err);
// ST_CONFLICT when the lifecycle has no such step; the present state again is no change. *d is updated.
enum status device_set_state(struct tx *tx, struct device_ref *d, enum device_state to, int64_t if_version,
                             struct err *err);
// REGISTERED -> ACTIVE at the first successful connection; no effect otherwise.
enum status device_activate(struct tx *tx, struct device_ref *d, struct err *err);
// Removes the device with everything that hangs on it: the watchers remove theirs in the same transaction, its telemetry goes
// after the commit; a failure or the end of the process in between is made good by registry_start and its repeated work.
enum status device_delete(struct tx *tx, struct device_ref *d, int64_t if_version, struct err *err);

// What other modules must know about at once, inside the transaction. A watcher that fails fails the change.
enum device_change {
    DEVICE_CHANGE_REMOVED,   // the row is about to go: remove what refers to it, close its session
    DEVICE_CHANGE_SUSPENDED, // close its session
    DEVICE_CHANGE_RETIRED,   // close its session
    DEVICE_CHANGE_REVOKED,   // a credential was revoked: close its session, what is still valid may connect again
    DEVICE_CHANGE_BANNED     // close its session; all it has stays for when the ban ends
};
typedef enum status (*registry_watch_fn)(struct tx *tx, const struct device_ref *d, enum device_change what,
                                         struct err *err);
enum status registry_watch(struct core *c, registry_watch_fn fn, struct err *err); // before core_start; at most 16
enum status registry_notify(struct tx *tx, const struct device_ref *d, enum device_change what, struct err *err);
// What of a device has changed, by the names expressions know it by.
struct device_changed {
    uint32_t tenant;
    uint64_t device;    // 0: any of the tenant's
    uint64_t roots;     // EXPR_DEVICE_BIT of each
    const json_t *keys; // the one root of `roots` has changed below these keys of the object only; NULL: anywhere
};
// Called inside the transaction, after the change, when one of the roots it was registered for has changed. Failing fails the
// change. device_delete tells registry_watch instead.
typedef enum status (*registry_data_fn)(struct tx *tx, const struct device_changed *what, struct err *err);
enum status registry_watch_data(struct core *c, uint64_t roots, registry_data_fn fn,
                                struct err *err); // before core_start; at most 16
// Tells the watchers of data: whoever changes what a root shows (identity: credentials, twin, presence, telemetry, groups).
enum status registry_notify_data(struct tx *tx, const struct device_changed *what, struct err *err);
// Does anyone watch one of these roots? Cheap: what is changed often asks first.
bool registry_data_watched(const struct core *c, uint64_t roots);
// core_boot, before presence_start: erases the telemetry of devices deleted by a former process; starts the repeated work.
enum status registry_start(struct tx *tx, void *arg, struct err *err);
void registry_release(struct core *c); // after core_stop: forgets the watchers and what registry_start has made

// Writes one device: {"id","name","model","state","version","tags","attributes","keys","groups","created","updated"}. Any tx.
enum status device_write(struct tx *tx, const struct device_ref *d, struct jw *out, struct err *err);

// Which devices; p == NULL or -1: any. All conditions must hold.
struct device_filter {
    int state; // enum device_state or -1
    struct slice model;
    struct slice tag_key, tag_value;
    struct slice key_kind, key_value;
    struct slice group; // ST_NOT_FOUND when there is no such group
    struct slice text;  // id or name starts with it
    struct slice cursor;
    int64_t limit; // 1..1000
};
// Writes {"items": [device...], "next": cursor|null}. A page ends early at 1 MiB of text or 20,000 rows looked at; `next` is
// then set. Any tx.
enum status device_list(struct tx *tx, const struct device_filter *f, struct jw *out, struct err *err);

// Groups: named sets of devices.
struct group_ref {
    uint64_t row;
    char id[ID_MAX + 1];
};
enum status group_find(struct tx *tx, struct slice id, struct group_ref *ret, struct err *err); // any tx
enum status group_create(struct tx *tx, struct slice id, struct slice description, struct group_ref *ret,
                         struct err *err);
enum status group_delete(struct tx *tx, const struct group_ref *g, struct err *err);
// *ret_changed (may be NULL): false when it already was (not) a member.
enum status group_add(struct tx *tx, const struct group_ref *g, const struct device_ref *d, bool *ret_changed,
                      struct err *err);
enum status group_remove(struct tx *tx, const struct group_ref *g, const struct device_ref *d, bool *ret_changed,
                         struct err *err);
// {"id","description","members","created"}. Any tx.
enum status group_write(struct tx *tx, const struct group_ref *g, struct jw *out, struct err *err);
enum status group_list(struct tx *tx, struct slice cursor, int64_t limit, struct jw *out, struct err *err); // any tx

#endif
