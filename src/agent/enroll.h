// Enrolment and renewal. The files are the state: nothing else is remembered, so a crash anywhere is a place to go on from.
//
//   files: key.pem (k), cert.pem (c), next-key.pem (K), next-cert.pem (C), device (id, written before cert.pem)
//
//   ----  NEW        make key            -> k---
//   k---  KEYED      ask with the claim  -> kc--   (write device, then cert.pem)
//   kc--  READY      at 2/3 of its life: make next key -> kcK-
//   kcK-  RENEWING   ask over the device's own channel -> kcKC  (write next-cert.pem)
//   kcKC  TRYING     connect with the new pair: works -> PROMOTE_KEY; refused for good -> drop the new pair -> kc--
//                    (also --KC, k-KC, -cKC: the new pair is all there is)
//   PROMOTE_KEY      rename next-key.pem key.pem       -> kc-C
//   kc-C  PROMOTE_CERT  rename next-cert.pem cert.pem  -> kc--  (also k--C)
//   -c??  ORPHAN     a certificate without its key is of no use: remove it
//   --K-, k-K-, ---C LEFTOVER  remove what belongs to nothing
#ifndef AGENT_ENROLL_H
#define AGENT_ENROLL_H

#include "agent/keys.h"
#include "agent/statedir.h"

enum enroll_state {
    ENROLL_NEW,
    ENROLL_KEYED,
    ENROLL_READY,
    ENROLL_RENEWING,
    ENROLL_TRYING,
    ENROLL_PROMOTE_KEY,
    ENROLL_PROMOTE_CERT,
    ENROLL_ORPHAN,
    ENROLL_LEFTOVER,
    ENROLL__COUNT
};
// "ready"; never NULL.
const char *enroll_state_text(enum enroll_state s);

#define ENROLL_HAS_KEY       1u
#define ENROLL_HAS_CERT      2u
#define ENROLL_HAS_NEXT_KEY  4u
#define ENROLL_HAS_NEXT_CERT 8u
// The state for each of the 16 sets of files.
enum enroll_state enroll_state_of(unsigned has);

struct enroll {
    const struct statedir *dir; // borrowed, as keys
    const struct keys *keys;
    enum enroll_state state;
    char device[129];      // "" before enrolment
    int64_t valid_from_us; // of cert.pem: when it was received; 0 before enrolment
    int64_t not_after_us;
};

// Looks at the files, repairs what a crash left, and ends in KEYED, READY, RENEWING or TRYING.
enum status enroll_open(struct enroll *e, const struct statedir *dir, const struct keys *keys, struct err *err);
// KEYED -> READY: keeps what the server answered. ST_INVALID: the certificate is not one, or not for our key.
enum status enroll_certified(struct enroll *e, const char *device, struct slice cert_pem, struct err *err);
// READY -> KEYED: the certificate is of no use any more (expired), its key is kept.
enum status enroll_forget(struct enroll *e, struct err *err);
// READY -> RENEWING.
enum status enroll_renew(struct enroll *e, struct err *err);
// RENEWING -> TRYING.
enum status enroll_renewed(struct enroll *e, struct slice cert_pem, struct err *err);
// TRYING -> READY with the new pair: it has been used.
enum status enroll_confirm(struct enroll *e, struct err *err);
// RENEWING or TRYING -> READY with the old pair.
enum status enroll_abandon(struct enroll *e, struct err *err);
// When two thirds of the certificate's life are over (wall clock, microseconds).
int64_t enroll_renew_at_us(const struct enroll *e);
// Which certificate and key to connect with in this state.
const char *enroll_cert_file(const struct enroll *e); // NULL before enrolment
enum key_slot enroll_key_slot(const struct enroll *e);

#endif
