-- name: device_find
SELECT row, state, version, id FROM device WHERE tenant = ?1 AND id = ?2

-- name: device_find_row
SELECT tenant, state, version, id FROM device WHERE row = ?1

-- name: device_insert
INSERT INTO device (row, tenant, id, name, model, state, version, tags, attributes, keys, created_us, updated_us)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, 1, ?7, ?8, ?9, ?10, ?10)

-- name: device_update
UPDATE device SET name = ?2, model = ?3, tags = ?4, attributes = ?5, keys = ?6, version = version + 1, updated_us = ?7
WHERE row = ?1

-- name: device_set_state
UPDATE device SET state = ?2, version = version + 1, updated_us = ?3 WHERE row = ?1

-- name: device_delete
DELETE FROM device WHERE row = ?1

-- name: device_tag_insert
INSERT INTO device_tag (tenant, key, value, device) VALUES (?1, ?2, ?3, ?4)

-- name: device_tag_delete
DELETE FROM device_tag WHERE tenant = ?1 AND key = ?2 AND value = ?3 AND device = ?4

-- name: device_key_insert
INSERT INTO device_key (tenant, kind, value, device) VALUES (?1, ?2, ?3, ?4)

-- name: device_key_delete
DELETE FROM device_key WHERE tenant = ?1 AND kind = ?2 AND value = ?3 AND device = ?4

-- name: device_key_holder
SELECT d.row, d.id FROM device_key k JOIN device d ON d.row = k.device
WHERE k.tenant = ?1 AND k.kind = ?2 AND k.value = ?3

-- name: device_get
SELECT row, id, name, model, state, version, tags, attributes, keys, created_us, updated_us FROM device WHERE row = ?1

-- The lists. All take ?1 tenant, ?2 and ?3 the condition, ?4 and ?5 the cursor (number, text), and give the columns of
-- device_get in the order of their cursor.
-- name: device_list_by_id
SELECT row, id, name, model, state, version, tags, attributes, keys, created_us, updated_us
FROM device
WHERE tenant = ?1 AND id >= ?2 AND id < ?3 AND id > ?5 AND ?4 IS NOT NULL
ORDER BY id

-- name: device_list_by_name
SELECT row, id, name, model, state, version, tags, attributes, keys, created_us, updated_us
FROM device INDEXED BY device_by_name
WHERE tenant = ?1 AND name IS NOT NULL AND name >= ?2 AND name < ?3 AND (name, row) > (?5, ?4)
ORDER BY name, row

-- name: device_list_by_state
SELECT row, id, name, model, state, version, tags, attributes, keys, created_us, updated_us
FROM device INDEXED BY device_by_state
WHERE tenant = ?1 AND state = ?2 AND ?3 IS NULL AND row > ?4 AND ?5 IS NOT NULL
ORDER BY row

-- name: device_list_by_model
SELECT row, id, name, model, state, version, tags, attributes, keys, created_us, updated_us
FROM device INDEXED BY device_by_model
WHERE tenant = ?1 AND model = ?2 AND ?3 IS NULL AND row > ?4 AND ?5 IS NOT NULL
ORDER BY row

-- name: device_list_by_tag
SELECT d.row, d.id, d.name, d.model, d.state, d.version, d.tags, d.attributes, d.keys, d.created_us, d.updated_us
FROM device_tag t CROSS JOIN device d ON d.row = t.device
WHERE t.tenant = ?1 AND t.key = ?2 AND t.value = ?3 AND t.device > ?4 AND ?5 IS NOT NULL
ORDER BY t.device

-- name: device_list_by_key
SELECT d.row, d.id, d.name, d.model, d.state, d.version, d.tags, d.attributes, d.keys, d.created_us, d.updated_us
FROM device_key k CROSS JOIN device d ON d.row = k.device
WHERE k.tenant = ?1 AND k.kind = ?2 AND k.value = ?3 AND k.device > ?4 AND ?5 IS NOT NULL

-- name: device_list_by_group
SELECT d.row, d.id, d.name, d.model, d.state, d.version, d.tags, d.attributes, d.keys, d.created_us, d.updated_us
FROM group_member m CROSS JOIN device d ON d.row = m.device
WHERE d.tenant = ?1 AND m.grp = ?2 AND ?3 IS NULL AND m.device > ?4 AND ?5 IS NOT NULL
ORDER BY m.device
