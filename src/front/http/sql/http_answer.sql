-- name: http_answer_get
SELECT request, status, etag, location, body FROM http_answer WHERE tenant = ?1 AND key = ?2 AND expires_us > ?3;

-- name: http_answer_put
-- An expired answer of the same key may still be there.
INSERT INTO http_answer (tenant, key, request, status, etag, location, body, expires_us)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
ON CONFLICT (tenant, key) DO UPDATE SET
    request = excluded.request, status = excluded.status, etag = excluded.etag, location = excluded.location,
    body = excluded.body, expires_us = excluded.expires_us;

-- name: http_answer_count
SELECT count(*) FROM (SELECT 1 FROM http_answer WHERE tenant = ?1 LIMIT ?2);

-- name: http_answer_expire
DELETE FROM http_answer WHERE rowid IN (SELECT rowid FROM http_answer WHERE expires_us <= ?1 ORDER BY expires_us LIMIT ?2);
