-- name: device_erase_insert
INSERT INTO device_erase (device, since_us) VALUES (?1, ?2)

-- name: device_erase_delete
DELETE FROM device_erase WHERE device = ?1

-- name: device_erase_list
SELECT device FROM device_erase ORDER BY device LIMIT ?1
