-- name: broker_will_put
INSERT INTO mqtt_will (tenant, client_id, conn, owner_kind, owner, delay_s, due_us, qos, retain, expiry_s, topic, props,
                       payload)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, NULL, ?7, ?8, ?9, ?10, ?11, ?12);

-- name: broker_will_get
SELECT conn, owner_kind, owner, delay_s, qos, retain, expiry_s, topic, props, payload, client_id, tenant
FROM mqtt_will WHERE tenant = ?1 AND client_id = ?2;

-- name: broker_will_due
SELECT conn, owner_kind, owner, delay_s, qos, retain, expiry_s, topic, props, payload, client_id, tenant
FROM mqtt_will WHERE due_us IS NOT NULL AND due_us <= ?1 LIMIT 1;

-- name: broker_will_delay
UPDATE mqtt_will SET conn = 0, due_us = ?3 WHERE tenant = ?1 AND client_id = ?2;

-- name: broker_will_del
DELETE FROM mqtt_will WHERE tenant = ?1 AND client_id = ?2;

-- name: broker_will_forget
DELETE FROM mqtt_will WHERE owner = ?1 AND owner_kind = ?2;

-- name: broker_will_restart
-- Connections of a former process have ended: the delay runs from now, not beyond the session's end.
UPDATE mqtt_will
SET conn = 0, due_us = ?1 + 1000000 * min(delay_s, coalesce((SELECT s.expiry_s FROM mqtt_session s
                                                             WHERE s.tenant = mqtt_will.tenant
                                                               AND s.client_id = mqtt_will.client_id), 0))
WHERE due_us IS NULL;
