-- name: broker_session_get
SELECT row, owner_kind, owner, lineage FROM mqtt_session WHERE tenant = ?1 AND client_id = ?2;

-- name: broker_session_add
INSERT INTO mqtt_session (row, tenant, client_id, owner_kind, owner, conn, expiry_s, expires_us, marks, sent_seq, dropped,
                          created_us, lineage)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, NULL, 0, 0, 0, ?8, ?9);

-- name: broker_session_resume
UPDATE mqtt_session SET conn = ?2, expiry_s = ?3, expires_us = NULL, lineage = ?4 WHERE row = ?1;

-- name: broker_session_leave
-- No effect when another connection has it.
UPDATE mqtt_session SET conn = 0, expiry_s = ?3, expires_us = ?4, sent_seq = max(sent_seq, ?5), dropped = dropped + ?6
WHERE row = ?1 AND conn = ?2;

-- name: broker_session_mark
UPDATE mqtt_session SET marks = ?2 WHERE row = ?1;

-- name: broker_session_drop
DELETE FROM mqtt_session WHERE row = ?1;

-- name: broker_session_drop_subs
DELETE FROM mqtt_sub WHERE session = ?1;

-- name: broker_session_drop_queue
DELETE FROM mqtt_queue WHERE session = ?1;

-- name: broker_session_drop_inbound
DELETE FROM mqtt_inbound WHERE session = ?1;

-- name: broker_session_restart
-- Connections of a former process have ended. The first ?2 messages of each queue may have been sent.
UPDATE mqtt_session
SET conn = 0, expires_us = CASE WHEN expiry_s = 4294967295 THEN NULL ELSE ?1 + expiry_s * 1000000 END,
    sent_seq = max(sent_seq, coalesce((SELECT max(q.seq) FROM (SELECT seq FROM mqtt_queue
                                                               WHERE session = mqtt_session.row
                                                               ORDER BY seq LIMIT ?2) q), 0))
WHERE conn <> 0;

-- name: broker_session_load
SELECT row, tenant, client_id, owner_kind, owner, expiry_s, expires_us, marks FROM mqtt_session ORDER BY row;

-- name: broker_session_load_subs
SELECT filter, options, id FROM mqtt_sub WHERE session = ?1;

-- name: broker_session_expired
SELECT row, tenant, client_id FROM mqtt_session WHERE expires_us IS NOT NULL AND expires_us <= ?1 LIMIT ?2;

-- name: broker_session_list
SELECT s.row, s.client_id, s.conn, s.expiry_s, s.expires_us, s.dropped, s.created_us,
       (SELECT count(*) FROM mqtt_queue q WHERE q.session = s.row),
       (SELECT coalesce(sum(q.bytes), 0) FROM mqtt_queue q WHERE q.session = s.row),
       (SELECT count(*) FROM mqtt_sub b WHERE b.session = s.row),
       CASE s.owner_kind WHEN 2 THEN (SELECT d.id FROM device d WHERE d.row = s.owner)
                         WHEN 1 THEN (SELECT o.name FROM operator_token o WHERE o.row = s.owner) END
FROM mqtt_session s WHERE s.tenant = ?1 AND s.client_id > ?2 ORDER BY s.client_id LIMIT ?3;

-- name: broker_session_show
SELECT s.row, s.client_id, s.conn, s.expiry_s, s.expires_us, s.dropped, s.created_us,
       (SELECT count(*) FROM mqtt_queue q WHERE q.session = s.row),
       (SELECT coalesce(sum(q.bytes), 0) FROM mqtt_queue q WHERE q.session = s.row),
       (SELECT count(*) FROM mqtt_sub b WHERE b.session = s.row),
       CASE s.owner_kind WHEN 2 THEN (SELECT d.id FROM device d WHERE d.row = s.owner)
                         WHEN 1 THEN (SELECT o.name FROM operator_token o WHERE o.row = s.owner) END
FROM mqtt_session s WHERE s.tenant = ?1 AND s.client_id = ?2;

-- name: broker_session_subs
SELECT filter, options, id FROM mqtt_sub WHERE session = ?1 ORDER BY filter;

-- name: broker_session_sub_put
INSERT INTO mqtt_sub (session, filter, options, id) VALUES (?1, ?2, ?3, ?4)
ON CONFLICT (session, filter) DO UPDATE SET options = excluded.options, id = excluded.id;

-- name: broker_session_sub_del
DELETE FROM mqtt_sub WHERE session = ?1 AND filter = ?2;

-- name: broker_session_inbound
SELECT packet_id FROM mqtt_inbound WHERE session = ?1;

-- name: broker_session_inbound_put
INSERT INTO mqtt_inbound (session, packet_id) VALUES (?1, ?2) ON CONFLICT DO NOTHING;

-- name: broker_session_inbound_new
-- Only for the connection that has the session now, and once.
INSERT INTO mqtt_inbound (session, packet_id) SELECT ?1, ?2 FROM mqtt_session WHERE row = ?1 AND conn = ?3 ON CONFLICT DO NOTHING;

-- name: broker_session_inbound_del
DELETE FROM mqtt_inbound WHERE session = ?1 AND packet_id = ?2;
