// The own certificate authority: P-256, self-signed, 20 years; issues the server's certificate and the devices'.
// Private to identity, the only users of OpenSSL in the domain.
#ifndef DOMAIN_CA_H
#define DOMAIN_CA_H

#include "base/buf.h"
#include "base/slice.h"
#include "base/status.h"
#include "domain/identity/csr.h"

#define CERT_SERIAL_LEN 16
#define CERT_DER_MAX    ((size_t)8192)

struct ca;
// Loads DIR/ca.pem and DIR/ca.key; makes both when neither is there. One without the other is an error.
enum status ca_open(const char *dir, int64_t now_us, struct ca **ret, struct err *err);
void ca_free(struct ca *ca); // NULL is allowed
struct slice ca_pem(const struct ca *ca);
void ca_digest(const struct ca *ca, uint8_t out[SHA256_LEN]); // SHA-256 of the DER certificate

struct cert_facts {
    uint8_t fingerprint[SHA256_LEN]; // of the DER certificate
    uint8_t spki[SHA256_LEN];
    uint8_t serial[CERT_SERIAL_LEN];
    int64_t not_before_us, not_after_us;
};
// A client certificate for the request's key: CN = device, clientAuth, random serial, valid from five minutes ago for
// validity_us (not beyond the CA's own end). Appends DER to `der`.
enum status ca_issue(const struct ca *ca, const struct csr *csr, const char *device, int64_t now_us,
                     int64_t validity_us, struct buf *der, struct cert_facts *ret, struct err *err);
bool cert_der_to_pem(struct slice der, struct buf *out);

// DIR/server.pem and DIR/server.key: made anew when missing, not of this CA, not fitting each other, lacking one of `names`
// (DNS names and addresses; localhost, this host's name and its interfaces' addresses are always in), or ending within 30
// days. P-256, serverAuth, 397 days.
enum status ca_server(const struct ca *ca, const char *dir, const char *const *names, size_t names_len, int64_t now_us,
                      bool *ret_changed, struct err *err);

#endif
