// Where the device's private key lives: a small interface with one implementation today, files. A TPM or a PKCS#11 token is another
// row of functions; the rest of the agent never sees a key.
#ifndef AGENT_KEYS_H
#define AGENT_KEYS_H

#include "agent/statedir.h"
#include "base/buf.h"
#include "base/status.h"

struct ssl_ctx_st;

enum key_slot {
    KEY_CURRENT, // belongs to the certificate in use
    KEY_NEXT,    // made for a renewal, not in use before it is confirmed
};

struct keys;
struct keys_ops {
    const char *name;
    bool (*has)(const struct keys *k, enum key_slot slot);
    // Makes a new P-256 key; a crash leaves the whole key or none.
    enum status (*make)(const struct keys *k, enum key_slot slot, struct err *err);
    // Appends a PKCS#10 request (PEM) signed by the key. cn: the device id wanted, "" for none.
    enum status (*csr)(const struct keys *k, enum key_slot slot, const char *cn, struct buf *out, struct err *err);
    // Installs the key for a TLS connection.
    bool (*use)(const struct keys *k, enum key_slot slot, struct ssl_ctx_st *ctx);
    // NEXT becomes CURRENT, at once; the old key is gone.
    enum status (*promote)(const struct keys *k, struct err *err);
    enum status (*remove)(const struct keys *k, enum key_slot slot, struct err *err);
};
struct keys {
    const struct keys_ops *ops;
    const struct statedir *dir; // borrowed
};

// Keys in the state directory: key.pem and next-key.pem, mode 0600, PKCS#8 PEM.
struct keys keys_file(const struct statedir *dir);

#endif
