-- name: lineage_of
-- ?2: row of an access token or a pre-shared key, ?3: fingerprint of a certificate; of device ?1.
SELECT lineage FROM device_token WHERE row = ?2 AND device = ?1
UNION ALL SELECT lineage FROM device_psk WHERE row = ?2 AND device = ?1
UNION ALL SELECT lineage FROM certificate WHERE fingerprint = ?3 AND device = ?1

-- name: lineage_usable
-- ?3 active, ?4 now.
SELECT EXISTS (SELECT 1 FROM device_token WHERE device = ?1 AND lineage = ?2)
    OR EXISTS (SELECT 1 FROM device_psk WHERE device = ?1 AND lineage = ?2)
    OR EXISTS (SELECT 1 FROM device_password WHERE device = ?1 AND lineage = ?2)
    OR EXISTS (SELECT 1 FROM certificate WHERE device = ?1 AND lineage = ?2 AND state = ?3 AND not_after_us > ?4)
