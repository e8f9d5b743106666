-- The telemetry of one day: chunk rows, and which part of the log they already hold.

-- name: ts_part_settings_writer
PRAGMA page_size = 4096;
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
PRAGMA wal_autocheckpoint = 0;
PRAGMA journal_size_limit = 8388608;
PRAGMA cache_size = -2048;
PRAGMA temp_store = MEMORY;
PRAGMA cell_size_check = ON;
PRAGMA secure_delete = ON;

-- name: ts_part_settings_reader
PRAGMA query_only = ON;
PRAGMA cache_size = -1024;
PRAGMA mmap_size = 268435456;
PRAGMA temp_store = MEMORY;
PRAGMA cell_size_check = ON;

-- name: ts_part_schema
-- chunk.id is epoch (18 bits), series (32 bits), part (13 bits): rows are appended in this order, so that a flush writes
-- pages one after another; a series is found by one search per epoch.
CREATE TABLE chunk (
    id INTEGER PRIMARY KEY,
    start INTEGER NOT NULL,      -- first time, microseconds of the day
    span INTEGER NOT NULL,       -- last time less first time
    n INTEGER NOT NULL,          -- points
    codec INTEGER NOT NULL,      -- kind, scale, unit: ts_chunk.h
    seq INTEGER NOT NULL,        -- holds the points of commits up to this one
    crc INTEGER NOT NULL,        -- CRC-32C over id, description and bytes
    bytes BLOB NOT NULL
) STRICT;
-- One row per flush that wrote here.
CREATE TABLE epoch (
    epoch INTEGER PRIMARY KEY,
    seq INTEGER NOT NULL
) STRICT;
-- Written in the transaction of the chunks: series from `since` to `upto` hold everything up to commit `seq`.
CREATE TABLE flushed (
    epoch INTEGER NOT NULL,
    upto INTEGER NOT NULL,
    since INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    PRIMARY KEY (epoch, upto)
) STRICT, WITHOUT ROWID;
-- Chunks whose checksum or content is wrong, as they were found.
CREATE TABLE quarantine (
    row INTEGER PRIMARY KEY,
    id INTEGER NOT NULL,
    start INTEGER NOT NULL,
    span INTEGER NOT NULL,
    n INTEGER NOT NULL,
    codec INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    crc INTEGER NOT NULL,
    bytes BLOB NOT NULL
) STRICT;
CREATE TABLE note (
    key TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- name: ts_part_insert
INSERT INTO chunk (id, start, span, n, codec, seq, crc, bytes) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)

-- name: ts_part_epoch_last
SELECT coalesce(max(epoch), 0) FROM epoch

-- name: ts_part_epoch_set
INSERT INTO epoch (epoch, seq) VALUES (?1, ?2) ON CONFLICT (epoch) DO UPDATE SET seq = excluded.seq

-- name: ts_part_epochs
SELECT epoch FROM epoch ORDER BY epoch

-- name: ts_part_flushed_set
INSERT INTO flushed (epoch, upto, since, seq) VALUES (?1, ?2, ?3, ?4)
ON CONFLICT (epoch, upto) DO UPDATE SET since = min(since, excluded.since), seq = min(seq, excluded.seq)

-- name: ts_part_flushed_after
SELECT epoch, since, upto, seq FROM flushed WHERE seq >= ?1 ORDER BY epoch, upto

-- name: ts_part_chunks
SELECT id, start, span, n, codec, seq FROM chunk WHERE id BETWEEN ?1 AND ?2

-- name: ts_part_bytes
SELECT crc, bytes FROM chunk WHERE id = ?1

-- name: ts_part_scan
SELECT id FROM chunk WHERE id >= ?1 ORDER BY id LIMIT 1

-- name: ts_part_delete
DELETE FROM chunk WHERE id BETWEEN ?1 AND ?2

-- name: ts_part_quarantine
INSERT INTO quarantine (id, start, span, n, codec, seq, crc, bytes)
SELECT id, start, span, n, codec, seq, crc, bytes FROM chunk WHERE id = ?1

-- name: ts_part_quarantine_erase
DELETE FROM quarantine WHERE id BETWEEN ?1 AND ?2

-- name: ts_part_quarantined
SELECT count(*) FROM quarantine

-- name: ts_part_note_get
SELECT value FROM note WHERE key = ?1

-- name: ts_part_note_set
INSERT INTO note (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = excluded.value
