// TLS handshakes that failed, with all that is known of them: for the operator who asks why a device does not come in. They
// belong to no tenant, since nobody knows who it was.
//
// Kept in memory, the newest HANDSHAKES_MAX. Strangers decide what comes in, so each entry is bounded, the same failure from the
// same host within the last HANDSHAKES_MERGE entries only counts up, and the log tells of a host once in ten seconds.
#ifndef CORE_HANDSHAKES_H
#define CORE_HANDSHAKES_H

#include "base/json.h"
#include "base/status.h"
#include "net/tls.h"

#define HANDSHAKES_MAX   1000
#define HANDSHAKES_MERGE 64

struct handshakes;
struct handshakes *handshakes_new(void);    // registers its metrics; NULL: no memory
void handshakes_free(struct handshakes *h); // NULL is allowed
// Takes what it needs; counts and logs. Any thread.
void handshakes_add(struct handshakes *h, const struct tls_failure *f);

struct handshakes_filter {
    struct slice address; // a host, or host:port; p == NULL: all
    int64_t since_us;     // last seen not before this
    struct slice cursor;
    int64_t limit;
};
// Appends {"items": [...], "next"}, newest first. ST_INVALID: cursor. Any thread.
enum status handshakes_list(struct handshakes *h, const struct handshakes_filter *f, struct jw *out, struct err *err);

#endif
