#include "domain/identity/lineage.h"

#include "domain/identity/identity_priv.h"
#define SQL_LINEAGE_DEFINE
#include "domain/identity/sql/lineage.sql.h"

enum status lineage_replacing(struct tx *tx, uint64_t device, struct slice replaces, uint64_t row, uint64_t *ret,
                              struct err *err)
{
    uint8_t sha256[SHA256_LEN];
    struct buf fingerprint = buf_fixed(sha256, sizeof(sha256));
    uint64_t old = 0;
    *ret = row;
    if (replaces.len == 0) {
        return ST_OK;
    }
    STMT(s, tx->db, &sql_lineage[SQL_LINEAGE_OF]);
    stmt_bind_i64(s, 1, (int64_t)device);
    stmt_bind_i64(s, 2, row_id_parse(replaces, &old) ? (int64_t)old : 0); // no row is 0
    if (hex_decode(replaces, &fingerprint) && fingerprint.len == sizeof(sha256)) {
        stmt_bind_blob(s, 3, buf_view(&fingerprint));
    }
    bool there = false;
    enum status st = stmt_step(s, &there, err);
    if (st == ST_OK && !there) {
        return err_at(err, ST_INVALID, "/replaces",
                      "the device has no such credential: name the id of an access token or pre-shared key, or the "
                      "fingerprint of a certificate");
    }
    if (st == ST_OK) {
        *ret = (uint64_t)col_i64(s, 0);
    }
    return st;
}

enum status lineage_usable(struct tx *tx, uint64_t device, uint64_t lineage, bool *ret, struct err *err)
{
    STMT(s, tx->db, &sql_lineage[SQL_LINEAGE_USABLE]);
    stmt_bind_i64(s, 1, (int64_t)device);
    stmt_bind_i64(s, 2, (int64_t)lineage);
    stmt_bind_i64(s, 3, CERT_ACTIVE);
    stmt_bind_i64(s, 4, tx->now_us);
    bool row = false;
    enum status st = stmt_step(s, &row, err);
    *ret = st == ST_OK && row && col_i64(s, 0) != 0;
    return st;
}
