// Certificate signing requests (PKCS #10, RFC 2986): decoding a stranger's request and deciding whether its key is good
// enough. Only the key and, as a wish, the common name are taken from it; subject and extensions are otherwise ignored.
#ifndef DOMAIN_CSR_H
#define DOMAIN_CSR_H

#include "base/slice.h"
#include "base/status.h"
#include "core/principal.h"
#include "net/crypto.h"

#define CSR_PEM_MAX 8192

struct csr;
// The first PEM block of the text must be a "CERTIFICATE REQUEST" (or "NEW CERTIFICATE REQUEST"). The request must be signed by
// its own key (proof of possession) with SHA-256, SHA-384, SHA-512 or Ed25519. Keys: EC P-256 or P-384 (named), Ed25519,
// RSA of 2048 to 4096 bits. ST_MALFORMED, ST_INVALID (the text says what is allowed), ST_TOO_LARGE, ST_NOMEM. Copies.
enum status csr_parse(struct slice pem, struct csr **ret, struct err *err);
void csr_free(struct csr *c); // NULL is allowed
// The common name as a device id; "" when there is none. ST_INVALID when it cannot be an id.
enum status csr_device(const struct csr *c, char ret[ID_MAX + 1], struct err *err);
void csr_spki(const struct csr *c, uint8_t out[SHA256_LEN]); // SHA-256 of the DER public key

#endif
