-- name: ledger_stored
INSERT INTO ledger (device, stored) VALUES (?1, 1)
ON CONFLICT (device) DO UPDATE SET stored = stored + 1;

-- name: ledger_stored_tenant
INSERT INTO ledger_tenant (tenant, stored) VALUES (?1, 1)
ON CONFLICT (tenant) DO UPDATE SET stored = stored + 1;

-- name: ledger_get
SELECT stored FROM ledger WHERE device = ?1;

-- name: ledger_get_tenant
SELECT stored FROM ledger_tenant WHERE tenant = ?1;
