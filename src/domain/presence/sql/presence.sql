-- name: presence_session_next
-- The number of the device's next session.
SELECT coalesce(max(seq), 0) + 1 FROM session WHERE device = ?1;

-- name: presence_session_open
INSERT INTO session (row, tenant, device, seq, start_us, address, protocol, client_id, tls, keep_alive_s)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10);

-- name: presence_session_trim
DELETE FROM session WHERE device = ?1 AND seq <= ?2 AND end_us IS NOT NULL;

-- name: presence_session_close
UPDATE session SET end_us = ?2, reason = ?3, detail = ?4 WHERE row = ?1 AND end_us IS NULL;

-- name: presence_online
INSERT INTO device_presence (device, tenant, online, since_us, seen_us, session, reason)
VALUES (?1, ?2, 1, ?3, ?3, ?4, NULL)
ON CONFLICT (device) DO UPDATE SET online = 1, since_us = ?3, seen_us = ?3, session = ?4;

-- name: presence_offline
-- Only the current session takes the device offline.
UPDATE device_presence SET online = 0, since_us = ?3, seen_us = max(seen_us, ?4), reason = ?5
WHERE device = ?1 AND session = ?2 AND online = 1;

-- name: presence_seen
UPDATE device_presence SET seen_us = ?2 WHERE device = ?1 AND seen_us < ?2;

-- name: presence_restart_sessions
-- Sessions a former process left open end when their device was last known alive.
UPDATE session SET end_us = max(start_us, coalesce((SELECT p.seen_us FROM device_presence p
                                                    WHERE p.device = session.device AND p.session = session.row),
                                                   start_us)),
                   reason = 'server_restart'
WHERE end_us IS NULL;

-- name: presence_restart_devices
UPDATE device_presence SET online = 0, since_us = seen_us, reason = 'server_restart' WHERE online = 1;

-- name: presence_expire
DELETE FROM session WHERE row IN (SELECT row FROM session WHERE end_us IS NOT NULL AND end_us < ?1 LIMIT ?2);

-- name: presence_get
SELECT p.online, p.since_us, p.seen_us, p.reason, s.address, s.protocol, s.client_id, s.tls, s.keep_alive_s, p.session
FROM device_presence p LEFT JOIN session s ON s.row = p.session
WHERE p.device = ?1;

-- name: presence_list
-- Keyset: everything after (online ?2, device ?3) in the order online first, then age.
SELECT p.online, p.since_us, p.seen_us, p.reason, s.address, s.protocol, s.client_id, s.tls, s.keep_alive_s, p.session,
       d.id, p.device
FROM device_presence p
JOIN device d ON d.row = p.device
LEFT JOIN session s ON s.row = p.session
WHERE p.tenant = ?1 AND p.online = ?2 AND p.device > ?3 AND p.seen_us < ?4
ORDER BY p.device LIMIT ?5;

-- name: presence_count
SELECT online, count(*) FROM device_presence WHERE tenant = ?1 GROUP BY online;

-- name: presence_sessions
SELECT seq, start_us, end_us, reason, detail, address, protocol, client_id, tls, keep_alive_s
FROM session WHERE device = ?1 AND seq < ?2 ORDER BY seq DESC LIMIT ?3;
