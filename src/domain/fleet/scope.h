// Permission narrowing: what a principal may see of the fleet. A token made with an expression sees and touches only devices it is
// true for; all others are as unknown to it as devices that do not exist.
//
// The condition is checked in the store layer: device_find and every statement's rows of devices go through it, so a handler
// cannot forget it.
#ifndef FLEET_SCOPE_H
#define FLEET_SCOPE_H

#include "domain/fleet/where.h"

// The condition of tx->who; NULL: it sees all of its tenant. Borrowed for the tx.
enum status fleet_scope_of(struct tx *tx, const struct fleet_where **ret, struct err *err);
// May tx->who see this device? Any tx.
enum status fleet_scope_sees(struct tx *tx, uint64_t device, bool *ret_sees, struct err *err);

#endif
