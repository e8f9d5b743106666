-- name: limit_all
SELECT tenant, name, value FROM tenant_limit

-- name: limit_tenant
SELECT row, id FROM tenant WHERE id = ?1

-- name: limit_tenant_row
SELECT row, id FROM tenant WHERE row = ?1

-- name: limit_get
SELECT value FROM tenant_limit WHERE tenant = ?1 AND name = ?2

-- name: limit_set
INSERT INTO tenant_limit (tenant, name, value) VALUES (?1, ?2, ?3)
ON CONFLICT (tenant, name) DO UPDATE SET value = excluded.value

-- name: limit_delete
DELETE FROM tenant_limit WHERE tenant = ?1 AND name = ?2
