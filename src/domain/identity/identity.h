// Who may come in: access tokens, claims, certificates of our own CA, operator tokens.
//
// Secrets are stored as HMAC-SHA-256 under a key of the store (DIR/secret.key), so that a lookup is one index probe and a
// stolen database holds nothing to try offline without that key. Comparisons are constant-time. The work for an unknown
// token is that for a known one.
//
// Beside this header: device_token.h, device_psk.h, claim.h, cert.h, operator.h (operator tokens, tenants), provision.h (devices together
// with their credentials). All functions that take a tx run on the core thread unless they say "any tx".
#ifndef DOMAIN_IDENTITY_H
#define DOMAIN_IDENTITY_H

#include "base/json.h"
#include "base/slice.h"
#include "core/conf.h"
#include "core/core.h"
#include "domain/registry/registry.h"

struct device_login;
// What a connecting client presents. Borrowed slices.
struct credential {
    struct slice client_id;
    struct slice username, password; // p == NULL: absent
    const uint8_t *cert_sha256;      // of the verified client certificate, or NULL
    struct slice psk_identity;       // whose key the client has proven to hold; len 0: none
    struct slice tenant;             // whose name the client asked for in TLS: nobody else may come in; len 0: any
    struct slice peer_addr;
    bool mqtt;                  // applications may come in: an operator's token as password
    bool anonymous;             // a client without any credential may come in, if mqtt.anonymous names its policy
    struct device_login *login; // device_password.h: NULL: passwords are not tried
};
// Decides who this is. On ST_OK *ret is a device (WHO_DEVICE, *ret_device set), a claim (WHO_CLAIM; username "$claim",
// password = claim token), an application (WHO_OPERATOR: any user name, password = operator token whose role has
// mqtt:connect, else ST_FORBIDDEN) or WHO_ANONYMOUS (tenant "default", no row). ST_UNAUTHENTICATED: unknown or wrong credential (the text is for the log, not for the stranger);
// ST_FORBIDDEN: known but revoked, expired, suspended or retired; ST_LIMIT: too many failures from this address.
// Order: certificate; pre-shared key; username+password = device id + access token; username alone = access token. A certificate or pre-shared key
// decides alone: what else was sent does not help when it is not known; but an exchange or password that was asked for (cred->login)
// decides before them. cred->tenant holds for devices, claims and applications alike. It is nothing to guess, so the limit does not stop it. Nor
// does a neighbour's failure stop a name that came in from the same address within a day: it is counted by itself.
// The first use of a new certificate supersedes its predecessors; the first connection makes a registered device active.
// In the audit record the device itself does both, from its address; tx->who is as before when the call returns.
// ST_UNAUTHENTICATED with cred->login->state LOGIN_ASKED is not the end: device_password_check on the caller's own thread,
// then the same call again.
enum status identity_authenticate(struct tx *tx, const struct credential *cred, struct principal *ret,
                                  struct device_ref *ret_device, struct err *err);
// Operator's bearer token; any tx. ST_UNAUTHENTICATED. The caller fills in ret->addr.
enum status identity_bearer(struct tx *tx, struct slice token, struct principal *ret, struct err *err);
// Records a failed attempt for the rate limit (call after the reply is decided; core thread).
void identity_auth_failed(struct core *c, struct slice peer_addr);

// Enrolment: the claim (WHO_CLAIM principal in tx->who) turns a CSR into a device with a certificate. `device` may be empty:
// then the CSR's CN, and without it a generated id. `desc` (may be NULL): name, model, tags, attributes, keys of a device that
// does not exist yet; the claim's own model and tags win. A device that exists is bound when it has no usable credential
// (ST_EXISTS) and the claim is younger than what last happened to its certificates and access tokens, made, ended or
// revoked (ST_FORBIDDEN): a revoked device does not come back by the claim it came in with. The same key with
// the same claim again, before the certificate was used, is answered with the same certificate and costs no second use: a
// device may lose power before it has stored the answer.
// Appends {"device","certificate","ca","not_after"} to out (PEM texts).
enum status identity_enroll(struct tx *tx, struct slice csr_pem, struct slice device, const json_t *desc,
                            struct jw *out, struct err *err);
// Renewal over the device's own channel (WHO_DEVICE in tx->who): new certificate for the same device; the old one stays valid
// until it expires or the new one has been used once. Asking again with the same key before that gives the same answer.
enum status identity_renew(struct tx *tx, struct slice csr_pem, struct jw *out, struct err *err);
// Claim principal for an HTTP enrolment: checks the token, counts nothing yet (identity_enroll counts the use). Failures
// count for the limit of claim tokens (5 a minute and address by default) here already.
enum status identity_claim(struct tx *tx, struct slice token, struct slice peer_addr, struct principal *ret,
                           struct err *err);

// Configuration keys "identity.*".
extern const struct conf_module identity_conf_module;
struct identity_conf {
    const char *dir;          // the data directory
    const char *const *names; // further DNS names and addresses of the server certificate
    size_t names_len;
    int64_t cert_validity_us;        // of device certificates
    uint32_t auth_failures_per_min;  // wrong device or operator credentials per address
    uint32_t claim_failures_per_min; // wrong claim tokens per address
    uint32_t password_iterations;    // of passwords that are set; 0: the default
    uint32_t password_checks;        // a second; 0: no limit
    bool anonymous;                  // clients without credential may come in (credential.anonymous)
};

// First start: CA, server certificate, store key, admin token in `dir`; later starts load them. Server certificate is made
// anew when a name is missing, a key does not fit, or it ends within 30 days. Refuses secret files others may read, and a
// store whose secret.key or CA is missing or another one. Before core_start.
struct identity;
enum status identity_open(struct core *c, const struct identity_conf *conf, struct identity **ret, struct err *err);
void identity_free(struct identity *id); // after core_stop; NULL is allowed

// Tells of certificates (sha256) and pre-shared keys (identity) that have ended, after the commit: sessions made with them must
// not be resumed. One listener; before core_start. On the core thread.
void identity_watch_ended(struct identity *id,
                          void (*fn)(void *arg, const uint8_t *cert_sha256, struct slice psk_identity), void *arg);

// What the listeners need; paths valid until identity_free.
struct identity_files {
    const char *ca;          // ca.pem: client certificates must chain to it
    const char *server_cert; // server.pem
    const char *server_key;  // server.key
};
struct identity_files identity_files(const struct identity *id);
struct slice identity_ca_pem(const struct identity *id);   // any thread
const struct identity *identity_get(const struct core *c); // any thread, between identity_open and identity_free
// Makes the server certificate anew when it is due (see identity_open); *ret_changed: the listeners should reload. One
// thread at a time; it may run beside the core thread.
enum status identity_refresh_server(struct identity *id, bool *ret_changed, struct err *err);

#endif
