// Shared between the files of this folder.
#ifndef DOMAIN_REGISTRY_PRIV_H
#define DOMAIN_REGISTRY_PRIV_H

#include "domain/doc/doc.h"
#include "domain/registry/registry.h"

#define WATCHERS_MAX 16

struct erase;

// What CORE_SLOT_REGISTRY holds. Core thread only.
struct registry {
    registry_watch_fn watchers[WATCHERS_MAX];
    unsigned watchers_len;
    struct data_watcher {
        registry_data_fn fn;
        uint64_t roots;
    } data_watchers[WATCHERS_MAX];
    unsigned data_watchers_len;
    uint64_t data_watched; // roots any of them watches
    unsigned erased_len;
    struct erase *erased; // telemetry is gone, the row of device_erase is not yet
};
struct registry *registry_get(struct core *c); // made when it is missing; NULL: no memory

// Notes that the telemetry of a device being deleted must go, and erases it after the commit.
enum status device_erase_later(struct tx *tx, uint64_t device, struct err *err);
// Removes the notes of what is erased, and erases after the commit what is left over.
enum status device_erase_retry(struct tx *tx, struct err *err);
void device_erase_release(struct registry *r);

// A checked description. Everything is borrowed from the document; p == NULL or NULL: absent (or null).
struct device_desc {
    struct slice id, name, model, access_token;
    json_t *tags, *attributes, *keys;
};
// ST_INVALID with a pointer.
enum status device_desc_read(const json_t *desc, struct device_desc *ret, struct err *err);

// The JSON texts of tags, attributes and keys as they are stored: "{}" where the description has none.
struct device_texts {
    struct buf mem;
    struct slice tags, attributes, keys;
};
enum status device_texts_make(const struct device_desc *d, struct device_texts *ret, struct err *err);
static inline void device_texts_release(struct device_texts *t)
{
    buf_release(&t->mem);
}
#define DEVICE_TEXTS __attribute__((cleanup(device_texts_release))) struct device_texts

// Writes the row a statement with the columns of device_get stands on; groups: also "groups", read through tx.
enum status device_row_write(struct tx *tx, struct stmt *row, bool groups, struct jw *out, struct err *err);

// The device leaves all its groups (it is about to be deleted).
enum status group_forget_device(struct tx *tx, uint64_t device, struct err *err);
// Writes the ids of the device's groups as an array.
enum status group_write_of_device(struct tx *tx, uint64_t device, struct jw *out, struct err *err);
enum status group_has(struct tx *tx, uint64_t group, uint64_t device, bool *ret_has, struct err *err);

#endif
