// Policies in the store: made, changed, deleted, listed.
#include <stdio.h>
#include <stdlib.h>

#include "base/utf8.h"
#include "core/find.h"
#include "core/ids.h"
#include "core/member.h"
#include "core/page.h"
#include "domain/audit/audit.h"
#include "domain/doc/doc.h"
#include "domain/policy/policy_priv.h"
#include "domain/policy/sql/policy.sql.h"

#define AUDIT_TEXT_MAX (POLICY_DOCUMENT_MAX + POLICY_DESCRIPTION_MAX * 6 + 256)
#define BUF            __attribute__((cleanup(buf_release))) struct buf

static const struct slice none = {NULL, 0};

enum status policy_find(struct tx *tx, struct slice id, struct policy_ref *ret, struct err *err)
{
    STMT(s, tx->db, &sql_policy[SQL_POLICY_FIND]);
    stmt_bind_i64(s, 1, tx->who->tenant);
    stmt_bind_text(s, 2, id);
    enum status st = find_row(s, "policy", id, err);
    if (st != ST_OK) {
        return st;
    }
    ret->row = (uint64_t)col_i64(s, 0);
    ret->version = col_i64(s, 1);
    return find_id(s, 2, "policy", ret->id, err);
}

// --- checks ------------------------------------------------------------------------------------------------------

static enum status check_description(struct slice description, struct err *err)
{
    if (description.len > POLICY_DESCRIPTION_MAX || !utf8_valid(description)) {
        return err_at(err, ST_INVALID, "/description", "a description is at most %d bytes", POLICY_DESCRIPTION_MAX);
    }
    return ST_OK;
}

static enum status check_new(struct tx *tx, struct slice id, struct err *err)
{
    struct policy_ref other;
    if (!id_valid(id)) {
        return err_at(err, ST_INVALID, "/id", "a policy's id is 1 to %d characters of A-Z a-z 0-9 . _ : -", ID_MAX);
    }
    enum status st = policy_find(tx, id, &other, NULL);
    if (st == ST_OK) {
        return err_at(err, ST_EXISTS, "/id", "policy \"" SLICE_FMT "\" is already there", SLICE_ARG(id));
    }
    if (st != ST_NOT_FOUND) {
        return err_set(err, st, "the policy's id could not be looked up");
    }
    STMT(s, tx->db, &sql_policy[SQL_POLICY_COUNT]);
    stmt_bind_i64(s, 1, tx->who->tenant);
    bool row = false;
    st = stmt_step(s, &row, err);
    if (st == ST_OK && row && col_i64(s, 0) >= POLICY_PER_TENANT_MAX) {
        st = err_set(err, ST_LIMIT, "a tenant has at most %d policies", POLICY_PER_TENANT_MAX);
    }
    return st;
}

// The document is a member of the request: its pointers begin there.
static enum status in_document(struct err *err)
{
    struct err inner = *err;
    char where[sizeof(inner.where) + sizeof("/document")];
    (void)snprintf(where, sizeof(where), "/document%s", inner.where);
    return err_at(err, ST_INVALID, where, "%s", inner.text);
}

// Compiles the document and writes its text, which must not be too long.
static enum status compile(const json_t *document, struct buf *text, struct policy_doc **ret, struct err *err)
{
    enum status st = policy_doc_make(document, ret, err);
    if (st == ST_OK && !doc_text(document, text)) {
        policy_doc_free(*ret);
        *ret = NULL;
        st = text->starved
                 ? err_set(err, ST_NOMEM, "no memory")
                 : err_at(err, ST_TOO_LARGE, "/document", "a policy is at most %d bytes", POLICY_DOCUMENT_MAX);
    }
    return st == ST_INVALID ? in_document(err) : st;
}

static enum status record(struct tx *tx, const char *action, const char *id, struct slice before, struct slice after,
                          struct err *err)
{
    return audit_write(tx, action, "policy", slice_str(id), before, after, err);
}

// --- making ------------------------------------------------------------------------------------------------------

static enum status insert(struct tx *tx, const struct policy_ref *p, struct slice description, struct slice document,
                          struct err *err)
{
    STMT(s, tx->db, &sql_policy[SQL_POLICY_INSERT]);
    stmt_bind_i64(s, 1, (int64_t)p->row);
    stmt_bind_i64(s, 2, tx->who->tenant);
    stmt_bind_str(s, 3, p->id);
    stmt_bind_text(s, 4, description);
    stmt_bind_text(s, 5, document);
    stmt_bind_i64(s, 6, tx->now_us);
    return stmt_run(s, err);
}

enum status policy_create(struct tx *tx, struct slice id, struct slice description, const json_t *document,
                          struct policy_ref *ret, struct err *err)
{
    BUF text = buf_heap(POLICY_DOCUMENT_MAX);
    struct policy_doc *doc = NULL;
    struct policy_ref p = {.row = id_new(), .version = 1};
    enum status st = check_new(tx, id, err);
    if (st == ST_OK) {
        st = check_description(description, err);
    }
    if (st == ST_OK) {
        st = compile(document, &text, &doc, err);
    }
    policy_doc_free(doc); // compiled again when the first permit needs it
    if (st == ST_OK) {
        (void)slice_to_cstr(id, p.id, sizeof(p.id)); // id_valid has bounded it
        st = insert(tx, &p, description, buf_view(&text), err);
    }
    if (st == ST_OK) {
        st = record(tx, "policy.create", p.id, none, buf_view(&text), err);
    }
    if (st == ST_OK) {
        *ret = p;
    }
    return st;
}

// --- changing ----------------------------------------------------------------------------------------------------

// A new document on its way into memory, where permits ask it, when the change is durable.
struct swap {
    struct policy *policy; // a reference; NULL: nobody has it in memory
    struct policy_doc *doc;
};

static void swap_free(struct swap *w)
{
    policy_doc_free(w->doc);
    policy_put(w->policy);
    free(w);
}

static void swap_drop(struct core *c, void *arg)
{
    (void)c;
    swap_free(arg);
}

static void swap_do(struct core *c, void *arg)
{
    struct swap *w = arg;
    policy_swap(w->policy, w->doc, ++policies_of(c)->next_version);
    w->doc = NULL;
    swap_free(w);
}

// Takes doc; NULL: the policy is about to go. A policy that is not in memory yet is loaded first, as it is stored before the
// change: should the commit fail, memory is as true as before.
static enum status swap_later(struct tx *tx, const struct policy_ref *p, struct policy_doc *doc, struct err *err)
{
    struct policy *policy = NULL;
    enum status st = policy_load(tx, p->row, &policy, err);
    struct swap *w = st == ST_OK ? calloc(1, sizeof(*w)) : NULL;
    if (w == NULL) {
        policy_doc_free(doc);
        return st != ST_OK ? st : err_set(err, ST_NOMEM, "no memory");
    }
    *w = (struct swap){policy_get(policy), doc};
    if (!tx_after_commit(tx, swap_do, swap_drop, w)) {
        swap_free(w);
        return err_set(err, ST_NOMEM, "no memory");
    }
    return ST_OK;
}

static enum status write_update(struct tx *tx, const struct policy_ref *p, struct slice description,
                                struct slice document, struct err *err)
{
    STMT(s, tx->db, &sql_policy[SQL_POLICY_UPDATE]);
    stmt_bind_i64(s, 1, (int64_t)p->row);
    stmt_bind_text(s, 2, description);
    stmt_bind_text(s, 3, document);
    stmt_bind_i64(s, 4, tx->now_us);
    return stmt_run(s, err);
}

// What is stored now, copied: the description (p == NULL when there is none) and the document.
struct stored {
    struct buf description, document;
    bool has_description;
};

static void stored_release(struct stored *s)
{
    buf_release(&s->description);
    buf_release(&s->document);
}

static enum status load(struct tx *tx, const struct policy_ref *p, struct stored *ret, struct err *err)
{
    STMT(s, tx->db, &sql_policy[SQL_POLICY_GET]);
    stmt_bind_i64(s, 1, (int64_t)p->row);
    enum status st = find_row(s, "policy", slice_str(p->id), err);
    if (st != ST_OK) {
        return st;
    }
    ret->has_description = !col_is_null(s, 1);
    bool ok = buf_slice(&ret->description, col_text(s, 1)) && buf_slice(&ret->document, col_text(s, 6));
    return ok ? ST_OK : err_set(err, ST_NOMEM, "no memory");
}

static enum status change(struct tx *tx, struct policy_ref *p, const struct stored *old, struct slice description,
                          const json_t *document, struct err *err)
{
    BUF text = buf_heap(POLICY_DOCUMENT_MAX);
    struct policy_doc *doc = NULL;
    enum status st = document != NULL ? compile(document, &text, &doc, err) : ST_OK;
    if (st == ST_OK && document != NULL) {
        st = swap_later(tx, p, doc, err);
    }
    if (st == ST_OK) {
        struct slice kept = old->has_description ? buf_view(&old->description) : none;
        st = write_update(tx, p, description.p != NULL ? description : kept,
                          document != NULL ? buf_view(&text) : buf_view(&old->document), err);
    }
    if (st == ST_OK) {
        p->version++;
        st = record(tx, "policy.update", p->id, buf_view(&old->document),
                    document != NULL ? buf_view(&text) : buf_view(&old->document), err);
    }
    if (st == ST_OK && document != NULL) {
        st = policy_changed(tx, POLICY_DOCUMENT, tx->who->tenant, WHO_NOBODY, 0, err);
    }
    return st;
}

enum status policy_update(struct tx *tx, struct policy_ref *p, struct slice description, const json_t *document,
                          int64_t if_version, struct err *err)
{
    struct stored old __attribute__((cleanup(stored_release))) = {buf_heap(POLICY_DESCRIPTION_MAX + 1),
                                                                  buf_heap(POLICY_DOCUMENT_MAX + 1), false};
    if (if_version >= 0 && if_version != p->version) {
        return err_set(err, ST_VERSION, "policy \"%s\" has version %lld", p->id, (long long)p->version);
    }
    enum status st = check_description(description, err);
    if (st == ST_OK) {
        st = load(tx, p, &old, err);
    }
    return st == ST_OK ? change(tx, p, &old, description, document, err) : st;
}

static enum status count_attachments(struct tx *tx, const struct policy_ref *p, int64_t *ret, struct err *err)
{
    STMT(s, tx->db, &sql_policy[SQL_POLICY_GET]);
    stmt_bind_i64(s, 1, (int64_t)p->row);
    bool row = false;
    enum status st = stmt_step(s, &row, err);
    *ret = st == ST_OK && row ? col_i64(s, 5) : 0;
    return st;
}

enum status policy_delete(struct tx *tx, const struct policy_ref *p, struct err *err)
{
    struct stored old __attribute__((cleanup(stored_release))) = {buf_heap(POLICY_DESCRIPTION_MAX + 1),
                                                                  buf_heap(POLICY_DOCUMENT_MAX + 1), false};
    int64_t attached = 0;
    enum status st = count_attachments(tx, p, &attached, err);
    if (st == ST_OK && attached > 0) {
        return err_set(err, ST_CONFLICT, "policy \"%s\" is attached to %lld targets: detach it first", p->id,
                       (long long)attached);
    }
    if (st == ST_OK) {
        st = load(tx, p, &old, err);
    }
    if (st == ST_OK) {
        st = swap_later(tx, p, NULL, err);
    }
    if (st == ST_OK) {
        STMT(s, tx->db, &sql_policy[SQL_POLICY_DELETE]);
        stmt_bind_i64(s, 1, (int64_t)p->row);
        st = stmt_run(s, err);
    }
    if (st == ST_OK) {
        st = record(tx, "policy.delete", p->id, buf_view(&old.document), none, err);
    }
    return st == ST_OK ? policy_changed(tx, POLICY_DOCUMENT, tx->who->tenant, WHO_NOBODY, 0, err) : st;
}

// --- writing -----------------------------------------------------------------------------------------------------

// The row of policy_get (with document) or policy_list.
static void write_row(struct stmt *s, bool document, struct jw *out)
{
    jw_object(out);
    jw_member_text(out, "id", col_text(s, 0));
    jw_member_text(out, "description", col_text(s, 1));
    jw_member_int(out, "version", col_i64(s, 2));
    if (document) {
        jw_key(out, "document");
        jw_raw(out, col_text(s, 6));
    }
    jw_member_int(out, "attachments", col_i64(s, 5));
    jw_member_time(out, "created", col_i64(s, 3));
    jw_member_time(out, "updated", col_i64(s, 4));
    jw_object_end(out);
}

enum status policy_write(struct tx *tx, const struct policy_ref *p, struct jw *out, struct err *err)
{
    STMT(s, tx->db, &sql_policy[SQL_POLICY_GET]);
    stmt_bind_i64(s, 1, (int64_t)p->row);
    enum status st = find_row(s, "policy", slice_str(p->id), err);
    if (st == ST_OK) {
        write_row(s, true, out);
    }
    return st;
}

enum status policy_list(struct tx *tx, struct slice cursor, int64_t limit, struct jw *out, struct err *err)
{
    struct page p = {.limit = limit, .from = {.kind = PAGE_POLICIES}};
    enum status st = page_begin(&p, cursor, out, err);
    if (st != ST_OK) {
        return st;
    }
    STMT(s, tx->db, &sql_policy[SQL_POLICY_LIST]);
    stmt_bind_i64(s, 1, tx->who->tenant);
    stmt_bind_text(s, 2, p.from.text);
    stmt_bind_i64(s, 3, page_rows(&p));
    while (page_next(&p, s, err)) {
        write_row(s, false, out);
        page_wrote(&p, (struct cursor){.text = col_text(s, 0)});
    }
    return page_end(&p, err);
}
