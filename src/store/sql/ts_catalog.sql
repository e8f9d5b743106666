-- The catalog of the telemetry store: series, metrics, and per device its counters and last values.

-- name: ts_catalog_settings
PRAGMA locking_mode = EXCLUSIVE;
PRAGMA page_size = 4096;
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
PRAGMA wal_autocheckpoint = 0;
PRAGMA journal_size_limit = 16777216;
PRAGMA cache_size = -16384;
PRAGMA temp_store = MEMORY;
PRAGMA cell_size_check = ON;
PRAGMA secure_delete = ON;

-- name: ts_catalog_schema
CREATE TABLE metric (
    id INTEGER PRIMARY KEY,
    tenant INTEGER NOT NULL,
    name TEXT NOT NULL,
    UNIQUE (tenant, name)
) STRICT;
-- Written once, when the series is new.
CREATE TABLE series (
    id INTEGER PRIMARY KEY,
    device INTEGER NOT NULL,
    tenant INTEGER NOT NULL,
    metric INTEGER NOT NULL
) STRICT;
-- One row per device, rewritten by each flush that touches it.
CREATE TABLE device (
    device INTEGER PRIMARY KEY,
    tenant INTEGER NOT NULL,
    seq INTEGER NOT NULL,        -- the counters hold everything up to this commit
    crc INTEGER NOT NULL,
    body BLOB NOT NULL           -- counters, series and their last values: ts_catalog.h
) STRICT;
CREATE TABLE tenant (
    tenant INTEGER PRIMARY KEY,
    seq INTEGER NOT NULL,
    crc INTEGER NOT NULL,
    body BLOB NOT NULL
) STRICT;
CREATE TABLE note (
    key TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
-- Log rows that could not be read, as they were found.
CREATE TABLE quarantine (
    row INTEGER PRIMARY KEY,
    segment INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    crc INTEGER NOT NULL,
    reason TEXT NOT NULL,
    bytes BLOB NOT NULL,
    UNIQUE (segment, seq)
) STRICT;

-- name: ts_catalog_note_get
SELECT value FROM note WHERE key = ?1

-- name: ts_catalog_note_set
INSERT INTO note (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = excluded.value

-- name: ts_catalog_device_get
SELECT tenant, seq, crc, body FROM device WHERE device = ?1

-- name: ts_catalog_device_set
INSERT INTO device (device, tenant, seq, crc, body) VALUES (?1, ?2, ?3, ?4, ?5)
ON CONFLICT (device) DO UPDATE SET seq = excluded.seq, crc = excluded.crc, body = excluded.body

-- name: ts_catalog_device_delete
DELETE FROM device WHERE device = ?1

-- name: ts_catalog_series_add
INSERT INTO series (id, device, tenant, metric) VALUES (?1, ?2, ?3, ?4) ON CONFLICT (id) DO NOTHING

-- name: ts_catalog_series_get
SELECT s.device, s.tenant, m.name FROM series s JOIN metric m ON m.id = s.metric WHERE s.id = ?1

-- name: ts_catalog_series_delete
DELETE FROM series WHERE id = ?1

-- name: ts_catalog_metric_by_id
SELECT tenant, name FROM metric WHERE id = ?1

-- name: ts_catalog_metric_by_name
SELECT id FROM metric WHERE tenant = ?1 AND name = ?2

-- name: ts_catalog_metric_add
INSERT INTO metric (tenant, name) VALUES (?1, ?2) ON CONFLICT (tenant, name) DO UPDATE SET name = excluded.name RETURNING id

-- name: ts_catalog_metric_count
SELECT count(*) FROM metric WHERE tenant = ?1

-- name: ts_catalog_tenants
SELECT tenant, seq, crc, body FROM tenant

-- name: ts_catalog_tenant_set
INSERT INTO tenant (tenant, seq, crc, body) VALUES (?1, ?2, ?3, ?4)
ON CONFLICT (tenant) DO UPDATE SET seq = excluded.seq, crc = excluded.crc, body = excluded.body

-- name: ts_catalog_quarantine
INSERT INTO quarantine (segment, seq, crc, reason, bytes) VALUES (?1, ?2, ?3, ?4, ?5)
ON CONFLICT (segment, seq) DO NOTHING

-- name: ts_catalog_quarantined
SELECT count(*) FROM quarantine
