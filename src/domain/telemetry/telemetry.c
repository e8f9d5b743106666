// Start and stop of the telemetry module.
#include "domain/telemetry/ingest.h"
#include "domain/telemetry/retention.h"

enum status telemetry_start(struct tx *tx, void *arg, struct err *err)
{
    (void)arg;
    enum status st = ledger_start(tx, err);
    return st == ST_OK ? retention_start(tx, err) : st;
}

void telemetry_stop(struct core *c)
{
    ledger_stop(c);
}
