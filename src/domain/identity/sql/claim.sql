-- name: claim_by_hash
SELECT row, hash, tenant, expires_us, revoked_us FROM claim WHERE hash = ?1

-- name: claim_get
SELECT uses_max, uses, expires_us, device_prefix, model, tags, created_us, revoked_us FROM claim WHERE row = ?1

-- name: claim_insert
INSERT INTO claim (row, tenant, hash, uses_max, uses, expires_us, device_prefix, model, tags, created_by, created_us)
VALUES (?1, ?2, ?3, ?4, 0, ?5, ?6, ?7, ?8, ?9, ?10)

-- name: claim_use
UPDATE claim SET uses = uses + 1 WHERE row = ?1 AND uses < uses_max AND expires_us > ?2 AND revoked_us IS NULL

-- name: claim_list
SELECT row, uses_max, uses, expires_us, device_prefix, model, tags, created_us, revoked_us, created_by
FROM claim INDEXED BY claim_by_tenant WHERE tenant = ?1 AND row < ?2 ORDER BY row DESC LIMIT ?3

-- name: claim_find
SELECT row, revoked_us FROM claim WHERE tenant = ?1 AND row = ?2

-- name: claim_revoke
UPDATE claim SET revoked_us = ?2 WHERE row = ?1
