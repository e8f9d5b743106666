// Who may come in: access tokens, claims, certificates of our own CA, operator tokens.
//
// Secrets are stored as HMAC-SHA-256 under a key of the store (DIR/secret.key), so that a lookup is one index probe and a
// stolen database holds nothing to try offline without that key. Comparisons are constant-time.
#ifndef DOMAIN_IDENTITY_H
#define DOMAIN_IDENTITY_H

#include "base/slice.h"
#include "core/core.h"
#include "domain/registry/registry.h"

// What a connecting device presents. Borrowed slices.
struct credential {
    struct slice client_id;
    struct slice username, password; // p == NULL: absent
    const uint8_t *cert_sha256;      // of the verified client certificate, or NULL
    struct slice peer_addr;
};
// Decides who this is. On ST_OK *ret is a device (WHO_DEVICE, *ret_device set) or a claim (WHO_CLAIM; username "$claim",
// password = claim token). ST_UNAUTHENTICATED: unknown or wrong credential (the text is for the log, not for the stranger);
// ST_FORBIDDEN: known but revoked, expired, suspended or retired; ST_LIMIT: too many failures from this address.
// Order: certificate; username+password = device id + access token; username alone = access token.
enum status identity_authenticate(struct tx *tx, const struct credential *cred, struct principal *ret,
                                  struct device_ref *ret_device, struct err *err);
// Operator's bearer token; tx may be a reader's. ST_UNAUTHENTICATED.
enum status identity_bearer(struct tx *tx, struct slice token, struct principal *ret, struct err *err);
// Records a failed attempt for the rate limit (call after the reply is decided; core thread).
void identity_auth_failed(struct core *c, struct slice peer_addr);

// Enrolment: the claim (WHO_CLAIM principal in tx->who) turns a CSR into a device with a certificate. `device` may be empty:
// then the CSR's CN, and without it a generated id. Creates the device when it does not exist yet (ST_EXISTS when it does
// and has credentials already). Appends {"device","certificate","ca","not_after"} to out.
enum status identity_enroll(struct tx *tx, struct slice csr_pem, struct slice device, const json_t *desc,
                            struct jw *out, struct err *err);
// Renewal over the device's own channel (WHO_DEVICE in tx->who): new certificate for the same device; the old one stays valid
// until it expires or the new one has been used once.
enum status identity_renew(struct tx *tx, struct slice csr_pem, struct jw *out, struct err *err);
// Claim principal for an HTTP enrolment: checks the token, counts nothing yet (identity_enroll counts the use).
enum status identity_claim(struct tx *tx, struct slice token, struct slice peer_addr, struct principal *ret,
                           struct err *err);

// First start: CA, server certificate, store key, admin token in `dir`; later starts load them. Server certificate is made
// anew when a name is missing or it is near expiry.
struct identity;
enum status identity_open(struct core *c, const char *dir, const char *const *names, size_t names_len,
                          struct identity **ret, struct err *err);
void identity_free(struct identity *id);

#endif
