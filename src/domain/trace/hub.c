// The I/O side: which connections are looked at, and what is caught on its way to the core.
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "domain/trace/trace_priv.h"
#include "proto/mqtt_text.h"

#define NOTE_MAX          200
#define CONNECT_TYPE      0x10
#define AUTH_TYPE         0xf0
#define SAFE_CONNECT_LEN  12 // of a CONNECT that cannot be read: header, protocol name, level, flags
#define SAFE_AUTH_LEN     4
#define ENTRIES_PER_BATCH 4096

struct trace_batch {
    struct op op; // first
    struct trace_loop *owner;
    struct buf bytes; // of the entries
    uint32_t lost[TRACE_RUNNING_MAX];
    uint64_t lost_row[TRACE_RUNNING_MAX];
    uint32_t len;
    struct {
        struct trace_entry e; // slices are set when it is stored: the buffer may move until then
        size_t at;            // where peer, note and data begin in `bytes`
        uint16_t peer_len, note_len;
        uint32_t data_len;
    } entries[ENTRIES_PER_BATCH];
};

// --- sets ----------------------------------------------------------------------------------------------------------

static void set_unref(struct trace_set *s)
{
    if (s != NULL && atomic_fetch_sub_explicit(&s->refs, 1, memory_order_acq_rel) == 1) {
        free(s);
    }
}

static void on_changed(struct post *p)
{
    struct trace_loop *tl = (struct trace_loop *)((char *)p - offsetof(struct trace_loop, changed));
    struct trace_hub *h = tl->hub;
    atomic_store_explicit(&tl->posted, false, memory_order_release);
    pthread_mutex_lock(&h->lock);
    struct trace_set *fresh = h->set;
    if (fresh != NULL) {
        atomic_fetch_add_explicit(&fresh->refs, 1, memory_order_relaxed);
    }
    pthread_mutex_unlock(&h->lock);
    set_unref(tl->set);
    tl->set = fresh;
    if (tl->on_change != NULL) {
        tl->on_change(tl->arg);
    }
}

void trace_publish_set(struct trace_hub *h)
{
    struct trace_set *s = calloc(1, sizeof(*s));
    if (s == NULL) {
        log_warn("trace", "no memory: a change of the traces takes effect with the next one");
        return;
    }
    atomic_store(&s->refs, 1);
    for (unsigned i = 0; i < TRACE_RUNNING_MAX; i++) {
        if (h->slots[i].state == SLOT_RUNNING) {
            s->running |= 1u << i;
            s->slots[i] = h->slots[i];
        }
    }
    pthread_mutex_lock(&h->lock);
    struct trace_set *old = h->set;
    h->set = s;
    pthread_mutex_unlock(&h->lock);
    set_unref(old);
    for (unsigned i = 0; i < h->loops_len; i++) {
        if (!atomic_exchange_explicit(&h->loops[i].posted, true, memory_order_acq_rel)) {
            loop_post(h->loops[i].loop, &h->loops[i].changed);
        }
    }
}

// --- life ----------------------------------------------------------------------------------------------------------

static void turn_ended(struct turn_hook *hook);

struct trace_hub *trace_hub_new(struct core *core, struct loop *const *loops, unsigned loops_len)
{
    struct trace_hub *h = calloc(1, sizeof(*h) + loops_len * sizeof(h->loops[0]));
    if (h == NULL) {
        return NULL;
    }
    h->core = core;
    h->loops_len = loops_len;
    pthread_mutex_init(&h->lock, NULL);
    for (unsigned i = 0; i < loops_len; i++) {
        struct trace_loop *tl = &h->loops[i];
        tl->hub = h;
        tl->loop = loops[i];
        tl->changed.fn = on_changed;
        tl->hook.fn = turn_ended;
        loop_on_turn_end(tl->loop, &tl->hook);
    }
    return h;
}

static void batch_free(struct trace_batch *b)
{
    if (b != NULL) {
        buf_release(&b->bytes);
        free(b);
    }
}

void trace_hub_free(struct trace_hub *h)
{
    if (h == NULL) {
        return;
    }
    for (unsigned i = 0; i < h->loops_len; i++) {
        set_unref(h->loops[i].set);
        batch_free(h->loops[i].gathering);
    }
    set_unref(h->set);
    pthread_mutex_destroy(&h->lock);
    free(h);
}

struct trace_loop *trace_loop(struct trace_hub *h, const struct loop *l)
{
    for (unsigned i = 0; h != NULL && i < h->loops_len; i++) {
        if (h->loops[i].loop == l) {
            return &h->loops[i];
        }
    }
    return NULL;
}

void trace_on_change(struct trace_loop *tl, void (*fn)(void *arg), void *arg)
{
    tl->on_change = fn;
    tl->arg = arg;
}

// --- which traces --------------------------------------------------------------------------------------------------

// "192.0.2.1:1234" without its port, "[::1]:1234" without port and brackets.
static struct slice host_of(const char *peer)
{
    const char *colon = strrchr(peer, ':');
    struct slice s = slice_make(peer, colon != NULL ? (size_t)(colon - peer) : strlen(peer));
    bool brackets = s.len > 2 && s.p[0] == '[' && s.p[s.len - 1] == ']';
    return brackets ? slice_make(s.p + 1, s.len - 2) : s;
}

static bool matches(const struct trace_slot *s, const struct trace_who *who)
{
    if (who->tenant == 0 ? !s->strangers : who->tenant != s->tenant) {
        return false;
    }
    const struct slice subject[TRACE_SUBJECT__COUNT] = {
        [TRACE_DEVICE] = who->device, [TRACE_CLIENT] = who->client, [TRACE_ADDRESS] = host_of(who->peer)};
    return subject[s->subject].p != NULL && slice_eq_str(subject[s->subject], s->value);
}

uint32_t trace_match(const struct trace_loop *tl, const struct trace_who *who)
{
    uint32_t found = 0;
    for (unsigned i = 0; tl->set != NULL && i < TRACE_RUNNING_MAX; i++) {
        if ((tl->set->running >> i & 1u) != 0 && matches(&tl->set->slots[i], who)) {
            found |= 1u << i;
        }
    }
    return found;
}

bool trace_running(const struct trace_loop *tl)
{
    return tl->set != NULL && tl->set->running != 0;
}

// --- catching ------------------------------------------------------------------------------------------------------

static struct trace_batch *gather(struct trace_loop *tl)
{
    if (tl->gathering == NULL) {
        tl->gathering = calloc(1, sizeof(*tl->gathering));
        if (tl->gathering != NULL) {
            tl->gathering->owner = tl;
            tl->gathering->bytes = buf_heap(TRACE_BATCH_BYTES);
        }
    }
    return tl->gathering;
}

static void lose(struct trace_batch *b, unsigned slot, uint64_t row)
{
    if (b->lost_row[slot] != row) {
        b->lost_row[slot] = row;
        b->lost[slot] = 0;
    }
    b->lost[slot]++;
}

// Blanks what must not be kept, in the copy. Returns how much of it may be kept.
static size_t hide_secrets(uint8_t *copy, size_t len, struct slice packet)
{
    uint8_t type = packet.p[0] & 0xf0;
    size_t at = 0;
    size_t secret_len = 0;
    if (type == AUTH_TYPE) {
        return len < SAFE_AUTH_LEN ? len : SAFE_AUTH_LEN;
    }
    if (type != CONNECT_TYPE) {
        return len;
    }
    if (mqtt_password_place(packet, &at, &secret_len)) {
        for (size_t i = at; i < at + secret_len && i < len; i++) {
            copy[i] = '*';
        }
        return len;
    }
    struct mqtt_packet p;
    struct mqtt_error err;
    size_t used = 0;
    bool whole = mqtt_decode(packet, MQTT_V5, &mqtt_limits_default, &p, &used, NULL, &err) == MQTT_DONE;
    return whole ? len : (len < SAFE_CONNECT_LEN ? len : SAFE_CONNECT_LEN);
}

static void catch_one(struct trace_loop *tl, unsigned slot, const struct trace_piece *p, struct slice packet)
{
    struct trace_batch *b = gather(tl);
    if (b == NULL) {
        return; // without memory even the loss is not counted
    }
    uint64_t row = tl->set->slots[slot].row;
    struct slice peer = slice_head(slice_str(p->peer), 64);
    struct slice note = slice_head(slice_str(p->note), p->note != NULL ? NOTE_MAX : 0);
    struct slice data = slice_head(packet, TRACE_PIECE_MAX);
    if (b->len == ENTRIES_PER_BATCH || b->bytes.len + peer.len + note.len + data.len > TRACE_BATCH_BYTES) {
        lose(b, slot, row);
        return;
    }
    size_t at = b->bytes.len;
    if (!buf_slice(&b->bytes, peer) || !buf_slice(&b->bytes, note) || !buf_slice(&b->bytes, data)) {
        b->bytes.failed = false; // what was there before stays
        b->bytes.len = at;
        lose(b, slot, row);
        return;
    }
    size_t kept = data.len;
    if (data.len > 0) {
        kept = hide_secrets(b->bytes.p + at + peer.len + note.len, data.len, packet);
        b->bytes.len = at + peer.len + note.len + kept;
    }
    b->entries[b->len].at = at;
    b->entries[b->len].peer_len = (uint16_t)peer.len;
    b->entries[b->len].note_len = (uint16_t)note.len;
    b->entries[b->len].data_len = (uint32_t)kept;
    b->entries[b->len].e = (struct trace_entry){.row = row,
                                                .ts_us = clock_wall_us(),
                                                .conn = p->conn,
                                                .what = p->what,
                                                .version = p->version,
                                                .data_len = (uint32_t)packet.len};
    b->len++;
}

// How long the first packet of `in` is by its header; all of `in` when that cannot be read.
static size_t packet_len(struct slice in)
{
    struct reader r = reader_make(in);
    (void)rd_u8(&r);
    size_t len = 0;
    unsigned shift = 0;
    uint8_t b = 0x80;
    for (; (b & 0x80) != 0 && shift < 28 && !r.failed; shift += 7) {
        b = rd_u8(&r);
        len |= (size_t)(b & 0x7f) << shift;
    }
    size_t head = in.len - reader_left(&r);
    return r.failed || (b & 0x80) != 0 || len > in.len - head ? in.len : head + len;
}

void trace_record(struct trace_loop *tl, uint32_t traces, const struct trace_piece *p)
{
    struct slice rest = p->data;
    do {
        struct slice packet = slice_head(rest, rest.len > 0 ? packet_len(rest) : 0);
        for (unsigned i = 0; i < TRACE_RUNNING_MAX && tl->set != NULL; i++) {
            if ((traces >> i & 1u) != 0 && (tl->set->running >> i & 1u) != 0) {
                catch_one(tl, i, p, packet);
            }
        }
        rest = slice_from(rest, packet.len);
    } while (rest.len > 0);
}

// --- to the core ---------------------------------------------------------------------------------------------------

static enum status batch_run(struct tx *tx, struct op *op, struct err *err)
{
    struct trace_batch *b = (struct trace_batch *)op;
    struct trace_hub *h = b->owner->hub;
    struct slice all = buf_view(&b->bytes);
    enum status st = ST_OK;
    for (uint32_t i = 0; i < b->len && st == ST_OK; i++) {
        struct trace_entry e = b->entries[i].e;
        struct slice s = slice_from(all, b->entries[i].at);
        e.peer = slice_head(s, b->entries[i].peer_len);
        e.note = slice_head(slice_from(s, e.peer.len), b->entries[i].note_len);
        e.data = slice_head(slice_from(s, e.peer.len + e.note.len), b->entries[i].data_len);
        st = trace_store(tx, h, &e, err);
    }
    for (unsigned i = 0; i < TRACE_RUNNING_MAX; i++) {
        if (b->lost[i] > 0) {
            trace_lose(h, b->lost_row[i], b->lost[i]);
        }
    }
    return st == ST_OK ? trace_store_counts(tx, h, err) : st;
}

static void batch_done(struct op *op)
{
    struct trace_batch *b = (struct trace_batch *)op;
    b->owner->submitted = false;
    if (op->status != ST_OK && op->status != ST_SHUTDOWN) {
        log_warn("trace", "records were lost", LOGI("records", b->len), LOGS("error", op->err.text));
    }
    batch_free(b);
}

static void turn_ended(struct turn_hook *hook)
{
    struct trace_loop *tl = (struct trace_loop *)hook;
    struct trace_batch *b = tl->gathering;
    if (b == NULL || tl->submitted) {
        return; // the next batch gathers while one is with the core
    }
    tl->gathering = NULL;
    tl->submitted = true;
    b->op = (struct op){.run = batch_run, .done = batch_done, .reply_to = tl->loop, .name = "trace.store"};
    core_submit(tl->hub->core, &b->op);
}
