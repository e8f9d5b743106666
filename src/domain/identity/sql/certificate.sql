-- name: certificate_by_fingerprint
SELECT row, device, generation, state, not_before_us, not_after_us, used_us, lineage FROM certificate WHERE fingerprint = ?1

-- name: certificate_insert
INSERT INTO certificate (row, tenant, device, generation, fingerprint, spki, serial, claim, state, not_before_us,
                         not_after_us, created_us, der, lineage)
VALUES (?1, ?2, ?3, (SELECT coalesce(max(generation), 0) + 1 FROM certificate WHERE device = ?3), ?4, ?5, ?6, ?7, ?8, ?9,
        ?10, ?11, ?12, ?13)

-- name: certificate_set_used
UPDATE certificate SET used_us = ?2 WHERE row = ?1

-- name: certificate_end_older
-- The successor was used: older active ones end. ?4 active, ?5 superseded.
UPDATE certificate SET state = ?5, ended_us = ?3
WHERE device = ?1 AND generation < ?2 AND state = ?4
RETURNING fingerprint

-- name: certificate_end_unused
-- A newer renewal replaces one that was never used. ?3 active, ?4 superseded.
UPDATE certificate SET state = ?4, ended_us = ?2
WHERE device = ?1 AND state = ?3 AND used_us IS NULL AND claim IS NULL
RETURNING fingerprint

-- name: certificate_waiting
-- The newest certificate of the device when it is active, unused, within its time and for this key.
SELECT der, not_after_us, claim FROM certificate
WHERE device = ?1 AND spki = ?2 AND state = ?3 AND used_us IS NULL AND not_after_us > ?4
  AND generation = (SELECT max(generation) FROM certificate WHERE device = ?1)

-- name: certificate_usable_count
SELECT count(*) FROM certificate WHERE device = ?1 AND state = ?2 AND not_after_us > ?3

-- name: certificate_last_event
-- ?2 now: one that has run out counts with its end.
SELECT max(max(created_us, coalesce(ended_us, 0), iif(not_after_us <= ?2, not_after_us, 0)))
FROM certificate WHERE device = ?1

-- name: certificate_recent_count
SELECT count(*) FROM certificate WHERE device = ?1 AND created_us > ?2

-- name: certificate_delete_all
DELETE FROM certificate WHERE device = ?1

-- name: certificate_find
SELECT row, device, state FROM certificate WHERE tenant = ?1 AND fingerprint = ?2

-- name: certificate_revoke
UPDATE certificate SET state = ?2, reason = ?3, ended_us = ?4 WHERE row = ?1

-- The lists: newest first; ?2 is the row (of a device: the generation) of the last one delivered.
-- name: certificate_get
SELECT c.row, c.fingerprint, d.id, c.serial, c.state, c.reason, c.not_before_us, c.not_after_us, c.created_us, c.used_us,
       c.ended_us, c.generation, c.der
FROM certificate c JOIN device d ON d.row = c.device WHERE c.tenant = ?1 AND c.fingerprint = ?2

-- name: certificate_list
SELECT c.row, c.fingerprint, d.id, c.serial, c.state, c.reason, c.not_before_us, c.not_after_us, c.created_us, c.used_us,
       c.ended_us, c.generation
FROM certificate c INDEXED BY certificate_by_tenant CROSS JOIN device d ON d.row = c.device
WHERE c.tenant = ?1 AND c.row < ?2 ORDER BY c.row DESC

-- name: certificate_list_device
SELECT c.row, c.fingerprint, d.id, c.serial, c.state, c.reason, c.not_before_us, c.not_after_us, c.created_us, c.used_us,
       c.ended_us, c.generation
FROM certificate c CROSS JOIN device d ON d.row = c.device
WHERE c.device = ?1 AND c.generation < ?2 ORDER BY c.generation DESC

-- name: certificate_newest_active
SELECT der FROM certificate WHERE device = ?1 AND state = ?2 AND not_after_us > ?3 ORDER BY generation DESC LIMIT 1
