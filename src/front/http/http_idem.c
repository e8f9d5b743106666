// Idempotency-Key: the answer of a successful request is kept for a day in the transaction of its effect. The same request
// under the same key gets the same answer again; another one is refused (422). Failed requests changed nothing and are not
// kept.
#include <stdio.h>

#define SQL_HTTP_ANSWER_DEFINE
#include "front/http/http_priv.h"
#include "front/http/sql/http_answer.sql.h"
#include "net/crypto.h"

#define KEEP_US          (INT64_C(24) * 3600 * 1000000)
#define KEEP_BYTES_MAX   (256u << 10) // of one answer
#define KEEP_TENANT_MAX  10000        // answers of one tenant
#define EXPIRE_BATCH_MAX 1000         // rows a sweep removes

const struct sql_def *const http_sql = sql_http_answer;
const size_t http_sql_len = SQL_HTTP_ANSWER__COUNT;

// SHA-256 over the operation, the target and the hash of the body; a NUL separates, as none of the texts holds one.
static bool request_hash(const struct http_req *req, uint8_t ret[SHA256_LEN])
{
    uint8_t body[SHA256_LEN];
    crypto_sha256(buf_view(&req->body), body);
    struct buf b = buf_heap(HTTP_HEAD_MAX + 256);
    buf_str(&b, req->api->name);
    buf_u8(&b, 0);
    buf_slice(&b, slice_head(buf_view(&req->text), req->url_len));
    buf_u8(&b, 0);
    buf_put(&b, body, sizeof(body));
    bool good = !b.failed;
    if (good) {
        crypto_sha256(buf_view(&b), ret);
    }
    buf_release(&b);
    return good;
}

static void replay(struct http_req *req, struct stmt *s)
{
    req->call.status = (int)col_i64(s, 1);
    req->call.etag = col_i64(s, 2);
    slice_to_cstr(col_text(s, 3), req->call.location, sizeof(req->call.location));
    buf_slice(&req->out, col_blob(s, 4));
    req->replayed = true;
}

enum status http_idem_find(struct http_req *req, struct tx *tx, bool *ret_found, struct err *err)
{
    uint8_t hash[SHA256_LEN];
    if (!request_hash(req, hash)) {
        return err_set(err, ST_NOMEM, "no memory to compare the request");
    }
    STMT(s, tx->db, &sql_http_answer[SQL_HTTP_ANSWER_GET]);
    if (s == NULL) {
        return err_set(err, ST_INTERNAL, "statement http_answer_get");
    }
    stmt_bind_i64(s, 1, req->who.tenant);
    stmt_bind_text(s, 2, http_req_header(req, HTTP_H_IDEMPOTENCY_KEY));
    stmt_bind_i64(s, 3, tx->now_us);
    enum status st = stmt_step(s, ret_found, err);
    if (st != ST_OK || !*ret_found) {
        return st;
    }
    if (!slice_eq(col_blob(s, 0), slice_make(hash, sizeof(hash)))) {
        http_req_refuse(req, 422, "idempotency_key_reused", "this Idempotency-Key was used for another request");
        return err_set(err, ST_CONFLICT, "Idempotency-Key reused");
    }
    replay(req, s);
    return ST_OK;
}

static enum status check_room(struct tx *tx, struct err *err)
{
    STMT(s, tx->db, &sql_http_answer[SQL_HTTP_ANSWER_COUNT]);
    if (s == NULL) {
        return err_set(err, ST_INTERNAL, "statement http_answer_count");
    }
    stmt_bind_i64(s, 1, tx->who->tenant);
    stmt_bind_i64(s, 2, KEEP_TENANT_MAX);
    bool row = false;
    enum status st = stmt_step(s, &row, err);
    if (st == ST_OK && row && col_i64(s, 0) >= KEEP_TENANT_MAX) {
        st = err_set(err, ST_LIMIT, "%d requests with Idempotency-Key in 24 h; allowed: that many per tenant",
                     KEEP_TENANT_MAX);
    }
    return st;
}

enum status http_idem_keep(struct http_req *req, struct tx *tx, struct err *err)
{
    uint8_t hash[SHA256_LEN];
    if (req->call.then != NULL || req->out.len > KEEP_BYTES_MAX) {
        return err_set(err, ST_INTERNAL, "%s cannot be idempotent: its answer is not ready in one step or too large",
                       req->api->name);
    }
    if (!request_hash(req, hash)) {
        return err_set(err, ST_NOMEM, "no memory to keep the answer");
    }
    enum status st = check_room(tx, err);
    if (st != ST_OK) {
        return st;
    }
    STMT(s, tx->db, &sql_http_answer[SQL_HTTP_ANSWER_PUT]);
    if (s == NULL) {
        return err_set(err, ST_INTERNAL, "statement http_answer_put");
    }
    stmt_bind_i64(s, 1, req->who.tenant);
    stmt_bind_text(s, 2, http_req_header(req, HTTP_H_IDEMPOTENCY_KEY));
    stmt_bind_blob(s, 3, slice_make(hash, sizeof(hash)));
    stmt_bind_i64(s, 4, req->call.status);
    stmt_bind_i64(s, 5, req->call.etag);
    stmt_bind_str(s, 6, req->call.location);
    stmt_bind_blob(s, 7, req->out.len > 0 ? buf_view(&req->out) : SLICE(""));
    stmt_bind_i64(s, 8, tx->now_us + KEEP_US);
    return stmt_run(s, err);
}

enum status http_idem_expire(struct tx *tx, struct err *err)
{
    STMT(s, tx->db, &sql_http_answer[SQL_HTTP_ANSWER_EXPIRE]);
    if (s == NULL) {
        return err_set(err, ST_INTERNAL, "statement http_answer_expire");
    }
    stmt_bind_i64(s, 1, tx->now_us);
    stmt_bind_i64(s, 2, EXPIRE_BATCH_MAX);
    return stmt_run(s, err);
}
