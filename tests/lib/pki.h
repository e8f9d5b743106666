// A small certificate authority for tests, in a folder of its own under /tmp that pki_release removes.
#ifndef TESTS_LIB_PKI_H
#define TESTS_LIB_PKI_H

#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define PKI_FILES_MAX 32
struct pki {
    char dir[32];
    char *files[PKI_FILES_MAX];
    int files_len;
    long serial;
};
struct pki_cert {
    X509 *cert;
    EVP_PKEY *key;
};
enum pki_kind { PKI_CA, PKI_SERVER, PKI_CLIENT };

static inline void pki_must(bool ok)
{
    if (!ok) {
        fprintf(stderr, "test certificate authority: a step failed\n");
        abort();
    }
}

static inline void pki_init(struct pki *p)
{
    *p = (struct pki){.dir = "/tmp/muster-pki-XXXXXX", .serial = 100};
    pki_must(mkdtemp(p->dir) != NULL);
}

static inline void pki_release(struct pki *p)
{
    for (int i = 0; i < p->files_len; i++) {
        unlink(p->files[i]);
        free(p->files[i]);
    }
    rmdir(p->dir);
}

// The name of a file in the folder; it is removed with the folder.
static inline const char *pki_path(struct pki *p, const char *name)
{
    pki_must(p->files_len < PKI_FILES_MAX);
    char *path = NULL;
    pki_must(asprintf(&path, "%s/%s", p->dir, name) > 0);
    p->files[p->files_len++] = path;
    return path;
}

static inline void pki_extension(X509 *cert, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
    X509_EXTENSION *ext = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    pki_must(ext != NULL && X509_add_ext(cert, ext, -1) == 1);
    X509_EXTENSION_free(ext);
}

static inline void pki_extensions(X509 *cert, X509 *issuer, enum pki_kind kind)
{
    pki_extension(cert, issuer, NID_basic_constraints, kind == PKI_CA ? "critical,CA:TRUE" : "critical,CA:FALSE");
    pki_extension(cert, issuer, NID_subject_key_identifier, "hash");
    if (kind == PKI_CA) {
        pki_extension(cert, issuer, NID_key_usage, "critical,keyCertSign,cRLSign");
        return;
    }
    pki_extension(cert, issuer, NID_key_usage, "critical,digitalSignature");
    pki_extension(cert, issuer, NID_ext_key_usage, kind == PKI_SERVER ? "serverAuth" : "clientAuth");
    if (kind == PKI_SERVER) {
        pki_extension(cert, issuer, NID_subject_alt_name, "DNS:localhost,IP:127.0.0.1,IP:::1");
    }
}

// A certificate for `cn` with the given key (taken), valid between the two times (seconds from now). issuer NULL: self-signed.
static inline struct pki_cert pki_issue_with(struct pki *p, const struct pki_cert *issuer, enum pki_kind kind,
                                             const char *cn, long not_before_s, long not_after_s, EVP_PKEY *key)
{
    struct pki_cert c = {X509_new(), key};
    const struct pki_cert *by = issuer != NULL ? issuer : &c;
    pki_must(c.cert != NULL && c.key != NULL && X509_set_version(c.cert, 2) == 1);
    ASN1_INTEGER_set(X509_get_serialNumber(c.cert), p->serial++);
    X509_gmtime_adj(X509_getm_notBefore(c.cert), not_before_s);
    X509_gmtime_adj(X509_getm_notAfter(c.cert), not_after_s);
    X509_NAME *name = X509_get_subject_name(c.cert);
    pki_must(X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, (const unsigned char *)cn, -1, -1, 0) == 1);
    pki_must(X509_set_issuer_name(c.cert, X509_get_subject_name(by->cert)) == 1);
    pki_must(X509_set_pubkey(c.cert, c.key) == 1);
    pki_extensions(c.cert, by->cert, kind);
    pki_must(X509_sign(c.cert, by->key, EVP_sha256()) > 0);
    return c;
}

// The usual one: P-256, valid from a day before now (or, when it has expired, before its end) until not_after_s.
static inline struct pki_cert pki_issue(struct pki *p, const struct pki_cert *issuer, enum pki_kind kind,
                                        const char *cn, long not_after_s)
{
    long not_before_s = not_after_s < 0 ? not_after_s - 86400 : -86400;
    return pki_issue_with(p, issuer, kind, cn, not_before_s, not_after_s, EVP_EC_gen("P-256"));
}

static inline void pki_cert_release(struct pki_cert *c)
{
    X509_free(c->cert);
    EVP_PKEY_free(c->key);
    *c = (struct pki_cert){NULL, NULL};
}

static inline const char *pki_write_cert(struct pki *p, const char *file, const struct pki_cert *c)
{
    const char *path = pki_path(p, file);
    FILE *f = fopen(path, "w");
    pki_must(f != NULL && PEM_write_X509(f, c->cert) == 1);
    fclose(f);
    return path;
}

static inline const char *pki_write_key(struct pki *p, const char *file, const struct pki_cert *c)
{
    const char *path = pki_path(p, file);
    FILE *f = fopen(path, "w");
    pki_must(f != NULL && PEM_write_PrivateKey(f, c->key, NULL, NULL, 0, NULL, NULL) == 1);
    fclose(f);
    return path;
}

#endif
