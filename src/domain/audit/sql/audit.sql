-- name: audit_write
INSERT INTO audit (ts_us, tenant, actor_kind, actor, address, action, object_kind, object, before, after, operation)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)

-- name: audit_by_time
-- Newest first from the cursor (?4 time, ?5 seq) on.
SELECT seq, ts_us, actor_kind, actor, address, action, object_kind, object, before, after, operation
FROM audit INDEXED BY audit_by_time
WHERE tenant = ?1 AND ts_us >= ?2 AND ts_us < ?3 AND (ts_us, seq) < (?4, ?5)
ORDER BY ts_us DESC, seq DESC

-- name: audit_by_object
SELECT seq, ts_us, actor_kind, actor, address, action, object_kind, object, before, after, operation
FROM audit INDEXED BY audit_by_object
WHERE tenant = ?1 AND object = ?2 AND seq < ?3
ORDER BY seq DESC
