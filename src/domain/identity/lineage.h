// Which credentials of a device follow each other. A session belongs to a lineage, not to the device alone: a second credential
// of the same device, leaked or forgotten, gets nothing of what waits for the first one.
//
//   begins a lineage   enrolment with a claim; an access token, pre-shared key or password that an operator makes
//   has the same one   a certificate renewed over the device's own channel: that of the credential the device came in with;
//                      a token or key made with "replaces": that of the one it names; a password set over another one
//
// A lineage ends when none of its credentials lets in any more. Its number is the row of the credential it began with.
#ifndef DOMAIN_LINEAGE_H
#define DOMAIN_LINEAGE_H

#include "domain/identity/identity.h"

// The lineage of the credential that a new one replaces: id of an access token or a pre-shared key, or fingerprint of a
// certificate, of this device. Absent (len 0): `row`, the new one's own. ST_INVALID with /replaces: the device has none such.
enum status lineage_replacing(struct tx *tx, uint64_t device, struct slice replaces, uint64_t row, uint64_t *ret,
                              struct err *err);
// Does any credential of this lineage still let the device in? Any tx.
enum status lineage_usable(struct tx *tx, uint64_t device, uint64_t lineage, bool *ret, struct err *err);

#endif
