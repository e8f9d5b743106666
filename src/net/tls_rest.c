// What open connections share in place of what their handshakes left behind. An OpenSSL connection keeps its session for as long
// as it lives, with the client's certificate up to 5 KB, and needs none of it once it is open. SSL_set_session changes the session,
// but only when the connection's context speaks exactly the connection's version; so there is such a context for each version.
#include <openssl/err.h>
#include <openssl/ssl.h>

#include "net/tls_priv.h"

// A ClientHello of this version alone, by OpenSSL's own client.
static SSL *client_of(SSL_CTX *ctx, int version, BIO *to_server)
{
    SSL *c = ctx != NULL && SSL_CTX_set_min_proto_version(ctx, version) == 1 ? SSL_new(ctx) : NULL;
    BIO *in = BIO_new(BIO_s_mem());
    if (c == NULL || in == NULL || BIO_up_ref(to_server) != 1) {
        BIO_free(in);
        SSL_free(c);
        return NULL;
    }
    SSL_set_bio(c, in, to_server);
    SSL_set_connect_state(c);
    (void)SSL_do_handshake(c);
    return c;
}

// The method a connection has when this version has been agreed on; it is chosen before anything else of a hello is looked
// at, so the first step of a handshake shows it. NULL: not to be had, for instance because the version is not allowed.
static const SSL_METHOD *method_of(SSL_CTX *server, int version)
{
    const SSL_METHOD *method = NULL;
    SSL_CTX *client_ctx = SSL_CTX_new(TLS_client_method());
    BIO *in = BIO_new(BIO_s_mem()), *out = BIO_new(BIO_s_mem());
    SSL *client = in != NULL ? client_of(client_ctx, version, in) : NULL;
    SSL *s = SSL_new(server);
    if (client != NULL && s != NULL && out != NULL) {
        SSL_set_bio(s, in, out); // takes both
        in = out = NULL;
        SSL_set_accept_state(s);
        (void)SSL_do_handshake(s);
        method = SSL_version(s) == version ? SSL_get_ssl_method(s) : NULL;
    }
    BIO_free(in);
    BIO_free(out);
    SSL_free(s);
    SSL_free(client);
    SSL_CTX_free(client_ctx);
    ERR_clear_error();
    return method;
}

void tls_rest_open(struct tls_rest *rest, SSL_CTX *server, int version, SSL_SESSION *blank)
{
    rest->method = method_of(server, version);
    rest->ctx = rest->method != NULL ? SSL_CTX_new(rest->method) : NULL;
    rest->session = SSL_SESSION_dup(blank);
    if (rest->ctx == NULL || rest->session == NULL || SSL_SESSION_set_protocol_version(rest->session, version) != 1) {
        tls_rest_release(rest); // connections keep what they have
    }
    ERR_clear_error();
}

void tls_rest_release(struct tls_rest *rest)
{
    SSL_CTX_free(rest->ctx);
    SSL_SESSION_free(rest->session);
    *rest = (struct tls_rest){0};
}
