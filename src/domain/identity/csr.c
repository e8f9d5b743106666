#include "domain/identity/csr_priv.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <stdlib.h>

#define RSA_BITS_MIN   2048
#define RSA_BITS_MAX   4096
#define RSA_E_BITS_MAX 64

#define ALLOWED_KEYS   "allowed are EC P-256 and P-384, Ed25519, and RSA of 2048 to 4096 bits"

// --- decoding ----------------------------------------------------------------------------------------------------

static bool is_request_name(const char *name)
{
    return strcmp(name, PEM_STRING_X509_REQ) == 0 || strcmp(name, PEM_STRING_X509_REQ_OLD) == 0;
}

static X509_REQ *request_from_der(const unsigned char *der, long len)
{
    const unsigned char *p = der;
    X509_REQ *req = d2i_X509_REQ(NULL, &p, len);
    if (req != NULL && p != der + len) { // bytes behind the request
        X509_REQ_free(req);
        return NULL;
    }
    return req;
}

static enum status decode(struct slice pem, X509_REQ **ret, struct err *err)
{
    BIO *bio = BIO_new_mem_buf(pem.p, (int)pem.len);
    char *name = NULL;
    char *header = NULL;
    unsigned char *der = NULL;
    long len = 0;
    enum status st = ST_OK;
    if (bio == NULL) {
        return err_set(err, ST_NOMEM, "no memory");
    }
    if (PEM_read_bio(bio, &name, &header, &der, &len) != 1) {
        st = err_set(err, ST_MALFORMED, "not a certificate signing request in PEM form");
    } else if (!is_request_name(name) || header[0] != '\0') {
        st = err_set(err, ST_MALFORMED, "the PEM block must be a plain CERTIFICATE REQUEST");
    } else {
        *ret = request_from_der(der, len);
        st = *ret != NULL ? ST_OK : err_set(err, ST_MALFORMED, "the certificate signing request cannot be decoded");
    }
    OPENSSL_free(name);
    OPENSSL_free(header);
    OPENSSL_free(der);
    BIO_free(bio);
    return st;
}

// --- the key -----------------------------------------------------------------------------------------------------

static bool string_param_is(const EVP_PKEY *key, const char *param, const char *const *allowed)
{
    char text[64];
    size_t len = 0;
    if (EVP_PKEY_get_utf8_string_param(key, param, text, sizeof(text), &len) != 1) {
        return false;
    }
    for (size_t i = 0; allowed[i] != NULL; i++) {
        if (strcmp(text, allowed[i]) == 0) {
            return true;
        }
    }
    return false;
}

static bool ec_key_good(const EVP_PKEY *key)
{
    static const char *const curves[] = {"prime256v1", "secp384r1", NULL};
    static const char *const encodings[] = {OSSL_PKEY_EC_ENCODING_GROUP, NULL}; // a name, not parameters of one's own
    return string_param_is(key, OSSL_PKEY_PARAM_GROUP_NAME, curves) &&
           string_param_is(key, OSSL_PKEY_PARAM_EC_ENCODING, encodings);
}

static bool ed25519_key_good(const EVP_PKEY *key)
{
    (void)key;
    return true;
}

static bool rsa_key_good(const EVP_PKEY *key)
{
    int bits = EVP_PKEY_get_bits(key);
    BIGNUM *e = NULL;
    if (bits < RSA_BITS_MIN || bits > RSA_BITS_MAX || EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_RSA_E, &e) != 1) {
        return false;
    }
    bool good = BN_is_odd(e) && BN_num_bits(e) >= 17 && BN_num_bits(e) <= RSA_E_BITS_MAX;
    BN_free(e);
    return good;
}

static const struct {
    int type;
    bool (*good)(const EVP_PKEY *key);
} key_types[] = {
    {EVP_PKEY_EC, ec_key_good},
    {EVP_PKEY_ED25519, ed25519_key_good},
    {EVP_PKEY_RSA, rsa_key_good},
};

static const int signature_types[] = {
    NID_ecdsa_with_SHA256,       NID_ecdsa_with_SHA384,       NID_ecdsa_with_SHA512, NID_sha256WithRSAEncryption,
    NID_sha384WithRSAEncryption, NID_sha512WithRSAEncryption, NID_ED25519,
};

static bool key_good(const EVP_PKEY *key)
{
    for (size_t i = 0; i < sizeof(key_types) / sizeof(key_types[0]); i++) {
        if (EVP_PKEY_get_base_id(key) == key_types[i].type) {
            return key_types[i].good(key);
        }
    }
    return false;
}

static bool signature_type_good(int nid)
{
    for (size_t i = 0; i < sizeof(signature_types) / sizeof(signature_types[0]); i++) {
        if (nid == signature_types[i]) {
            return true;
        }
    }
    return false;
}

static enum status check(struct csr *c, struct err *err)
{
    c->key = X509_REQ_get_pubkey(c->req);
    if (c->key == NULL || !key_good(c->key)) {
        return err_set(err, ST_INVALID, "the request's key is not accepted: " ALLOWED_KEYS);
    }
    if (!signature_type_good(X509_REQ_get_signature_nid(c->req))) {
        return err_set(err, ST_INVALID,
                       "the request's signature algorithm is not accepted: allowed are ECDSA and RSA (PKCS #1) with "
                       "SHA-256, SHA-384 or SHA-512, and Ed25519");
    }
    if (X509_REQ_verify(c->req, c->key) != 1) {
        return err_set(err, ST_INVALID, "the request is not signed by its own key");
    }
    return ST_OK;
}

enum status csr_parse(struct slice pem, struct csr **ret, struct err *err)
{
    if (pem.len == 0 || pem.len > CSR_PEM_MAX) {
        return err_set(err, pem.len == 0 ? ST_INVALID : ST_TOO_LARGE,
                       "a certificate signing request in PEM form of at most %d bytes is needed", CSR_PEM_MAX);
    }
    struct csr *c = calloc(1, sizeof(*c));
    if (c == NULL) {
        return err_set(err, ST_NOMEM, "no memory");
    }
    enum status st = decode(pem, &c->req, err);
    if (st == ST_OK) {
        st = check(c, err);
    }
    ERR_clear_error();
    if (st != ST_OK) {
        csr_free(c);
        return st;
    }
    *ret = c;
    return ST_OK;
}

void csr_free(struct csr *c)
{
    if (c != NULL) {
        EVP_PKEY_free(c->key);
        X509_REQ_free(c->req);
        free(c);
    }
}

// --- what is taken from it ---------------------------------------------------------------------------------------

enum status csr_device(const struct csr *c, char ret[ID_MAX + 1], struct err *err)
{
    X509_NAME *subject = X509_REQ_get_subject_name(c->req);
    int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
    ret[0] = '\0';
    if (at < 0) {
        return ST_OK;
    }
    unsigned char *utf8 = NULL;
    int len = ASN1_STRING_to_UTF8(&utf8, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)));
    bool good = len >= 0 && id_valid(slice_make(utf8, (size_t)len)) &&
                slice_to_cstr(slice_make(utf8, (size_t)len), ret, ID_MAX + 1);
    OPENSSL_free(utf8);
    ERR_clear_error();
    if (!good) {
        return err_set(err, ST_INVALID,
                       "the request's common name cannot be a device id: 1 to %d characters of A-Z a-z 0-9 . _ : -",
                       ID_MAX);
    }
    return ST_OK;
}

void csr_spki(const struct csr *c, uint8_t out[SHA256_LEN])
{
    unsigned char *der = NULL;
    int len = i2d_X509_PUBKEY(X509_REQ_get_X509_PUBKEY(c->req), &der);
    crypto_sha256(slice_make(der, len > 0 ? (size_t)len : 0), out);
    OPENSSL_free(der);
}
