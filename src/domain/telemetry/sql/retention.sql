-- name: retention_all
SELECT tenant, metric, keep_us FROM retention;

-- name: retention_list
SELECT metric, keep_us FROM retention WHERE tenant = ?1 ORDER BY metric;

-- name: retention_count
SELECT count(*) FROM retention WHERE tenant = ?1 AND metric <> ?2;

-- name: retention_get
SELECT keep_us FROM retention WHERE tenant = ?1 AND metric = ?2;

-- name: retention_put
INSERT INTO retention (tenant, metric, keep_us) VALUES (?1, ?2, ?3)
ON CONFLICT (tenant, metric) DO UPDATE SET keep_us = ?3;

-- name: retention_delete
DELETE FROM retention WHERE tenant = ?1 AND metric = ?2;
