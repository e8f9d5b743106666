#include "domain/identity/claim.h"

#include "base/clock.h"
#include "base/utf8.h"
#include "core/find.h"
#include "core/ids.h"
#include "core/member.h"
#include "core/page.h"
#include "domain/audit/audit.h"
#include "domain/doc/doc.h"
#include "domain/identity/identity_priv.h"
#define SQL_CLAIM_DEFINE
#include "domain/identity/sql/claim.sql.h"

#define TAGS_TEXT_MAX 65536
#define AUDIT_MAX     (TAGS_TEXT_MAX + 2048)

static const struct slice none = {NULL, 0};

static const char *const state_texts[] = {
    [CLAIM_USABLE] = "usable", [CLAIM_USED_UP] = "used_up", [CLAIM_EXPIRED] = "expired", [CLAIM_REVOKED] = "revoked"};

const char *claim_state_text(enum claim_state s)
{
    return (unsigned)s <= CLAIM_REVOKED ? state_texts[s] : "unknown";
}

enum claim_state claim_state_at(int64_t uses, int64_t uses_max, int64_t expires_us, bool revoked, int64_t now_us)
{
    return revoked                ? CLAIM_REVOKED
           : expires_us <= now_us ? CLAIM_EXPIRED
           : uses >= uses_max     ? CLAIM_USED_UP
                                  : CLAIM_USABLE;
}

// --- making ------------------------------------------------------------------------------------------------------

static enum status check_conf(const struct claim_conf *conf, struct err *err)
{
    if (conf->uses < 1 || conf->uses > CLAIM_USES_MAX) {
        return err_at(err, ST_INVALID, "/uses", "a claim has 1 to %d uses", CLAIM_USES_MAX);
    }
    if (conf->ttl_us < 1000000 || conf->ttl_us > CLAIM_TTL_MAX_US) {
        return err_at(err, ST_INVALID, "/ttl", "a claim lives between 1s and 366d");
    }
    if (conf->device_prefix.p != NULL && !id_valid(conf->device_prefix)) {
        return err_at(err, ST_INVALID, "/device_prefix", "a prefix is 1 to %d characters of A-Z a-z 0-9 . _ : -",
                      ID_MAX);
    }
    // Model and tags are what a device's description allows: the registry's own check.
    DOC *desc = json_object();
    bool ok = desc != NULL;
    if (conf->model.p != NULL) {
        ok = ok && json_object_set_new(desc, "model", json_stringn((const char *)conf->model.p, conf->model.len)) == 0;
    }
    if (conf->tags != NULL) {
        ok = ok && json_object_set_new(desc, "tags", json_deep_copy(conf->tags)) == 0;
    }
    return ok ? device_check(desc, err) : err_set(err, ST_NOMEM, "no memory");
}

static enum status insert(struct tx *tx, const struct claim_conf *conf, uint64_t row, struct slice token,
                          struct slice tags, struct err *err)
{
    uint8_t hash[SHA256_LEN];
    token_hash(identity_of(tx->core), TOKEN_CLAIM, token, hash);
    STMT(s, tx->db, &sql_claim[SQL_CLAIM_INSERT]);
    stmt_bind_i64(s, 1, (int64_t)row);
    stmt_bind_i64(s, 2, tx->who->tenant);
    stmt_bind_blob(s, 3, slice_make(hash, sizeof(hash)));
    stmt_bind_i64(s, 4, conf->uses);
    stmt_bind_i64(s, 5, tx->now_us + conf->ttl_us);
    stmt_bind_text(s, 6, conf->device_prefix);
    stmt_bind_text(s, 7, conf->model);
    stmt_bind_text(s, 8, tags);
    stmt_bind_str(s, 9, tx->who->name);
    stmt_bind_i64(s, 10, tx->now_us);
    return stmt_run(s, err);
}

// The members of a claim, without the braces.
struct claim_view {
    uint64_t row;
    int64_t uses_max, uses, expires_us, created_us;
    bool revoked;
    struct slice prefix, model, tags, created_by;
};

static void write_members(const struct claim_view *v, int64_t now_us, struct jw *out)
{
    enum claim_state state = claim_state_at(v->uses, v->uses_max, v->expires_us, v->revoked, now_us);
    jw_member_row_id(out, "id", v->row);
    jw_member_str(out, "state", claim_state_text(state));
    jw_member_int(out, "uses", v->uses);
    jw_member_int(out, "uses_max", v->uses_max);
    jw_member_time(out, "expires", v->expires_us);
    jw_member_text(out, "device_prefix", v->prefix);
    jw_member_text(out, "model", v->model);
    jw_key(out, "tags");
    jw_raw(out, v->tags);
    jw_member_time(out, "created", v->created_us);
    jw_member_text(out, "created_by", v->created_by);
}

static enum status record_created(struct tx *tx, const struct claim_view *v, struct err *err)
{
    char id[ROW_ID_LEN + 1];
    BUF text = buf_heap(AUDIT_MAX);
    struct jw w;
    row_id_text(v->row, id);
    jw_init(&w, &text);
    jw_object(&w);
    write_members(v, v->created_us, &w);
    jw_object_end(&w);
    if (text.failed) {
        return err_set(err, ST_NOMEM, "no memory");
    }
    return audit_write(tx, "claim.create", "claim", slice_str(id), none, buf_view(&text), err);
}

enum status claim_create(struct tx *tx, const struct claim_conf *conf, struct jw *out, struct err *err)
{
    char token[TOKEN_TEXT_MAX];
    BUF tags = buf_heap(TAGS_TEXT_MAX);
    enum status st = check_conf(conf, err);
    if (st == ST_OK && !(conf->tags != NULL ? doc_text(conf->tags, &tags) : buf_str(&tags, "{}"))) {
        st = tags.starved ? err_set(err, ST_NOMEM, "no memory for the tags")
                          : err_set(err, ST_INVALID, "the tags do not fit %d bytes", TAGS_TEXT_MAX);
    }
    if (st == ST_OK) {
        st = token_make(TOKEN_CLAIM, token, err);
    }
    struct claim_view v = {.row = id_new(),
                           .uses_max = conf->uses,
                           .expires_us = tx->now_us + conf->ttl_us,
                           .created_us = tx->now_us,
                           .prefix = conf->device_prefix,
                           .model = conf->model,
                           .tags = buf_view(&tags),
                           .created_by = slice_str(tx->who->name)};
    if (st == ST_OK) {
        st = insert(tx, conf, v.row, slice_str(token), v.tags, err);
    }
    if (st == ST_OK) {
        st = record_created(tx, &v, err);
    }
    if (st == ST_OK) {
        jw_object(out);
        jw_member_str(out, "token", token);
        write_members(&v, tx->now_us, out);
        jw_object_end(out);
    }
    crypto_wipe(token, sizeof(token));
    return st;
}

// --- listing, revoking -------------------------------------------------------------------------------------------

static void write_row(struct stmt *s, int64_t now_us, struct jw *out)
{
    struct claim_view v = {.row = (uint64_t)col_i64(s, 0),
                           .uses_max = col_i64(s, 1),
                           .uses = col_i64(s, 2),
                           .expires_us = col_i64(s, 3),
                           .prefix = col_text(s, 4),
                           .model = col_text(s, 5),
                           .tags = col_text(s, 6),
                           .created_us = col_i64(s, 7),
                           .revoked = !col_is_null(s, 8),
                           .created_by = col_text(s, 9)};
    jw_object(out);
    write_members(&v, now_us, out);
    jw_object_end(out);
}

enum status claim_list(struct tx *tx, struct slice cursor, int64_t limit, struct jw *out, struct err *err)
{
    struct page p = {.limit = limit, .from = {.kind = PAGE_CLAIMS, .a = INT64_MAX}};
    enum status st = page_begin(&p, cursor, out, err);
    if (st != ST_OK) {
        return st;
    }
    STMT(s, tx->db, &sql_claim[SQL_CLAIM_LIST]);
    stmt_bind_i64(s, 1, tx->who->tenant);
    stmt_bind_i64(s, 2, p.from.a);
    stmt_bind_i64(s, 3, page_rows(&p));
    while (page_next(&p, s, err)) {
        write_row(s, tx->now_us, out);
        page_wrote(&p, (struct cursor){.a = col_i64(s, 0)});
    }
    return page_end(&p, err);
}

static enum status find(struct tx *tx, struct slice id, uint64_t *ret_row, bool *ret_revoked, struct err *err)
{
    bool there = false;
    STMT(s, tx->db, &sql_claim[SQL_CLAIM_FIND]);
    if (row_id_parse(id, ret_row)) {
        stmt_bind_i64(s, 1, tx->who->tenant);
        stmt_bind_i64(s, 2, (int64_t)*ret_row);
        enum status st = stmt_step(s, &there, err);
        if (st != ST_OK) {
            return st;
        }
    }
    if (!there) {
        return find_missing("claim", id, err);
    }
    *ret_revoked = !col_is_null(s, 1);
    return ST_OK;
}

enum status claim_revoke(struct tx *tx, struct slice id, struct err *err)
{
    uint64_t row = 0;
    bool revoked = false;
    enum status st = find(tx, id, &row, &revoked, err);
    if (st != ST_OK || revoked) {
        return st;
    }
    STMT(s, tx->db, &sql_claim[SQL_CLAIM_REVOKE]);
    stmt_bind_i64(s, 1, (int64_t)row);
    stmt_bind_i64(s, 2, tx->now_us);
    st = stmt_run(s, err);
    return st == ST_OK ? audit_write(tx, "claim.revoke", "claim", id, none, none, err) : st;
}

// --- using -------------------------------------------------------------------------------------------------------

enum status claim_load(struct tx *tx, uint64_t row_id, struct claim *ret, struct err *err)
{
    STMT(s, tx->db, &sql_claim[SQL_CLAIM_GET]);
    stmt_bind_i64(s, 1, (int64_t)row_id);
    bool row = false;
    enum status st = stmt_step(s, &row, err);
    if (st == ST_OK && !row) {
        st = err_set(err, ST_FORBIDDEN, "the claim is gone");
    }
    if (st != ST_OK) {
        return st;
    }
    struct claim c = {.row = row_id,
                      .uses_max = col_i64(s, 0),
                      .uses = col_i64(s, 1),
                      .expires_us = col_i64(s, 2),
                      .created_us = col_i64(s, 6),
                      .revoked = !col_is_null(s, 7)};
    if (!slice_to_cstr(col_text(s, 3), c.prefix, sizeof(c.prefix)) ||
        !slice_to_cstr(col_text(s, 4), c.model, sizeof(c.model))) {
        return err_set(err, ST_CORRUPT, "a stored claim has a prefix or model that is too long");
    }
    st = doc_parse(col_text(s, 5), DOC_DEPTH_MAX, &c.tags, err);
    if (st == ST_OK) {
        *ret = c;
    }
    return st;
}

enum status claim_use(struct tx *tx, uint64_t row, struct err *err)
{
    STMT(s, tx->db, &sql_claim[SQL_CLAIM_USE]);
    stmt_bind_i64(s, 1, (int64_t)row);
    stmt_bind_i64(s, 2, tx->now_us);
    enum status st = stmt_run(s, err);
    if (st == ST_OK && stmt_changes(s) == 0) {
        st = err_set(err, ST_FORBIDDEN, "the claim is used up, expired or revoked");
    }
    return st;
}

static enum status judge(struct tx *tx, struct stmt *s, const uint8_t hash[SHA256_LEN], struct slice peer_addr,
                         struct principal *ret, struct err *err)
{
    if (!crypto_equal(col_blob(s, 1), slice_make(hash, SHA256_LEN))) {
        return err_set(err, ST_UNAUTHENTICATED, "unknown claim token");
    }
    bool revoked = !col_is_null(s, 4);
    if (revoked || col_i64(s, 3) <= tx->now_us) {
        return err_set(err, ST_FORBIDDEN, "the claim is %s", revoked ? "revoked" : "expired");
    }
    struct principal who = {.kind = WHO_CLAIM, .tenant = (uint32_t)col_i64(s, 2), .row = (uint64_t)col_i64(s, 0)};
    row_id_text(who.row, who.name);
    (void)slice_to_cstr(slice_head(peer_addr, sizeof(who.addr) - 1), who.addr, sizeof(who.addr));
    *ret = who;
    return ST_OK;
}

enum status identity_claim(struct tx *tx, struct slice token, struct slice peer_addr, struct principal *ret,
                           struct err *err)
{
    struct identity *id = identity_of(tx->core);
    int64_t now_us = clock_mono_us();
    int64_t wait_us = 0;
    uint64_t key = rate_source(peer_addr, none);
    if (throttle_blocked(id->claims, key, now_us, &wait_us)) {
        return err_set(err, ST_LIMIT, "too many wrong claim tokens from this address: wait %lld s",
                       (long long)(wait_us / 1000000) + 1);
    }
    uint8_t hash[SHA256_LEN];
    token_hash(id, TOKEN_CLAIM, token, hash);
    STMT(s, tx->db, &sql_claim[SQL_CLAIM_BY_HASH]);
    stmt_bind_blob(s, 1, slice_make(hash, sizeof(hash)));
    bool row = false;
    enum status st = stmt_step(s, &row, err);
    if (st == ST_OK) {
        st = row ? judge(tx, s, hash, peer_addr, ret, err) : err_set(err, ST_UNAUTHENTICATED, "unknown claim token");
    }
    if (st == ST_UNAUTHENTICATED) {
        throttle_failed(id->claims, key, now_us);
    }
    return st;
}
