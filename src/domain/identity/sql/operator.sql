-- name: operator_by_hash
SELECT row, hash, tenant, name, role, system, expires_us FROM operator_token WHERE hash = ?1

-- name: operator_by_row
SELECT row, hash, tenant, name, role, system, expires_us FROM operator_token WHERE row = ?1

-- name: operator_insert
INSERT INTO operator_token (row, tenant, name, role, system, hash, created_by, created_us, expires_us)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)

-- name: operator_list
SELECT row, name, role, system, created_us, created_by, expires_us
FROM operator_token WHERE tenant = ?1 AND name > ?2 ORDER BY name LIMIT ?3

-- name: operator_find
SELECT row, role, system FROM operator_token WHERE tenant = ?1 AND name = ?2

-- name: operator_expired
SELECT tenant, row FROM operator_token WHERE expires_us > ?1 AND expires_us <= ?2

-- name: operator_delete
DELETE FROM operator_token WHERE row = ?1

-- name: operator_system_count
SELECT count(*) FROM operator_token WHERE system = 1 AND (expires_us IS NULL OR expires_us > ?1)

-- name: operator_tenant_insert
INSERT INTO tenant (row, id, created_us)
VALUES ((SELECT max(row) + 1 FROM tenant), ?1, ?2)
RETURNING row

-- name: operator_tenant_find
SELECT row FROM tenant WHERE id = ?1

-- name: operator_tenant_list
SELECT row, id, created_us FROM tenant WHERE row > ?1 ORDER BY row LIMIT ?2
