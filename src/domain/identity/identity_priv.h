// Shared between the files of this folder.
#ifndef DOMAIN_IDENTITY_PRIV_H
#define DOMAIN_IDENTITY_PRIV_H

#include <limits.h>

#include "core/ids.h"
#include "domain/identity/ca.h"
#include "domain/identity/cert.h"
#include "domain/identity/claim.h"
#include "domain/identity/device_token.h"
#include "domain/identity/familiar.h"
#include "domain/identity/identity.h"
#include "domain/identity/lineage.h"
#include "domain/identity/operator.h"
#include "domain/identity/psk_table.h"
#include "domain/identity/throttle.h"
#include "net/crypto.h"

#define BUF __attribute__((cleanup(buf_release))) struct buf

// Set before the threads start and read by all; the throttles belong to the core thread.
struct identity {
    char dir[PATH_MAX];
    char ca_path[PATH_MAX];
    char cert_path[PATH_MAX];
    char key_path[PATH_MAX];
    char **names;
    size_t names_len;
    int64_t cert_validity_us;
    uint8_t key[SHA256_LEN]; // the store key
    struct ca *ca;
    struct throttle *auth;
    struct throttle *claims;
    struct familiar *familiar;
    struct psk_table *psks;
    void (*ended)(void *arg, const uint8_t *cert_sha256, struct slice psk_identity);
    void *ended_arg;
    struct rate *passwords; // how many may be checked a second, by everybody together
    uint32_t password_iterations;
    bool anonymous;
    enum status (*operator_gone)(struct tx *tx, uint32_t tenant, uint64_t row, struct err *err); // NULL: nobody asks
    struct core *core;
};

static inline struct identity *identity_of(const struct core *c)
{
    return core_slot(c, CORE_SLOT_IDENTITY);
}

// Tells who listens (identity_watch_ended); core thread, after the commit.
void identity_tell_ended(const struct identity *id, const uint8_t *cert_sha256, struct slice psk_identity);

#define TOKEN_OPERATOR_PREFIX "muster_o_"
// What a token is for: a token of one kind is never one of another, even when the bytes are the same.
enum token_kind { TOKEN_DEVICE = 'd', TOKEN_CLAIM = 'c', TOKEN_OPERATOR = 'o' };
void token_hash(const struct identity *id, enum token_kind kind, struct slice token, uint8_t out[SHA256_LEN]);
// A new token as text, "muster_d_" and 43 characters of secret. The caller wipes it.
enum status token_make(enum token_kind kind, char dst[TOKEN_TEXT_MAX], struct err *err);

struct principal device_principal(const struct device_ref *d, struct slice peer_addr);
// operator_create without the check of permissions; tenant and creator as given.
enum status operator_make(struct tx *tx, uint32_t tenant, const struct operator_conf *conf, bool system,
                          const char *created_by, char token[TOKEN_TEXT_MAX], uint64_t *ret_row, struct err *err);

// Claims.
struct claim {
    uint64_t row;
    int64_t uses_max, uses, expires_us, created_us;
    bool revoked;
    char prefix[ID_MAX + 1];          // "" any
    char model[DEVICE_MODEL_MAX + 1]; // "" none
    json_t *tags;                     // never NULL; the caller drops it
};
enum status claim_load(struct tx *tx, uint64_t row, struct claim *ret, struct err *err);
enum claim_state claim_state_at(int64_t uses, int64_t uses_max, int64_t expires_us, bool revoked, int64_t now_us);
enum status claim_use(struct tx *tx, uint64_t row, struct err *err); // ST_FORBIDDEN when not usable (any more)

// Passwords: what to prove for this user name, whether anybody has one, and that it was proved.
struct device_login;
enum status device_password_ask(struct tx *tx, struct slice name, struct device_login *ret, struct err *err);
enum status device_password_any(struct tx *tx, bool *ret, struct err *err);
enum status device_password_has(struct tx *tx, uint64_t device, bool *ret, struct err *err);
enum status device_password_proved(struct tx *tx, const struct device_login *login, struct device_ref *ret,
                                   uint64_t *ret_lineage, struct err *err);

// Certificates.
struct cert_row {
    uint64_t row, device, lineage;
    int64_t generation, not_before_us, not_after_us;
    enum cert_state state;
    bool used;
};
enum status cert_by_fingerprint(struct tx *tx, struct slice sha256, struct cert_row *ret, struct err *err);
// The certificate is used for the first time: its predecessors end.
enum status cert_first_use(struct tx *tx, const struct cert_row *c, const struct device_ref *d, struct err *err);
// Issues and stores one; `claim`: row, 0 for a renewal. `lineage`: it goes on; 0: it begins one. Appends DER.
enum status cert_issue(struct tx *tx, const struct csr *csr, const struct device_ref *d, uint64_t claim,
                       uint64_t lineage, struct buf *der, int64_t *ret_not_after_us, struct err *err);
// A certificate for this very key that waits for its first use: appends its DER and says so. `claim`: which paid for it, 0
// for a renewal.
enum status cert_waiting(struct tx *tx, const struct csr *csr, uint64_t device, uint64_t claim, struct buf *der,
                         int64_t *ret_not_after_us, bool *ret_found, struct err *err);
enum status cert_end_unused(struct tx *tx, const struct device_ref *d, struct err *err);
enum status cert_usable_count(struct tx *tx, uint64_t device, int64_t *ret_n, struct err *err);
// When a certificate of the device was last issued, superseded, revoked or ran out; 0: it had none.
enum status cert_last_event_us(struct tx *tx, uint64_t device, int64_t *ret_us, struct err *err);
// When an access token of the device was last made or revoked; 0: it had none.
enum status device_token_last_event_us(struct tx *tx, uint64_t device, int64_t *ret_us, struct err *err);
enum status cert_recent_count(struct tx *tx, uint64_t device, int64_t since_us, int64_t *ret_n, struct err *err);
// The device is about to be deleted.
enum status cert_forget_device(struct tx *tx, uint64_t device, struct err *err);
enum status device_token_forget_device(struct tx *tx, uint64_t device, struct err *err);
enum status device_psk_forget_device(struct tx *tx, uint64_t device, struct err *err);
// Pre-shared keys: all into memory; whose an identity is (ST_UNAUTHENTICATED: nobody's).
enum status device_psk_load(struct tx *tx, struct identity *id, struct err *err);
enum status device_psk_device(struct tx *tx, struct slice identity, uint64_t *ret_device, uint64_t *ret_lineage,
                              struct err *err);

#endif
