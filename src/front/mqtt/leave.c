#include "front/mqtt/leave.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "domain/presence/presence.h"

#define AGAIN_MS 100

struct leave {
    struct op op;
    struct core *core;
    struct link *link;
    struct broker_session *session;
    bool will;
    uint32_t expiry_s;
    struct timer again;
    char reason[32];
    char detail[128];
};

struct leave *leave_new(struct core *core)
{
    struct leave *l = calloc(1, sizeof(*l));
    if (l != NULL) {
        l->core = core;
    }
    return l;
}

void leave_free(struct leave *l)
{
    if (l != NULL) {
        broker_session_unref(l->session);
        link_unref(l->link);
        free(l);
    }
}

static enum status leave_run(struct tx *tx, struct op *op, struct err *err)
{
    struct leave *l = (struct leave *)op;
    enum status s = ST_OK;
    if (l->link->who.kind == WHO_DEVICE) {
        s = presence_disconnected(tx, l->link, slice_str(l->reason), slice_str(l->detail), err);
    }
    if (s == ST_OK && l->session != NULL) {
        s = broker_close(tx, l->session, l->link, l->will, l->expiry_s, err);
    }
    return s;
}

static void leave_again(struct timer *t)
{
    struct leave *l = (struct leave *)((char *)t - offsetof(struct leave, again));
    core_submit(l->core, &l->op);
}

// On the core thread; only a refusal for a full queue comes back at once, on the loop that submitted.
static void leave_done(struct op *op)
{
    struct leave *l = (struct leave *)op;
    if (op->status == ST_BUSY && loop_is_current(l->link->loop)) {
        timer_start(&l->again, AGAIN_MS, 0);
        return;
    }
    if (op->status != ST_OK && op->status != ST_SHUTDOWN) {
        log_warn("mqtt", "the end of a session was not stored yet", LOGS("client", l->link->who.name),
                 LOGS("error", op->err.text));
    }
    leave_free(l);
}

void leave_submit(struct leave *l, const struct leaving *of)
{
    l->link = link_ref(of->link);
    l->session = of->session;
    l->will = of->will;
    l->expiry_s = of->expiry_s;
    l->op = (struct op){.run = leave_run, .done = leave_done, .who = &l->link->who, .name = "mqtt.disconnect"};
    snprintf(l->reason, sizeof(l->reason), "%s", of->reason);
    snprintf(l->detail, sizeof(l->detail), "%s", of->detail);
    timer_init(&l->again, of->link->loop, leave_again);
    core_submit(l->core, &l->op);
}
