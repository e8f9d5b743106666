// Who must know when a device goes, is blocked, or loses a credential.
#include <stdlib.h>

#include "domain/registry/registry.h"

#define WATCHERS_MAX 16

struct registry {
    registry_watch_fn watchers[WATCHERS_MAX];
    unsigned watchers_len;
};

enum status registry_watch(struct core *c, registry_watch_fn fn, struct err *err)
{
    struct registry *r = core_slot(c, CORE_SLOT_REGISTRY);
    if (r == NULL) {
        r = calloc(1, sizeof(*r));
        if (r == NULL) {
            return err_set(err, ST_NOMEM, "no memory");
        }
        core_set_slot(c, CORE_SLOT_REGISTRY, r);
    }
    if (r->watchers_len == WATCHERS_MAX) {
        return err_set(err, ST_INTERNAL, "more than %d watchers of devices", WATCHERS_MAX);
    }
    r->watchers[r->watchers_len++] = fn;
    return ST_OK;
}

enum status registry_notify(struct tx *tx, const struct device_ref *d, enum device_change what, struct err *err)
{
    const struct registry *r = core_slot(tx->core, CORE_SLOT_REGISTRY);
    for (unsigned i = 0; r != NULL && i < r->watchers_len; i++) {
        enum status st = r->watchers[i](tx, d, what, err);
        if (st != ST_OK) {
            return st;
        }
    }
    return ST_OK;
}

void registry_release(struct core *c)
{
    free(core_slot(c, CORE_SLOT_REGISTRY));
    core_set_slot(c, CORE_SLOT_REGISTRY, NULL);
}
