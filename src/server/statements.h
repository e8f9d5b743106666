// Every module's SQL statements in one list: the core prepares them all at start, so that a missing column stops the start.
#ifndef SERVER_STATEMENTS_H
#define SERVER_STATEMENTS_H

#include "store/db.h"

#define STATEMENT_TABLES_MAX 40
// Fills both and returns how many tables there are.
size_t statement_tables(const struct sql_def *ret_tables[STATEMENT_TABLES_MAX], size_t ret_lens[STATEMENT_TABLES_MAX]);

#endif
