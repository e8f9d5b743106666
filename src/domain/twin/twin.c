#include "domain/twin/twin.h"

#include <stdlib.h>

#include "core/when.h"
#include "domain/audit/audit.h"
#include "domain/doc/doc.h"
#include "domain/presence/presence.h"
#include "domain/twin/section.h"
#define SQL_TWIN_DEFINE
#include "domain/twin/sql/twin.sql.h"

#define META_MAX      (512u << 10)                                      // the times of 64 KiB of the shortest members
#define FRAME_MAX     (2u * TWIN_SECTION_MAX + TWIN_SECTION_MAX + 1024) // desired, reported, delta and their names
#define TOPIC_DESIRED "$muster/twin/desired"

enum section { DESIRED, REPORTED };
static const char *const section_text[] = {[DESIRED] = "desired", [REPORTED] = "reported"};

struct twin {
    int64_t version;
    int64_t section_version[2];
    json_t *doc[2];
    json_t *meta[2];
};

static void twin_release(struct twin *t)
{
    for (int i = 0; i < 2; i++) {
        json_decref(t->doc[i]);
        json_decref(t->meta[i]);
    }
}
#define TWIN struct twin __attribute__((cleanup(twin_release)))

static void buf_cleanup(struct buf *b)
{
    buf_release(b);
}
#define BUF struct buf __attribute__((cleanup(buf_cleanup)))

// --- load and save -----------------------------------------------------------------------------------------------

// A column of our own making, within its limits since it was written; that it does not parse means the store is damaged.
static enum status parse_column(struct stmt *s, int col, json_t **ret, struct err *err)
{
    struct slice text = col_text(s, col);
    json_t *v = NULL;
    if (text.p != NULL && doc_load(text, &v, err) == ST_NOMEM) {
        return ST_NOMEM;
    }
    if (!json_is_object(v)) {
        json_decref(v);
        return err_set(err, ST_CORRUPT, "a stored twin cannot be read");
    }
    *ret = v;
    return ST_OK;
}

static enum status load_row(struct stmt *s, struct twin *t, struct err *err)
{
    t->version = col_i64(s, 0);
    enum status st = ST_OK;
    for (int i = 0; i < 2 && st == ST_OK; i++) {
        t->section_version[i] = col_i64(s, 1 + i);
        st = parse_column(s, 3 + i, &t->doc[i], err);
        if (st == ST_OK) {
            st = parse_column(s, 5 + i, &t->meta[i], err);
        }
    }
    return st;
}

// A twin that was never written is version 0 with two empty sections.
static enum status load(struct tx *tx, const struct device_ref *d, struct twin *t, struct err *err)
{
    STMT(s, tx->db, &sql_twin[SQL_TWIN_GET]);
    stmt_bind_i64(s, 1, (int64_t)d->row);
    bool row = false;
    enum status st = stmt_step(s, &row, err);
    if (st != ST_OK || row) {
        return st != ST_OK ? st : load_row(s, t, err);
    }
    for (int i = 0; i < 2; i++) {
        t->doc[i] = json_object();
        t->meta[i] = json_object();
        if (t->doc[i] == NULL || t->meta[i] == NULL) {
            return err_set(err, ST_NOMEM, "no memory for the twin");
        }
    }
    return ST_OK;
}

static enum status save(struct tx *tx, const struct device_ref *d, const struct twin *t, enum section which,
                        struct err *err)
{
    BUF doc = buf_heap(TWIN_SECTION_MAX);
    BUF meta = buf_heap(META_MAX);
    if (!doc_text(t->doc[which], &doc) || !doc_text(t->meta[which], &meta)) {
        return doc.starved || meta.starved ? err_set(err, ST_NOMEM, "no memory for the twin")
                                           : err_set(err, ST_TOO_LARGE, "the %s section would pass %d bytes",
                                                     section_text[which], TWIN_SECTION_MAX);
    }
    STMT(s, tx->db, &sql_twin[which == DESIRED ? SQL_TWIN_PUT_DESIRED : SQL_TWIN_PUT_REPORTED]);
    stmt_bind_i64(s, 1, (int64_t)d->row);
    stmt_bind_i64(s, 2, d->tenant);
    stmt_bind_i64(s, 3, t->version);
    stmt_bind_text(s, 4, buf_view(&doc));
    stmt_bind_text(s, 5, buf_view(&meta));
    return stmt_run(s, err);
}

// --- a change ----------------------------------------------------------------------------------------------------

static enum status parse_patch(struct slice text, json_t **ret, struct err *err)
{
    if (text.len > TWIN_SECTION_MAX) {
        return err_set(err, ST_TOO_LARGE, "the patch has %zu bytes, allowed are %d", text.len, TWIN_SECTION_MAX);
    }
    enum status st = doc_parse(text, TWIN_DEPTH_MAX, ret, err);
    if (st != ST_OK) {
        return st;
    }
    if (!json_is_object(*ret)) {
        return err_set(err, ST_INVALID, "a twin patch is a JSON object");
    }
    return section_check(*ret, err);
}

static enum status apply(struct tx *tx, struct twin *t, enum section which, const json_t *patch, bool replace,
                         struct err *err)
{
    if (replace) {
        json_decref(t->doc[which]);
        json_decref(t->meta[which]);
        t->doc[which] = json_object();
        t->meta[which] = json_object();
        if (t->doc[which] == NULL || t->meta[which] == NULL) {
            return err_set(err, ST_NOMEM, "no memory for the twin");
        }
    }
    t->version++;
    t->section_version[which] = t->version;
    return section_merge(t->doc[which], t->meta[which], patch, tx->now_us / 1000, err);
}

// Nobody listening: no text is made.
static enum status publish(struct tx *tx, const struct device_ref *d, const struct twin *t, enum section which,
                           const json_t *patch, struct err *err)
{
    if (!events_wanted(core_events(tx->core), EV_TWIN, d->tenant)) {
        return ST_OK;
    }
    BUF text = buf_heap(FRAME_MAX);
    struct jw w;
    jw_init(&w, &text);
    jw_object(&w);
    jw_key(&w, "device");
    jw_str(&w, d->id);
    jw_key(&w, "version");
    jw_int(&w, t->version);
    jw_key(&w, "section");
    jw_str(&w, section_text[which]);
    jw_key(&w, "patch");
    bool ok = doc_write(patch, &w);
    jw_object_end(&w);
    struct event *ev =
        ok && !text.failed ? event_new(EV_TWIN, d->tenant, d->row, d->id, tx->now_us, buf_view(&text)) : NULL;
    return tx_event(tx, ev) ? ST_OK : err_set(err, ST_NOMEM, "no memory for the twin event");
}

enum status twin_report(struct tx *tx, const struct device_ref *d, struct slice patch, struct err *err)
{
    DOC *p = NULL;
    TWIN t = {0};
    enum status st = parse_patch(patch, &p, err);
    if (st == ST_OK) {
        st = load(tx, d, &t, err);
    }
    if (st == ST_OK) {
        st = apply(tx, &t, REPORTED, p, false, err);
    }
    if (st == ST_OK) {
        st = save(tx, d, &t, REPORTED, err);
    }
    return st == ST_OK ? publish(tx, d, &t, REPORTED, p, err) : st;
}

// --- what the device gets ----------------------------------------------------------------------------------------

static enum status write_frame(const struct twin *t, const json_t *delta, bool with_reported, struct jw *out,
                               struct err *err)
{
    jw_object(out);
    jw_key(out, "version");
    jw_int(out, t->section_version[DESIRED]);
    jw_key(out, "desired");
    bool ok = doc_write(t->doc[DESIRED], out);
    jw_key(out, "delta");
    ok = ok && doc_write(delta, out);
    if (with_reported) {
        jw_key(out, "reported");
        ok = ok && doc_write(t->doc[REPORTED], out);
    }
    jw_object_end(out);
    return ok ? ST_OK : err_set(err, ST_INTERNAL, "the twin is nested too deep");
}

enum status twin_write_for_device(struct tx *tx, const struct device_ref *d, bool with_reported, struct jw *out,
                                  struct err *err)
{
    TWIN t = {0};
    enum status st = load(tx, d, &t, err);
    if (st != ST_OK) {
        return st;
    }
    DOC *delta = section_diff(t.doc[REPORTED], t.doc[DESIRED], false);
    return delta != NULL ? write_frame(&t, delta, with_reported, out, err)
                         : err_set(err, ST_NOMEM, "no memory for the twin");
}

// A message on its way to a link, until the commit decides.
struct push {
    struct link *link; // one reference
    struct down *down;
};

static void push_undo(struct core *c, void *arg)
{
    (void)c;
    struct push *p = arg;
    link_unref(p->link);
    free(p->down);
    free(p);
}

static void push_commit(struct core *c, void *arg)
{
    struct push *p = arg;
    link_send(p->link, p->down);
    p->down = NULL;
    push_undo(c, p);
}

static enum status push(struct tx *tx, const struct twin *t, const json_t *delta, struct link *link, struct err *err)
{
    BUF text = buf_heap(FRAME_MAX);
    struct jw w;
    jw_init(&w, &text);
    enum status st = write_frame(t, delta, false, &w, err);
    if (st != ST_OK) {
        return st;
    }
    struct push *p = calloc(1, sizeof(*p));
    struct down *down = p != NULL && !text.failed
                            ? down_publish(TOPIC_DESIRED, buf_view(&text), (uint64_t)t->section_version[DESIRED])
                            : NULL;
    if (down == NULL) {
        free(p);
        return err_set(err, ST_NOMEM, "no memory to push the twin");
    }
    *p = (struct push){.link = link_ref(link), .down = down};
    if (!tx_after_commit(tx, push_commit, push_undo, p)) {
        push_undo(tx->core, p);
        return err_set(err, ST_NOMEM, "no memory to push the twin");
    }
    return ST_OK;
}

static enum status push_live(struct tx *tx, const struct device_ref *d, const struct twin *t, struct err *err)
{
    struct link *link = presence_link(tx->core, d->row);
    if (link == NULL || !link->takes_desired) {
        return ST_OK; // delivered when the device subscribes
    }
    DOC *delta = section_diff(t->doc[REPORTED], t->doc[DESIRED], false);
    return delta != NULL ? push(tx, t, delta, link, err) : err_set(err, ST_NOMEM, "no memory for the twin");
}

enum status twin_push_pending(struct tx *tx, const struct device_ref *d, struct link *link, struct err *err)
{
    TWIN t = {0};
    enum status st = load(tx, d, &t, err);
    if (st != ST_OK) {
        return st;
    }
    DOC *delta = section_diff(t.doc[REPORTED], t.doc[DESIRED], false);
    if (delta == NULL) {
        return err_set(err, ST_NOMEM, "no memory for the twin");
    }
    st = json_object_size(delta) > 0 ? push(tx, &t, delta, link, err) : ST_OK;
    if (st == ST_OK) {
        link->takes_desired = true;
    }
    return st;
}

// --- desired -----------------------------------------------------------------------------------------------------

static enum status check_version(const struct twin *t, int64_t if_version, struct err *err)
{
    if (if_version < 0 || (if_version >= t->section_version[DESIRED] && if_version <= t->version)) {
        return ST_OK;
    }
    return err_set(err, ST_VERSION, "desired is at version %lld, not as you saw it at version %lld; read it again",
                   (long long)t->section_version[DESIRED], (long long)if_version);
}

static enum status audit(struct tx *tx, const struct device_ref *d, json_t *before, json_t *after, struct err *err)
{
    DOC *undo = section_diff(after, before, true);
    DOC *redo = section_diff(before, after, true);
    BUF undo_text = buf_heap(META_MAX);
    BUF redo_text = buf_heap(META_MAX);
    if (undo == NULL || redo == NULL || !doc_text(undo, &undo_text) || !doc_text(redo, &redo_text)) {
        return err_set(err, ST_NOMEM, "no memory for the audit record");
    }
    return audit_write(tx, "twin.desired", "device", slice_str(d->id), buf_view(&undo_text), buf_view(&redo_text), err);
}

// Everything that follows from a changed desired section.
static enum status desired_changed(struct tx *tx, const struct device_ref *d, const struct twin *t, json_t *before,
                                   const json_t *patch, struct err *err)
{
    enum status st = save(tx, d, t, DESIRED, err);
    if (st == ST_OK) {
        st = audit(tx, d, before, t->doc[DESIRED], err);
    }
    if (st == ST_OK) {
        st = publish(tx, d, t, DESIRED, patch, err);
    }
    return st == ST_OK ? push_live(tx, d, t, err) : st;
}

enum status twin_set_desired(struct tx *tx, const struct device_ref *d, struct slice patch, bool replace,
                             int64_t if_version, int64_t *ret_version, struct err *err)
{
    DOC *p = NULL;
    TWIN t = {0};
    enum status st = parse_patch(patch, &p, err);
    if (st == ST_OK) {
        st = load(tx, d, &t, err);
    }
    if (st == ST_OK) {
        st = check_version(&t, if_version, err);
    }
    if (st != ST_OK) {
        return st;
    }
    DOC *before = json_deep_copy(t.doc[DESIRED]);
    if (before == NULL) {
        return err_set(err, ST_NOMEM, "no memory for the twin");
    }
    st = apply(tx, &t, DESIRED, p, replace, err);
    if (st == ST_OK) {
        st = desired_changed(tx, d, &t, before, p, err);
    }
    if (st == ST_OK && ret_version != NULL) {
        *ret_version = t.version;
    }
    return st;
}

// --- what operators read -----------------------------------------------------------------------------------------

static bool write_all(const struct twin *t, const json_t *delta, struct jw *out)
{
    jw_object(out);
    jw_key(out, "version");
    jw_int(out, t->version);
    bool ok = true;
    for (int i = 0; i < 2 && ok; i++) {
        jw_key(out, section_text[i]);
        ok = doc_write(t->doc[i], out);
    }
    jw_key(out, "delta");
    ok = ok && doc_write(delta, out);
    jw_key(out, "desired_version");
    jw_int(out, t->section_version[DESIRED]);
    jw_key(out, "reported_version");
    jw_int(out, t->section_version[REPORTED]);
    jw_key(out, "meta");
    jw_object(out);
    for (int i = 0; i < 2 && ok; i++) {
        jw_key(out, section_text[i]);
        ok = doc_write(t->meta[i], out);
    }
    jw_object_end(out);
    jw_object_end(out);
    return ok;
}

enum status twin_write(struct tx *tx, const struct device_ref *d, struct jw *out, int64_t *ret_version, struct err *err)
{
    TWIN t = {0};
    enum status st = load(tx, d, &t, err);
    if (st != ST_OK) {
        return st;
    }
    DOC *delta = section_diff(t.doc[REPORTED], t.doc[DESIRED], false);
    if (delta == NULL) {
        return err_set(err, ST_NOMEM, "no memory for the twin");
    }
    if (!write_all(&t, delta, out)) {
        return err_set(err, ST_INTERNAL, "the twin is nested too deep");
    }
    if (ret_version != NULL) {
        *ret_version = t.version;
    }
    return ST_OK;
}
