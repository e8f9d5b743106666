// Certificates of devices: what the CA has issued, and what of it still counts.
//
//   ACTIVE --the successor's first use, or a later renewal before its own first use--> SUPERSEDED
//   ACTIVE, SUPERSEDED --operator--> REVOKED
//
// A certificate lets in when it is ACTIVE, within its time, and its device is neither suspended nor retired.
#ifndef DOMAIN_CERT_H
#define DOMAIN_CERT_H

#include "domain/identity/identity.h"

enum cert_state { CERT_ACTIVE, CERT_SUPERSEDED, CERT_REVOKED, CERT_STATE__COUNT }; // stored: never renumber
const char *cert_state_text(enum cert_state s);
bool cert_state_parse(struct slice text, enum cert_state *ret);
bool cert_state_may(enum cert_state from, enum cert_state to); // the table in cert.c

#define CERT_REASON_MAX 200
struct cert_filter {
    struct slice device; // id; p == NULL: any
    int state;           // enum cert_state or -1
    struct slice cursor;
    int64_t limit; // 1..1000
};
// {"items": [{"fingerprint","device","serial","state","reason","not_before","not_after","created","first_used","ended"}],
// "next"}, newest first. Any tx. A device that does not exist: ST_NOT_FOUND.
enum status cert_list(struct tx *tx, const struct cert_filter *f, struct jw *out, struct err *err);
// One of them, with "pem". `fingerprint`: 64 hex digits. Any tx.
enum status cert_write(struct tx *tx, struct slice fingerprint, struct jw *out, struct err *err);
// Closes the device's live session. Revoked already: no change.
enum status cert_revoke(struct tx *tx, struct slice fingerprint, struct slice reason, struct err *err);

// Subject CN of the newest active certificate of the device, as its issuer wrote it; "" when it has none, or one that is no
// plain text of at most CERT_NAME_MAX bytes. Any tx.
#define CERT_NAME_MAX 256
enum status cert_common_name(struct tx *tx, uint64_t device, char dst[CERT_NAME_MAX + 1], struct err *err);

#endif
