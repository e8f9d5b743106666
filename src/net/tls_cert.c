// Reading a verified certificate, and what a failure says about one that was not.
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <time.h>

#include "net/crypto.h"
#include "net/tls_shake.h"

static bool digest_spki(const X509 *cert, uint8_t out[32])
{
    unsigned char *der = NULL;
    int len = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(cert), &der);
    if (len > 0) {
        crypto_sha256(slice_make(der, (size_t)len), out);
    }
    OPENSSL_free(der);
    return len > 0;
}

static void copy_cn(const X509 *cert, char *dst, size_t dst_size)
{
    X509_NAME *name = X509_get_subject_name(cert);
    int at = X509_NAME_get_index_by_NID(name, NID_commonName, -1);
    unsigned char *utf8 = NULL;
    if (at >= 0) {
        int len = ASN1_STRING_to_UTF8(&utf8, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, at)));
        if (len > 0) {
            (void)slice_to_cstr(slice_make(utf8, (size_t)len), dst, dst_size);
        }
        OPENSSL_free(utf8);
    }
}

void tls_issuer_serial(const void *issuer_name, const void *serial, uint8_t out[16])
{
    const X509_NAME *name = issuer_name;
    const ASN1_INTEGER *number = serial;
    const unsigned char *der = NULL;
    size_t der_len = 0;
    uint8_t mem[1024 + 64], digest[SHA256_LEN];
    struct buf b = buf_fixed(mem, sizeof(mem));
    uint8_t name_digest[SHA256_LEN];
    if (X509_NAME_get0_der(name, &der, &der_len) == 1) {
        crypto_sha256(slice_make(der, der_len), name_digest);
        buf_put(&b, name_digest, sizeof(name_digest));
    }
    buf_slice(&b, slice_head(slice_make(ASN1_STRING_get0_data(number), (size_t)ASN1_STRING_length(number)), 64));
    crypto_sha256(buf_view(&b), digest);
    struct buf half = buf_fixed(out, 16);
    buf_put(&half, digest, 16);
}

bool tls_cert_read(X509 *cert, struct tls_client *ret)
{
    struct tm end = {0};
    unsigned len = 0;
    *ret = (struct tls_client){.has_cert = true};
    if (X509_digest(cert, EVP_sha256(), ret->cert_sha256, &len) != 1 || len != sizeof(ret->cert_sha256) ||
        !digest_spki(cert, ret->spki_sha256) || ASN1_TIME_to_tm(X509_get0_notAfter(cert), &end) != 1) {
        ret->has_cert = false;
        return false;
    }
    tls_issuer_serial(X509_get_issuer_name(cert), X509_get0_serialNumber(cert), ret->issuer_serial);
    copy_cn(cert, ret->name, sizeof(ret->name));
    ret->not_after_us = (int64_t)timegm(&end) * 1000000;
    return true;
}

// RFC 2253 with everything but printable ASCII escaped: it goes into logs and answers.
static void write_dn(const X509_NAME *name, char *dst, size_t dst_size)
{
    dst[0] = '\0';
    BIO *out = BIO_new(BIO_s_mem());
    const char *text = NULL;
    if (out != NULL && X509_NAME_print_ex(out, name, 0, XN_FLAG_RFC2253 | ASN1_STRFLGS_ESC_QUOTE) >= 0) {
        long len = BIO_get_mem_data(out, (char **)(uintptr_t)&text);
        (void)slice_to_cstr(slice_head(slice_make(text, (size_t)len), dst_size - 1), dst, dst_size);
    }
    BIO_free(out);
}

void tls_cert_note(X509 *cert, int verify, struct tls_cert_note *ret)
{
    unsigned len = 0;
    *ret = (struct tls_cert_note){.there = cert != NULL, .verify = verify};
    if (cert == NULL) {
        return;
    }
    write_dn(X509_get_subject_name(cert), ret->subject, sizeof(ret->subject));
    write_dn(X509_get_issuer_name(cert), ret->issuer, sizeof(ret->issuer));
    const ASN1_INTEGER *serial = X509_get0_serialNumber(cert);
    struct buf hex = buf_fixed(ret->serial, sizeof(ret->serial) - 1);
    struct slice bytes = slice_make(ASN1_STRING_get0_data(serial), (size_t)ASN1_STRING_length(serial));
    (void)hex_encode(slice_head(bytes, (sizeof(ret->serial) - 1) / 2), &hex);
    ret->serial[hex.len] = '\0';
    if (X509_digest(cert, EVP_sha256(), ret->sha256, &len) != 1) {
        ret->there = false;
    }
}

void tls_reason(unsigned long code, char *dst, size_t dst_size)
{
    if (ERR_SYSTEM_ERROR(code)) {
        (void)snprintf(dst, dst_size, "%s", strerror(ERR_GET_REASON(code)));
        return;
    }
    const char *text = ERR_reason_error_string(code);
    if (text != NULL) {
        (void)snprintf(dst, dst_size, "%s", text);
    } else {
        (void)snprintf(dst, dst_size, "OpenSSL error %lx", code);
    }
}
