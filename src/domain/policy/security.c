#include "domain/policy/security.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "base/map.h"
#include "base/rate.h"
#include "core/metrics.h"
#include "domain/audit/audit.h"

#define AGAIN_US      3600000000LL // the same matter is written down once in this time
#define NAME_MAX_LEN  256          // bytes kept of what a client calls itself
#define NOTE_JSON_MAX 4096

static const char *const texts[] = {
#define X(name, text) [SECURITY_##name] = (text),
    SECURITY_MAP(X)
#undef X
};

// Counters live as long as the process.
static struct metric counters[] = {
#define X(suffix, text)                                                                                                \
    [SECURITY_##suffix] = {.name = "muster_security_total",                                                            \
                           .labels = "what=\"" text "\"",                                                              \
                           .help = "Signs of stolen or doubled credentials.",                                          \
                           .kind = METRIC_COUNTER},
    SECURITY_MAP(X)
#undef X
};

static struct rate *seen_of(const struct core *c)
{
    return core_slot(c, CORE_SLOT_SECURITY);
}

const char *security_text(enum security_what w)
{
    return (unsigned)w < SECURITY__COUNT ? texts[w] : "unknown";
}

// --- the operation -----------------------------------------------------------------------------------------------

struct note_op {
    struct op op;
    struct principal who; // the system, in the tenant
    struct security_note note;
    uint8_t bytes[];
};

static void write_note(const struct security_note *n, struct buf *text)
{
    struct jw w;
    jw_init(&w, text);
    jw_object(&w);
    jw_key(&w, "what");
    jw_str(&w, texts[n->what]);
    jw_key(&w, "client_id");
    jw_slice(&w, n->client_id);
    jw_key(&w, "device");
    jw_slice(&w, n->device_id);
    jw_key(&w, "by");
    jw_slice(&w, n->by);
    jw_key(&w, "address");
    jw_slice(&w, n->address);
    jw_object_end(&w);
}

static enum status note_run(struct tx *tx, struct op *op, struct err *err)
{
    struct note_op *no = (struct note_op *)op;
    const struct security_note *n = &no->note;
    uint8_t mem[NOTE_JSON_MAX];
    struct buf text = buf_fixed(mem, sizeof(mem));
    char action[64];
    char device_id[ID_MAX + 1] = "";
    write_note(n, &text);
    struct buf a = buf_fixed(action, sizeof(action));
    (void)buf_str(&a, "security.");
    (void)buf_str(&a, texts[n->what]);
    (void)buf_u8(&a, 0);
    enum status st =
        audit_write_for(tx, n->tenant, action, "client", n->client_id, (struct slice){NULL, 0}, buf_view(&text), err);
    if (st != ST_OK) {
        return st;
    }
    (void)slice_to_cstr(n->device_id, device_id, sizeof(device_id));
    struct event *ev = event_new(EV_SECURITY, n->tenant, n->device, device_id, tx->now_us, buf_view(&text));
    return ev != NULL && tx_event(tx, ev) ? ST_OK : err_set(err, ST_NOMEM, "no memory for an event");
}

static void note_done(struct op *op)
{
    if (op->status != ST_OK) {
        log_warn("security", "a report could not be stored", LOGS("error", op->err.text));
    }
    free(op);
}

static struct slice keep(struct buf *b, struct slice s)
{
    size_t at = b->len;
    (void)buf_slice(b, slice_head(s, NAME_MAX_LEN));
    return s.p != NULL ? slice_from(buf_view(b), at) : s;
}

static void submit(struct core *c, const struct security_note *n)
{
    size_t room = (size_t)4 * NAME_MAX_LEN;
    struct note_op *no = calloc(1, sizeof(*no) + room);
    if (no == NULL) {
        log_warn("security", "no memory for a report", LOGS("what", texts[n->what]));
        return;
    }
    struct buf b = buf_fixed(no->bytes, room);
    no->note = *n;
    no->note.client_id = keep(&b, n->client_id);
    no->note.by = keep(&b, n->by);
    no->note.address = keep(&b, n->address);
    no->note.device_id = keep(&b, n->device_id);
    no->who = principal_system();
    no->who.tenant = n->tenant;
    no->op = (struct op){
        .run = note_run, .done = note_done, .reply_to = core_loop(c), .who = &no->who, .name = "security.report"};
    core_submit(c, &no->op);
}

void security_report(struct core *c, const struct security_note *n)
{
    struct rate *seen = seen_of(c);
    metric_add(&counters[n->what], 1);
    // One matter: this kind of thing, with this client id, by this one.
    uint64_t kind = (uint64_t)n->tenant * SECURITY__COUNT + n->what;
    uint64_t key = hash_u64(hash_bytes(n->client_id) ^ hash_u64(hash_bytes(n->by) + kind));
    if (seen == NULL || !rate_take(seen, key != 0 ? key : 1, clock_mono_us())) {
        return;
    }
    log_warn("security", texts[n->what], LOGU("tenant", n->tenant),
             LOGSL("client_id", slice_head(n->client_id, NAME_MAX_LEN)), LOGSL("by", slice_head(n->by, NAME_MAX_LEN)),
             LOGSL("peer", slice_head(n->address, NAME_MAX_LEN)));
    if (n->tenant != 0) {
        submit(c, n);
    }
}

// --- life --------------------------------------------------------------------------------------------------------

enum status security_start(struct tx *tx, void *arg, struct err *err)
{
    (void)arg;
    struct rate *seen = rate_new(AGAIN_US, 1);
    if (seen == NULL) {
        return err_set(err, ST_NOMEM, "no memory");
    }
    for (unsigned i = 0; i < SECURITY__COUNT; i++) {
        metric_register(&counters[i]);
    }
    core_set_slot(tx->core, CORE_SLOT_SECURITY, seen);
    return ST_OK;
}

void security_stop(struct core *c)
{
    rate_free(seen_of(c));
    core_set_slot(c, CORE_SLOT_SECURITY, NULL);
}
