// The devices a condition is true for, one after another: the one way through the fleet. Lists, counts, statistics, exports,
// groups and indexes being built all go it.
//
//   struct fleet_rows *rows = NULL;
//   enum status st = fleet_rows_open(tx, &query, &rows, err);
//   while (st == ST_OK && fleet_rows_next(rows, &here, err) == ST_OK && here) {
//       ... fleet_rows_doc(rows) ...
//   }
//   fleet_rows_close(rows);
//
// What the caller may not see (fleet/scope.h) is not among them: every query has the principal's condition added here.
#ifndef FLEET_ROWS_H
#define FLEET_ROWS_H

#include "core/cursor.h"
#include "domain/fleet/where.h"

struct fleet_query {
    const struct fleet_where *where; // NULL: all
    struct slice sort;  // an expression ("tags.site", "last_seen desc"); p == NULL: in the order they were made
    struct cursor from; // behind this device in that order; all zero: from the start
    uint64_t roots;     // that fleet_rows_doc shall have besides those the condition needs
    int64_t scan_max;   // devices looked at at most; 0: no bound
};

struct fleet_rows;
// ST_INVALID: the sort cannot be understood, or the cursor does not fit it. Any tx; the rows belong to it.
enum status fleet_rows_open(struct tx *tx, const struct fleet_query *q, struct fleet_rows **ret, struct err *err);
// ST_OK: a device (*ret_row true) or the end. ST_TIMEOUT: the query was cancelled.
enum status fleet_rows_next(struct fleet_rows *r, bool *ret_row, struct err *err);
const struct fleet_doc *fleet_rows_doc(const struct fleet_rows *r);
struct cursor fleet_rows_key(const struct fleet_rows *r); // of the device it stands on, for `from`
uint64_t fleet_rows_scanned(const struct fleet_rows *r);  // devices looked at so far
uint64_t fleet_rows_estimate(const struct fleet_rows *r); // how many it will look at, as the plan thinks
bool fleet_rows_ended(const struct fleet_rows *r);        // false: scan_max ended it, more may follow
void fleet_rows_close(struct fleet_rows *r);              // NULL is accepted

#endif
