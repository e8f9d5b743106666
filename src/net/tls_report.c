// A failed handshake as a record: what the client asked for, offered and showed.
#include <openssl/ssl.h>
#include <openssl/x509_vfy.h>
#include <stdio.h>

#include "net/tls_shake.h"

struct report {
    struct tls_failure f;
    char versions[96], ciphers[768];
};

static void write_versions(const struct tls_hello *h, char *dst, size_t size)
{
    static const struct {
        uint16_t id;
        const char *name;
    } names[] = {{0x0300, "SSLv3"}, {0x0301, "TLSv1"}, {0x0302, "TLSv1.1"}, {0x0303, "TLSv1.2"}, {0x0304, "TLSv1.3"}};
    struct buf b = buf_fixed(dst, size - 1);
    for (unsigned i = 0; i < h->versions_len; i++) {
        const char *name = NULL;
        for (size_t k = 0; k < sizeof(names) / sizeof(names[0]); k++) {
            name = names[k].id == h->versions[i] ? names[k].name : name;
        }
        buf_str(&b, i > 0 ? ":" : "");
        (void)(name != NULL ? buf_str(&b, name) : buf_printf(&b, "0x%04x", h->versions[i]));
    }
    dst[b.len] = '\0';
}

static void write_ciphers(const struct tls_shake *k, char *dst, size_t size)
{
    const struct tls_hello *h = &k->hello;
    struct buf b = buf_fixed(dst, size - 32);
    for (unsigned i = 0; i < h->suites_len; i++) {
        uint8_t mem[2];
        struct buf id = buf_fixed(mem, sizeof(mem));
        buf_u16(&id, h->suites[i]);
        const SSL_CIPHER *c = SSL_CIPHER_find(k->ssl, mem);
        size_t before = b.len;
        bool ok = buf_str(&b, i > 0 ? ":" : "") &&
                  (c != NULL ? buf_str(&b, SSL_CIPHER_get_name(c)) : buf_printf(&b, "0x%04x", h->suites[i]));
        if (!ok) {
            b.len = before;
            break;
        }
    }
    dst[b.len] = '\0';
    if (b.failed || h->suites_more > 0) {
        (void)snprintf(dst + b.len, size - b.len, " and more");
    }
}

static void fill(struct report *r, struct tls_shake *k)
{
    struct tls_failure *f = &r->f;
    f->sni = k->hello.sni;
    f->alpn = k->hello.alpn;
    f->alert = k->alert;
    f->alert_way = k->alert_way;
    if (k->no_overlap) {
        write_versions(&k->hello, r->versions, sizeof(r->versions));
        write_ciphers(k, r->ciphers, sizeof(r->ciphers));
    }
    X509 *cert = SSL_get0_peer_certificate(k->ssl);
    if (!k->cert.there && cert != NULL) {
        tls_cert_note(cert, (int)SSL_get_verify_result(k->ssl), &k->cert);
    }
    f->has_cert = k->cert.there;
    f->subject = k->cert.subject;
    f->issuer = k->cert.issuer;
    f->serial = k->cert.serial;
    f->verify = k->cert.verify != X509_V_OK ? X509_verify_cert_error_string(k->cert.verify) : "";
    struct buf digest = buf_fixed(f->cert_sha256, sizeof(f->cert_sha256));
    buf_put(&digest, k->cert.sha256, sizeof(k->cert.sha256));
}

void tls_report(struct tls_shake *k, const char *peer_addr, const char *reason,
                void (*fn)(void *arg, const struct tls_failure *f), void *arg)
{
    struct report r = {.f = {.peer_addr = peer_addr,
                             .reason = reason,
                             .sni = "",
                             .alpn = "",
                             .subject = "",
                             .issuer = "",
                             .serial = "",
                             .verify = ""}};
    r.f.versions = r.versions;
    r.f.ciphers = r.ciphers;
    if (k != NULL) {
        fill(&r, k);
    }
    fn(arg, &r.f);
}
