-- A segment of the telemetry log: one row per commit, in the order of the commits.

-- name: ts_log_settings
-- Only the owner opens a segment: no shared memory. The log (WAL) is the segment; it is never copied into the file.
PRAGMA locking_mode = EXCLUSIVE;
PRAGMA page_size = 4096;
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
PRAGMA wal_autocheckpoint = 0;
PRAGMA cache_size = -2048;
PRAGMA temp_store = MEMORY;
PRAGMA cell_size_check = ON;

-- name: ts_log_schema
CREATE TABLE log (
    seq INTEGER PRIMARY KEY,     -- of the commit, counts through all segments
    crc INTEGER NOT NULL,        -- CRC-32C of seq and blob
    blob BLOB NOT NULL           -- records, see ts_log.h
) STRICT;

-- name: ts_log_insert
INSERT INTO log (seq, crc, blob) VALUES (?1, ?2, ?3)

-- name: ts_log_scan
SELECT seq, crc, blob FROM log ORDER BY seq
