-- Transactions and the store's own questions. Settings (PRAGMA) that take no parameter stand here too.

-- name: db_begin
BEGIN IMMEDIATE

-- name: db_begin_read
BEGIN

-- name: db_touch
-- Reading the schema takes the read snapshot now and not at the first query.
SELECT count(*) FROM sqlite_schema

-- name: db_commit
COMMIT

-- name: db_rollback
ROLLBACK

-- name: db_savepoint
SAVEPOINT op

-- name: db_savepoint_release
RELEASE op

-- name: db_savepoint_rollback
ROLLBACK TO op

-- name: db_quick_check
PRAGMA quick_check(1)

-- name: db_foreign_key_check
PRAGMA foreign_key_check

-- name: db_application_id
PRAGMA application_id

-- name: db_user_version
PRAGMA user_version

-- name: db_settings_writer
PRAGMA page_size = 4096;
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
PRAGMA recursive_triggers = ON;
PRAGMA wal_autocheckpoint = 0;
PRAGMA journal_size_limit = 67108864;
PRAGMA cache_size = -16384;
PRAGMA temp_store = MEMORY;
PRAGMA cell_size_check = ON;
PRAGMA secure_delete = ON;

-- name: db_settings_reader
PRAGMA query_only = ON;
PRAGMA cache_size = -4096;
PRAGMA mmap_size = 268435456;
PRAGMA temp_store = MEMORY;
PRAGMA cell_size_check = ON;

-- name: db_journal_mode
PRAGMA journal_mode
