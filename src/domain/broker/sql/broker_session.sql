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
SELECT s.row, s.tenant, s.client_id, s.owner_kind, s.owner, s.expiry_s, s.expires_us, s.marks, s.sent_seq,
       coalesce(q.n, 0), q.bytes, q.last
FROM mqtt_session s
LEFT JOIN (SELECT session, count(*) n, sum(bytes) bytes, max(seq) last FROM mqtt_queue GROUP BY session) q
  ON q.session = s.row
ORDER BY s.row;

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
-- Only for the connection that has the session now. An id it uses anew is one that it was never told, or that it was refused.
INSERT INTO mqtt_inbound (session, packet_id, ts_commit) SELECT ?1, ?2, ?4 FROM mqtt_session WHERE row = ?1 AND conn = ?3
ON CONFLICT DO UPDATE SET ts_commit = excluded.ts_commit;

-- name: broker_session_inbound_restart
-- Their points never came: ?1 is the next commit of the telemetry store.
DELETE FROM mqtt_inbound WHERE ts_commit >= ?1;

-- name: broker_session_inbound_del
DELETE FROM mqtt_inbound WHERE session = ?1 AND packet_id = ?2;
