-- name: command_insert
INSERT INTO command (row, tenant, device, name, payload, state, created_by, created_us, expires_us, sends)
VALUES (?1, ?2, ?3, ?4, ?5, 0, ?6, ?7, ?8, 0);

-- name: command_open_count
SELECT count(*) FROM command WHERE device = ?1 AND state IN (0, 1);

-- name: command_trim
-- Everything finished but the newest ?2 of the device.
DELETE FROM command WHERE device = ?1 AND state NOT IN (0, 1)
AND row <= (SELECT row FROM command WHERE device = ?1 ORDER BY row DESC LIMIT 1 OFFSET ?2);

-- name: command_get
SELECT row, name, payload, state, created_us, created_by, expires_us, sent_us, sends, finished_us, reply
FROM command WHERE row = ?1 AND device = ?2;

-- name: command_list
SELECT row, name, payload, state, created_us, created_by, expires_us, sent_us, sends, finished_us, reply
FROM command WHERE device = ?1 AND row < ?2 AND (?3 < 0 OR state = ?3) ORDER BY row DESC LIMIT ?4;

-- name: command_open
-- Oldest first: devices get commands in the order they were given.
SELECT row, name, payload, state FROM command
WHERE device = ?1 AND state IN (0, 1) AND expires_us > ?2 ORDER BY row;

-- name: command_sent
UPDATE command SET state = ?2, sent_us = ?3, sends = sends + 1 WHERE row = ?1;

-- name: command_replied
UPDATE command SET state = ?2, finished_us = ?3, reply = ?4 WHERE row = ?1;

-- name: command_over
SELECT c.row, c.device, c.tenant, c.name, c.state, d.id FROM command c JOIN device d ON d.row = c.device
WHERE c.state IN (0, 1) AND c.expires_us <= ?1 ORDER BY c.expires_us LIMIT ?2;

-- name: command_expire
UPDATE command SET state = ?2, finished_us = ?3 WHERE row = ?1;

-- name: command_forget
DELETE FROM command WHERE row IN (SELECT row FROM command WHERE finished_us IS NOT NULL AND finished_us < ?1 LIMIT ?2);
