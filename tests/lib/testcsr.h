// Certificate signing requests of every kind, made with OpenSSL. Include after cmocka.h.
#ifndef TESTS_LIB_TESTCSR_H
#define TESTS_LIB_TESTCSR_H

#include <openssl/ec.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <string.h>

#define TESTCSR_MAX 16384

// "P-256", "P-384", "P-521", "secp256k1", "P-256 explicit", "ED25519", "ED448", "RSA-1024", "RSA-2048", ...
static inline EVP_PKEY *testcsr_key(const char *kind)
{
    EVP_PKEY *key = NULL;
    unsigned bits = 0;
    if (sscanf(kind, "RSA-%u", &bits) == 1) {
        key = EVP_RSA_gen(bits);
    } else if (strcmp(kind, "ED25519") == 0 || strcmp(kind, "ED448") == 0) {
        key = EVP_PKEY_Q_keygen(NULL, NULL, kind);
    } else if (strcmp(kind, "P-256 explicit") == 0) {
        EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_id(EVP_PKEY_EC, NULL);
        assert_int_equal(EVP_PKEY_keygen_init(ctx), 1);
        assert_int_equal(EVP_PKEY_CTX_set_ec_paramgen_curve_nid(ctx, NID_X9_62_prime256v1), 1);
        assert_int_equal(EVP_PKEY_CTX_set_ec_param_enc(ctx, OPENSSL_EC_EXPLICIT_CURVE), 1);
        assert_int_equal(EVP_PKEY_keygen(ctx, &key), 1);
        EVP_PKEY_CTX_free(ctx);
    } else {
        key = EVP_EC_gen(kind);
    }
    assert_non_null(key);
    return key;
}

// A request for `key`, signed by `signer` with `digest`, as PEM. cn NULL: no common name.
static inline void testcsr_make(EVP_PKEY *key, EVP_PKEY *signer, const EVP_MD *digest, const char *cn,
                                char pem[TESTCSR_MAX])
{
    X509_REQ *req = X509_REQ_new();
    assert_non_null(req);
    assert_int_equal(X509_REQ_set_pubkey(req, key), 1);
    if (cn != NULL) {
        assert_int_equal(X509_NAME_add_entry_by_NID(X509_REQ_get_subject_name(req), NID_commonName, V_ASN1_UTF8STRING,
                                                    (const unsigned char *)cn, -1, -1, 0),
                         1);
    }
    assert_true(X509_REQ_sign(req, signer, digest) > 0);
    BIO *bio = BIO_new(BIO_s_mem());
    assert_int_equal(PEM_write_bio_X509_REQ(bio, req), 1);
    int n = BIO_read(bio, pem, TESTCSR_MAX - 1);
    assert_true(n > 0);
    pem[n] = '\0';
    BIO_free(bio);
    X509_REQ_free(req);
}

// The usual request of a key of this kind.
static inline void testcsr(const char *kind, const char *cn, char pem[TESTCSR_MAX])
{
    EVP_PKEY *key = testcsr_key(kind);
    bool own_digest = strncmp(kind, "ED", 2) == 0;
    testcsr_make(key, key, own_digest ? NULL : EVP_sha256(), cn, pem);
    EVP_PKEY_free(key);
}

#endif
