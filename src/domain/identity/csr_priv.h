// What ca.c needs of a request: the checked key.
#ifndef DOMAIN_CSR_PRIV_H
#define DOMAIN_CSR_PRIV_H

#include <openssl/x509.h>

#include "domain/identity/csr.h"

struct csr {
    X509_REQ *req;
    EVP_PKEY *key;
};

#endif
