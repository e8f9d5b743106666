// Facts that have happened and are durable, for whoever listens: live API streams, mirror topics, later rules.
//
// Events are published by the core thread after the commit, kept in a bounded ring so that a listener can resume, and
// delivered on the listener's own loop. A slow listener loses events and is told so (gap), never blocks anyone.
#ifndef CORE_EVENTS_H
#define CORE_EVENTS_H

#include <stdatomic.h>

#include "base/slice.h"
#include "base/status.h"
#include "core/principal.h"
#include "net/loop.h"

//    enum suffix   name on the wire and in API streams
#define EVENT_MAP(X)                                                                                                   \
    X(TELEMETRY, "telemetry") /* {"device","ts","values"} */                                                           \
    X(EVENT, "event")         /* {"device","ts","name","data"} */                                                      \
    X(TWIN, "twin")           /* {"device","version","section":"desired|reported","patch"} */                          \
    X(PRESENCE, "presence")   /* {"device","online","ts","reason","address"} */                                        \
    X(DEVICE, "device")       /* {"device","action":"created|updated|deleted","version"} */                            \
    X(COMMAND, "command")     /* {"device","id","name","state"} */                                                     \
    X(CERT, "cert")           /* {"device","fingerprint","action":"issued|revoked"} */                                 \
    X(SECURITY, "security")   /* {"what","client_id","device","by","address"}; see domain/policy/security.h */         \
    X(QUEUE, "queue")         /* {"client_id","where":"session|connection","state":"full|over","dropped"} */

enum event_type {
#define X(name, text) EV_##name,
    EVENT_MAP(X)
#undef X
        EV__COUNT
};
// Names on the wire and back. An unknown value reads "unknown"; an unknown name gives false. Any thread.
const char *event_type_text(enum event_type t);
bool event_type_parse(struct slice text, enum event_type *ret);

struct event {
    _Atomic uint32_t refs;
    enum event_type type;
    uint32_t tenant;
    uint64_t device; // row id
    uint64_t seq;    // set at publication; grows by one per event of this process
    int64_t ts_us;
    char device_id[ID_MAX + 1];
    uint32_t json_len;
    char json[]; // one JSON object, without newlines
};
struct event *event_new(enum event_type type, uint32_t tenant, uint64_t device, const char *device_id, int64_t ts_us,
                        struct slice json);
struct event *event_ref(struct event *e);
void event_unref(struct event *e);

struct events;
// A ring that keeps at most so many events and bytes for those who resume. NULL: no memory. Free it when nobody listens
// any more; NULL is allowed.
struct events *events_new(size_t ring_events, size_t ring_bytes);
void events_free(struct events *e);
void events_publish(struct events *e, struct event *ev); // core thread; takes the reference
// Is anyone listening for this? Any thread, cheap: telemetry makes no event text when nobody does.
bool events_wanted(const struct events *e, enum event_type type, uint32_t tenant);
// "b7f3a2c4-1234": process epoch and sequence, for Last-Event-ID.
#define EVENT_ID_MAX 40
void events_id(const struct events *e, uint64_t seq, char dst[EVENT_ID_MAX]);

struct events_filter {
    uint32_t tenant;
    uint32_t types;             // bit per event_type
    char device_id[ID_MAX + 1]; // "" for all devices
};
struct events_sub;
// Starts listening. `deliver` is called on `loop` with a borrowed event; `gap` when events were lost (resume point unknown or
// the sub's queue, 1,000 events, overflowed). last_id (may be empty): first replays what the ring still has after it.
struct events_sub *events_listen(struct events *e, struct loop *loop, const struct events_filter *f,
                                 struct slice last_id, void (*deliver)(void *arg, const struct event *ev),
                                 void (*gap)(void *arg), void *arg);
void events_unlisten(struct events_sub *s); // on its loop; no callback after it

#endif
