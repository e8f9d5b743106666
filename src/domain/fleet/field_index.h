// Indexes operators declare: one path into the device document, kept up to date in the transaction of each change.
//
//   BUILDING --all devices done--> READY
//       \------------\--field_index_remove--> REMOVING --no entries left--> (gone)
//
// Kept in a table of our own and not as indexes of the database: one is built in small steps beside the devices' traffic,
// belongs to one tenant, and knows JSON's types. Entries: (index, kind, value, device); objects, lists and nulls have none.
#ifndef FLEET_FIELD_INDEX_H
#define FLEET_FIELD_INDEX_H

#include "core/core.h"
#include "expr/value.h"

#define FIELD_INDEX_MAX 64 // of one tenant

enum field_kind { FIELD_BOOL = 1, FIELD_NUMBER, FIELD_TEXT }; // stored; the order of the entries

struct field_index_ref {
    uint64_t row;
    bool ready;
};
// The tenant's index on this path: a root and at least one key ("reported", {"net", "ssid"}). ST_NOT_FOUND. Any tx.
enum status field_index_find(struct tx *tx, unsigned root, const struct slice *keys, unsigned keys_len,
                             struct field_index_ref *ret, struct err *err);

#endif
