// What points at a stolen or doubled credential: written down once an hour for the same matter, however often it happens.
//
// Each is counted (muster_security_total), logged, an event ("security": {"what","client_id","device","by","address"}) and a
// record in the audit. Reporting is an operation of its own: the CONNECT that gave rise to it is usually refused and
// rolled back.
#ifndef DOMAIN_SECURITY_H
#define DOMAIN_SECURITY_H

#include "core/core.h"

//    enum suffix         name in events, in the audit ("security.NAME") and in the metric
#define SECURITY_MAP(X)                                                                                                \
    X(CLIENT_ID_TAKEN, "client_id_taken")   /* somebody else's client id (S15) */                                      \
    X(OTHER_CREDENTIAL, "other_credential") /* the session of another credential of the same device (S16) */           \
    X(TAKEOVERS, "takeovers")               /* two clients with one credential throw each other out */                 \
    X(FLAPPING, "flapping")                 /* a client connected too often and is banned for a while */

enum security_what {
#define X(name, text) SECURITY_##name,
    SECURITY_MAP(X)
#undef X
        SECURITY__COUNT
};
const char *security_text(enum security_what w); // "takeovers"; never NULL

struct security_note {
    enum security_what what;
    uint32_t tenant;                     // 0: not known (yet); then only counted and logged
    struct slice client_id, by, address; // by: name of the principal, empty when nobody is known
    uint64_t device;                     // row of the device it concerns, 0: none
    struct slice device_id;
};
// Copies. Any thread, between security_start and core_stop.
void security_report(struct core *c, const struct security_note *note);

enum status security_start(struct tx *tx, void *arg, struct err *err); // core_boot; arg unused
void security_stop(struct core *c);                                    // after core_stop

#endif
