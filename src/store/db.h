// The state store: one SQLite connection, its prepared statements and transactions. Only this folder includes sqlite3.h.
//
// Rules (docs/design/store.md): one writer (the core thread), readers on their own connections; WAL, synchronous=FULL;
// SQL lives in .sql files, embedded by the build as `struct sql_def` tables; values are bound, never pasted. A failed
// sync or an unexpected I/O error while writing ends the process (db_fatal): the kernel may have dropped the pages.
// A full disk is not fatal: ST_FULL, the transaction is rolled back, reading goes on.
#ifndef STORE_DB_H
#define STORE_DB_H

#include "base/slice.h"
#include "base/status.h"

struct db;
struct stmt;

// A statement as the build embeds it from "-- name: twin_get" blocks in a .sql file. Statements are identified by address.
struct sql_def {
    const char *name;
    const char *text;
};

enum db_mode { DB_WRITER, DB_READER };

// Thread: a db and its statements belong to one thread at a time; only db_interrupt may be called from another.
//
// Opens or (writer only) creates the file, mode 0600 less the umask. ST_NOT_FOUND: a reader without a file; ST_CORRUPT: not a
// database or damaged; ST_INVALID: another program's database; ST_FULL, ST_NOMEM, ST_IO.
enum status db_open(const char *path, enum db_mode mode, struct db **ret, struct err *err);
void db_close(struct db *db); // NULL is allowed
// Applies the numbered migrations newer than the store, one transaction each. A store newer than this program is refused
// with ST_VERSION. A failed one leaves the version before it; the next start goes on from there.
struct db_migration {
    int number; // 1, 2, 3 ... without gaps
    const char *name;
    const char *sql;
};
enum status db_migrate(struct db *db, const struct db_migration *list, size_t n, struct err *err);
// Prepares every statement of a table, so that a missing column stops the start and not a device.
enum status db_prepare_all(struct db *db, const struct sql_def *defs, size_t n, struct err *err);

enum status db_begin(struct db *db, struct err *err); // BEGIN IMMEDIATE on the writer, a read snapshot on a reader
// Durable when it returns ST_OK; with any other status nothing of the transaction is stored. SQLite undoes a whole
// transaction on some errors (disk full, no memory): then every further step and savepoint returns that status, and so does
// the commit.
enum status db_commit(struct db *db, struct err *err);
void db_rollback(struct db *db);
// One operation inside a batch: undone alone when it fails.
enum status db_savepoint(struct db *db);
enum status db_savepoint_release(struct db *db);
void db_savepoint_rollback(struct db *db);
bool db_in_transaction(const struct db *db);
bool db_changed(const struct db *db); // something was written since db_begin
// Copies the log into the file once it holds `pages_max` pages that are not copied yet, so that the work of one call is
// bounded by about that; 0 copies everything and truncates the log. ST_BUSY: a reader still needs the log, try later.
enum status db_checkpoint(struct db *db, unsigned pages_max); // writer, outside a transaction
int64_t db_size_bytes(const struct db *db);                   // file and log, any thread
// Writes a copy (of the snapshot, when a transaction is open on a reader) as a file of its own, mode 0600, synced, and only
// then under its name. The copy needs no log beside it.
enum status db_backup(struct db *db, const char *to_path, struct err *err);
enum status db_integrity(struct db *db, struct err *err); // quick_check; ST_CORRUPT with what was found
void db_interrupt(struct db *db);                         // any thread: a running read ends with ST_TIMEOUT

// Statements: get (cached, reset, cleared), bind by 1-based index, step, read columns. A statement belongs to its db and is
// reset by the next db_stmt of the same def, or by stmt_reset; use STMT for one that resets itself at the end of scope.
// Never NULL: a statement that could not be prepared ignores its binds and returns why from stmt_step. A bind that did not
// work (index out of range, no memory) is returned by the step as well. Stepping a finished statement gives no row.
struct stmt *db_stmt(struct db *db, const struct sql_def *def);
void stmt_bind_i64(struct stmt *s, int i, int64_t v);
void stmt_bind_f64(struct stmt *s, int i, double v);
void stmt_bind_text(struct stmt *s, int i, struct slice v); // p == NULL binds NULL; bytes must live until reset
void stmt_bind_str(struct stmt *s, int i, const char *v);
void stmt_bind_blob(struct stmt *s, int i, struct slice v);
void stmt_bind_null(struct stmt *s, int i);
// ST_OK: a row is there (*ret_row true) or the statement is done (false). Constraint violations: ST_EXISTS for unique and
// primary keys, ST_CONFLICT for the others. ST_FULL, ST_NOMEM, ST_TIMEOUT (interrupted) as they come.
enum status stmt_step(struct stmt *s, bool *ret_row, struct err *err);
enum status stmt_run(struct stmt *s, struct err *err); // for statements without rows: step to the end and reset
int64_t stmt_changes(const struct stmt *s);            // rows touched by the last run
void stmt_reset(struct stmt *s);

int64_t col_i64(struct stmt *s, int i); // 0-based
double col_f64(struct stmt *s, int i);
struct slice col_text(struct stmt *s, int i); // p == NULL for NULL; valid until the next step or reset
struct slice col_blob(struct stmt *s, int i);
bool col_is_null(struct stmt *s, int i);

static inline void stmt_cleanup_(struct stmt **s)
{
    if (*s != NULL) {
        stmt_reset(*s);
    }
}
#define STMT(var, db, def) struct stmt *var __attribute__((cleanup(stmt_cleanup_))) = db_stmt((db), (def))

#endif
