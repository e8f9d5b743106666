// Who must know when a device goes, is blocked, or loses a credential.
#include <stdlib.h>

#include "domain/registry/registry_priv.h"

struct registry *registry_get(struct core *c)
{
    struct registry *r = core_slot(c, CORE_SLOT_REGISTRY);
    if (r == NULL) {
        r = calloc(1, sizeof(*r));
        core_set_slot(c, CORE_SLOT_REGISTRY, r);
    }
    return r;
}

enum status registry_watch(struct core *c, registry_watch_fn fn, struct err *err)
{
    struct registry *r = registry_get(c);
    if (r == NULL) {
        return err_set(err, ST_NOMEM, "no memory");
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

enum status registry_watch_data(struct core *c, uint64_t roots, registry_data_fn fn, struct err *err)
{
    struct registry *r = registry_get(c);
    if (r == NULL) {
        return err_set(err, ST_NOMEM, "no memory");
    }
    if (r->data_watchers_len == WATCHERS_MAX) {
        return err_set(err, ST_INTERNAL, "more than %d watchers of devices' data", WATCHERS_MAX);
    }
    r->data_watchers[r->data_watchers_len++] = (struct data_watcher){fn, roots};
    r->data_watched |= roots;
    return ST_OK;
}

enum status registry_notify_data(struct tx *tx, const struct device_changed *what, struct err *err)
{
    const struct registry *r = core_slot(tx->core, CORE_SLOT_REGISTRY);
    for (unsigned i = 0; r != NULL && i < r->data_watchers_len; i++) {
        const struct data_watcher *w = &r->data_watchers[i];
        enum status st = (w->roots & what->roots) != 0 ? w->fn(tx, what, err) : ST_OK;
        if (st != ST_OK) {
            return st;
        }
    }
    return ST_OK;
}

bool registry_data_watched(const struct core *c, uint64_t roots)
{
    const struct registry *r = core_slot(c, CORE_SLOT_REGISTRY);
    return r != NULL && (r->data_watched & roots) != 0;
}

void registry_release(struct core *c)
{
    struct registry *r = core_slot(c, CORE_SLOT_REGISTRY);
    if (r != NULL) {
        device_erase_release(r);
    }
    free(r);
    core_set_slot(c, CORE_SLOT_REGISTRY, NULL);
}
