-- name: device_event_next
SELECT coalesce(max(seq), 0) + 1 FROM device_event WHERE device = ?1;

-- name: device_event_insert
INSERT INTO device_event (device, seq, tenant, ts_us, received_us, name, payload) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7);

-- name: device_event_trim
DELETE FROM device_event WHERE device = ?1 AND seq <= ?2;

-- name: device_event_forget
DELETE FROM device_event WHERE (device, seq) IN
    (SELECT device, seq FROM device_event WHERE received_us < ?1 LIMIT ?2);

-- name: device_event_list
SELECT seq, ts_us, received_us, name, payload FROM device_event
WHERE device = ?1 AND seq < ?2 AND (?3 = '' OR name = ?3) ORDER BY seq DESC LIMIT ?4;
