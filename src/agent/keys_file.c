#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include "agent/keys.h"

static const char *slot_file(enum key_slot slot)
{
    return slot == KEY_CURRENT ? "key.pem" : "next-key.pem";
}

static enum status fail_crypto(struct err *err, const char *what)
{
    unsigned long e = ERR_get_error();
    const char *reason = e != 0 ? ERR_reason_error_string(e) : NULL;
    ERR_clear_error();
    return err_set(err, ST_INTERNAL, "%s: %s", what, reason != NULL ? reason : "OpenSSL gave no reason");
}

static bool file_has(const struct keys *k, enum key_slot slot)
{
    return statedir_has(k->dir, slot_file(slot));
}

static enum status file_make(const struct keys *k, enum key_slot slot, struct err *err)
{
    enum status s = ST_OK;
    EVP_PKEY *key = EVP_EC_gen("P-256");
    BIO *bio = BIO_new(BIO_s_secmem());
    if (key == NULL || bio == NULL || PEM_write_bio_PKCS8PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL) != 1) {
        s = fail_crypto(err, "cannot make a key");
    } else {
        char *pem = NULL;
        long len = BIO_get_mem_data(bio, &pem);
        s = statedir_write(k->dir, slot_file(slot), slice_make(pem, (size_t)len), 0600, err);
        OPENSSL_cleanse(pem, (size_t)len);
    }
    BIO_free(bio);
    EVP_PKEY_free(key);
    return s;
}

// NULL when it cannot be read; err says why.
static EVP_PKEY *file_load(const struct keys *k, enum key_slot slot, struct err *err)
{
    char path[STATEDIR_PATH_MAX];
    statedir_path(k->dir, slot_file(slot), path);
    struct stat st;
    if (stat(path, &st) == 0 && (st.st_mode & 077) != 0) {
        err_at(err, ST_INVALID, path, "%s can be read by others; allowed is mode 0600", path);
        return NULL;
    }
    BIO *bio = BIO_new_file(path, "r");
    EVP_PKEY *key = bio != NULL ? PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL) : NULL;
    BIO_free(bio);
    if (key == NULL) {
        fail_crypto(err, path);
    }
    return key;
}

static enum status csr_of(EVP_PKEY *key, const char *cn, struct buf *out, struct err *err)
{
    X509_REQ *req = X509_REQ_new();
    BIO *bio = BIO_new(BIO_s_mem());
    bool ok = req != NULL && bio != NULL && X509_REQ_set_version(req, X509_REQ_VERSION_1) == 1;
    if (ok && cn[0] != '\0') {
        ok = X509_NAME_add_entry_by_NID(X509_REQ_get_subject_name(req), NID_commonName, MBSTRING_UTF8,
                                        (const unsigned char *)cn, -1, -1, 0) == 1;
    }
    ok = ok && X509_REQ_set_pubkey(req, key) == 1 && X509_REQ_sign(req, key, EVP_sha256()) > 0 &&
         PEM_write_bio_X509_REQ(bio, req) == 1;
    enum status s = ST_OK;
    if (!ok) {
        s = fail_crypto(err, "cannot make a certificate request");
    } else {
        char *pem = NULL;
        long len = BIO_get_mem_data(bio, &pem);
        s = buf_put(out, pem, (size_t)len) ? ST_OK : err_set(err, ST_NOMEM, "no room for the certificate request");
    }
    BIO_free(bio);
    X509_REQ_free(req);
    return s;
}

static enum status file_csr(const struct keys *k, enum key_slot slot, const char *cn, struct buf *out, struct err *err)
{
    struct err why = {.code = ST_INTERNAL};
    EVP_PKEY *key = file_load(k, slot, &why);
    if (key == NULL) {
        return err_set(err, why.code, "%s", why.text);
    }
    enum status s = csr_of(key, cn, out, err);
    EVP_PKEY_free(key);
    return s;
}

static bool file_use(const struct keys *k, enum key_slot slot, struct ssl_ctx_st *ctx)
{
    EVP_PKEY *key = file_load(k, slot, NULL);
    bool ok = key != NULL && SSL_CTX_use_PrivateKey(ctx, key) == 1;
    EVP_PKEY_free(key);
    return ok;
}

static enum status file_promote(const struct keys *k, struct err *err)
{
    return statedir_rename(k->dir, slot_file(KEY_NEXT), slot_file(KEY_CURRENT), err);
}

static enum status file_remove(const struct keys *k, enum key_slot slot, struct err *err)
{
    return statedir_remove(k->dir, slot_file(slot), err);
}

struct keys keys_file(const struct statedir *dir)
{
    static const struct keys_ops ops = {.name = "file",
                                        .has = file_has,
                                        .make = file_make,
                                        .csr = file_csr,
                                        .use = file_use,
                                        .promote = file_promote,
                                        .remove = file_remove};
    return (struct keys){.ops = &ops, .dir = dir};
}
