// Devices: finding, creating, changing, deleting. Checks come first, writes after them (see device_create in the header).
#include <stdio.h>
#include <stdlib.h>

#include "core/find.h"
#include "core/ids.h"
#include "core/member.h"
#include "domain/audit/audit.h"
#include "domain/registry/registry_priv.h"
#define SQL_DEVICE_DEFINE
#include "domain/registry/sql/device.sql.h"

#define EVENT_TEXT_MAX 256
#define AUDIT_TEXT_MAX ((size_t)256 << 10)

#define BUF            __attribute__((cleanup(buf_release))) struct buf

// --- finding -----------------------------------------------------------------------------------------------------

enum status device_find(struct tx *tx, struct slice id, struct device_ref *ret, struct err *err)
{
    STMT(s, tx->db, &sql_device[SQL_DEVICE_FIND]);
    stmt_bind_i64(s, 1, tx->who->tenant);
    stmt_bind_text(s, 2, id);
    enum status st = find_row(s, "device", id, err);
    if (st != ST_OK) {
        return st;
    }
    ret->row = (uint64_t)col_i64(s, 0);
    ret->tenant = tx->who->tenant;
    ret->state = (enum device_state)col_i64(s, 1);
    ret->version = col_i64(s, 2);
    return find_id(s, 3, "device", ret->id, err);
}

enum status device_find_row(struct tx *tx, uint64_t row_id, struct device_ref *ret, struct err *err)
{
    STMT(s, tx->db, &sql_device[SQL_DEVICE_FIND_ROW]);
    stmt_bind_i64(s, 1, (int64_t)row_id);
    bool row = false;
    enum status st = stmt_step(s, &row, err);
    if (st != ST_OK) {
        return st;
    }
    if (!row) {
        return err_set(err, ST_NOT_FOUND, "the device is gone");
    }
    ret->row = row_id;
    ret->tenant = (uint32_t)col_i64(s, 0);
    ret->state = (enum device_state)col_i64(s, 1);
    ret->version = col_i64(s, 2);
    return find_id(s, 3, "device", ret->id, err);
}

static enum status check_version(const struct device_ref *d, int64_t if_version, struct err *err)
{
    if (if_version < 0 || if_version == d->version) {
        return ST_OK;
    }
    return err_set(err, ST_VERSION, "device \"%s\" is at version %lld, not %lld: read it again", d->id,
                   (long long)d->version, (long long)if_version);
}

// --- search indexes ----------------------------------------------------------------------------------------------

// Writes or deletes one index row per member of `object`.
static enum status index_rows(struct tx *tx, int statement, const struct device_ref *d, json_t *object, struct err *err)
{
    const char *key = NULL;
    const json_t *value = NULL;
    json_object_foreach(object, key, value)
    {
        STMT(s, tx->db, &sql_device[statement]);
        stmt_bind_i64(s, 1, d->tenant);
        stmt_bind_str(s, 2, key);
        stmt_bind_text(s, 3, doc_slice(value));
        stmt_bind_i64(s, 4, (int64_t)d->row);
        enum status st = stmt_run(s, err);
        if (st != ST_OK) {
            return st;
        }
    }
    return ST_OK;
}

// ST_EXISTS when another device of the tenant holds one of the keys. `self`: row of the device itself, 0 for a new one.
static enum status check_keys_free(struct tx *tx, json_t *keys, uint64_t self, struct err *err)
{
    const char *kind = NULL;
    const json_t *value = NULL;
    json_object_foreach(keys, kind, value)
    {
        STMT(s, tx->db, &sql_device[SQL_DEVICE_KEY_HOLDER]);
        stmt_bind_i64(s, 1, tx->who->tenant);
        stmt_bind_str(s, 2, kind);
        stmt_bind_text(s, 3, doc_slice(value));
        bool row = false;
        enum status st = stmt_step(s, &row, err);
        if (st != ST_OK) {
            return st;
        }
        if (row && (uint64_t)col_i64(s, 0) != self) {
            char where[DEVICE_KEY_KIND_MAX + 8];
            (void)snprintf(where, sizeof(where), "/keys/%s", kind);
            return err_at(err, ST_EXISTS, where, "device \"" SLICE_FMT "\" already has this %s",
                          SLICE_ARG(col_text(s, 1)), kind);
        }
    }
    return ST_OK;
}

// --- what everyone is told ---------------------------------------------------------------------------------------

static enum status publish(struct tx *tx, const struct device_ref *d, const char *action, struct err *err)
{
    uint8_t mem[EVENT_TEXT_MAX];
    struct buf text = buf_fixed(mem, sizeof(mem));
    struct jw w;
    jw_init(&w, &text);
    jw_object(&w);
    jw_member_str(&w, "device", d->id);
    jw_member_str(&w, "action", action);
    jw_member_int(&w, "version", d->version);
    jw_object_end(&w);
    struct event *ev = event_new(EV_DEVICE, d->tenant, d->row, d->id, tx->now_us, buf_view(&text));
    return tx_event(tx, ev) ? ST_OK : err_set(err, ST_NOMEM, "no memory");
}

static enum status record(struct tx *tx, const char *action, const struct device_ref *d, struct slice before,
                          struct slice after, struct err *err)
{
    return audit_write_for(tx, d->tenant, action, "device", slice_str(d->id), before, after, err);
}

#define RECORD_ROOTS (EXPR_DEVICE_BIT(VERSION) | EXPR_DEVICE_BIT(UPDATED)) // every change of the record changes these

static enum status tell(struct tx *tx, const struct device_ref *d, uint64_t roots, struct err *err)
{
    const struct device_changed what = {.tenant = d->tenant, .device = d->row, .roots = roots | RECORD_ROOTS};
    return registry_notify_data(tx, &what, err);
}

// --- create ------------------------------------------------------------------------------------------------------

static enum status insert_device(struct tx *tx, const struct device_desc *desc, const struct device_texts *texts,
                                 const struct device_ref *d, struct err *err)
{
    STMT(s, tx->db, &sql_device[SQL_DEVICE_INSERT]);
    stmt_bind_i64(s, 1, (int64_t)d->row);
    stmt_bind_i64(s, 2, d->tenant);
    stmt_bind_text(s, 3, desc->id);
    stmt_bind_text(s, 4, desc->name);
    stmt_bind_text(s, 5, desc->model);
    stmt_bind_i64(s, 6, d->state);
    stmt_bind_text(s, 7, texts->tags);
    stmt_bind_text(s, 8, texts->attributes);
    stmt_bind_text(s, 9, texts->keys);
    stmt_bind_i64(s, 10, tx->now_us);
    enum status st = stmt_run(s, err);
    if (st == ST_OK) {
        st = index_rows(tx, SQL_DEVICE_TAG_INSERT, d, desc->tags, err);
    }
    if (st == ST_OK) {
        st = index_rows(tx, SQL_DEVICE_KEY_INSERT, d, desc->keys, err);
    }
    return st;
}

static enum status record_created(struct tx *tx, const struct device_desc *desc, const struct device_texts *texts,
                                  const struct device_ref *d, struct err *err)
{
    BUF text = buf_heap(AUDIT_TEXT_MAX);
    struct jw w;
    jw_init(&w, &text);
    jw_object(&w);
    jw_member_text(&w, "name", desc->name);
    jw_member_text(&w, "model", desc->model);
    jw_member_json(&w, "tags", texts->tags);
    jw_member_json(&w, "attributes", texts->attributes);
    jw_member_json(&w, "keys", texts->keys);
    jw_object_end(&w);
    if (text.failed) {
        return err_set(err, ST_NOMEM, "no memory");
    }
    return record(tx, "device.create", d, (struct slice){NULL, 0}, buf_view(&text), err);
}

static enum status check_id_free(struct tx *tx, struct slice id, struct err *err)
{
    if (id.p == NULL) {
        return err_at(err, ST_INVALID, "/id", "a device needs an id");
    }
    struct device_ref other;
    enum status st = device_find(tx, id, &other, NULL);
    if (st == ST_OK) {
        return err_at(err, ST_EXISTS, "/id", "device \"" SLICE_FMT "\" is already there", SLICE_ARG(id));
    }
    return st == ST_NOT_FOUND ? ST_OK : err_set(err, st, "the device's id could not be looked up");
}

enum status device_create(struct tx *tx, const json_t *json, struct device_ref *ret, struct err *err)
{
    struct device_desc desc;
    DEVICE_TEXTS texts = {.mem = buf_heap(0)};
    enum status st = device_desc_read(json, &desc, err);
    if (st == ST_OK) {
        st = device_texts_make(&desc, &texts, err);
    }
    if (st == ST_OK) {
        st = check_id_free(tx, desc.id, err);
    }
    if (st == ST_OK) {
        st = check_keys_free(tx, desc.keys, 0, err);
    }
    if (st != ST_OK) {
        return st;
    }
    struct device_ref d = {.row = id_new(), .tenant = tx->who->tenant, .state = DEVICE_REGISTERED, .version = 1};
    (void)slice_to_cstr(desc.id, d.id, sizeof(d.id)); // id_valid has bounded it
    st = insert_device(tx, &desc, &texts, &d, err);
    if (st == ST_OK) {
        st = record_created(tx, &desc, &texts, &d, err);
    }
    if (st == ST_OK) {
        st = publish(tx, &d, "created", err);
    }
    if (st == ST_OK) {
        st = tell(tx, &d, EXPR_DEVICE_ALL, err);
    }
    if (st == ST_OK) {
        *ret = d;
    }
    return st;
}

// --- update ------------------------------------------------------------------------------------------------------

static const char *const patchable[] = {"name", "model", "tags", "attributes", "keys"};
static const uint64_t patchable_roots[] = {EXPR_DEVICE_BIT(NAME), EXPR_DEVICE_BIT(MODEL), EXPR_DEVICE_BIT(TAGS),
                                           EXPR_DEVICE_BIT(ATTRIBUTES) | EXPR_DEVICE_BIT(LOCATION),
                                           EXPR_DEVICE_BIT(KEYS)};
#define PATCHABLE_LEN (sizeof(patchable) / sizeof(patchable[0]))

static enum status check_patch(const json_t *patch, struct err *err)
{
    if (!json_is_object(patch)) {
        return err_set(err, ST_INVALID, "a patch of a device is a JSON object");
    }
    size_t known = 0;
    for (size_t i = 0; i < PATCHABLE_LEN; i++) {
        known += json_object_get(patch, patchable[i]) != NULL;
    }
    if (known != json_object_size(patch)) {
        return err_set(err, ST_INVALID, "unknown member; a patch may set name, model, tags, attributes, keys");
    }
    return ST_OK;
}

// Sets a member from stored text: a string for kind 't', a document for 'j'; SQL NULL leaves it out.
static enum status load_member(json_t *doc, const char *key, char kind, struct slice stored, struct err *err)
{
    if (stored.p == NULL) {
        return ST_OK;
    }
    json_t *v = NULL;
    if (kind == 't') {
        v = json_stringn((const char *)stored.p, stored.len);
    } else {
        enum status st = doc_parse(stored, DOC_DEPTH_MAX, &v, err);
        if (st != ST_OK) {
            (void)err_wrap(err, "stored %s", key);
            return st == ST_NOMEM ? st : ST_CORRUPT;
        }
    }
    return json_object_set_new(doc, key, v) == 0 ? ST_OK : err_set(err, ST_NOMEM, "no memory");
}

// The patchable members of the device as one document.
static enum status load_device(struct tx *tx, const struct device_ref *d, json_t **ret, struct err *err)
{
    static const struct {
        const char *key;
        char kind;
        int column;
    } columns[] = {{"name", 't', 2}, {"model", 't', 3}, {"tags", 'j', 6}, {"attributes", 'j', 7}, {"keys", 'j', 8}};
    STMT(s, tx->db, &sql_device[SQL_DEVICE_GET]);
    stmt_bind_i64(s, 1, (int64_t)d->row);
    enum status st = find_row(s, "device", slice_str(d->id), err);
    if (st != ST_OK) {
        return st;
    }
    json_t *doc = json_object();
    st = doc != NULL ? ST_OK : err_set(err, ST_NOMEM, "no memory");
    for (size_t i = 0; st == ST_OK && i < sizeof(columns) / sizeof(columns[0]); i++) {
        st = load_member(doc, columns[i].key, columns[i].kind, col_text(s, columns[i].column), err);
    }
    if (st != ST_OK) {
        json_decref(doc);
        return st;
    }
    *ret = doc;
    return ST_OK;
}

static enum status record_updated(struct tx *tx, const struct device_ref *d, const json_t *before, const json_t *after,
                                  struct err *err)
{
    BUF old_text = buf_heap(AUDIT_TEXT_MAX);
    BUF new_text = buf_heap(AUDIT_TEXT_MAX);
    struct jw old_w;
    struct jw new_w;
    jw_init(&old_w, &old_text);
    jw_init(&new_w, &new_text);
    jw_object(&old_w);
    jw_object(&new_w);
    for (size_t i = 0; i < PATCHABLE_LEN; i++) {
        const json_t *a = json_object_get(before, patchable[i]);
        const json_t *b = json_object_get(after, patchable[i]);
        if (a == b || json_equal(a, b)) {
            continue;
        }
        jw_key(&old_w, patchable[i]);
        jw_key(&new_w, patchable[i]);
        (void)doc_write(a, &old_w);
        (void)doc_write(b, &new_w);
    }
    jw_object_end(&old_w);
    jw_object_end(&new_w);
    if (old_text.failed || new_text.failed) {
        return err_set(err, ST_NOMEM, "no memory");
    }
    return record(tx, "device.update", d, buf_view(&old_text), buf_view(&new_text), err);
}

// Rewrites an index when its object changed.
static enum status reindex(struct tx *tx, const struct device_ref *d, const char *member, int del, int ins,
                           const json_t *before, const json_t *after, struct err *err)
{
    json_t *a = json_object_get(before, member);
    json_t *b = json_object_get(after, member);
    if (a == b || json_equal(a, b)) {
        return ST_OK;
    }
    enum status st = index_rows(tx, del, d, a, err);
    return st == ST_OK ? index_rows(tx, ins, d, b, err) : st;
}

static enum status write_update(struct tx *tx, const struct device_ref *d, const struct device_desc *desc,
                                const struct device_texts *texts, struct err *err)
{
    STMT(s, tx->db, &sql_device[SQL_DEVICE_UPDATE]);
    stmt_bind_i64(s, 1, (int64_t)d->row);
    stmt_bind_text(s, 2, desc->name);
    stmt_bind_text(s, 3, desc->model);
    stmt_bind_text(s, 4, texts->tags);
    stmt_bind_text(s, 5, texts->attributes);
    stmt_bind_text(s, 6, texts->keys);
    stmt_bind_i64(s, 7, tx->now_us);
    return stmt_run(s, err);
}

static uint64_t changed_roots(const json_t *before, const json_t *after)
{
    uint64_t roots = 0;
    for (size_t i = 0; i < PATCHABLE_LEN; i++) {
        const json_t *a = json_object_get(before, patchable[i]);
        const json_t *b = json_object_get(after, patchable[i]);
        roots |= a != b && !json_equal(a, b) ? patchable_roots[i] : 0;
    }
    return roots;
}

// Both documents are checked and differ: writes row, indexes, audit, event.
static enum status apply_update(struct tx *tx, struct device_ref *d, const json_t *before, const json_t *after,
                                const struct device_desc *desc, const struct device_texts *texts, struct err *err)
{
    enum status st = write_update(tx, d, desc, texts, err);
    if (st == ST_OK) {
        st = reindex(tx, d, "tags", SQL_DEVICE_TAG_DELETE, SQL_DEVICE_TAG_INSERT, before, after, err);
    }
    if (st == ST_OK) {
        st = reindex(tx, d, "keys", SQL_DEVICE_KEY_DELETE, SQL_DEVICE_KEY_INSERT, before, after, err);
    }
    if (st == ST_OK) {
        st = record_updated(tx, d, before, after, err);
    }
    if (st == ST_OK) {
        d->version++;
        st = publish(tx, d, "updated", err);
    }
    return st == ST_OK ? tell(tx, d, changed_roots(before, after), err) : st;
}

// By text: 5.0 is stored as 5, and whoever sends 5.0 again changes nothing.
static enum status differs(const json_t *before, const json_t *after, bool *ret, struct err *err)
{
    BUF a = buf_heap(AUDIT_TEXT_MAX);
    BUF b = buf_heap(AUDIT_TEXT_MAX);
    if (!doc_text(before, &a) || !doc_text(after, &b)) {
        return err_set(err, ST_NOMEM, "no memory");
    }
    *ret = !slice_eq(buf_view(&a), buf_view(&b));
    return ST_OK;
}

enum status device_update(struct tx *tx, struct device_ref *d, const json_t *patch, int64_t if_version,
                          bool *ret_changed, struct err *err)
{
    DOC *before = NULL;
    DOC *after = NULL;
    struct device_desc desc;
    DEVICE_TEXTS texts = {.mem = buf_heap(0)};
    enum status st = check_version(d, if_version, err);
    if (st == ST_OK) {
        st = check_patch(patch, err);
    }
    if (st == ST_OK) {
        st = load_device(tx, d, &before, err);
    }
    if (st == ST_OK) {
        after = json_deep_copy(before);
        st = after != NULL ? doc_merge(after, patch, err) : err_set(err, ST_NOMEM, "no memory");
    }
    if (st == ST_OK) {
        st = device_desc_read(after, &desc, err);
    }
    if (st == ST_OK) {
        st = device_texts_make(&desc, &texts, err);
    }
    if (st == ST_OK) {
        st = check_keys_free(tx, desc.keys, d->row, err);
    }
    bool changed = false;
    if (st == ST_OK) {
        st = differs(before, after, &changed, err);
    }
    if (st == ST_OK && changed) {
        st = apply_update(tx, d, before, after, &desc, &texts, err);
    }
    if (st == ST_OK && ret_changed != NULL) {
        *ret_changed = changed;
    }
    return st;
}

// --- lifecycle ---------------------------------------------------------------------------------------------------

static enum status write_state(struct tx *tx, struct device_ref *d, enum device_state to, struct err *err)
{
    char before[64];
    char after[64];
    (void)snprintf(before, sizeof(before), "{\"state\":\"%s\"}", device_state_text(d->state));
    (void)snprintf(after, sizeof(after), "{\"state\":\"%s\"}", device_state_text(to));
    STMT(s, tx->db, &sql_device[SQL_DEVICE_SET_STATE]);
    stmt_bind_i64(s, 1, (int64_t)d->row);
    stmt_bind_i64(s, 2, to);
    stmt_bind_i64(s, 3, tx->now_us);
    enum status st = stmt_run(s, err);
    if (st == ST_OK) {
        st = record(tx, "device.state", d, slice_str(before), slice_str(after), err);
    }
    if (st == ST_OK) {
        d->state = to;
        d->version++;
        st = publish(tx, d, "updated", err);
    }
    return st == ST_OK ? tell(tx, d, EXPR_DEVICE_BIT(STATE), err) : st;
}

enum status device_set_state(struct tx *tx, struct device_ref *d, enum device_state to, int64_t if_version,
                             struct err *err)
{
    enum status st = check_version(d, if_version, err);
    if (st != ST_OK || d->state == to) {
        return st;
    }
    if (!device_state_may(d->state, to)) {
        return err_set(err, ST_CONFLICT, "device \"%s\" is %s and cannot become %s", d->id, device_state_text(d->state),
                       device_state_text(to));
    }
    st = write_state(tx, d, to, err);
    if (st == ST_OK && to == DEVICE_SUSPENDED) {
        st = registry_notify(tx, d, DEVICE_CHANGE_SUSPENDED, err);
    }
    if (st == ST_OK && to == DEVICE_RETIRED) {
        st = registry_notify(tx, d, DEVICE_CHANGE_RETIRED, err);
    }
    return st;
}

enum status device_activate(struct tx *tx, struct device_ref *d, struct err *err)
{
    return d->state == DEVICE_REGISTERED ? write_state(tx, d, DEVICE_ACTIVE, err) : ST_OK;
}

// --- delete ------------------------------------------------------------------------------------------------------

static enum status delete_rows(struct tx *tx, const struct device_ref *d, const json_t *doc, struct err *err)
{
    enum status st = index_rows(tx, SQL_DEVICE_TAG_DELETE, d, json_object_get(doc, "tags"), err);
    if (st == ST_OK) {
        st = index_rows(tx, SQL_DEVICE_KEY_DELETE, d, json_object_get(doc, "keys"), err);
    }
    if (st == ST_OK) {
        st = group_forget_device(tx, d->row, err);
    }
    if (st != ST_OK) {
        return st;
    }
    STMT(s, tx->db, &sql_device[SQL_DEVICE_DELETE]);
    stmt_bind_i64(s, 1, (int64_t)d->row);
    return stmt_run(s, err);
}

enum status device_delete(struct tx *tx, struct device_ref *d, int64_t if_version, struct err *err)
{
    DOC *doc = NULL;
    BUF before = buf_heap(AUDIT_TEXT_MAX);
    enum status st = check_version(d, if_version, err);
    if (st == ST_OK) {
        st = load_device(tx, d, &doc, err);
    }
    if (st == ST_OK && !doc_text(doc, &before)) {
        st = err_set(err, ST_NOMEM, "no memory");
    }
    if (st == ST_OK) {
        st = registry_notify(tx, d, DEVICE_CHANGE_REMOVED, err);
    }
    if (st == ST_OK) {
        st = delete_rows(tx, d, doc, err);
    }
    if (st == ST_OK) {
        st = record(tx, "device.delete", d, buf_view(&before), (struct slice){NULL, 0}, err);
    }
    if (st == ST_OK) {
        st = device_erase_later(tx, d->row, err);
    }
    return st == ST_OK ? publish(tx, d, "deleted", err) : st;
}

// --- writing -----------------------------------------------------------------------------------------------------

enum status device_row_write(struct tx *tx, struct stmt *row, bool groups, struct jw *out, struct err *err)
{
    jw_object(out);
    jw_member_text(out, "id", col_text(row, 1));
    jw_member_text(out, "name", col_text(row, 2));
    jw_member_text(out, "model", col_text(row, 3));
    jw_member_str(out, "state", device_state_text((enum device_state)col_i64(row, 4)));
    jw_member_int(out, "version", col_i64(row, 5));
    jw_member_json(out, "tags", col_text(row, 6));
    jw_member_json(out, "attributes", col_text(row, 7));
    jw_member_json(out, "keys", col_text(row, 8));
    if (groups) {
        jw_key(out, "groups");
        enum status st = group_write_of_device(tx, (uint64_t)col_i64(row, 0), out, err);
        if (st != ST_OK) {
            return st;
        }
    }
    jw_member_time(out, "created", col_i64(row, 9));
    jw_member_time(out, "updated", col_i64(row, 10));
    jw_object_end(out);
    return ST_OK;
}

enum status device_write(struct tx *tx, const struct device_ref *d, struct jw *out, struct err *err)
{
    STMT(s, tx->db, &sql_device[SQL_DEVICE_GET]);
    stmt_bind_i64(s, 1, (int64_t)d->row);
    enum status st = find_row(s, "device", slice_str(d->id), err);
    return st == ST_OK ? device_row_write(tx, s, true, out, err) : st;
}
