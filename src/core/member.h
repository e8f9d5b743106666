// Members of JSON objects, key and value in one call: as lists and answers are made of.
#ifndef CORE_MEMBER_H
#define CORE_MEMBER_H

#include "base/json.h"
#include "store/db.h"

void jw_member_text(struct jw *w, const char *key, struct slice text); // p == NULL writes null
void jw_member_str(struct jw *w, const char *key, const char *text);   // NULL writes null
void jw_member_int(struct jw *w, const char *key, int64_t v);
void jw_member_bool(struct jw *w, const char *key, bool v);
void jw_member_json(struct jw *w, const char *key,
                    struct slice json_text);                        // valid JSON as it is; p == NULL writes null
void jw_member_row_id(struct jw *w, const char *key, uint64_t row); // row_id_text
// Microseconds since 1970 as RFC 3339 text.
void jw_member_time(struct jw *w, const char *key, int64_t us);
void jw_member_time_or_null(struct jw *w, const char *key, bool there, int64_t us);
void jw_member_time_col(struct jw *w, const char *key, struct stmt *s, int col); // a column; NULL writes null

#endif
