// Traces as operators see them: made, listed, ended, deleted; and what the loops have caught goes into the store.
#include "domain/trace/trace.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/ids.h"
#include "core/member.h"
#include "core/page.h"
#include "domain/audit/audit.h"
#include "domain/registry/registry.h"
#include "domain/trace/trace_priv.h"
#include "net/addr.h"
#define SQL_TRACE_DEFINE
#include "domain/trace/sql/trace.sql.h"

#define SWEEP_EVERY_MS 1000
#define TRIM_ROWS      1000 // deleted of an outlived trace at a time

static const char *const subjects[TRACE_SUBJECT__COUNT] = {
    [TRACE_DEVICE] = "device", [TRACE_CLIENT] = "client", [TRACE_ADDRESS] = "address"};

struct trace_hub *trace_hub_get(const struct core *c)
{
    return core_slot(c, CORE_SLOT_TRACE);
}

const char *trace_subject_text(enum trace_subject s)
{
    return (unsigned)s < TRACE_SUBJECT__COUNT ? subjects[s] : "unknown";
}

// --- rows ----------------------------------------------------------------------------------------------------------

static void read_row(struct stmt *s, struct trace_row *r)
{
    *r = (struct trace_row){.row = (uint64_t)col_i64(s, 0),
                            .subject = (enum trace_subject)col_i64(s, 1),
                            .created_us = col_i64(s, 4),
                            .until_us = col_i64(s, 5),
                            .ended_us = col_i64(s, 6),
                            .records = col_i64(s, 8),
                            .bytes = col_i64(s, 9),
                            .lost = col_i64(s, 10),
                            .strangers = col_i64(s, 11) != 0,
                            .tenant = (uint32_t)col_i64(s, 12)};
    (void)slice_to_cstr(col_text(s, 2), r->value, sizeof(r->value));
    (void)slice_to_cstr(col_text(s, 3), r->created_by, sizeof(r->created_by));
    (void)slice_to_cstr(col_text(s, 7), r->reason, sizeof(r->reason));
}

static void write_row(const struct trace_row *r, struct jw *out)
{
    char id[24];
    snprintf(id, sizeof(id), "%llu", (unsigned long long)r->row);
    jw_object(out);
    jw_member_str(out, "id", id);
    for (unsigned i = 0; i < TRACE_SUBJECT__COUNT; i++) {
        jw_key(out, subjects[i]);
        jw_str(out, i == r->subject ? r->value : NULL);
    }
    jw_member_str(out, "state", r->ended_us == 0 ? "running" : "ended");
    jw_member_str(out, "reason", r->reason[0] != '\0' ? r->reason : NULL);
    jw_member_time(out, "created", r->created_us);
    jw_member_str(out, "created_by", r->created_by);
    jw_member_time(out, "until", r->until_us);
    jw_member_time_or_null(out, "ended", r->ended_us != 0, r->ended_us);
    jw_member_int(out, "records", r->records);
    jw_member_int(out, "bytes", r->bytes);
    jw_member_int(out, "lost", r->lost);
    jw_object_end(out);
}

static enum status read_id(struct slice id, uint64_t *ret)
{
    uint64_t v = 0;
    for (size_t i = 0; i < id.len; i++) {
        unsigned digit = id.p[i] - (unsigned)'0';
        if (digit > 9 || v > ((uint64_t)INT64_MAX - digit) / 10) {
            return ST_NOT_FOUND;
        }
        v = v * 10 + digit;
    }
    *ret = v;
    return id.len > 0 ? ST_OK : ST_NOT_FOUND;
}

enum status trace_find(struct tx *tx, struct slice id, struct trace_row *ret, struct err *err)
{
    uint64_t row = 0;
    bool found = false;
    enum status st = ST_OK;
    if (read_id(id, &row) == ST_OK) {
        STMT(s, tx->db, &sql_trace[SQL_TRACE_GET]);
        stmt_bind_i64(s, 1, (int64_t)row);
        stmt_bind_i64(s, 2, tx->who->tenant);
        st = stmt_step(s, &found, err);
        if (st == ST_OK && found) {
            read_row(s, ret);
        }
    }
    if (st == ST_OK && !found) {
        st = err_set(err, ST_NOT_FOUND, "there is no trace \"" SLICE_FMT "\"", SLICE_ARG(slice_head(id, 32)));
    }
    return st;
}

// --- places --------------------------------------------------------------------------------------------------------

static struct trace_slot *slot_of(struct trace_hub *h, uint64_t row)
{
    for (unsigned i = 0; i < TRACE_RUNNING_MAX; i++) {
        if (h->slots[i].state != SLOT_FREE && h->slots[i].row == row) {
            return &h->slots[i];
        }
    }
    return NULL;
}

// A free place, within what this tenant and all tenants together may have; `owner`: whoever sees the whole process. One busy
// tenant leaves places to others, and all of them leave some to the owner. NULL: *err says which limit.
static struct trace_slot *free_slot(struct trace_hub *h, uint32_t tenant, bool owner, struct err *err)
{
    unsigned mine = 0, tenants = 0;
    struct trace_slot *found = NULL;
    for (unsigned i = TRACE_RUNNING_MAX; i-- > 0;) {
        struct trace_slot *s = &h->slots[i];
        mine += s->state != SLOT_FREE && s->tenant == tenant;
        tenants += s->state != SLOT_FREE && !s->strangers;
        found = s->state == SLOT_FREE ? s : found;
    }
    if (!owner && mine >= TRACE_TENANT_RUNNING) {
        (void)err_set(err, ST_LIMIT, "%u traces of this tenant are running, at most %d are allowed; stop one first",
                      mine, TRACE_TENANT_RUNNING);
        return NULL;
    }
    if (found == NULL || (!owner && tenants >= TRACE_TENANTS_ALL)) {
        (void)err_set(err, ST_LIMIT, "%d traces are running, of all tenants; wait until one ends",
                      found == NULL ? TRACE_RUNNING_MAX : TRACE_TENANTS_ALL);
        return NULL;
    }
    return found;
}

static void fill_slot(struct trace_slot *s, const struct trace_row *r, enum slot_state state)
{
    *s = (struct trace_slot){.state = state,
                             .row = r->row,
                             .tenant = r->tenant,
                             .subject = r->subject,
                             .strangers = r->strangers,
                             .until_us = r->until_us,
                             .seq = r->records,
                             .records = r->records,
                             .bytes = r->bytes,
                             .lost = r->lost};
    snprintf(s->value, sizeof(s->value), "%s", r->value);
}

static void slot_runs(struct core *c, void *arg)
{
    struct trace_slot *s = arg;
    s->state = SLOT_RUNNING;
    trace_publish_set(trace_hub_get(c));
}

static void slot_unreserved(struct core *c, void *arg)
{
    (void)c;
    ((struct trace_slot *)arg)->state = SLOT_FREE;
}

static void slot_ended(struct core *c, void *arg)
{
    ((struct trace_slot *)arg)->state = SLOT_FREE;
    trace_publish_set(trace_hub_get(c));
}

static void slot_not_ended(struct core *c, void *arg)
{
    (void)c;
    ((struct trace_slot *)arg)->ending = false;
}

// --- making, ending ------------------------------------------------------------------------------------------------

// Addresses are compared as text, so there is one way to write each.
static enum status normalise_address(char value[TRACE_VALUE_MAX + 1], struct err *err)
{
    struct addr_net one;
    char text[ADDR_TEXT_MAX];
    if (strchr(value, '/') != NULL || addr_net_parse(value, &one, NULL) != ST_OK) {
        return err_at(err, ST_INVALID, "address",
                      "\"%s\" is no address; one IPv4 or IPv6 address without port is allowed", value);
    }
    snprintf(value, TRACE_VALUE_MAX + 1, "%s", addr_net_text(&one, text));
    return ST_OK;
}

// Writes the value as it is kept.
static enum status check_value(struct tx *tx, const struct trace_conf *conf, char ret[TRACE_VALUE_MAX + 1],
                               struct err *err)
{
    const char *name = subjects[conf->subject];
    if (conf->value.len == 0 || conf->value.len > TRACE_VALUE_MAX) {
        return err_at(err, ST_INVALID, name, "must have 1 to %d bytes", TRACE_VALUE_MAX);
    }
    for (size_t i = 0; i < conf->value.len; i++) {
        if (conf->value.p[i] < 0x20 || conf->value.p[i] == 0x7f) {
            return err_at(err, ST_INVALID, name, "may not hold control characters");
        }
    }
    (void)slice_to_cstr(conf->value, ret, TRACE_VALUE_MAX + 1);
    struct device_ref d;
    switch (conf->subject) {
    case TRACE_DEVICE:
        return device_find(tx, conf->value, &d, err);
    case TRACE_ADDRESS:
        return normalise_address(ret, err);
    default:
        return ST_OK;
    }
}

static enum status insert(struct tx *tx, const struct trace_row *r, struct err *err)
{
    STMT(s, tx->db, &sql_trace[SQL_TRACE_INSERT]);
    stmt_bind_i64(s, 1, (int64_t)r->row);
    stmt_bind_i64(s, 2, r->tenant);
    stmt_bind_i64(s, 3, r->subject);
    stmt_bind_str(s, 4, r->value);
    stmt_bind_i64(s, 5, r->strangers);
    stmt_bind_str(s, 6, r->created_by);
    stmt_bind_i64(s, 7, r->created_us);
    stmt_bind_i64(s, 8, r->until_us);
    return stmt_run(s, err);
}

static enum status delete_rows(struct tx *tx, uint64_t row, int rows, bool *ret_all, struct err *err)
{
    STMT(trim, tx->db, &sql_trace[SQL_TRACE_RECORD_TRIM]);
    stmt_bind_i64(trim, 1, (int64_t)row);
    stmt_bind_i64(trim, 2, rows);
    enum status st = stmt_run(trim, err);
    bool left = false;
    if (st == ST_OK) {
        STMT(any, tx->db, &sql_trace[SQL_TRACE_RECORD_ANY]);
        stmt_bind_i64(any, 1, (int64_t)row);
        st = stmt_step(any, &left, err);
    }
    *ret_all = !left;
    if (st != ST_OK || left) {
        return st;
    }
    STMT(del, tx->db, &sql_trace[SQL_TRACE_DELETE]);
    stmt_bind_i64(del, 1, (int64_t)row);
    return stmt_run(del, err);
}

// Room for one more of this tenant: the oldest that has ended goes.
static enum status make_room(struct tx *tx, struct err *err)
{
    bool row = false;
    STMT(s, tx->db, &sql_trace[SQL_TRACE_KEPT]);
    stmt_bind_i64(s, 1, tx->who->tenant);
    enum status st = stmt_step(s, &row, err);
    if (st != ST_OK || col_i64(s, 0) < TRACE_PER_TENANT_MAX) {
        return st;
    }
    STMT(old, tx->db, &sql_trace[SQL_TRACE_OLDEST_ENDED]);
    stmt_bind_i64(old, 1, tx->who->tenant);
    st = stmt_step(old, &row, err);
    if (st != ST_OK || !row) {
        return st == ST_OK ? err_set(err, ST_LIMIT, "%d traces are kept already; delete one", TRACE_PER_TENANT_MAX)
                           : st;
    }
    bool all = false;
    return delete_rows(tx, (uint64_t)col_i64(old, 0), TRACE_RECORDS_MAX + 1, &all, err);
}

static enum status audited(struct tx *tx, const char *action, const struct trace_row *r, struct err *err)
{
    char text[TRACE_VALUE_MAX * 6 + 64];
    char id[24];
    struct buf b = buf_fixed(text, sizeof(text));
    struct jw w;
    jw_init(&w, &b);
    jw_object(&w);
    jw_key(&w, subjects[r->subject]);
    jw_str(&w, r->value);
    jw_object_end(&w);
    snprintf(id, sizeof(id), "%llu", (unsigned long long)r->row);
    return audit_write(tx, action, "trace", slice_str(id), (struct slice){NULL, 0}, buf_view(&b), err);
}

enum status trace_create(struct tx *tx, const struct trace_conf *conf, struct jw *out, struct err *err)
{
    struct trace_hub *h = trace_hub_get(tx->core);
    struct trace_row r = {.row = id_new(),
                          .tenant = tx->who->tenant,
                          .subject = conf->subject,
                          .strangers = principal_may(tx->who, PERM_METRICS_READ), // who may see the whole process
                          .created_us = tx->now_us,
                          .until_us = tx->now_us};
    enum status st = check_value(tx, conf, r.value, err);
    if (st != ST_OK) {
        return st;
    }
    if (conf->time_us < TRACE_TIME_MIN_US || conf->time_us > TRACE_TIME_MAX_US) {
        return err_at(err, ST_INVALID, "/for", "must be a duration from 1s to 24h");
    }
    r.until_us += conf->time_us;
    struct trace_slot *s = free_slot(h, r.tenant, r.strangers, err);
    if (s == NULL) {
        return ST_LIMIT;
    }
    snprintf(r.created_by, sizeof(r.created_by), "%s", tx->who->name);
    st = make_room(tx, err);
    if (st == ST_OK) {
        st = insert(tx, &r, err);
    }
    if (st == ST_OK) {
        st = audited(tx, "trace.create", &r, err);
    }
    if (st != ST_OK) {
        return st;
    }
    fill_slot(s, &r, SLOT_RESERVED);
    if (!tx_after_commit(tx, slot_runs, slot_unreserved, s)) {
        s->state = SLOT_FREE;
        return err_set(err, ST_NOMEM, "no memory for the trace");
    }
    write_row(&r, out);
    return ST_OK;
}

enum status trace_finish(struct tx *tx, struct trace_hub *h, struct trace_slot *s, const char *reason, struct err *err)
{
    (void)h;
    STMT(end, tx->db, &sql_trace[SQL_TRACE_END]);
    stmt_bind_i64(end, 1, (int64_t)s->row);
    stmt_bind_i64(end, 2, tx->now_us);
    stmt_bind_str(end, 3, reason);
    enum status st = stmt_run(end, err);
    if (st != ST_OK) {
        return st;
    }
    if (!tx_after_commit(tx, slot_ended, slot_not_ended, s)) {
        return err_set(err, ST_NOMEM, "no memory to end the trace");
    }
    s->ending = true;
    return ST_OK;
}

enum status trace_stop(struct tx *tx, struct slice id, struct jw *out, struct err *err)
{
    struct trace_hub *h = trace_hub_get(tx->core);
    struct trace_row r;
    enum status st = trace_find(tx, id, &r, err);
    struct trace_slot *s = st == ST_OK && r.ended_us == 0 ? slot_of(h, r.row) : NULL;
    if (st == ST_OK && s != NULL && !s->ending) {
        st = trace_finish(tx, h, s, "stopped", err);
        if (st == ST_OK) {
            st = audited(tx, "trace.stop", &r, err);
        }
        if (st == ST_OK) {
            st = trace_find(tx, id, &r, err);
        }
    }
    if (st == ST_OK) {
        write_row(&r, out);
    }
    return st;
}

enum status trace_delete(struct tx *tx, struct slice id, struct err *err)
{
    struct trace_row r;
    enum status st = trace_find(tx, id, &r, err);
    if (st == ST_OK && r.ended_us == 0) {
        return err_set(err, ST_CONFLICT, "the trace is running; stop it first");
    }
    bool all = false;
    if (st == ST_OK) {
        st = delete_rows(tx, r.row, TRACE_RECORDS_MAX + 1, &all, err);
    }
    return st == ST_OK ? audited(tx, "trace.delete", &r, err) : st;
}

// --- reading -------------------------------------------------------------------------------------------------------

enum status trace_write(struct tx *tx, struct slice id, struct jw *out, struct err *err)
{
    struct trace_row r;
    enum status st = trace_find(tx, id, &r, err);
    if (st == ST_OK) {
        write_row(&r, out);
    }
    return st;
}

enum status trace_list(struct tx *tx, struct slice cursor, int64_t limit, struct jw *out, struct err *err)
{
    struct page p = {.limit = limit, .from = {.kind = PAGE_TRACES, .a = INT64_MAX}};
    enum status st = page_begin(&p, cursor, out, err);
    if (st != ST_OK) {
        return st;
    }
    STMT(s, tx->db, &sql_trace[SQL_TRACE_LIST]);
    stmt_bind_i64(s, 1, tx->who->tenant);
    stmt_bind_i64(s, 2, p.from.a);
    stmt_bind_i64(s, 3, page_rows(&p));
    while (page_next(&p, s, err)) {
        struct trace_row r;
        read_row(s, &r);
        write_row(&r, out);
        page_wrote(&p, (struct cursor){.a = (int64_t)r.row});
    }
    return page_end(&p, err);
}

// --- what the loops have caught --------------------------------------------------------------------------------------

// Counted at once, because the next batch of the same transaction goes on from there; taken back when it fails.
struct taken {
    uint64_t row;
    int64_t bytes;
};

static void taken_kept(struct core *c, void *arg)
{
    (void)c;
    free(arg);
}

static void taken_back(struct core *c, void *arg)
{
    struct taken *t = arg;
    struct trace_slot *s = slot_of(trace_hub_get(c), t->row);
    if (s != NULL) {
        s->records--;
        s->bytes -= t->bytes;
        s->lost++;
    }
    free(t);
}

static enum status insert_record(struct tx *tx, int64_t seq, const struct trace_entry *e, struct err *err)
{
    STMT(s, tx->db, &sql_trace[SQL_TRACE_RECORD_INSERT]);
    stmt_bind_i64(s, 1, (int64_t)e->row);
    stmt_bind_i64(s, 2, seq);
    stmt_bind_i64(s, 3, e->ts_us);
    stmt_bind_i64(s, 4, (int64_t)e->conn);
    stmt_bind_i64(s, 5, e->what);
    stmt_bind_i64(s, 6, e->version);
    stmt_bind_text(s, 7, e->peer);
    stmt_bind_text(s, 8, e->note.len > 0 ? e->note : (struct slice){NULL, 0});
    stmt_bind_blob(s, 9, e->data.len > 0 ? e->data : (struct slice){NULL, 0});
    stmt_bind_i64(s, 10, e->data_len);
    return stmt_run(s, err);
}

enum status trace_store(struct tx *tx, struct trace_hub *h, const struct trace_entry *e, struct err *err)
{
    struct trace_slot *s = slot_of(h, e->row);
    if (s == NULL || s->ending) {
        return ST_OK; // it has ended meanwhile
    }
    struct taken *t = calloc(1, sizeof(*t));
    if (t == NULL) {
        return err_set(err, ST_NOMEM, "no memory for a trace");
    }
    *t = (struct taken){e->row, (int64_t)e->data.len};
    enum status st = insert_record(tx, s->seq + 1, e, err);
    if (st != ST_OK || !tx_after_commit(tx, taken_kept, taken_back, t)) {
        free(t);
        return st != ST_OK ? st : err_set(err, ST_NOMEM, "no memory for a trace");
    }
    s->seq++;
    s->records++;
    s->bytes += t->bytes;
    bool full = s->records >= TRACE_RECORDS_MAX || s->bytes >= TRACE_BYTES_MAX;
    return full ? trace_finish(tx, h, s, "full", err) : ST_OK;
}

void trace_lose(struct trace_hub *h, uint64_t row, int64_t n)
{
    struct trace_slot *s = slot_of(h, row);
    if (s != NULL) {
        s->lost += n;
    }
}

enum status trace_store_counts(struct tx *tx, struct trace_hub *h, struct err *err)
{
    enum status st = ST_OK;
    for (unsigned i = 0; i < TRACE_RUNNING_MAX && st == ST_OK; i++) {
        const struct trace_slot *s = &h->slots[i];
        if (s->state != SLOT_RUNNING) {
            continue;
        }
        STMT(count, tx->db, &sql_trace[SQL_TRACE_COUNT]);
        stmt_bind_i64(count, 1, (int64_t)s->row);
        stmt_bind_i64(count, 2, s->records);
        stmt_bind_i64(count, 3, s->bytes);
        stmt_bind_i64(count, 4, s->lost);
        st = stmt_run(count, err);
    }
    return st;
}

// --- start and repeated work -----------------------------------------------------------------------------------------

enum status trace_sweep(struct tx *tx, struct err *err)
{
    struct trace_hub *h = trace_hub_get(tx->core);
    enum status st = ST_OK;
    for (unsigned i = 0; i < TRACE_RUNNING_MAX && st == ST_OK; i++) {
        struct trace_slot *s = &h->slots[i];
        if (s->state == SLOT_RUNNING && !s->ending && s->until_us <= tx->now_us) {
            st = trace_finish(tx, h, s, "time is up", err);
        }
    }
    if (st != ST_OK) {
        return st;
    }
    bool row = false;
    STMT(old, tx->db, &sql_trace[SQL_TRACE_OUTLIVED]);
    stmt_bind_i64(old, 1, tx->now_us - TRACE_KEEP_US);
    st = stmt_step(old, &row, err);
    bool all = false;
    return st == ST_OK && row ? delete_rows(tx, (uint64_t)col_i64(old, 0), TRIM_ROWS, &all, err) : st;
}

enum status trace_start(struct tx *tx, void *arg, struct err *err)
{
    struct trace_hub *h = arg;
    core_set_slot(tx->core, CORE_SLOT_TRACE, h);
    STMT(s, tx->db, &sql_trace[SQL_TRACE_RUNNING]);
    stmt_bind_i64(s, 1, TRACE_RUNNING_MAX);
    bool row = false;
    enum status st = stmt_step(s, &row, err);
    for (unsigned i = 0; st == ST_OK && row && i < TRACE_RUNNING_MAX; i++) {
        struct trace_row r;
        read_row(s, &r);
        fill_slot(&h->slots[i], &r, SLOT_RUNNING);
        st = stmt_step(s, &row, err);
    }
    if (st == ST_OK) {
        trace_publish_set(h);
        core_every(tx->core, SWEEP_EVERY_MS, trace_sweep);
    }
    return st;
}
