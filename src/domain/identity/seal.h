// Secrets that must be read again are sealed: AES-256-GCM under a key made of the store key, bound to what they belong to.
#ifndef DOMAIN_SEAL_H
#define DOMAIN_SEAL_H

#include "base/buf.h"
#include "domain/identity/identity_priv.h"

#define SEAL_EXTRA 28 // bytes a sealed secret is longer: nonce 12, tag 16

// Appends nonce, ciphertext and tag. `about` must be given again to open it. False: no room, or the cipher failed.
bool seal(const struct identity *id, struct slice about, struct slice secret, struct buf *out);
// Appends the secret. False: sealed under another key, about something else, or damaged. The caller wipes it.
bool unseal(const struct identity *id, struct slice about, struct slice sealed, struct buf *out);

#endif
