#include "domain/identity/x509.h"

#include <openssl/bn.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <time.h>

#include "base/rand.h"

enum status x509_failed(struct err *err, const char *doing)
{
    unsigned long code = ERR_get_error();
    char text[160] = "no reason given";
    if (code != 0) {
        ERR_error_string_n(code, text, sizeof(text));
    }
    bool memory = ERR_GET_REASON(code) == ERR_R_MALLOC_FAILURE;
    ERR_clear_error();
    return err_set(err, memory ? ST_NOMEM : ST_INTERNAL, "%s failed: %s", doing, text);
}

static bool set_serial(X509 *x, uint8_t serial[CERT_SERIAL_LEN])
{
    rand_secret(serial, CERT_SERIAL_LEN);
    serial[0] |= 1U; // never zero, always 16 bytes long
    BIGNUM *n = BN_bin2bn(serial, CERT_SERIAL_LEN, NULL);
    bool ok = n != NULL && BN_to_ASN1_INTEGER(n, X509_get_serialNumber(x)) != NULL;
    BN_free(n);
    return ok;
}

// V_ASN1_UTF8STRING as it is: the limit of 64 characters that X.520 puts on a common name is shorter than a device id.
static bool add_name(X509_NAME *name, int nid, const char *value)
{
    return X509_NAME_add_entry_by_NID(name, nid, V_ASN1_UTF8STRING, (const unsigned char *)value, -1, -1, 0) == 1;
}

X509 *x509_new(EVP_PKEY *key, const char *cn, bool with_org, int64_t not_before_us, int64_t not_after_us,
               uint8_t serial[CERT_SERIAL_LEN])
{
    uint8_t own_serial[CERT_SERIAL_LEN];
    X509 *x = X509_new();
    if (x == NULL) {
        return NULL;
    }
    X509_NAME *subject = X509_get_subject_name(x);
    bool ok = X509_set_version(x, X509_VERSION_3) == 1 && set_serial(x, serial != NULL ? serial : own_serial) &&
              ASN1_TIME_set(X509_getm_notBefore(x), (time_t)(not_before_us / 1000000)) != NULL &&
              ASN1_TIME_set(X509_getm_notAfter(x), (time_t)(not_after_us / 1000000)) != NULL &&
              (!with_org || add_name(subject, NID_organizationName, "Muster")) &&
              add_name(subject, NID_commonName, cn) && X509_set_pubkey(x, key) == 1;
    if (!ok) {
        X509_free(x);
        return NULL;
    }
    return x;
}

bool x509_extend(X509 *x, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509V3_set_ctx_nodb(&ctx);
    X509V3_set_ctx(&ctx, issuer, x, NULL, NULL, 0);
    X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    bool ok = e != NULL && X509_add_ext(x, e, -1) == 1;
    X509_EXTENSION_free(e);
    return ok;
}

bool x509_sign(X509 *x, X509 *issuer, EVP_PKEY *issuer_key)
{
    return X509_set_issuer_name(x, X509_get_subject_name(issuer)) == 1 && X509_sign(x, issuer_key, EVP_sha256()) > 0;
}

int64_t x509_time_us(const ASN1_TIME *t)
{
    struct tm tm;
    return ASN1_TIME_to_tm(t, &tm) == 1 ? (int64_t)timegm(&tm) * 1000000 : -1;
}

static bool put_bio(BIO *bio, struct buf *out)
{
    char *text = NULL;
    long len = BIO_get_mem_data(bio, &text);
    bool ok = len > 0 && buf_put(out, text, (size_t)len);
    if (len > 0) {
        crypto_wipe(text, (size_t)len); // it may have been a private key
    }
    return ok;
}

bool x509_to_pem(X509 *x, struct buf *out)
{
    BIO *bio = BIO_new(BIO_s_mem());
    bool ok = bio != NULL && PEM_write_bio_X509(bio, x) == 1 && put_bio(bio, out);
    BIO_free(bio);
    return ok;
}

X509 *x509_from_pem(struct slice pem)
{
    BIO *bio = BIO_new_mem_buf(pem.p, (int)pem.len);
    X509 *x = bio != NULL ? PEM_read_bio_X509(bio, NULL, NULL, NULL) : NULL;
    BIO_free(bio);
    return x;
}

bool pkey_to_pem(EVP_PKEY *key, struct buf *out)
{
    BIO *bio = BIO_new(BIO_s_secmem());
    bool ok = bio != NULL && PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL) == 1 && put_bio(bio, out);
    BIO_free(bio);
    return ok;
}

// Never asks a terminal for a passphrase: an encrypted key is simply not readable.
static int no_passphrase(char *text, int size, int writing, void *arg)
{
    (void)text;
    (void)size;
    (void)writing;
    (void)arg;
    return -1;
}

EVP_PKEY *pkey_from_pem(struct slice pem)
{
    BIO *bio = BIO_new_mem_buf(pem.p, (int)pem.len);
    EVP_PKEY *k = bio != NULL ? PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, NULL) : NULL;
    BIO_free(bio);
    return k;
}

void buf_wipe(struct buf *b)
{
    if (b->p != NULL) {
        crypto_wipe(b->p, b->cap);
    }
    buf_release(b);
}

bool cert_der_to_pem(struct slice der, struct buf *out)
{
    const unsigned char *p = der.p;
    X509_AUTO *x = d2i_X509(NULL, &p, (long)der.len);
    return x != NULL && x509_to_pem(x, out);
}
