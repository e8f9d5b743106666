// The OCSP response about our own certificate that is stapled into handshakes (RFC 6960, RFC 6066 section 8).
#include <openssl/err.h>
#include <openssl/ocsp.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <time.h>

#include "base/clock.h"
#include "net/tls_priv.h"

#define RESPONSE_MAX 65536

static enum status read_file(const char *file, struct buf *out, struct err *err)
{
    FILE *f = fopen(file, "re");
    if (f == NULL) {
        return err_set(err, ST_INVALID, "cannot load the OCSP response from %s: it cannot be opened", file);
    }
    uint8_t chunk[4096];
    for (size_t n = 1; n > 0;) {
        n = fread(chunk, 1, sizeof(chunk), f);
        buf_put(out, chunk, n);
    }
    (void)fclose(f);
    return out->failed ? err_set(err, ST_INVALID, "cannot load the OCSP response from %s: over 64 KiB", file) : ST_OK;
}

static int64_t time_us(const ASN1_GENERALIZEDTIME *t)
{
    struct tm tm = {0};
    return t != NULL && ASN1_TIME_to_tm(t, &tm) == 1 ? (int64_t)timegm(&tm) * 1000000 : 0;
}

// ---- who answered, and about what ----

// The certificate that issued `leaf`, by its signature and not by its name alone: from the server's own chain, or from those the
// response brings. NULL: none of them.
static X509 *find_issuer(X509 *leaf, const STACK_OF(X509) * certs)
{
    for (int i = 0; i < sk_X509_num(certs); i++) {
        X509 *ca = sk_X509_value(certs, i);
        if (X509_check_issued(ca, leaf) == X509_V_OK && X509_verify(leaf, X509_get0_pubkey(ca)) == 1) {
            return ca;
        }
    }
    return NULL;
}

// Signed by the issuer, or by a responder the issuer has made one (RFC 6960 section 4.2.2.2).
static bool is_signed_by(OCSP_BASICRESP *basic, X509 *issuer)
{
    X509_STORE *trusted = X509_STORE_new();
    STACK_OF(X509) *certs = sk_X509_new_null();
    bool good = trusted != NULL && certs != NULL && X509_STORE_add_cert(trusted, issuer) == 1 &&
                X509_STORE_set_flags(trusted, X509_V_FLAG_PARTIAL_CHAIN) == 1 && sk_X509_push(certs, issuer) > 0 &&
                OCSP_basic_verify(basic, certs, trusted, OCSP_NOEXPLICIT) == 1;
    sk_X509_free(certs);
    X509_STORE_free(trusted);
    return good;
}

// Whether the id means this certificate of this issuer: a serial alone is not unique.
static bool is_about(const OCSP_CERTID *id, const X509 *leaf, const X509 *issuer)
{
    ASN1_OBJECT *hash = NULL;
    (void)OCSP_id_get0_info(NULL, &hash, NULL, NULL, (OCSP_CERTID *)(uintptr_t)id);
    const EVP_MD *md = EVP_get_digestbyobj(hash);
    OCSP_CERTID *ours = md != NULL ? OCSP_cert_to_id(md, leaf, issuer) : NULL;
    bool same = ours != NULL && OCSP_id_cmp(id, ours) == 0;
    OCSP_CERTID_free(ours);
    return same;
}

// The one answer about `leaf`: its end. NULL: fine; else what is wrong.
static const char *check_single(OCSP_BASICRESP *basic, const X509 *leaf, const X509 *issuer, int64_t *ret_until_us)
{
    for (int i = 0; i < OCSP_resp_count(basic); i++) {
        OCSP_SINGLERESP *one = OCSP_resp_get0(basic, i);
        ASN1_GENERALIZEDTIME *from = NULL, *until = NULL;
        int reason = 0;
        if (!is_about(OCSP_SINGLERESP_get0_id(one), leaf, issuer)) {
            continue;
        }
        if (OCSP_single_get0_status(one, &reason, NULL, &from, &until) != V_OCSP_CERTSTATUS_GOOD) {
            return "it does not say that the server certificate is good: revoked or unknown";
        }
        if (time_us(from) > clock_wall_us() + 300 * 1000000LL) {
            return "it is not valid yet";
        }
        *ret_until_us = time_us(until);
        return *ret_until_us == 0 ? "it has no end (nextUpdate)" : NULL;
    }
    return "it is about another certificate";
}

static const char *check_basic(SSL_CTX *ssl, OCSP_BASICRESP *basic, int64_t *ret_until_us)
{
    X509 *leaf = SSL_CTX_get0_certificate(ssl);
    STACK_OF(X509) *chain = NULL;
    (void)SSL_CTX_get0_chain_certs(ssl, &chain);
    X509 *issuer = find_issuer(leaf, chain);
    if (issuer == NULL) {
        issuer = find_issuer(leaf, OCSP_resp_get0_certs(basic));
    }
    if (issuer == NULL) {
        return "neither it nor the server's chain holds the CA that issued the server certificate";
    }
    return is_signed_by(basic, issuer) ? check_single(basic, leaf, issuer, ret_until_us)
                                       : "it is not signed by the CA that issued the server certificate";
}

// What is wrong; NULL: nothing.
static const char *check(SSL_CTX *ssl, OCSP_RESPONSE *r, int64_t *ret_until_us)
{
    if (OCSP_response_status(r) != OCSP_RESPONSE_STATUS_SUCCESSFUL) {
        return "the responder answered with an error";
    }
    OCSP_BASICRESP *basic = OCSP_response_get1_basic(r);
    const char *wrong = basic != NULL ? check_basic(ssl, basic, ret_until_us) : "it is of an unknown kind";
    OCSP_BASICRESP_free(basic);
    return wrong;
}

// A file that cannot be read is an error. A response that does not fit the certificate is none: both files are renewed by others
// while we run, and not at the same moment. It is not sent, and said.
enum status tls_load_ocsp(struct tls_site *site, const char *file, struct err *err)
{
    site->ocsp = buf_heap(RESPONSE_MAX);
    enum status st = read_file(file, &site->ocsp, err);
    if (st != ST_OK) {
        return st;
    }
    const unsigned char *p = site->ocsp.p;
    OCSP_RESPONSE *r = d2i_OCSP_RESPONSE(NULL, &p, (long)site->ocsp.len);
    if (r == NULL) {
        st = err_set(err, ST_INVALID, "cannot load the OCSP response from %s: it cannot be read", file);
    } else {
        site->ocsp_wrong = check(site->ssl, r, &site->ocsp_until_us);
    }
    if (site->ocsp_wrong != NULL) {
        site->ocsp.len = 0;
        site->ocsp_until_us = 0;
    }
    OCSP_RESPONSE_free(r);
    ERR_clear_error();
    return st;
}
