// TLS of the clients: one context, a certificate for all or one each, sessions for --resume.
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdlib.h>
#include <string.h>

#include "load.h"

static void fail(const char *what)
{
    fprintf(stderr, "%s: ", what);
    ERR_print_errors_fp(stderr);
    fputc('\n', stderr);
    exit(2);
}

static void set_version(SSL_CTX *ctx, const char *version)
{
    int v = strcmp(version, "1.2") == 0 ? TLS1_2_VERSION : TLS1_3_VERSION;
    SSL_CTX_set_min_proto_version(ctx, v);
    SSL_CTX_set_max_proto_version(ctx, v);
}

void tls_setup(struct load *l)
{
    const struct options *o = &l->opt;
    if (!o->tls) {
        return;
    }
    l->tls = SSL_CTX_new(TLS_client_method());
    if (l->tls == NULL) {
        fail("TLS");
    }
    SSL_CTX_set_mode(l->tls,
                     SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
    if (o->tls_version != NULL) {
        set_version(l->tls, o->tls_version);
    }
    if (o->ca != NULL) {
        if (SSL_CTX_load_verify_locations(l->tls, o->ca, NULL) != 1) {
            fail(o->ca);
        }
        SSL_CTX_set_verify(l->tls, SSL_VERIFY_PEER, NULL);
    }
    if (o->cert != NULL && SSL_CTX_use_certificate_chain_file(l->tls, o->cert) != 1) {
        fail(o->cert);
    }
    if (o->key != NULL && SSL_CTX_use_PrivateKey_file(l->tls, o->key, SSL_FILETYPE_PEM) != 1) {
        fail(o->key);
    }
}

static BIO *open_file(const char *dir, const char *id, const char *end, char *path, size_t size)
{
    int n = snprintf(path, size, "%s/%s.%s", dir, id, end);
    BIO *file = n > 0 && (size_t)n < size ? BIO_new_file(path, "r") : NULL;
    if (file == NULL) {
        fail(path);
    }
    return file;
}

void tls_certificate(struct load *l, struct client *c)
{
    char path[1024];
    if (l->opt.certs == NULL) {
        return;
    }
    BIO *file = open_file(l->opt.certs, c->id, "pem", path, sizeof(path));
    c->cert = PEM_read_bio_X509(file, NULL, NULL, NULL);
    BIO_free(file);
    file = open_file(l->opt.certs, c->id, "key", path, sizeof(path));
    c->cert_key = PEM_read_bio_PrivateKey(file, NULL, NULL, NULL);
    BIO_free(file);
    if (c->cert == NULL || c->cert_key == NULL) {
        fail(path);
    }
}

bool tls_attach(struct load *l, struct client *c)
{
    c->ssl = SSL_new(l->tls);
    if (c->ssl == NULL) {
        return false;
    }
    SSL_set_fd(c->ssl, c->fd);
    SSL_set_tlsext_host_name(c->ssl, "localhost");
    if (c->cert != NULL) {
        SSL_use_certificate(c->ssl, c->cert);
        SSL_use_PrivateKey(c->ssl, c->cert_key);
    }
    if (c->session != NULL) {
        SSL_set_session(c->ssl, c->session);
    }
    return true;
}

void tls_keep_session(struct client *c)
{
    SSL_SESSION *newest = SSL_get1_session(c->ssl);
    if (newest != NULL && SSL_SESSION_is_resumable(newest)) {
        SSL_SESSION_free(c->session);
        c->session = newest;
    } else {
        SSL_SESSION_free(newest);
    }
}
