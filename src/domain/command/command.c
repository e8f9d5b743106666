#include "domain/command/command.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/ids.h"
#include "core/member.h"
#include "core/page.h"
#include "domain/audit/audit.h"
#include "domain/command/event.h"
#include "domain/presence/presence.h"
#define SQL_COMMAND_DEFINE
#include "domain/command/sql/command.sql.h"

#define KEEP_US         (90LL * 86400 * 1000000)
#define EXPIRE_EVERY_MS 1000
#define EXPIRE_ROWS     500 // per step
#define FORGET_EVERY_MS 60000
#define FORGET_ROWS     2000

static void id_text(uint64_t id, char dst[24])
{
    (void)snprintf(dst, 24, "%" PRIu64, id);
}

// --- events and audit --------------------------------------------------------------------------------------------

// What became of which command.
struct fact {
    uint32_t tenant;
    uint64_t device;
    const char *device_id;
    uint64_t id;
    struct slice name;
    enum command_state state;
};

static enum status publish(struct tx *tx, const struct fact *f, struct err *err)
{
    uint8_t mem[512];
    struct buf text = buf_fixed(mem, sizeof(mem));
    struct jw w;
    char id[24];
    id_text(f->id, id);
    jw_init(&w, &text);
    jw_object(&w);
    jw_member_str(&w, "device", f->device_id);
    jw_member_str(&w, "id", id);
    jw_member_text(&w, "name", f->name);
    jw_member_str(&w, "state", command_state_text(f->state));
    jw_object_end(&w);
    struct event *ev =
        text.failed ? NULL : event_new(EV_COMMAND, f->tenant, f->device, f->device_id, tx->now_us, buf_view(&text));
    return tx_event(tx, ev) ? ST_OK : err_set(err, ST_NOMEM, "no memory for the command event");
}

static enum status audit(struct tx *tx, const struct device_ref *d, uint64_t id, struct slice name, int64_t ttl_us,
                         struct err *err)
{
    uint8_t mem[256];
    struct buf text = buf_fixed(mem, sizeof(mem));
    struct jw w;
    char id_mem[24];
    id_text(id, id_mem);
    jw_init(&w, &text);
    jw_object(&w);
    jw_member_str(&w, "command", id_mem);
    jw_member_text(&w, "name", name);
    jw_member_int(&w, "ttl_s", ttl_us / 1000000);
    jw_object_end(&w);
    return audit_write(tx, "command.send", "device", slice_str(d->id), (struct slice){NULL, 0}, buf_view(&text), err);
}

// --- delivery ----------------------------------------------------------------------------------------------------

struct delivery {
    struct link *link; // one reference
    struct down *down;
};

static void delivery_undo(struct core *c, void *arg)
{
    (void)c;
    struct delivery *d = arg;
    link_unref(d->link);
    free(d->down);
    free(d);
}

static void delivery_commit(struct core *c, void *arg)
{
    struct delivery *d = arg;
    link_send(d->link, d->down);
    d->down = NULL;
    delivery_undo(c, d);
}

static enum status send_after_commit(struct tx *tx, struct link *link, uint64_t id, struct slice name,
                                     struct slice payload, struct err *err)
{
    char topic[sizeof(((struct down *)NULL)->topic)];
    (void)snprintf(topic, sizeof(topic), "$muster/command/" SLICE_FMT "/%" PRIu64, SLICE_ARG(name), id);
    struct delivery *d = calloc(1, sizeof(*d));
    struct down *down = d != NULL ? down_publish(topic, payload, id) : NULL;
    if (down == NULL) {
        free(d);
        return err_set(err, ST_NOMEM, "no memory to deliver the command");
    }
    *d = (struct delivery){.link = link_ref(link), .down = down};
    if (!tx_after_commit(tx, delivery_commit, delivery_undo, d)) {
        delivery_undo(tx->core, d);
        return err_set(err, ST_NOMEM, "no memory to deliver the command");
    }
    return ST_OK;
}

static enum status mark_sent(struct tx *tx, uint64_t id, enum command_state to, struct err *err)
{
    STMT(s, tx->db, &sql_command[SQL_COMMAND_SENT]);
    stmt_bind_i64(s, 1, (int64_t)id);
    stmt_bind_i64(s, 2, to);
    stmt_bind_i64(s, 3, tx->now_us);
    return stmt_run(s, err);
}

static enum status deliver(struct tx *tx, const struct device_ref *d, struct link *link, uint64_t id, struct slice name,
                           struct slice payload, enum command_state from, struct err *err)
{
    enum command_state to = from;
    if (!command_next(from, COMMAND_IN_DELIVER, &to)) {
        return ST_OK;
    }
    enum status st = send_after_commit(tx, link, id, name, payload, err);
    if (st == ST_OK) {
        st = mark_sent(tx, id, to, err);
    }
    const struct fact f = {d->tenant, d->row, d->id, id, name, to};
    return st == ST_OK && to != from ? publish(tx, &f, err) : st;
}

enum status command_push_pending(struct tx *tx, const struct device_ref *d, struct link *link, struct err *err)
{
    link->takes_commands = true;
    // The index walked is (device, row); delivering changes neither, so the walk may update as it goes.
    STMT(s, tx->db, &sql_command[SQL_COMMAND_OPEN]);
    stmt_bind_i64(s, 1, (int64_t)d->row);
    stmt_bind_i64(s, 2, tx->now_us);
    bool row = false;
    enum status st = stmt_step(s, &row, err);
    for (; st == ST_OK && row; st = stmt_step(s, &row, err)) { // at most COMMAND_OPEN_MAX
        st = deliver(tx, d, link, (uint64_t)col_i64(s, 0), col_text(s, 1), col_text(s, 2),
                     (enum command_state)col_i64(s, 3), err);
        if (st != ST_OK) {
            return st;
        }
    }
    return st;
}

// --- send --------------------------------------------------------------------------------------------------------

static bool name_valid(struct slice name)
{
    for (size_t i = 0; i < name.len; i++) {
        uint8_t c = name.p[i];
        bool ok = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' ||
                  c == '-';
        if (!ok) {
            return false;
        }
    }
    return name.len > 0 && name.len <= COMMAND_NAME_MAX;
}

enum status command_check_message(struct slice name, struct slice payload, struct err *err)
{
    if (!name_valid(name)) {
        return err_at(err, ST_INVALID, "/name", "a name is 1 to %d of A-Z a-z 0-9 . _ -", COMMAND_NAME_MAX);
    }
    if (payload.len > COMMAND_PAYLOAD_MAX) {
        return err_at(err, ST_TOO_LARGE, "/payload", "the payload has %zu bytes, allowed are %d", payload.len,
                      COMMAND_PAYLOAD_MAX);
    }
    return json_check(payload, COMMAND_DEPTH_MAX, COMMAND_PAYLOAD_MAX, err);
}

static enum status check_room(struct tx *tx, const struct device_ref *d, struct err *err)
{
    STMT(s, tx->db, &sql_command[SQL_COMMAND_OPEN_COUNT]);
    stmt_bind_i64(s, 1, (int64_t)d->row);
    bool row = false;
    enum status st = stmt_step(s, &row, err);
    if (st == ST_OK && row && col_i64(s, 0) >= COMMAND_OPEN_MAX) {
        st = err_set(err, ST_LIMIT, "%d commands wait for this device already; let them end or expire",
                     COMMAND_OPEN_MAX);
    }
    return st;
}

struct draft {
    uint64_t id;
    struct slice name, payload;
    int64_t ttl_us;
};

static enum status insert(struct tx *tx, const struct device_ref *d, const struct draft *c, struct err *err)
{
    STMT(s, tx->db, &sql_command[SQL_COMMAND_INSERT]);
    stmt_bind_i64(s, 1, (int64_t)c->id);
    stmt_bind_i64(s, 2, d->tenant);
    stmt_bind_i64(s, 3, (int64_t)d->row);
    stmt_bind_text(s, 4, c->name);
    stmt_bind_text(s, 5, c->payload);
    stmt_bind_str(s, 6, tx->who->name);
    stmt_bind_i64(s, 7, tx->now_us);
    stmt_bind_i64(s, 8, tx->now_us + c->ttl_us);
    enum status st = stmt_run(s, err);
    if (st != ST_OK) {
        return st;
    }
    STMT(trim, tx->db, &sql_command[SQL_COMMAND_TRIM]);
    stmt_bind_i64(trim, 1, (int64_t)d->row);
    stmt_bind_i64(trim, 2, COMMAND_KEEP_MAX);
    return stmt_run(trim, err);
}

static enum status announce(struct tx *tx, const struct device_ref *d, const struct draft *c, struct err *err)
{
    enum status st = audit(tx, d, c->id, c->name, c->ttl_us, err);
    const struct fact f = {d->tenant, d->row, d->id, c->id, c->name, COMMAND_PENDING};
    if (st == ST_OK) {
        st = publish(tx, &f, err);
    }
    struct link *link = presence_link(tx->core, d->row);
    if (st == ST_OK && link != NULL && link->takes_commands) {
        st = deliver(tx, d, link, c->id, c->name, c->payload, COMMAND_PENDING, err);
    }
    return st;
}

enum status command_send(struct tx *tx, const struct device_ref *d, struct slice name, struct slice payload,
                         int64_t ttl_us, uint64_t *ret_id, struct err *err)
{
    const struct draft c = {id_new(), name, payload, ttl_us != 0 ? ttl_us : COMMAND_TTL_DFLT_US};
    if (c.ttl_us < 1000000 || c.ttl_us > COMMAND_TTL_MAX_US) {
        return err_at(err, ST_INVALID, "/ttl", "a command lives from one second to seven days");
    }
    if (d->state == DEVICE_RETIRED) {
        return err_set(err, ST_CONFLICT, "device %s is retired", d->id);
    }
    enum status st = command_check_message(name, payload, err);
    if (st == ST_OK) {
        st = check_room(tx, d, err);
    }
    if (st == ST_OK) {
        st = insert(tx, d, &c, err);
    }
    if (st == ST_OK) {
        st = announce(tx, d, &c, err);
    }
    if (st == ST_OK) {
        *ret_id = c.id;
    }
    return st;
}

// --- reply -------------------------------------------------------------------------------------------------------

// The statement stands on the command's row; ST_NOT_FOUND when it is not this device's.
static enum status find(struct stmt *s, const struct device_ref *d, uint64_t id, struct err *err)
{
    stmt_bind_i64(s, 1, (int64_t)id);
    stmt_bind_i64(s, 2, (int64_t)d->row);
    bool row = false;
    enum status st = stmt_step(s, &row, err);
    if (st == ST_OK && !row) {
        st = err_set(err, ST_NOT_FOUND, "device %s has no command %" PRIu64, d->id, id);
    }
    return st;
}

static enum status store_reply(struct tx *tx, uint64_t id, enum command_state to, struct slice payload, struct err *err)
{
    STMT(s, tx->db, &sql_command[SQL_COMMAND_REPLIED]);
    stmt_bind_i64(s, 1, (int64_t)id);
    stmt_bind_i64(s, 2, to);
    stmt_bind_i64(s, 3, tx->now_us);
    stmt_bind_text(s, 4, payload);
    return stmt_run(s, err);
}

enum status command_reply(struct tx *tx, const struct device_ref *d, uint64_t id, struct slice payload, struct err *err)
{
    if (payload.len > COMMAND_PAYLOAD_MAX) {
        return err_set(err, ST_TOO_LARGE, "the answer has %zu bytes, allowed are %d", payload.len, COMMAND_PAYLOAD_MAX);
    }
    enum status st = json_check(payload, COMMAND_DEPTH_MAX, COMMAND_PAYLOAD_MAX, err);
    if (st != ST_OK) {
        return st;
    }
    STMT(s, tx->db, &sql_command[SQL_COMMAND_GET]);
    st = find(s, d, id, err);
    if (st != ST_OK) {
        return st;
    }
    enum command_state from = (enum command_state)col_i64(s, 3);
    enum command_state to = from;
    if (!command_next(from, COMMAND_IN_REPLY, &to)) {
        return slice_eq(col_text(s, 10), payload)
                   ? ST_OK
                   : err_set(err, ST_CONFLICT, "command %" PRIu64 " was answered before with something else", id);
    }
    st = store_reply(tx, id, to, payload, err);
    const struct fact f = {d->tenant, d->row, d->id, id, col_text(s, 1), to};
    return st == ST_OK ? publish(tx, &f, err) : st;
}

// --- repeated work -----------------------------------------------------------------------------------------------

static enum status expire_one(struct tx *tx, const struct fact *f, struct err *err)
{
    STMT(s, tx->db, &sql_command[SQL_COMMAND_EXPIRE]);
    stmt_bind_i64(s, 1, (int64_t)f->id);
    stmt_bind_i64(s, 2, f->state);
    stmt_bind_i64(s, 3, tx->now_us);
    enum status st = stmt_run(s, err);
    return st == ST_OK ? publish(tx, f, err) : st;
}

// Rows are read to the end before any is changed: the index they come from is the one that changes.
struct overdue {
    uint64_t id, device;
    uint32_t tenant;
    enum command_state to;
    char name[COMMAND_NAME_MAX + 1];
    char device_id[ID_MAX + 1];
};

static enum status read_overdue(struct tx *tx, struct overdue *rows, size_t *ret_len, struct err *err)
{
    STMT(s, tx->db, &sql_command[SQL_COMMAND_OVER]);
    stmt_bind_i64(s, 1, tx->now_us);
    stmt_bind_i64(s, 2, EXPIRE_ROWS);
    bool row = false;
    enum status st = stmt_step(s, &row, err);
    for (; st == ST_OK && row; st = stmt_step(s, &row, err)) {
        struct overdue *o = &rows[*ret_len];
        o->id = (uint64_t)col_i64(s, 0);
        o->device = (uint64_t)col_i64(s, 1);
        o->tenant = (uint32_t)col_i64(s, 2);
        if (command_next((enum command_state)col_i64(s, 4), COMMAND_IN_EXPIRE, &o->to) &&
            slice_to_cstr(col_text(s, 3), o->name, sizeof(o->name)) &&
            slice_to_cstr(col_text(s, 5), o->device_id, sizeof(o->device_id))) {
            (*ret_len)++;
        }
    }
    return st;
}

static enum status expire(struct tx *tx, struct err *err)
{
    struct overdue *rows = calloc(EXPIRE_ROWS, sizeof(*rows));
    if (rows == NULL) {
        return err_set(err, ST_NOMEM, "no memory to expire commands");
    }
    size_t len = 0;
    enum status st = read_overdue(tx, rows, &len, err);
    for (size_t i = 0; i < len && st == ST_OK; i++) {
        const struct overdue *o = &rows[i];
        const struct fact f = {o->tenant, o->device, o->device_id, o->id, slice_str(o->name), o->to};
        st = expire_one(tx, &f, err);
    }
    free(rows);
    return st;
}

static enum status forget(struct tx *tx, struct err *err)
{
    STMT(s, tx->db, &sql_command[SQL_COMMAND_FORGET]);
    stmt_bind_i64(s, 1, tx->now_us - KEEP_US);
    stmt_bind_i64(s, 2, FORGET_ROWS);
    enum status st = stmt_run(s, err);
    return st == ST_OK ? device_event_forget(tx, tx->now_us - KEEP_US, FORGET_ROWS, err) : st;
}

enum status command_start(struct tx *tx, void *arg, struct err *err)
{
    (void)arg;
    (void)err;
    core_every(tx->core, EXPIRE_EVERY_MS, expire);
    core_every(tx->core, FORGET_EVERY_MS, forget);
    return ST_OK;
}

// --- queries -----------------------------------------------------------------------------------------------------

static void write_row(const struct device_ref *d, struct stmt *s, struct jw *out)
{
    char id[24];
    id_text((uint64_t)col_i64(s, 0), id);
    bool late = !col_is_null(s, 10) && col_i64(s, 9) > col_i64(s, 6);
    jw_object(out);
    jw_member_str(out, "id", id);
    jw_member_str(out, "device", d->id);
    jw_member_text(out, "name", col_text(s, 1));
    jw_member_json(out, "payload", col_text(s, 2));
    jw_member_str(out, "state", command_state_text((enum command_state)col_i64(s, 3)));
    jw_member_time_col(out, "created", s, 4);
    jw_member_text(out, "created_by", col_text(s, 5));
    jw_member_time_col(out, "expires", s, 6);
    jw_member_time_col(out, "sent", s, 7);
    jw_member_int(out, "sends", col_i64(s, 8));
    jw_member_time_col(out, "finished", s, 9);
    jw_member_bool(out, "late", late);
    jw_member_json(out, "reply", col_text(s, 10));
    jw_object_end(out);
}

enum status command_write(struct tx *tx, const struct device_ref *d, uint64_t id, struct jw *out, struct err *err)
{
    STMT(s, tx->db, &sql_command[SQL_COMMAND_GET]);
    enum status st = find(s, d, id, err);
    if (st == ST_OK) {
        write_row(d, s, out);
    }
    return st;
}

enum status command_list(struct tx *tx, const struct device_ref *d, const struct command_filter *f, struct jw *out,
                         struct err *err)
{
    struct page p = {.limit = f->limit, .from = {.kind = PAGE_COMMANDS, .a = INT64_MAX}};
    enum status st = page_begin(&p, f->cursor, out, err);
    if (st != ST_OK) {
        return st;
    }
    STMT(s, tx->db, &sql_command[SQL_COMMAND_LIST]);
    stmt_bind_i64(s, 1, (int64_t)d->row);
    stmt_bind_i64(s, 2, p.from.a);
    stmt_bind_i64(s, 3, f->state);
    stmt_bind_i64(s, 4, page_rows(&p));
    while (page_next(&p, s, err)) {
        write_row(d, s, out);
        page_wrote(&p, (struct cursor){.a = col_i64(s, 0)});
    }
    return page_end(&p, err);
}
