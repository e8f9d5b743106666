-- name: broker_retained_put
INSERT INTO mqtt_retained (row, tenant, topic, owner_kind, owner, client_id, qos, stored_us, expires_us, props, payload)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
ON CONFLICT (tenant, topic) DO UPDATE SET owner_kind = excluded.owner_kind, owner = excluded.owner,
    client_id = excluded.client_id, qos = excluded.qos, stored_us = excluded.stored_us,
    expires_us = excluded.expires_us, props = excluded.props, payload = excluded.payload
RETURNING row;

-- name: broker_retained_del
DELETE FROM mqtt_retained WHERE tenant = ?1 AND topic = ?2;

-- name: broker_retained_row
SELECT topic, owner_kind, owner, client_id, qos, expires_us, props, payload FROM mqtt_retained WHERE row = ?1;

-- name: broker_retained_load
SELECT row, tenant, topic, qos FROM mqtt_retained ORDER BY row;

-- name: broker_retained_owned
SELECT tenant, topic FROM mqtt_retained WHERE owner = ?1 AND owner_kind = ?2 LIMIT ?3;

-- name: broker_retained_expired
SELECT tenant, topic FROM mqtt_retained WHERE expires_us IS NOT NULL AND expires_us <= ?1 LIMIT ?2;

-- name: broker_retained_list
SELECT row, topic, client_id, qos, stored_us, expires_us, length(payload),
       CASE owner_kind WHEN 2 THEN (SELECT d.id FROM device d WHERE d.row = owner)
                       WHEN 1 THEN (SELECT o.name FROM operator_token o WHERE o.row = owner) END
FROM mqtt_retained WHERE tenant = ?1 AND row > ?2 ORDER BY row LIMIT ?3;

-- name: broker_retained_show
SELECT row, topic, client_id, qos, stored_us, expires_us, length(payload),
       CASE owner_kind WHEN 2 THEN (SELECT d.id FROM device d WHERE d.row = owner)
                       WHEN 1 THEN (SELECT o.name FROM operator_token o WHERE o.row = owner) END, payload
FROM mqtt_retained WHERE tenant = ?1 AND topic = ?2;
