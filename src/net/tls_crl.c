// Revocation lists of client CAs (RFC 5280 section 5).
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <stdlib.h>

#include "net/tls_priv.h"

#define REVOKED_MAX 10000000 // entries of all lists, 160 MB

static int compare(const void *a, const void *b)
{
    return memcmp(a, b, 16);
}

// The list must come from one of the CAs clients may chain to: its name and key signed it.
static bool is_of_known_ca(SSL_CTX *ssl, X509_CRL *crl)
{
    bool good = false;
    STACK_OF(X509) *cas = X509_STORE_get1_all_certs(SSL_CTX_get_cert_store(ssl));
    for (int i = 0; !good && i < sk_X509_num(cas); i++) {
        X509 *ca = sk_X509_value(cas, i);
        good = X509_NAME_cmp(X509_get_subject_name(ca), X509_CRL_get_issuer(crl)) == 0 &&
               X509_CRL_verify(crl, X509_get0_pubkey(ca)) == 1;
    }
    sk_X509_pop_free(cas, X509_free);
    return good;
}

static bool collect(struct tls_ctx *ctx, X509_CRL *crl)
{
    STACK_OF(X509_REVOKED) *all = X509_CRL_get_REVOKED(crl);
    size_t n = all != NULL ? (size_t)sk_X509_REVOKED_num(all) : 0;
    if (n == 0) {
        return true;
    }
    void *more = n + ctx->revoked_len <= REVOKED_MAX
                     ? realloc(ctx->revoked, (ctx->revoked_len + n) * sizeof(ctx->revoked[0]))
                     : NULL;
    if (more == NULL) {
        return false;
    }
    ctx->revoked = more;
    for (size_t i = 0; i < n; i++) {
        const X509_REVOKED *r = sk_X509_REVOKED_value(all, (int)i);
        tls_issuer_serial(X509_CRL_get_issuer(crl), X509_REVOKED_get0_serialNumber(r),
                          ctx->revoked[ctx->revoked_len++]);
    }
    return true;
}

// Every site whose clients may chain to its CA takes the list.
static enum status add_crl(struct tls_ctx *ctx, X509_CRL *crl, const char *file, struct err *err)
{
    char issuer[128];
    bool known = false, ok = true;
    for (size_t i = 0; i < ctx->sites_len; i++) {
        SSL_CTX *ssl = ctx->sites[i].ssl;
        if (is_of_known_ca(ssl, crl)) {
            known = true;
            ok = ok && X509_STORE_add_crl(SSL_CTX_get_cert_store(ssl), crl) == 1;
        }
    }
    if (!known) {
        X509_NAME_oneline(X509_CRL_get_issuer(crl), issuer, sizeof(issuer));
        ERR_clear_error();
        return err_set(err, ST_INVALID, "the revocation list of %s in %s is not signed by a client CA", issuer, file);
    }
    if (!ok || !collect(ctx, crl)) {
        ERR_clear_error();
        return err_set(err, ST_NOMEM, "no memory for the revocation lists in %s", file);
    }
    return ST_OK;
}

static void use_crls(struct tls_ctx *ctx)
{
    for (size_t i = 0; i < ctx->sites_len; i++) {
        X509_STORE_set_flags(SSL_CTX_get_cert_store(ctx->sites[i].ssl),
                             X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL);
    }
    if (ctx->revoked_len > 0) {
        qsort(ctx->revoked, ctx->revoked_len, sizeof(ctx->revoked[0]), compare);
    }
}

enum status tls_load_crls(struct tls_ctx *ctx, const char *file, struct err *err)
{
    char why[128];
    ERR_clear_error();
    BIO *in = BIO_new_file(file, "r");
    unsigned n = 0;
    enum status st = ST_OK;
    for (X509_CRL *crl = NULL; st == ST_OK && in != NULL; n++) {
        crl = PEM_read_bio_X509_CRL(in, NULL, NULL, NULL);
        if (crl == NULL) {
            break;
        }
        st = add_crl(ctx, crl, file, err);
        X509_CRL_free(crl);
    }
    unsigned long last = ERR_peek_last_error();
    bool at_end = ERR_GET_LIB(last) == ERR_LIB_PEM && ERR_GET_REASON(last) == PEM_R_NO_START_LINE;
    if (st == ST_OK && (in == NULL || n == 0 || !at_end)) {
        tls_reason(ERR_peek_error(), why, sizeof(why));
        st = err_set(err, ST_INVALID, "cannot load the revocation lists from %s: %s", file, why);
    }
    ERR_clear_error();
    BIO_free(in);
    if (st == ST_OK) {
        use_crls(ctx);
    }
    return st;
}
