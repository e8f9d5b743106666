// What a certificate calls its holder.
#include "domain/identity/identity_priv.h"
#include "domain/identity/sql/certificate.sql.h"
#include "domain/identity/x509.h"

static void copy_name(X509 *x, char dst[CERT_NAME_MAX + 1])
{
    X509_NAME *subject = X509_get_subject_name(x);
    int at = subject != NULL ? X509_NAME_get_index_by_NID(subject, NID_commonName, -1) : -1;
    if (at < 0) {
        return;
    }
    uint8_t *text = NULL;
    int len = ASN1_STRING_to_UTF8(&text, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)));
    if (len >= 0) {
        (void)slice_to_cstr(slice_make(text, (size_t)len), dst, CERT_NAME_MAX + 1);
        OPENSSL_free(text);
    }
}

enum status cert_common_name(struct tx *tx, uint64_t device, char dst[CERT_NAME_MAX + 1], struct err *err)
{
    STMT(s, tx->db, &sql_certificate[SQL_CERTIFICATE_NEWEST_ACTIVE]);
    stmt_bind_i64(s, 1, (int64_t)device);
    stmt_bind_i64(s, 2, CERT_ACTIVE);
    stmt_bind_i64(s, 3, tx->now_us);
    bool row = false;
    enum status st = stmt_step(s, &row, err);
    dst[0] = '\0';
    if (st != ST_OK || !row) {
        return st;
    }
    struct slice der = col_blob(s, 0);
    const uint8_t *at = der.p;
    X509_AUTO *x = d2i_X509(NULL, &at, (long)der.len);
    if (x != NULL) {
        copy_name(x, dst);
    }
    return ST_OK;
}
