// One SQLite connection: opening with the house's settings, transactions, migrations, checkpoints, backup.
#include "store/db_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"

#define SQL_DB_DEFINE
#include "store/sql/db.sql.h"

#define DB_BUSY_MS        5000
#define DB_HEAP_SOFT      ((sqlite3_int64)256 << 20) // over it SQLite gives cached pages back first
#define DB_HEAP_HARD      ((sqlite3_int64)1 << 30)   // over it a statement fails with ST_NOMEM
#define DB_BACKUP_PAGES   1024
#define DB_PATH_MAX       4096
#define DB_FATAL_EXIT     70 // EX_SOFTWARE of sysexits.h
#define DB_CHECK_TEXT_MAX 200

// Bounds on what a statement may be, far above what our own need: a composed query cannot become a bomb.
static const struct {
    int id;
    int max;
} db_limits[] = {
    {SQLITE_LIMIT_LENGTH, 64 << 20},         {SQLITE_LIMIT_SQL_LENGTH, 1 << 20}, {SQLITE_LIMIT_COLUMN, 100},
    {SQLITE_LIMIT_EXPR_DEPTH, 100},          {SQLITE_LIMIT_COMPOUND_SELECT, 16}, {SQLITE_LIMIT_VDBE_OP, 100000},
    {SQLITE_LIMIT_FUNCTION_ARG, 64},         {SQLITE_LIMIT_ATTACHED, 0},         {SQLITE_LIMIT_VARIABLE_NUMBER, 1000},
    {SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 256}, {SQLITE_LIMIT_TRIGGER_DEPTH, 8},    {SQLITE_LIMIT_WORKER_THREADS, 0},
};

static const struct db_kind db_kind_state = {
    .application_id = DB_APPLICATION_ID,
    .writer = &sql_db[SQL_DB_SETTINGS_WRITER],
    .reader = &sql_db[SQL_DB_SETTINGS_READER],
};

// --- Errors ---------------------------------------------------------------------------------------------------------

static const struct {
    int rc; // a primary code
    enum status status;
    const char *text;
} db_codes[] = {
    {SQLITE_FULL, ST_FULL, "the disk is full"},
    {SQLITE_NOMEM, ST_NOMEM, "no memory"},
    {SQLITE_INTERRUPT, ST_TIMEOUT, "interrupted"},
    {SQLITE_BUSY, ST_BUSY, "locked by another process"},
    {SQLITE_LOCKED, ST_BUSY, "locked"},
    {SQLITE_TOOBIG, ST_TOO_LARGE, "value too large"},
    {SQLITE_CORRUPT, ST_CORRUPT, "the file is damaged"},
    {SQLITE_NOTADB, ST_CORRUPT, "the file is not a database"},
    {SQLITE_CANTOPEN, ST_IO, "cannot be opened"},
    {SQLITE_PERM, ST_IO, "no permission"},
    {SQLITE_READONLY, ST_IO, "not writable"},
    {SQLITE_IOERR, ST_IO, "input/output error"},
    {SQLITE_CONSTRAINT, ST_CONFLICT, "a constraint is violated"},
};

static bool db_no_space(int rc, int sys_errno)
{
    return (rc == SQLITE_IOERR_WRITE || rc == SQLITE_IOERR_SHMSIZE) && (sys_errno == ENOSPC || sys_errno == EDQUOT);
}

static bool db_write_failed(int rc)
{
    return rc == SQLITE_IOERR_WRITE || rc == SQLITE_IOERR_FSYNC || rc == SQLITE_IOERR_DIR_FSYNC ||
           rc == SQLITE_IOERR_TRUNCATE || rc == SQLITE_IOERR_COMMIT_ATOMIC;
}

_Noreturn void db_fatal(const char *path, const char *doing, int rc, int sys_errno)
{
    log_error("store", "a write or sync failed; the process ends so that nothing false is acknowledged",
              LOGS("file", path), LOGS("doing", doing), LOGS("error", sqlite3_errstr(rc)), LOGI("code", rc),
              LOGI("errno", sys_errno));
    _exit(DB_FATAL_EXIT);
}

static enum status db_status_of(int rc, const char **ret_text)
{
    *ret_text = sqlite3_errstr(rc);
    rc = rc == SQLITE_IOERR_NOMEM ? SQLITE_NOMEM : rc;
    if (rc == SQLITE_CONSTRAINT_UNIQUE || rc == SQLITE_CONSTRAINT_PRIMARYKEY || rc == SQLITE_CONSTRAINT_ROWID) {
        *ret_text = "already there";
        return ST_EXISTS;
    }
    for (size_t i = 0; i < sizeof(db_codes) / sizeof(db_codes[0]); i++) {
        if (db_codes[i].rc == (rc & 0xff)) {
            *ret_text = db_codes[i].text;
            return db_codes[i].status;
        }
    }
    return ST_INTERNAL;
}

enum status db_result(struct db *db, int rc, const char *doing, struct err *err)
{
    int sys_errno = sqlite3_system_errno(db->h);
    if (db_no_space(rc, sys_errno)) {
        rc = SQLITE_FULL;
    } else if (db->mode == DB_WRITER && db_write_failed(rc)) {
        db_fatal(db->path, doing, rc, sys_errno);
    }
    const char *text = NULL;
    enum status st = db_status_of(rc, &text);
    if (db->tx == DB_TX_OPEN && sqlite3_get_autocommit(db->h) != 0) {
        db->tx = DB_TX_LOST;
        db->lost = st;
    }
    return err_set(err, st, "%s: %s: %s (%s)", db->path, doing, text, sqlite3_errmsg(db->h));
}

enum status db_tx_check(struct db *db, struct err *err)
{
    if (db->tx != DB_TX_LOST) {
        return ST_OK;
    }
    return err_set(err, db->lost, "%s: the transaction was undone before (%s)", db->path, status_text(db->lost));
}

// --- Opening --------------------------------------------------------------------------------------------------------

// SQLite tells here which system call failed on which file; its notices (a log recovered, a schema changed) are debug.
static void db_sqlite_log(void *arg, int rc, const char *text)
{
    (void)arg;
    int primary = rc & 0xff;
    if (primary == SQLITE_IOERR || primary == SQLITE_CORRUPT || primary == SQLITE_NOTADB || primary == SQLITE_FULL) {
        log_warn("store", "sqlite", LOGI("code", rc), LOGS("text", text));
    } else {
        log_debug("store", "sqlite", LOGI("code", rc), LOGS("text", text));
    }
}

static void db_library_init(void)
{
    (void)sqlite3_config(SQLITE_CONFIG_LOG, db_sqlite_log, NULL);
    (void)sqlite3_initialize();
    (void)sqlite3_soft_heap_limit64(DB_HEAP_SOFT);
    (void)sqlite3_hard_heap_limit64(DB_HEAP_HARD);
}

// Makes the file before SQLite does, so that it is never readable by others, not even for a moment. An existing file is
// not opened here: closing a second descriptor would drop the locks other connections of this process hold.
static enum status db_create_file(const char *path, bool must_exist, struct err *err)
{
    struct stat st;
    if (stat(path, &st) == 0) {
        return ST_OK;
    }
    if (must_exist) {
        return err_set(err, ST_NOT_FOUND, "%s: no such store", path);
    }
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd >= 0) {
        (void)close(fd);
        return ST_OK;
    }
    if (errno == EEXIST) {
        return ST_OK;
    }
    enum status code = errno == ENOSPC || errno == EDQUOT ? ST_FULL : ST_IO;
    return err_set(err, code, "%s: cannot be created: %s", path, strerror(errno));
}

static enum status db_harden(struct db *db, struct err *err)
{
    static const struct {
        int op;
        int on;
    } switches[] = {
        {SQLITE_DBCONFIG_ENABLE_FKEY, 1}, {SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0},
        {SQLITE_DBCONFIG_DQS_DDL, 0},     {SQLITE_DBCONFIG_DQS_DML, 0},
        {SQLITE_DBCONFIG_DEFENSIVE, 1},   {SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 0},
        {SQLITE_DBCONFIG_ENABLE_VIEW, 1},
    };
    for (size_t i = 0; i < sizeof(switches) / sizeof(switches[0]); i++) {
        int rc = sqlite3_db_config(db->h, switches[i].op, switches[i].on, NULL);
        if (rc != SQLITE_OK) {
            return db_result(db, rc, "settings", err);
        }
    }
    for (size_t i = 0; i < sizeof(db_limits) / sizeof(db_limits[0]); i++) {
        (void)sqlite3_limit(db->h, db_limits[i].id, db_limits[i].max);
    }
    (void)sqlite3_busy_timeout(db->h, DB_BUSY_MS);
    return ST_OK;
}

enum status db_script(struct db *db, const char *sql, struct err *err)
{
    enum status st = db_tx_check(db, err);
    if (st != ST_OK) {
        return st;
    }
    int rc = sqlite3_exec(db->h, sql, NULL, NULL, NULL);
    return rc == SQLITE_OK ? ST_OK : db_result(db, sqlite3_extended_errcode(db->h), "script", err);
}

enum status db_ask_i64(struct db *db, const struct sql_def *def, int64_t *ret_v, struct err *err)
{
    STMT(s, db, def);
    bool row = false;
    enum status st = stmt_step(s, &row, err);
    if (st == ST_OK && !row) {
        return err_set(err, ST_INTERNAL, "%s: %s gave no row", db->path, def->name);
    }
    if (st == ST_OK) {
        *ret_v = col_i64(s, 0);
    }
    return st;
}

// A file with another application's id is not ours to touch; a fresh one gets ours.
static enum status db_check_kind(struct db *db, const struct db_kind *kind, struct err *err)
{
    int64_t id = 0;
    int64_t tables = 0;
    enum status st = db_ask_i64(db, &sql_db[SQL_DB_APPLICATION_ID], &id, err);
    if (st == ST_OK) {
        st = db_ask_i64(db, &sql_db[SQL_DB_TOUCH], &tables, err);
    }
    if (st != ST_OK || id == kind->application_id) {
        return st;
    }
    if (id != 0 || tables != 0) {
        return err_set(err, ST_INVALID, "%s: a database of another program or of another kind (application id %lld)",
                       db->path, (long long)id);
    }
    if (db->mode == DB_READER) {
        return err_set(err, ST_INVALID, "%s: empty, nothing to read", db->path);
    }
    char sql[64];
    (void)snprintf(sql, sizeof(sql), "PRAGMA application_id = %u", kind->application_id);
    return db_script(db, sql, err);
}

static enum status db_check_wal(struct db *db, struct err *err)
{
    STMT(s, db, &sql_db[SQL_DB_JOURNAL_MODE]);
    bool row = false;
    enum status st = stmt_step(s, &row, err);
    if (st == ST_OK && (!row || !slice_eq_str(col_text(s, 0), "wal"))) {
        return err_set(err, ST_IO, "%s: the file system cannot hold a write-ahead log", db->path);
    }
    return st;
}

static int db_wal_hook(void *arg, sqlite3 *h, const char *name, int pages)
{
    (void)h;
    (void)name;
    struct db *db = arg;
    db->wal_pages = pages > 0 ? (unsigned)pages : 0;
    if (db->wal_pages <= db->wal_copied) { // a commit adds pages, so SQLite began the log anew
        db->wal_copied = 0;
    }
    return SQLITE_OK;
}

static enum status db_setup(struct db *db, const struct db_kind *kind, struct err *err)
{
    enum status st = db_harden(db, err);
    if (st == ST_OK) {
        st = db_script(db, (db->mode == DB_WRITER ? kind->writer : kind->reader)->text, err);
    }
    if (st == ST_OK) {
        st = db_check_kind(db, kind, err);
    }
    if (st == ST_OK) {
        st = db_check_wal(db, err);
    }
    if (st == ST_OK && db->mode == DB_WRITER) {
        (void)sqlite3_wal_hook(db->h, db_wal_hook, db);
    }
    return st;
}

enum status db_open_kind(const char *path, enum db_mode mode, const struct db_kind *kind, struct db **ret,
                         struct err *err)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    (void)pthread_once(&once, db_library_init);
    enum status st = db_create_file(path, mode == DB_READER || kind->must_exist, err);
    if (st != ST_OK) {
        return st;
    }
    struct db *db = calloc(1, sizeof(*db));
    char *copy = strdup(path);
    if (db == NULL || copy == NULL) {
        free(db);
        free(copy);
        return err_set(err, ST_NOMEM, "%s: no memory to open it", path);
    }
    db->path = copy;
    db->mode = mode;
    map_init(&db->stmts);
    int flags = (mode == DB_WRITER ? SQLITE_OPEN_READWRITE : SQLITE_OPEN_READONLY) | SQLITE_OPEN_NOMUTEX |
                SQLITE_OPEN_EXRESCODE;
    int rc = sqlite3_open_v2(path, &db->h, flags, NULL);
    st = rc == SQLITE_OK ? db_setup(db, kind, err) : db_result(db, rc, "open", err);
    if (st != ST_OK) {
        db_close(db);
        return st;
    }
    *ret = db;
    return ST_OK;
}

enum status db_open(const char *path, enum db_mode mode, struct db **ret, struct err *err)
{
    return db_open_kind(path, mode, &db_kind_state, ret, err);
}

void db_close(struct db *db)
{
    if (db == NULL) {
        return;
    }
    db_rollback(db);
    size_t pos = 0;
    for (struct stmt *s = map_next(&db->stmts, &pos, NULL, NULL); s != NULL;
         s = map_next(&db->stmts, &pos, NULL, NULL)) {
        sqlite3_finalize(s->s);
        free(s);
    }
    map_release(&db->stmts);
    (void)sqlite3_close(db->h);
    free(db->path);
    free(db);
}

// --- Transactions ---------------------------------------------------------------------------------------------------

static enum status db_run(struct db *db, int which, struct err *err)
{
    return stmt_run(db_stmt(db, &sql_db[which]), err);
}

enum status db_begin(struct db *db, struct err *err)
{
    if (db->tx != DB_TX_IDLE) {
        return err_set(err, ST_INTERNAL, "%s: a transaction is open already", db->path);
    }
    db->changes_before = sqlite3_total_changes64(db->h);
    enum status st = db_run(db, db->mode == DB_WRITER ? SQL_DB_BEGIN : SQL_DB_BEGIN_READ, err);
    if (st != ST_OK) {
        return st;
    }
    db->tx = DB_TX_OPEN;
    if (db->mode == DB_READER) {
        int64_t n = 0;
        st = db_ask_i64(db, &sql_db[SQL_DB_TOUCH], &n, err);
        if (st != ST_OK) {
            db_rollback(db);
        }
    }
    return st;
}

enum status db_commit(struct db *db, struct err *err)
{
    if (db->tx == DB_TX_IDLE) {
        return err_set(err, ST_INTERNAL, "%s: commit without a transaction", db->path);
    }
    enum status st = db_run(db, SQL_DB_COMMIT, err);
    if (st != ST_OK) {
        db_rollback(db);
        return st;
    }
    db->tx = DB_TX_IDLE;
    return ST_OK;
}

void db_rollback(struct db *db)
{
    if (db->tx == DB_TX_IDLE) {
        return;
    }
    db->tx = DB_TX_IDLE;
    if (sqlite3_get_autocommit(db->h) == 0) {
        // What can fail here (reading the old pages back) is reported by the next statement.
        (void)db_run(db, SQL_DB_ROLLBACK, NULL);
    }
}

enum status db_savepoint(struct db *db)
{
    return db_run(db, SQL_DB_SAVEPOINT, NULL);
}

enum status db_savepoint_release(struct db *db)
{
    return db_run(db, SQL_DB_SAVEPOINT_RELEASE, NULL);
}

void db_savepoint_rollback(struct db *db)
{
    if (db->tx == DB_TX_LOST) {
        return; // the whole transaction is gone, and this operation with it
    }
    (void)db_run(db, SQL_DB_SAVEPOINT_ROLLBACK, NULL);
    (void)db_run(db, SQL_DB_SAVEPOINT_RELEASE, NULL);
}

bool db_in_transaction(const struct db *db)
{
    return db->tx != DB_TX_IDLE;
}

bool db_changed(const struct db *db)
{
    return sqlite3_total_changes64(db->h) != db->changes_before;
}

// --- Migrations -----------------------------------------------------------------------------------------------------

static enum status db_check_references(struct db *db, struct err *err)
{
    STMT(s, db, &sql_db[SQL_DB_FOREIGN_KEY_CHECK]);
    bool row = false;
    enum status st = stmt_step(s, &row, err);
    if (st == ST_OK && row) {
        struct slice table = col_text(s, 0);
        return err_set(err, ST_CORRUPT, "%s: table " SLICE_FMT " has a row that refers to nothing", db->path,
                       SLICE_ARG(table));
    }
    return st;
}

static enum status db_migrate_one(struct db *db, const struct db_migration *m, struct err *err)
{
    enum status st = db_begin(db, err);
    if (st != ST_OK) {
        return st;
    }
    char version[64];
    (void)snprintf(version, sizeof(version), "PRAGMA user_version = %d", m->number);
    st = db_script(db, m->sql, err);
    if (st == ST_OK) {
        st = db_check_references(db, err);
    }
    if (st == ST_OK) {
        st = db_script(db, version, err);
    }
    if (st == ST_OK) {
        st = db_commit(db, err);
    }
    if (st != ST_OK) {
        db_rollback(db);
        err_wrap(err, "migration %d (%s)", m->number, m->name);
    }
    return st;
}

enum status db_migrate(struct db *db, const struct db_migration *list, size_t n, struct err *err)
{
    int64_t have = 0;
    enum status st = db_ask_i64(db, &sql_db[SQL_DB_USER_VERSION], &have, err);
    if (st != ST_OK) {
        return st;
    }
    if (have < 0 || (uint64_t)have > n) {
        return err_set(err, ST_VERSION,
                       "%s: written by a newer version of the program (store version %lld, this program knows up to "
                       "%zu); start that version, or restore a backup made before it",
                       db->path, (long long)have, n);
    }
    // A migration may rebuild a table that others refer to; references are checked before each commit instead.
    (void)sqlite3_db_config(db->h, SQLITE_DBCONFIG_ENABLE_FKEY, 0, NULL);
    for (size_t i = (size_t)have; st == ST_OK && i < n; i++) {
        st = db_migrate_one(db, &list[i], err);
    }
    (void)sqlite3_db_config(db->h, SQLITE_DBCONFIG_ENABLE_FKEY, 1, NULL);
    return st;
}

// --- Maintenance ----------------------------------------------------------------------------------------------------

enum status db_checkpoint(struct db *db, unsigned pages_max)
{
    if (pages_max > 0 && db->wal_pages - db->wal_copied < pages_max) {
        return ST_OK;
    }
    int pages = 0;
    int copied = 0;
    int mode = pages_max > 0 ? SQLITE_CHECKPOINT_PASSIVE : SQLITE_CHECKPOINT_TRUNCATE;
    int rc = sqlite3_wal_checkpoint_v2(db->h, NULL, mode, &pages, &copied);
    if (rc == SQLITE_BUSY || rc == SQLITE_LOCKED) {
        return ST_BUSY;
    }
    if (rc != SQLITE_OK) {
        return db_result(db, sqlite3_extended_errcode(db->h), "checkpoint", NULL);
    }
    db->wal_pages = pages > 0 ? (unsigned)pages : 0;
    db->wal_copied = copied > 0 ? (unsigned)copied : 0;
    return ST_OK;
}

static int64_t db_file_bytes(const char *path, const char *suffix)
{
    char name[DB_PATH_MAX];
    struct stat st;
    int n = snprintf(name, sizeof(name), "%s%s", path, suffix);
    return n > 0 && (size_t)n < sizeof(name) && stat(name, &st) == 0 ? (int64_t)st.st_size : 0;
}

int64_t db_size_bytes(const struct db *db)
{
    return db_file_bytes(db->path, "") + db_file_bytes(db->path, "-wal");
}

static enum status db_copy_to(struct db *db, sqlite3 *to, const char *to_path, struct err *err)
{
    sqlite3_backup *b = sqlite3_backup_init(to, "main", db->h, "main");
    int rc = SQLITE_OK;
    if (b == NULL) {
        rc = sqlite3_extended_errcode(to);
    } else {
        do {
            rc = sqlite3_backup_step(b, DB_BACKUP_PAGES);
        } while (rc == SQLITE_OK);
        int done = sqlite3_backup_finish(b);
        rc = rc == SQLITE_DONE ? done : rc;
    }
    if (rc == SQLITE_OK) {
        return ST_OK;
    }
    const char *text = NULL;
    enum status st = db_status_of(rc, &text);
    return err_set(err, st, "%s: backup to %s: %s", db->path, to_path, text);
}

static enum status db_sync_path(const char *path, int flags, struct err *err)
{
    int fd = open(path, flags | O_CLOEXEC);
    int rc = fd < 0 ? -1 : fsync(fd);
    int saved = errno;
    if (fd >= 0) {
        (void)close(fd);
    }
    return rc == 0 ? ST_OK : err_set(err, ST_IO, "%s: cannot be synced: %s", path, strerror(saved));
}

static enum status db_sync_parent(const char *path, struct err *err)
{
    char dir[DB_PATH_MAX];
    (void)snprintf(dir, sizeof(dir), "%s", path);
    char *slash = strrchr(dir, '/');
    if (slash == NULL) {
        return db_sync_path(".", O_RDONLY | O_DIRECTORY, err);
    }
    slash[slash == dir ? 1 : 0] = '\0';
    return db_sync_path(dir, O_RDONLY | O_DIRECTORY, err);
}

enum status db_backup(struct db *db, const char *to_path, struct err *err)
{
    char part[DB_PATH_MAX];
    int n = snprintf(part, sizeof(part), "%s.part", to_path);
    if (n < 0 || (size_t)n >= sizeof(part)) {
        return err_set(err, ST_INVALID, "the path of the backup is too long");
    }
    (void)unlink(part);
    enum status st = db_create_file(part, false, err);
    if (st != ST_OK) {
        return st;
    }
    sqlite3 *to = NULL;
    int rc = sqlite3_open_v2(part, &to, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE, NULL);
    st = rc == SQLITE_OK ? db_copy_to(db, to, to_path, err)
                         : err_set(err, ST_IO, "%s: cannot be opened: %s", part, sqlite3_errstr(rc));
    (void)sqlite3_close(to);
    if (st == ST_OK) {
        st = db_sync_path(part, O_RDONLY, err);
    }
    if (st == ST_OK && rename(part, to_path) != 0) {
        st = err_set(err, ST_IO, "%s: cannot be renamed: %s", part, strerror(errno));
    }
    if (st != ST_OK) {
        (void)unlink(part);
        return st;
    }
    return db_sync_parent(to_path, err);
}

enum status db_integrity(struct db *db, struct err *err)
{
    STMT(s, db, &sql_db[SQL_DB_QUICK_CHECK]);
    bool row = false;
    enum status st = stmt_step(s, &row, err);
    if (st != ST_OK) {
        return st;
    }
    struct slice text = row ? col_text(s, 0) : (struct slice){NULL, 0};
    if (slice_eq_str(text, "ok")) {
        return ST_OK;
    }
    text = slice_head(text, DB_CHECK_TEXT_MAX);
    return err_set(err, ST_CORRUPT, "%s: the file is damaged: " SLICE_FMT, db->path, SLICE_ARG(text));
}

void db_interrupt(struct db *db)
{
    sqlite3_interrupt(db->h);
}
