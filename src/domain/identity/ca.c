#include "domain/identity/ca.h"

#include <inttypes.h>
#include <limits.h>
#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/rand.h"
#include "domain/identity/csr_priv.h"
#include "domain/identity/x509.h"
#include "store/file.h"

#define DAY_US         ((int64_t)24 * 3600 * 1000000)
#define CA_VALIDITY_US (DAY_US * 365 * 20)
#define BACKDATE_US    ((int64_t)5 * 60 * 1000000) // for devices whose clock is slow
#define FILE_MAX       65536

struct paths {
    char cert[PATH_MAX];
    char key[PATH_MAX];
};

static enum status make_paths(const char *dir, struct paths *p, struct err *err)
{
    int a = snprintf(p->cert, sizeof(p->cert), "%s/ca.pem", dir);
    int b = snprintf(p->key, sizeof(p->key), "%s/ca.key", dir);
    return a > 0 && b > 0 && a < PATH_MAX && b < PATH_MAX ? ST_OK : err_set(err, ST_INVALID, "%s: too long", dir);
}

// --- making ------------------------------------------------------------------------------------------------------

static bool make_cert(struct ca *ca, int64_t now_us)
{
    char cn[32];
    (void)snprintf(cn, sizeof(cn), "Muster CA %08" PRIx32, (uint32_t)rand_u64());
    ca->key = EVP_EC_gen("P-256");
    if (ca->key == NULL) {
        return false;
    }
    X509 *x = x509_new(ca->key, cn, true, now_us - BACKDATE_US, now_us + CA_VALIDITY_US, NULL);
    ca->cert = x;
    return x != NULL && x509_extend(x, x, NID_basic_constraints, "critical,CA:TRUE,pathlen:0") &&
           x509_extend(x, x, NID_key_usage, "critical,keyCertSign,cRLSign") &&
           x509_extend(x, x, NID_subject_key_identifier, "hash") &&
           x509_extend(x, x, NID_authority_key_identifier, "keyid:always") && x509_sign(x, x, ca->key);
}

static enum status make(struct ca *ca, const struct paths *p, int64_t now_us, struct err *err)
{
    struct buf key = buf_heap(FILE_MAX);
    if (!make_cert(ca, now_us) || !x509_to_pem(ca->cert, &ca->pem) || !pkey_to_pem(ca->key, &key)) {
        buf_wipe(&key);
        return x509_failed(err, "making the certificate authority");
    }
    enum status st = file_write(p->key, 0600, buf_view(&key), err);
    buf_wipe(&key);
    return st == ST_OK ? file_write(p->cert, 0644, buf_view(&ca->pem), err) : st;
}

// --- loading -----------------------------------------------------------------------------------------------------

static enum status load(struct ca *ca, const struct paths *p, struct slice key_pem, struct err *err)
{
    ca->cert = x509_from_pem(buf_view(&ca->pem));
    ca->key = pkey_from_pem(key_pem);
    ERR_clear_error();
    if (ca->cert == NULL || X509_check_ca(ca->cert) == 0) {
        return err_set(err, ST_CORRUPT, "%s: not a CA certificate in PEM form", p->cert);
    }
    if (ca->key == NULL) {
        return err_set(err, ST_CORRUPT, "%s: not a private key in PEM form", p->key);
    }
    int fits = X509_check_private_key(ca->cert, ca->key);
    ERR_clear_error();
    return fits == 1 ? ST_OK : err_set(err, ST_CORRUPT, "%s: not the key of %s", p->key, p->cert);
}

static enum status open_files(struct ca *ca, const struct paths *p, int64_t now_us, struct err *err)
{
    struct buf key = buf_heap(FILE_MAX);
    struct err why = {.code = ST_OK};
    enum status cert_st = file_read(p->cert, false, &ca->pem, &why);
    enum status key_st = file_read(p->key, true, &key, cert_st == ST_OK || cert_st == ST_NOT_FOUND ? &why : NULL);
    enum status st = ST_OK;
    // A crash between the two files leaves the key alone: then nothing has been issued, and both are made anew.
    if (cert_st == ST_NOT_FOUND && (key_st == ST_NOT_FOUND || key_st == ST_OK)) {
        buf_release(&ca->pem);
        ca->pem = buf_heap(FILE_MAX);
        st = make(ca, p, now_us, err);
    } else if (cert_st != ST_OK || key_st != ST_OK) {
        st = err_set(err, why.code, "%s", why.text);
    } else {
        st = load(ca, p, buf_view(&key), err);
    }
    buf_wipe(&key);
    return st;
}

enum status ca_open(const char *dir, int64_t now_us, struct ca **ret, struct err *err)
{
    struct paths p = {.cert = ""};
    enum status st = make_paths(dir, &p, err);
    if (st != ST_OK) {
        return st;
    }
    struct ca *ca = calloc(1, sizeof(*ca));
    if (ca == NULL) {
        return err_set(err, ST_NOMEM, "no memory");
    }
    ca->pem = buf_heap(FILE_MAX);
    st = open_files(ca, &p, now_us, err);
    if (st != ST_OK) {
        ca_free(ca);
        return st;
    }
    *ret = ca;
    return ST_OK;
}

void ca_free(struct ca *ca)
{
    if (ca != NULL) {
        X509_free(ca->cert);
        EVP_PKEY_free(ca->key);
        buf_release(&ca->pem);
        free(ca);
    }
}

struct slice ca_pem(const struct ca *ca)
{
    return buf_view(&ca->pem);
}

void ca_digest(const struct ca *ca, uint8_t out[SHA256_LEN])
{
    unsigned char *der = NULL;
    int len = i2d_X509(ca->cert, &der);
    crypto_sha256(slice_make(der, len > 0 ? (size_t)len : 0), out);
    OPENSSL_free(der);
}

// --- issuing -----------------------------------------------------------------------------------------------------

static bool put_der(X509 *x, struct buf *out)
{
    unsigned char *der = NULL;
    int len = i2d_X509(x, &der);
    bool ok = len > 0 && buf_put(out, der, (size_t)len);
    OPENSSL_free(der);
    return ok;
}

enum status ca_issue(const struct ca *ca, const struct csr *csr, const char *device, int64_t now_us,
                     int64_t validity_us, struct buf *der, struct cert_facts *ret, struct err *err)
{
    int64_t ca_end_us = x509_time_us(X509_get0_notAfter(ca->cert));
    struct cert_facts f = {.not_before_us = now_us - BACKDATE_US, .not_after_us = now_us + validity_us};
    f.not_after_us = f.not_after_us > ca_end_us ? ca_end_us : f.not_after_us;
    if (f.not_after_us <= now_us) {
        return err_set(err, ST_CONFLICT, "the certificate authority has expired");
    }
    X509_AUTO *x = x509_new(csr->key, device, false, f.not_before_us, f.not_after_us, f.serial);
    bool ok = x != NULL && x509_extend(x, ca->cert, NID_basic_constraints, "critical,CA:FALSE") &&
              x509_extend(x, ca->cert, NID_key_usage, "critical,digitalSignature") &&
              x509_extend(x, ca->cert, NID_ext_key_usage, "clientAuth") &&
              x509_extend(x, ca->cert, NID_subject_key_identifier, "hash") &&
              x509_extend(x, ca->cert, NID_authority_key_identifier, "keyid:always") && x509_sign(x, ca->cert, ca->key);
    size_t before = der->len;
    if (!ok || !put_der(x, der)) {
        return x509_failed(err, "issuing a certificate");
    }
    // Certificates count in seconds: say what is in it.
    f.not_before_us = x509_time_us(X509_get0_notBefore(x));
    f.not_after_us = x509_time_us(X509_get0_notAfter(x));
    crypto_sha256(slice_from(buf_view(der), before), f.fingerprint);
    csr_spki(csr, f.spki);
    *ret = f;
    return ST_OK;
}
