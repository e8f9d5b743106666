-- name: policy_find
SELECT row, version, id FROM policy WHERE tenant = ?1 AND id = ?2

-- name: policy_get
SELECT id, description, version, created_us, updated_us,
       (SELECT count(*) FROM policy_attachment a WHERE a.policy = p.row), document
FROM policy p WHERE row = ?1

-- name: policy_load
SELECT tenant, id, document FROM policy WHERE row = ?1

-- name: policy_list
SELECT id, description, version, created_us, updated_us,
       (SELECT count(*) FROM policy_attachment a WHERE a.policy = p.row)
FROM policy p WHERE tenant = ?1 AND id > ?2 ORDER BY id LIMIT ?3

-- name: policy_count
SELECT count(*) FROM policy WHERE tenant = ?1

-- name: policy_insert
INSERT INTO policy (row, tenant, id, description, version, document, created_us, updated_us)
VALUES (?1, ?2, ?3, ?4, 1, ?5, ?6, ?6)

-- name: policy_update
UPDATE policy SET description = ?2, document = ?3, version = version + 1, updated_us = ?4 WHERE row = ?1

-- name: policy_delete
DELETE FROM policy WHERE row = ?1

-- name: policy_of_device
-- Everything that applies to the device: its own, its groups', its tenant's. ?1 device, ?2 tenant, ?3 at most.
SELECT policy FROM policy_attachment WHERE kind = 1 AND target = ?1
UNION
SELECT a.policy FROM group_member m JOIN policy_attachment a ON a.kind = 2 AND a.target = m.grp WHERE m.device = ?1
UNION
SELECT policy FROM policy_attachment WHERE kind = 5 AND target = ?2
LIMIT ?3

-- name: policy_of_token
SELECT policy FROM policy_attachment WHERE kind = 4 AND target = ?1 LIMIT ?2

-- name: policy_device_values
SELECT d.id, d.model, d.tags, d.attributes, t.id FROM device d JOIN tenant t ON t.row = d.tenant WHERE d.row = ?1

-- name: policy_tenant_id
SELECT id FROM tenant WHERE row = ?1
