-- name: attachment_insert
INSERT OR IGNORE INTO policy_attachment (kind, target, policy, tenant, created_us) VALUES (?1, ?2, ?3, ?4, ?5)

-- name: attachment_delete
DELETE FROM policy_attachment WHERE kind = ?1 AND target = ?2 AND policy = ?3

-- name: attachment_count
SELECT count(*) FROM policy_attachment WHERE kind = ?1 AND target = ?2

-- name: attachment_of_policy
-- ?2, ?3: after this kind and target.
SELECT p.id, a.kind,
       CASE a.kind
       WHEN 1 THEN (SELECT id FROM device WHERE row = a.target)
       WHEN 2 THEN (SELECT id FROM device_group WHERE row = a.target)
       WHEN 3 THEN printf('%016x', a.target)
       WHEN 4 THEN (SELECT name FROM operator_token WHERE row = a.target)
       ELSE (SELECT id FROM tenant WHERE row = a.target) END,
       a.created_us, a.target
FROM policy_attachment a JOIN policy p ON p.row = a.policy
WHERE a.policy = ?1 AND (a.kind, a.target) > (?2, ?3)
ORDER BY a.kind, a.target LIMIT ?4

-- name: attachment_of_target
SELECT p.id, a.kind, '', a.created_us, a.target
FROM policy_attachment a JOIN policy p ON p.row = a.policy
WHERE a.kind = ?1 AND a.target = ?2 ORDER BY p.id

-- name: attachment_claim
SELECT row FROM claim WHERE tenant = ?1 AND row = ?2

-- name: attachment_token
SELECT row FROM operator_token WHERE tenant = ?1 AND name = ?2

-- name: attachment_tenant
SELECT id FROM tenant WHERE row = ?1
