// Pre-shared keys of devices, for TLS-PSK (RFC 4279, RFC 8446 section 2.2): small devices that cannot afford certificates.
//
// The identity comes in the first packet, so it is looked up on an I/O thread in the midst of a handshake: all keys are in
// memory, loaded at start and changed after commits. In the store they are sealed under the store key.
#ifndef DOMAIN_DEVICE_PSK_H
#define DOMAIN_DEVICE_PSK_H

#include "domain/identity/identity.h"

#define DEVICE_PSKS_MAX  4   // per device
#define PSK_IDENTITY_MAX 128 // bytes, printable ASCII without spaces
#define PSK_KEY_MIN      16  // bytes
#define PSK_KEY_MAX      64

struct psk_conf {
    struct slice identity; // len 0: made from the device's id
    struct slice key_hex;  // len 0: 32 random bytes
    struct slice label;    // p == NULL: none
    struct slice replaces; // len 0: it begins a lineage of its own (lineage.h)
};
// Makes one: {"id","identity","key","label","created"}; the key is never shown again. ST_INVALID: identity or key not allowed,
// or an identity that cannot be used (another has it; the text does not say so). ST_LIMIT: the device has DEVICE_PSKS_MAX.
enum status device_psk_create(struct tx *tx, const struct device_ref *d, const struct psk_conf *conf, struct jw *out,
                              struct err *err);
// {"items": [{"id","identity","label","created"}], "next": null}. Any tx.
enum status device_psk_list(struct tx *tx, const struct device_ref *d, struct jw *out, struct err *err);
// Closes the device's live session.
enum status device_psk_revoke(struct tx *tx, const struct device_ref *d, struct slice id, struct err *err);

// The key of an identity into key[PSK_KEY_MAX], for tls_server_conf; `arg`: struct identity. Its length, 0: unknown. Any thread.
size_t device_psk_find(void *arg, struct slice identity, uint8_t *key);

#endif
