-- name: device_group_find
SELECT row, id FROM device_group WHERE tenant = ?1 AND id = ?2

-- name: device_group_insert
INSERT INTO device_group (row, tenant, id, description, members, created_us) VALUES (?1, ?2, ?3, ?4, 0, ?5)

-- name: device_group_delete
DELETE FROM device_group WHERE row = ?1

-- name: device_group_count
UPDATE device_group SET members = members + ?2 WHERE row = ?1

-- name: device_group_get
SELECT id, description, members, created_us FROM device_group WHERE row = ?1

-- name: device_group_list
SELECT id, description, members, created_us FROM device_group WHERE tenant = ?1 AND id > ?2 ORDER BY id LIMIT ?3

-- name: device_group_of_device
SELECT g.row, g.id FROM group_member m JOIN device_group g ON g.row = m.grp WHERE m.device = ?1 ORDER BY g.id

-- name: device_group_has
SELECT 1 FROM group_member WHERE grp = ?1 AND device = ?2

-- name: device_group_add
INSERT INTO group_member (grp, device) VALUES (?1, ?2) ON CONFLICT DO NOTHING

-- name: device_group_remove
DELETE FROM group_member WHERE grp = ?1 AND device = ?2

-- name: device_group_empty
DELETE FROM group_member WHERE grp = ?1

-- name: device_group_leave_all
DELETE FROM group_member WHERE device = ?1

-- name: device_group_count_leaving
UPDATE device_group SET members = members - 1 WHERE row IN (SELECT grp FROM group_member WHERE device = ?1)
