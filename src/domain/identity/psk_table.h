// Identities and keys in memory. Any thread; readers do not wait for each other.
#ifndef DOMAIN_PSK_TABLE_H
#define DOMAIN_PSK_TABLE_H

#include "base/slice.h"

struct psk_table;
struct psk_table *psk_table_new(void);                                            // NULL: no memory
void psk_table_free(struct psk_table *t);                                         // wipes; NULL is allowed
bool psk_table_set(struct psk_table *t, struct slice identity, struct slice key); // false: no memory
void psk_table_del(struct psk_table *t, struct slice identity);
// The key into dst[dst_size]; its length, 0: unknown, or it does not fit.
size_t psk_table_get(struct psk_table *t, struct slice identity, uint8_t *dst, size_t dst_size);

#endif
