// The telemetry of deleted devices. The telemetry store commits by itself, so the intent is a row of device_erase, written
// with the deletion:
//
//   row written --commit--> erase --ok--> in registry.erased --device_erase_retry--> row removed
//                             \-failed, or the process ended-> row left --start, device_erase_retry--> erase
//
// Erasing twice does nothing, so whatever is forgotten on the way to the removal is harmless.
#include <stdlib.h>

#include "base/log.h"
#include "domain/registry/registry_priv.h"
#define SQL_DEVICE_ERASE_DEFINE
#include "domain/registry/sql/device_erase.sql.h"

#define RETRY_EVERY_MS 60000
#define RETRY_MAX      256  // devices in one retry
#define ERASED_MAX     4096 // rows known to be removable; more are found again by the retry

struct erase {
    struct erase *next;
    struct ts *ts;
    uint64_t device;
};

static void erase_telemetry(struct core *c, void *arg)
{
    struct erase *e = arg;
    struct err err = {.code = ST_OK};
    struct registry *r = core_slot(c, CORE_SLOT_REGISTRY);
    bool erased = ts_device_erase(e->ts, e->device, &err) == ST_OK;
    if (!erased) {
        log_warn("registry", "telemetry of a deleted device could not be erased, will be tried again",
                 LOGS("error", err.text));
    }
    if (!erased || r == NULL || r->erased_len == ERASED_MAX) {
        free(e);
        return;
    }
    e->next = r->erased;
    r->erased = e;
    r->erased_len++;
}

static void erase_forget(struct core *c, void *arg)
{
    (void)c;
    free(arg);
}

// The telemetry store is told only once the deletion is durable, and never within a batch.
static enum status erase_after_commit(struct tx *tx, uint64_t device, struct err *err)
{
    struct erase *e = calloc(1, sizeof(*e));
    if (e == NULL) {
        return err_set(err, ST_NOMEM, "no memory");
    }
    *e = (struct erase){.ts = tx->ts, .device = device};
    if (!tx_after_commit(tx, erase_telemetry, erase_forget, e)) {
        free(e);
        return err_set(err, ST_NOMEM, "no memory");
    }
    return ST_OK;
}

enum status device_erase_later(struct tx *tx, uint64_t device, struct err *err)
{
    STMT(s, tx->db, &sql_device_erase[SQL_DEVICE_ERASE_INSERT]);
    stmt_bind_i64(s, 1, (int64_t)device);
    stmt_bind_i64(s, 2, tx->now_us);
    enum status st = stmt_run(s, err);
    return st == ST_OK ? erase_after_commit(tx, device, err) : st;
}

// An entry is forgotten even when the removal is undone: its row is then found by a later retry.
static enum status remove_erased(struct tx *tx, struct registry *r, struct err *err)
{
    enum status st = ST_OK;
    while (st == ST_OK && r->erased != NULL) {
        struct erase *e = r->erased;
        r->erased = e->next;
        r->erased_len--;
        STMT(s, tx->db, &sql_device_erase[SQL_DEVICE_ERASE_DELETE]);
        stmt_bind_i64(s, 1, (int64_t)e->device);
        st = stmt_run(s, err);
        free(e);
    }
    return st;
}

enum status device_erase_retry(struct tx *tx, struct err *err)
{
    struct registry *r = core_slot(tx->core, CORE_SLOT_REGISTRY);
    enum status st = r != NULL ? remove_erased(tx, r, err) : ST_OK;
    STMT(s, tx->db, &sql_device_erase[SQL_DEVICE_ERASE_LIST]);
    stmt_bind_i64(s, 1, RETRY_MAX);
    bool row = st == ST_OK;
    while (st == ST_OK && row) {
        st = stmt_step(s, &row, err);
        if (st == ST_OK && row) {
            st = erase_after_commit(tx, (uint64_t)col_i64(s, 0), err);
        }
    }
    return st;
}

enum status registry_start(struct tx *tx, void *arg, struct err *err)
{
    (void)arg;
    if (registry_get(tx->core) == NULL) {
        return err_set(err, ST_NOMEM, "no memory");
    }
    core_every(tx->core, RETRY_EVERY_MS, device_erase_retry);
    return device_erase_retry(tx, err);
}

void device_erase_release(struct registry *r)
{
    while (r->erased != NULL) {
        struct erase *e = r->erased;
        r->erased = e->next;
        free(e);
    }
    r->erased_len = 0;
}
