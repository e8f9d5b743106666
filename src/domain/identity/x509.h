// Building blocks of certificates, shared by ca.c and server_cert.c.
#ifndef DOMAIN_X509_H
#define DOMAIN_X509_H

#include <openssl/evp.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include "domain/identity/ca.h"

struct ca {
    X509 *cert;
    EVP_PKEY *key;
    struct buf pem;
};

static inline void x509_cleanup_(X509 **x)
{
    X509_free(*x);
}
#define X509_AUTO __attribute__((cleanup(x509_cleanup_))) X509
static inline void pkey_cleanup_(EVP_PKEY **k)
{
    EVP_PKEY_free(*k);
}
#define PKEY_AUTO __attribute__((cleanup(pkey_cleanup_))) EVP_PKEY

// A version 3 certificate for `key` with a random 128-bit serial (copied to `serial` when not NULL), this time span and the
// subject O=Muster (with_org), CN=cn. NULL on failure.
X509 *x509_new(EVP_PKEY *key, const char *cn, bool with_org, int64_t not_before_us, int64_t not_after_us,
               uint8_t serial[CERT_SERIAL_LEN]);
// Adds an extension by OpenSSL's text form; `issuer` for the authority key id.
bool x509_extend(X509 *x, X509 *issuer, int nid, const char *value);
bool x509_sign(X509 *x, X509 *issuer, EVP_PKEY *issuer_key); // sets the issuer name, signs with SHA-256
int64_t x509_time_us(const ASN1_TIME *t);                    // -1 when it cannot be read

bool x509_to_pem(X509 *x, struct buf *out); // appends; false when it does not fit
X509 *x509_from_pem(struct slice pem);      // NULL when it is none
// Private keys: the caller wipes the text.
bool pkey_to_pem(EVP_PKEY *key, struct buf *out);
EVP_PKEY *pkey_from_pem(struct slice pem);
void buf_wipe(struct buf *b); // overwrites and releases

// ST_INTERNAL (or ST_NOMEM) with OpenSSL's own words behind `doing`.
enum status x509_failed(struct err *err, const char *doing);

#endif
