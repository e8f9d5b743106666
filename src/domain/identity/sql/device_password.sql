-- name: device_password_by_name
-- ?1 tenant's id, ?2 device's id
SELECT p.row, p.device, p.salt, p.iterations, p.stored_key, p.server_key
FROM tenant t JOIN device d ON d.tenant = t.row AND d.id = ?2 JOIN device_password p ON p.device = d.row
WHERE t.id = ?1

-- name: device_password_any
SELECT EXISTS (SELECT 1 FROM device_password)

-- name: device_password_device
SELECT device, lineage FROM device_password WHERE row = ?1

-- name: device_password_list
SELECT iterations, created_us FROM device_password WHERE device = ?1

-- name: device_password_delete
DELETE FROM device_password WHERE device = ?1 RETURNING lineage

-- name: device_password_insert
INSERT INTO device_password (row, device, salt, iterations, stored_key, server_key, created_us, lineage)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)

-- name: device_password_tenant
SELECT id FROM tenant WHERE row = ?1

-- name: device_password_has
SELECT 1 FROM device_password WHERE device = ?1

-- name: device_password_event
-- A password was set or revoked: as for access tokens, which leave no row either.
UPDATE device SET token_event_us = max(token_event_us, ?2) WHERE row = ?1
