// Who has come in from where lately: a set of keys (rate_source of address and name) that forgets. Fixed memory, one thread.
//
// Only a success makes a key familiar, so strangers cannot put anything in; when a place is full the one not seen for
// longest goes, and is then merely counted by its address again.
#ifndef DOMAIN_FAMILIAR_H
#define DOMAIN_FAMILIAR_H

#include <stdbool.h>
#include <stdint.h>

struct familiar;
struct familiar *familiar_new(void); // NULL: no memory
void familiar_free(struct familiar *f);
void familiar_add(struct familiar *f, uint64_t key, int64_t now_us);
bool familiar_has(const struct familiar *f, uint64_t key, int64_t now_us); // added within the last day

#endif
