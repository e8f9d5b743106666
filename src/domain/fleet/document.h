// A device as expressions see it: one value for each root of expr_schema_device, read from the rows of several modules.
//
// A document is one device at a time in memory that is used again for the next, so that going through a million devices
// allocates nothing after the first. Only the roots that are asked for are read.
#ifndef FLEET_DOCUMENT_H
#define FLEET_DOCUMENT_H

#include "core/core.h"
#include "expr/eval.h"
#include "expr/schema.h"

struct fleet_doc;

// An empty document for these roots (EXPR_DEVICE_BIT of each). NULL: no memory. End it with fleet_doc_free.
struct fleet_doc *fleet_doc_new(uint64_t roots);
void fleet_doc_free(struct fleet_doc *d); // NULL is accepted

// The roots a program reads; what it needs of a document.
uint64_t fleet_roots(const struct expr_program *p);

// Reads the device. ST_NOT_FOUND: there is no such row (any tenant's: the caller has checked). Any tx.
enum status fleet_doc_load(struct tx *tx, uint64_t device, struct fleet_doc *d, struct err *err);

// The same from the row a statement stands on, whose columns from `first` on are those of fleet_doc_columns: no look-up by
// device but for roots that are in other tables (groups, credentials, telemetry). Valid until the statement's next step.
enum status fleet_doc_row(struct tx *tx, struct stmt *row, int first, struct fleet_doc *d, struct err *err);
// The columns of the roots in a fixed order, over "device d LEFT JOIN device_presence p LEFT JOIN twin t": what
// fleet_doc_row reads. Columns of roots that are not in `roots` are NULL, so that SQLite need not visit their tables.
bool fleet_doc_columns(uint64_t roots, struct buf *out);
#define FLEET_DOC_COLUMNS 16 // how many these are at most

// What expr_eval reads; valid until the next load.
struct expr_view fleet_doc_view(const struct fleet_doc *d, int64_t now_us);
uint64_t fleet_doc_device(const struct fleet_doc *d); // row

#endif
