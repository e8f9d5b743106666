// Finding the one row an id names, and saying so when there is none.
#ifndef CORE_FIND_H
#define CORE_FIND_H

#include "core/principal.h"
#include "store/db.h"

// Steps the bound statement to its row. ST_NOT_FOUND: no row, as find_missing says it.
enum status find_row(struct stmt *s, const char *noun, struct slice id, struct err *err);
// ST_NOT_FOUND: no device "th-20"; what a stranger sent is shown up to the length of an id.
enum status find_missing(const char *noun, struct slice id, struct err *err);
// Copies the id the row has in this column. ST_CORRUPT: it is none.
enum status find_id(struct stmt *s, int col, const char *noun, char ret_id[ID_MAX + 1], struct err *err);

#endif
