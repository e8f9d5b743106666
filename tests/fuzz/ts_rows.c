// Rows of the telemetry store: a commit of the log (first byte even) and a device of the catalog (odd). Whatever the bytes
// are, they are refused as damaged or taken, and what was taken can be forgotten again.
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "store/ts_priv.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char dir[] = "/tmp/muster-fuzz-XXXXXX";
static struct ts *store;

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *walk)
{
    (void)st;
    (void)type;
    (void)walk;
    return remove(path);
}

static void end(void)
{
    ts_close(store);
    (void)nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void begin(void)
{
    struct ts_conf conf = {.series_per_device = 0};
    struct err err = {.code = ST_OK};
    log_setup(LOG_ERROR, LOG_LOGFMT, 2);
    if (mkdtemp(dir) == NULL || ts_open(dir, &conf, &store, &err) != ST_OK) {
        fprintf(stderr, "ts_rows: %s\n", err.text);
        abort();
    }
    // Names for the metric ids that device rows refer to.
    if (db_script(store->catalog, "INSERT INTO metric (tenant, name) VALUES (1, 't'), (1, 'n'), (1, 'x'), (1, 'on')",
                  &err) != ST_OK) {
        abort();
    }
    atexit(end);
}

static void forget(void)
{
    ts_abandon(store);
    ts_memory_free(store);
    store->dirty_len = 0;
    store->series_len = 0;
    while (store->erases != NULL) {
        struct ts_erase *next = store->erases->next;
        free(store->erases);
        store->erases = next;
    }
    if (store->stats.head_bytes != 0) {
        fprintf(stderr, "ts_rows: %llu bytes of heads are left\n", (unsigned long long)store->stats.head_bytes);
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (store == NULL) {
        begin();
    }
    struct reader r = reader_make(slice_make(data, size));
    bool log = (rd_u8(&r) & 1) == 0;
    struct slice bytes = rd_rest(&r);
    enum status st = ST_OK;
    if (log) {
        st = ts_log_decode(store, bytes, 1, NULL);
        if (st == ST_OK) {
            store->settling = true;
            st = ts_settle(store);
        }
    } else {
        struct ts_device *d = ts_device_get(store, 1, 1);
        st = d != NULL ? ts_catalog_decode(store, d, bytes) : ST_NOMEM;
    }
    if (st != ST_OK && st != ST_CORRUPT && st != ST_NOT_FOUND && st != ST_BUSY) {
        fprintf(stderr, "ts_rows: %s\n", status_text(st));
        abort();
    }
    forget();
    return 0;
}
