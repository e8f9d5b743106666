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

// The one answer about `cert`: its end. NULL: fine; else what is wrong.
static const char *check_single(OCSP_BASICRESP *basic, const X509 *cert, int64_t *ret_until_us)
{
    for (int i = 0; i < OCSP_resp_count(basic); i++) {
        OCSP_SINGLERESP *one = OCSP_resp_get0(basic, i);
        ASN1_INTEGER *serial = NULL;
        ASN1_GENERALIZEDTIME *from = NULL, *until = NULL;
        int reason = 0;
        (void)OCSP_id_get0_info(NULL, NULL, NULL, &serial, (OCSP_CERTID *)(uintptr_t)OCSP_SINGLERESP_get0_id(one));
        if (ASN1_INTEGER_cmp(serial, X509_get0_serialNumber(cert)) != 0) {
            continue;
        }
        int status = OCSP_single_get0_status(one, &reason, NULL, &from, &until);
        *ret_until_us = time_us(until);
        if (status == V_OCSP_CERTSTATUS_REVOKED) {
            return "the server certificate is revoked";
        }
        if (time_us(from) > clock_wall_us() + 300 * 1000000LL) {
            return "it is not valid yet";
        }
        return *ret_until_us == 0 ? "it has no end (nextUpdate)" : NULL;
    }
    return "it is about another certificate";
}

static const char *check(SSL_CTX *ssl, struct slice der, int64_t *ret_until_us)
{
    const unsigned char *p = der.p;
    OCSP_RESPONSE *r = d2i_OCSP_RESPONSE(NULL, &p, (long)der.len);
    OCSP_BASICRESP *basic = r != NULL ? OCSP_response_get1_basic(r) : NULL;
    const char *wrong = "it cannot be read";
    if (r != NULL && OCSP_response_status(r) != OCSP_RESPONSE_STATUS_SUCCESSFUL) {
        wrong = "the responder answered with an error";
    } else if (basic != NULL) {
        wrong = check_single(basic, SSL_CTX_get0_certificate(ssl), ret_until_us);
    }
    OCSP_BASICRESP_free(basic);
    OCSP_RESPONSE_free(r);
    ERR_clear_error();
    return wrong;
}

// One that has run out is no error: the file is renewed by others while we run, and it is not sent meanwhile.
enum status tls_load_ocsp(struct tls_site *site, const char *file, struct err *err)
{
    site->ocsp = buf_heap(RESPONSE_MAX);
    enum status st = read_file(file, &site->ocsp, err);
    const char *wrong = st == ST_OK ? check(site->ssl, buf_view(&site->ocsp), &site->ocsp_until_us) : NULL;
    return wrong == NULL ? st : err_set(err, ST_INVALID, "the OCSP response in %s cannot be used: %s", file, wrong);
}
