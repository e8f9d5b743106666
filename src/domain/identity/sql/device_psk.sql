-- name: device_psk_all
SELECT identity, sealed FROM device_psk

-- name: device_psk_by_identity
SELECT device, lineage FROM device_psk WHERE identity = ?1

-- name: device_psk_insert
INSERT INTO device_psk (row, tenant, device, identity, sealed, label, created_us, lineage)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)

-- name: device_psk_list
SELECT row, identity, label, created_us FROM device_psk WHERE device = ?1 ORDER BY row

-- name: device_psk_delete
DELETE FROM device_psk WHERE row = ?1 AND device = ?2 RETURNING identity

-- name: device_psk_delete_all
DELETE FROM device_psk WHERE device = ?1 RETURNING identity

-- name: device_psk_count
SELECT count(*) FROM device_psk WHERE device = ?1
