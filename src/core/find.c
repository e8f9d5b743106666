#include "core/find.h"

enum status find_missing(const char *noun, struct slice id, struct err *err)
{
    struct slice shown = slice_head(id, ID_MAX);
    return err_set(err, ST_NOT_FOUND, "no %s \"" SLICE_FMT "\"", noun, SLICE_ARG(shown));
}

enum status find_row(struct stmt *s, const char *noun, struct slice id, struct err *err)
{
    bool row = false;
    enum status st = stmt_step(s, &row, err);
    return st == ST_OK && !row ? find_missing(noun, id, err) : st;
}

enum status find_id(struct stmt *s, int col, const char *noun, char ret_id[ID_MAX + 1], struct err *err)
{
    bool ok = slice_to_cstr(col_text(s, col), ret_id, ID_MAX + 1);
    return ok ? ST_OK : err_set(err, ST_CORRUPT, "a stored %s has no valid id", noun);
}
