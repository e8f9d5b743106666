-- name: ban_all
SELECT row, coalesce(tenant, 0), kind, value, expires_us FROM ban

-- name: ban_count
SELECT count(*) FROM ban WHERE coalesce(tenant, 0) = ?1

-- name: ban_insert
INSERT INTO ban (row, tenant, kind, value, reason, created_by, created_us, expires_us)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)

-- name: ban_delete_value
DELETE FROM ban WHERE coalesce(tenant, 0) = ?1 AND kind = ?2 AND value = ?3

-- name: ban_list
-- ?2: 1 for who sees bans of addresses too; ?4 now: those that have run out are no bans any more.
SELECT row, kind, value, reason, created_us, created_by, expires_us FROM ban
WHERE (tenant = ?1 OR (?2 = 1 AND tenant IS NULL)) AND row > ?3 AND (expires_us IS NULL OR expires_us > ?4)
ORDER BY row LIMIT ?5

-- name: ban_find
SELECT kind, value, coalesce(tenant, 0) FROM ban WHERE row = ?1 AND (tenant = ?2 OR (?3 = 1 AND tenant IS NULL))

-- name: ban_delete
DELETE FROM ban WHERE row = ?1

-- name: ban_expired
SELECT row, coalesce(tenant, 0), kind, value, expires_us FROM ban WHERE expires_us <= ?1 LIMIT ?2
