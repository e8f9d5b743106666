-- name: device_token_by_hash
-- One row per tenant that has this token.
SELECT t.hash, d.row, d.tenant, d.state, d.version, d.id, t.lineage
FROM device_token t JOIN device d ON d.row = t.device
WHERE t.hash = ?1

-- name: device_token_holder
SELECT device FROM device_token WHERE hash = ?1 AND tenant = ?2

-- name: device_token_insert
INSERT INTO device_token (row, tenant, device, hash, label, created_us, lineage) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)

-- name: device_token_event
UPDATE device SET token_event_us = max(token_event_us, ?2) WHERE row = ?1

-- name: device_token_last_event
SELECT token_event_us FROM device WHERE row = ?1

-- name: device_token_list
SELECT row, label, created_us FROM device_token WHERE device = ?1 ORDER BY row

-- name: device_token_delete
DELETE FROM device_token WHERE row = ?1 AND device = ?2

-- name: device_token_delete_all
DELETE FROM device_token WHERE device = ?1

-- name: device_token_count
SELECT count(*) FROM device_token WHERE device = ?1
