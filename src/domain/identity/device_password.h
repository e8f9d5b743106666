// Passwords of devices: SCRAM verifiers, for the AUTH exchange of MQTT 5 and for plain user name and password.
//
// The user name is the device id, with "@tenant" behind it in tenants other than "default". At most DEVICE_PASSWORDS_MAX
// per device would make SCRAM ambiguous: a device has one or none; setting it replaces it.
//
// A password costs 2 ms of hashing, which no client may spend on the core thread. So a login takes two operations:
//
//   NONE --identity_authenticate / identity_login--> ASKED --device_password_fits or scram_final, on the I/O thread-->
//        PROVED or WRONG --identity_authenticate--> ST_OK or ST_UNAUTHENTICATED (counted)
//
// For unknown names ASKED comes all the same, with a verifier that no password fits.
#ifndef DOMAIN_DEVICE_PASSWORD_H
#define DOMAIN_DEVICE_PASSWORD_H

#include "domain/identity/identity.h"
#include "domain/identity/scram.h"

enum login_state { LOGIN_NONE, LOGIN_ASKED, LOGIN_PROVED, LOGIN_WRONG };
struct device_login {
    enum login_state state;
    bool known; // else a fake
    uint64_t device;
    uint64_t password; // row: a password replaced meanwhile does not let in
    struct scram_verifier verifier;
};
// For SCRAM: what to challenge this user name with. *ret becomes ASKED. Of cred: username and peer_addr. ST_LIMIT: too many
// failures from this address; ST_BUSY: too many passwords are being proved just now.
enum status identity_login(struct tx *tx, const struct credential *cred, struct device_login *ret, struct err *err);
// ASKED becomes PROVED or WRONG. Any thread but the core's.
void device_password_check(struct device_login *login, struct slice password);

// {"device","username","iterations","created"}. password: p == NULL: one is made and shown, as member "password" (else
// null). ST_INVALID: shorter than 8 bytes or longer than SCRAM_PASSWORD_MAX. Hashes on the core thread: an operator's doing.
enum status device_password_set(struct tx *tx, const struct device_ref *d, struct slice password, struct jw *out,
                                struct err *err);
// {"items": [{"username","iterations","created"}],"next": null}. Any tx.
enum status device_password_list(struct tx *tx, const struct device_ref *d, struct jw *out, struct err *err);
// Closes the device's live session. ST_NOT_FOUND.
enum status device_password_revoke(struct tx *tx, const struct device_ref *d, struct err *err);

#endif
