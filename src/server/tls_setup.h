// The server's TLS: its configuration keys, the contexts of the listeners, the sessions they share, and the files behind them.
#ifndef SERVER_TLS_SETUP_H
#define SERVER_TLS_SETUP_H

#include "core/conf.h"
#include "core/core.h"
#include "domain/identity/identity.h"
#include "net/tls.h"

extern const struct conf_module tls_conf_module; // keys "tls.*"

struct tls_setup;
// Sessions and the record of failed handshakes, kept over reloads. After identity_open, before core_start.
enum status tls_setup_open(struct core *core, struct identity *id, const struct conf *conf, struct tls_setup **ret,
                           struct err *err);
void tls_setup_free(struct tls_setup *s); // after the loops have ended; NULL is allowed
// What the listeners of a context speak.
struct tls_offer {
    const char *alpn[4];       // NULL-terminated
    const char *alpn_certless; // of struct tls_server_conf, as the next
    bool certless;
};
// A context for listeners. Notes what state the files have.
struct tls_ctx *tls_setup_context(struct tls_setup *s, const struct conf *conf, const struct tls_offer *offer,
                                  struct err *err);
// Tries everything these settings say, part by part, without a server: suites, certificate and key, OCSP response, client CAs, lists,
// names. Where tls.cert_file is empty, the server's own certificate is tried when the data directory has one already.
// problem: once for each, with the key it is about.
void tls_setup_check(const struct conf *conf, void (*problem)(void *arg, const char *key, const char *text), void *arg);
// Whether a file has changed since the contexts were made, or since this was last asked: then they should be made anew.
bool tls_setup_changed(struct tls_setup *s, const struct conf *conf);

#endif
