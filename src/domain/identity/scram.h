// SCRAM-SHA-256, the server's side (RFC 5802, RFC 7677), and what is stored instead of a password.
//
//   NEW --client-first--> NAMED --verifier found, challenge sent--> CHALLENGED --client-final--> PROVED
//    any --malformed, wrong nonce, wrong proof--> FAILED
//
// Pure: no store, no sockets. Channel binding is not offered: a client that demands it ("p=") is refused, one that only
// would like it ("y") goes on. No authorisation identity other than the user name itself. SASLprep is left to
// clients: names and passwords are compared as the bytes that come.
#ifndef DOMAIN_SCRAM_H
#define DOMAIN_SCRAM_H

#include "base/buf.h"
#include "base/slice.h"
#include "base/status.h"
#include "net/crypto.h"

#define SCRAM_METHOD         "SCRAM-SHA-256" // MQTT 5 authentication method
#define SCRAM_SALT_LEN       16
#define SCRAM_ITERATIONS_MIN 4096 // RFC 7677 section 4
#define SCRAM_ITERATIONS_MAX 1000000
#define SCRAM_NAME_MAX       300  // bytes of a user name
#define SCRAM_PASSWORD_MAX   1024 // bytes
#define SCRAM_MESSAGE_MAX    1024 // bytes of one message of the client

struct scram_verifier {
    uint8_t salt[SCRAM_SALT_LEN];
    uint32_t iterations;
    uint8_t stored_key[SHA256_LEN];
    uint8_t server_key[SHA256_LEN];
};
// With a random salt. Takes iterations * 2 hashes. ST_INVALID: empty or too long password, iterations out of range.
enum status scram_verifier_make(struct slice password, uint32_t iterations, struct scram_verifier *ret,
                                struct err *err);
// One that no password fits, the same each time for the same name: strangers learn nothing from the salt.
void scram_verifier_fake(struct slice key, struct slice name, uint32_t iterations, struct scram_verifier *ret);
// Does this password fit? Takes as long as making one (2 ms for 4,096 iterations): not on the core thread.
bool scram_verifier_fits(const struct scram_verifier *v, struct slice password);

enum scram_state { SCRAM_NEW, SCRAM_NAMED, SCRAM_CHALLENGED, SCRAM_PROVED, SCRAM_FAILED, SCRAM_STATE__COUNT };
struct scram;                     // one exchange, one thread at a time
struct scram *scram_new(void);    // NULL: no memory
void scram_free(struct scram *s); // wiped; NULL is allowed
enum scram_state scram_state(const struct scram *s);

// client-first-message ("n,,n=user,r=nonce"). ST_MALFORMED, ST_UNSUPPORTED (channel binding, extensions). A step in the wrong
// state is ST_PROTOCOL.
enum status scram_first(struct scram *s, struct slice in, struct err *err);
struct slice scram_name(const struct scram *s); // unescaped; valid as long as s. From NAMED on
// server-first-message, appended to out.
enum status scram_challenge(struct scram *s, const struct scram_verifier *v, struct buf *out, struct err *err);
// client-final-message. ST_OK: the password was right, the server-final-message is appended. ST_UNAUTHENTICATED,
// ST_MALFORMED.
enum status scram_final(struct scram *s, struct slice in, struct buf *out, struct err *err);

#endif
