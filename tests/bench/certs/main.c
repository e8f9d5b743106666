// Keys and certificate signing requests for many clients, quickly.
//
//   certs FOLDER PREFIX COUNT      makes PREFIXn.key and PREFIXn.csr (P-256, common name PREFIXn), n from 0 on
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

static BIO *create(const char *folder, const char *name, const char *end)
{
    char path[1024];
    int n = snprintf(path, sizeof(path), "%s/%s.%s", folder, name, end);
    return n > 0 && (size_t)n < sizeof(path) ? BIO_new_file(path, "w") : NULL;
}

static bool write_pair(const char *folder, const char *name, EVP_PKEY *key, X509_REQ *csr)
{
    BIO *k = create(folder, name, "key"), *r = create(folder, name, "csr");
    bool ok = k != NULL && r != NULL && PEM_write_bio_PrivateKey(k, key, NULL, NULL, 0, NULL, NULL) == 1 &&
              PEM_write_bio_X509_REQ(r, csr) == 1;
    BIO_free(k);
    BIO_free(r);
    return ok;
}

static bool make(const char *folder, const char *name)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509_REQ *csr = X509_REQ_new();
    bool ok = key != NULL && csr != NULL &&
              X509_NAME_add_entry_by_txt(X509_REQ_get_subject_name(csr), "CN", MBSTRING_ASC,
                                         (const unsigned char *)name, -1, -1, 0) == 1 &&
              X509_REQ_set_pubkey(csr, key) == 1 && X509_REQ_sign(csr, key, EVP_sha256()) > 0 &&
              write_pair(folder, name, key, csr);
    X509_REQ_free(csr);
    EVP_PKEY_free(key);
    return ok;
}

int main(int argc, char **argv)
{
    char *end = NULL;
    unsigned long count = argc == 4 ? strtoul(argv[3], &end, 10) : 0;
    if (count < 1 || count > 1000000 || *end != '\0') {
        fprintf(stderr, "certs FOLDER PREFIX COUNT; COUNT is 1 to 1000000\n");
        return 2;
    }
    for (unsigned long i = 0; i < count; i++) {
        char name[128];
        snprintf(name, sizeof(name), "%s%lu", argv[2], i);
        if (!make(argv[1], name)) {
            fprintf(stderr, "%s/%s: ", argv[1], name);
            ERR_print_errors_fp(stderr);
            return 1;
        }
    }
    return 0;
}
