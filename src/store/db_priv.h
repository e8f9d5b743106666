// Inside of the store, shared by db.c, stmt.c and the telemetry store's files. Nobody else includes it.
#ifndef STORE_DB_PRIV_H
#define STORE_DB_PRIV_H

#include <sqlite3.h>

#include "base/map.h"
#include "store/db.h"

#define DB_APPLICATION_ID 0x4d535452 // "MSTR", the state store

struct stmt {
    struct db *db;
    sqlite3_stmt *s;           // NULL: could not be prepared, `failed` says why
    const struct sql_def *def; // NULL in db->broken
    enum status failed;        // sticky until the next reset: a bind that did not work
    int64_t changes;           // of the last completed run
    bool done;                 // ran to the end; steps return no row until the next reset
};

// The life of a transaction:
//
//   IDLE --db_begin--> OPEN --db_commit, db_rollback--> IDLE
//                        \--SQLite undid all of it (disk full, no memory, I/O error)--> LOST --db_commit, db_rollback--> IDLE
//
// In LOST nothing runs any more: a statement would commit by itself, without the batch it belongs to. Steps and the
// commit return the status that undid the transaction.
enum db_tx { DB_TX_IDLE, DB_TX_OPEN, DB_TX_LOST };

struct db {
    sqlite3 *h;
    char *path;
    enum db_mode mode;
    enum db_tx tx;
    enum status lost;       // why, in DB_TX_LOST
    int64_t changes_before; // total changes at db_begin
    unsigned wal_pages;     // in the log after the last commit
    unsigned wal_copied;    // of these, already copied into the file
    struct map stmts;       // by address of the definition
    struct stmt broken;     // what db_stmt returns when preparing failed
};

// A file format: which application id it carries, and how its connection is set up. Every file of the store has one.
struct db_kind {
    uint32_t application_id;
    const struct sql_def *writer; // settings, run when the file is opened
    const struct sql_def *reader;
    bool must_exist; // a writer does not create it
};
enum status db_open_kind(const char *path, enum db_mode mode, const struct db_kind *kind, struct db **ret,
                         struct err *err);
// Runs a script of statements without parameters or rows (settings, schema).
enum status db_script(struct db *db, const char *sql, struct err *err);
// One integer from a statement without parameters.
enum status db_ask_i64(struct db *db, const struct sql_def *def, int64_t *ret_v, struct err *err);

// What a SQLite result means here, with the file named. Ends the process (db_fatal) when a write or a sync of the writer
// failed for another reason than a full disk. Notes a lost transaction.
enum status db_result(struct db *db, int rc, const char *doing, struct err *err);
// One log line and _exit(70): after a failed write or sync the kernel may have dropped pages, so nothing this process
// believes about the file can be trusted any more; the next start reads what is really there.
_Noreturn void db_fatal(const char *path, const char *doing, int rc, int sys_errno);
// The statement is about to run in a transaction that SQLite has undone: its status, else ST_OK.
enum status db_tx_check(struct db *db, struct err *err);

#endif
