#include "core/member.h"

#include "core/ids.h"
#include "core/when.h"

void jw_member_text(struct jw *w, const char *key, struct slice text)
{
    jw_key(w, key);
    jw_slice(w, text);
}

void jw_member_str(struct jw *w, const char *key, const char *text)
{
    jw_key(w, key);
    jw_str(w, text);
}

void jw_member_int(struct jw *w, const char *key, int64_t v)
{
    jw_key(w, key);
    jw_int(w, v);
}

void jw_member_bool(struct jw *w, const char *key, bool v)
{
    jw_key(w, key);
    jw_bool(w, v);
}

void jw_member_json(struct jw *w, const char *key, struct slice json_text)
{
    jw_key(w, key);
    if (json_text.p == NULL) {
        jw_null(w);
    } else {
        jw_raw(w, json_text);
    }
}

void jw_member_row_id(struct jw *w, const char *key, uint64_t row)
{
    char text[ROW_ID_LEN + 1];
    row_id_text(row, text);
    jw_member_str(w, key, text);
}

void jw_member_time(struct jw *w, const char *key, int64_t us)
{
    jw_key(w, key);
    jw_time_text(w, us);
}

void jw_member_time_or_null(struct jw *w, const char *key, bool there, int64_t us)
{
    jw_key(w, key);
    if (there) {
        jw_time_text(w, us);
    } else {
        jw_null(w);
    }
}

void jw_member_time_col(struct jw *w, const char *key, struct stmt *s, int col)
{
    jw_member_time_or_null(w, key, !col_is_null(s, col), col_i64(s, col));
}
