-- name: broker_queue_load
SELECT count(*), coalesce(sum(q.bytes), 0), coalesce(max(q.seq), 0),
       (SELECT sent_seq FROM mqtt_session WHERE row = ?1)
FROM mqtt_queue q WHERE q.session = ?1;

-- name: broker_queue_add
INSERT INTO mqtt_queue (session, seq, state, qos, retain, bytes, expires_us, sub_ids, share, msg, topic, props, payload)
VALUES (?1, ?2, 0, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12);

-- name: broker_queue_message_add
INSERT INTO mqtt_message (row, refs, topic, props, payload) VALUES (?1, ?2, ?3, ?4, ?5);

-- name: broker_queue_message_less
UPDATE mqtt_message SET refs = refs - 1 WHERE row = ?1 RETURNING refs;

-- name: broker_queue_message_drop
DELETE FROM mqtt_message WHERE row = ?1;

-- name: broker_queue_messages
SELECT msg FROM mqtt_queue WHERE session = ?1 AND msg IS NOT NULL;

-- name: broker_queue_page
SELECT q.seq, q.state, q.qos, q.retain, q.bytes, q.expires_us, q.sub_ids, coalesce(m.topic, q.topic),
       coalesce(m.props, q.props), coalesce(m.payload, q.payload), q.msg IS NOT NULL
FROM mqtt_queue q LEFT JOIN mqtt_message m ON m.row = q.msg
WHERE q.session = ?1 AND q.seq > ?2 ORDER BY q.seq LIMIT ?3;

-- name: broker_queue_del
DELETE FROM mqtt_queue WHERE session = ?1 AND seq = ?2 RETURNING msg;

-- name: broker_queue_del_run
-- None of them shares its message with another queue.
DELETE FROM mqtt_queue WHERE session = ?1 AND seq BETWEEN ?2 AND ?3;

-- name: broker_queue_get_msg
SELECT msg FROM mqtt_queue WHERE session = ?1 AND seq = ?2;

-- name: broker_queue_received
-- The client has it: only its number is kept, until PUBCOMP.
UPDATE mqtt_queue SET state = 1, msg = NULL, topic = NULL, props = NULL, payload = NULL, expires_us = NULL
WHERE session = ?1 AND seq = ?2;

-- name: broker_queue_shared
-- What a session leaves that came to it by shared subscriptions and that others may have (MQTT 5.0 section 4.8.2).
SELECT q.seq, q.share, q.expires_us, coalesce(m.topic, q.topic), coalesce(m.props, q.props),
       coalesce(m.payload, q.payload)
FROM mqtt_queue q LEFT JOIN mqtt_message m ON m.row = q.msg
WHERE q.session = ?1 AND q.share IS NOT NULL AND q.qos = 1 AND q.seq > ?2 ORDER BY q.seq LIMIT ?3;

-- name: broker_queue_expired
SELECT q.expires_us, q.session, q.seq, s.tenant, s.client_id, s.sent_seq, q.bytes
FROM mqtt_queue q JOIN mqtt_session s ON s.row = q.session
WHERE q.expires_us IS NOT NULL AND q.expires_us <= ?1 AND (q.expires_us, q.session, q.seq) > (?2, ?3, ?4)
ORDER BY q.expires_us, q.session, q.seq LIMIT ?5;

-- name: broker_queue_rows
-- The highest numbers in use.
SELECT coalesce((SELECT max(row) FROM mqtt_session), 0), coalesce((SELECT max(row) FROM mqtt_message), 0),
       coalesce((SELECT max(row) FROM mqtt_retained), 0);
