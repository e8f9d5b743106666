-- name: twin_get
SELECT version, desired_version, reported_version, desired, reported, desired_meta, reported_meta
FROM twin WHERE device = ?1;

-- name: twin_put_desired
INSERT INTO twin (device, tenant, version, desired_version, reported_version, desired, reported, desired_meta, reported_meta)
VALUES (?1, ?2, ?3, ?3, 0, ?4, '{}', ?5, '{}')
ON CONFLICT (device) DO UPDATE SET version = ?3, desired_version = ?3, desired = ?4, desired_meta = ?5;

-- name: twin_put_reported
INSERT INTO twin (device, tenant, version, desired_version, reported_version, desired, reported, desired_meta, reported_meta)
VALUES (?1, ?2, ?3, 0, ?3, '{}', ?4, '{}', ?5)
ON CONFLICT (device) DO UPDATE SET version = ?3, reported_version = ?3, reported = ?4, reported_meta = ?5;
