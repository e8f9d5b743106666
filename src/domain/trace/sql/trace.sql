-- name: trace_insert
INSERT INTO trace (row, tenant, subject, value, strangers, created_by, created_us, until_us)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)

-- name: trace_get
SELECT row, subject, value, created_by, created_us, until_us, ended_us, reason, records, bytes, lost, strangers, tenant
FROM trace WHERE row = ?1 AND tenant = ?2

-- name: trace_list
SELECT row, subject, value, created_by, created_us, until_us, ended_us, reason, records, bytes, lost, strangers, tenant
FROM trace WHERE tenant = ?1 AND row < ?2 ORDER BY row DESC LIMIT ?3

-- name: trace_running
SELECT row, subject, value, created_by, created_us, until_us, ended_us, reason, records, bytes, lost, strangers, tenant
FROM trace WHERE ended_us IS NULL ORDER BY until_us LIMIT ?1

-- name: trace_end
UPDATE trace SET ended_us = ?2, reason = ?3 WHERE row = ?1 AND ended_us IS NULL

-- name: trace_count
UPDATE trace SET records = ?2, bytes = ?3, lost = ?4 WHERE row = ?1

-- name: trace_kept
SELECT count(*) FROM trace WHERE tenant = ?1

-- name: trace_oldest_ended
SELECT row FROM trace WHERE tenant = ?1 AND ended_us IS NOT NULL ORDER BY row LIMIT 1

-- name: trace_outlived
SELECT row FROM trace WHERE ended_us IS NOT NULL AND ended_us < ?1 LIMIT 1

-- name: trace_delete
DELETE FROM trace WHERE row = ?1

-- name: trace_record_insert
INSERT INTO trace_record (trace, seq, ts_us, conn, what, version, peer, note, data, data_len)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)

-- name: trace_record_after
SELECT seq, ts_us, conn, what, version, peer, note, data, data_len
FROM trace_record WHERE trace = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3

-- name: trace_record_trim
DELETE FROM trace_record WHERE trace = ?1 AND seq IN (SELECT seq FROM trace_record WHERE trace = ?1 ORDER BY seq LIMIT ?2)

-- name: trace_record_any
SELECT 1 FROM trace_record WHERE trace = ?1 LIMIT 1
