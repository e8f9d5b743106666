// Who asks for a client id of somebody else: counted, logged and, once an hour for each pair, in the audit record. The
// CONNECT itself is refused and leaves nothing in the store, so the record is written by the next tick.
#include <stdlib.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "domain/audit/audit.h"
#include "domain/broker/broker_priv.h"

#define PAIRS    256 // remembered
#define REPORTS  32  // that wait for the tick
#define AGAIN_US (3600LL * 1000000)

struct report {
    uint32_t tenant;
    char client_id[BROKER_CLIENT_ID_MAX];
    size_t client_id_len;
    char principal[ID_MAX + 1];
    char addr[64];
};
struct foreign {
    struct {
        uint64_t pair;
        int64_t until_us; // monotonic
    } seen[PAIRS];
    struct report reports[REPORTS];
    unsigned reports_len;
};

static bool seen_lately(struct foreign *f, uint64_t pair)
{
    int64_t now = clock_mono_us();
    unsigned at = (unsigned)(pair % PAIRS);
    if (f->seen[at].pair == pair && now < f->seen[at].until_us) {
        return true;
    }
    f->seen[at].pair = pair;
    f->seen[at].until_us = now + AGAIN_US;
    return false;
}

void foreign_note(struct broker *b, const struct principal *who, struct slice client_id)
{
    broker_count(COUNT_FOREIGN, 1);
    if (b->foreign == NULL) {
        b->foreign = calloc(1, sizeof(*b->foreign));
    }
    struct foreign *f = b->foreign;
    if (f == NULL || seen_lately(f, hash_bytes(client_id) ^ hash_u64(who->row ^ (uint64_t)who->kind << 60))) {
        return;
    }
    log_warn("broker", "a client id of another principal was refused", LOGSL("client", client_id),
             LOGS("principal", who->name), LOGS("peer", who->addr));
    if (f->reports_len == REPORTS) {
        return;
    }
    struct report *r = &f->reports[f->reports_len++];
    *r = (struct report){.tenant = who->tenant};
    struct buf id = buf_fixed(r->client_id, sizeof(r->client_id));
    buf_slice(&id, client_id);
    r->client_id_len = id.len;
    slice_to_cstr(slice_str(who->name), r->principal, sizeof(r->principal));
    slice_to_cstr(slice_str(who->addr), r->addr, sizeof(r->addr));
}

enum status foreign_audit(struct tx *tx, struct err *err)
{
    struct foreign *f = broker_of(tx->core)->foreign;
    while (f != NULL && f->reports_len > 0) {
        const struct report *r = &f->reports[f->reports_len - 1];
        uint8_t mem[1024];
        struct buf text = buf_fixed(mem, sizeof(mem));
        struct jw w;
        jw_init(&w, &text);
        jw_object(&w);
        jw_key(&w, "principal");
        jw_str(&w, r->principal);
        jw_key(&w, "address");
        jw_str(&w, r->addr);
        jw_object_end(&w);
        enum status st =
            audit_write_for(tx, r->tenant, "session.refuse", "session", slice_make(r->client_id, r->client_id_len),
                            (struct slice){NULL, 0}, buf_view(&text), err);
        if (st != ST_OK) {
            return st;
        }
        f->reports_len--;
    }
    return ST_OK;
}
