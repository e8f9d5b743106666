// A condition over devices, ready to be run: parsed, checked, compiled and translated. Immutable once made, shared by
// reference between threads.
#ifndef FLEET_WHERE_H
#define FLEET_WHERE_H

#include "core/core.h"
#include "domain/fleet/document.h"
#include "expr/sql.h"

struct fleet_where;

// From text. ST_INVALID, ST_MALFORMED, ST_TOO_LARGE: the text of err says where (line and column) and what was expected; `field`
// names the input ("where", "/expression"). Suggestions come from the tenant's tags and declared indexes. Any tx.
enum status fleet_where_make(struct tx *tx, struct slice text, const char *field, struct fleet_where **ret,
                             struct err *err);
struct fleet_where *fleet_where_ref(struct fleet_where *w);
void fleet_where_unref(struct fleet_where *w); // NULL is accepted

struct slice fleet_where_text(const struct fleet_where *w); // canonical
const struct expr_program *fleet_where_program(const struct fleet_where *w);
uint64_t fleet_where_roots(const struct fleet_where *w);
bool fleet_where_timed(const struct fleet_where *w); // now() is in it: it changes without the device changing

// Is it true for this document? An evaluation that runs out of steps is not.
bool fleet_where_true(const struct fleet_where *w, const struct fleet_doc *d, int64_t now_us, struct expr_frame *f);

#endif
