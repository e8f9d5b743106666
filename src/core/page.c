#include "core/page.h"

#include "base/utf8.h"

enum status page_begin(struct page *p, struct slice cursor, struct jw *out, struct err *err)
{
    if (p->limit < 1 || p->limit > PAGE_LIMIT_MAX) {
        return err_at(err, ST_INVALID, "limit", "a page has 1 to %d items", PAGE_LIMIT_MAX);
    }
    enum status st = cursor_read(cursor, p->from.kind, p->from_mem, &p->from, err);
    if (st != ST_OK) {
        return st;
    }
    if (p->from.text.p == NULL) {
        p->from.text = SLICE(""); // NULL is not before the first text in SQL
    }
    if (!utf8_mqtt_valid(p->from.text)) {
        return err_at(err, ST_INVALID, "cursor", "the cursor is not one this server gave out; start without one");
    }
    p->out = out;
    p->last = p->from;
    jw_object(out);
    jw_key(out, "items");
    jw_array(out);
    return ST_OK;
}

int64_t page_rows(const struct page *p)
{
    return p->limit - p->written + 1;
}

bool page_room(struct page *p)
{
    if (p->st != ST_OK) {
        return false;
    }
    p->more = p->written >= p->limit || (p->scan_max > 0 && p->scanned >= p->scan_max) ||
              (p->bytes_max > 0 && p->out->out->len >= p->bytes_max);
    return !p->more;
}

bool page_next(struct page *p, struct stmt *s, struct err *err)
{
    bool row = false;
    if (p->st == ST_OK) {
        p->st = stmt_step(s, &row, err);
    }
    return row && page_room(p);
}

// A text too long keeps one byte too many, so that cursor_write refuses it.
void page_skipped(struct page *p, struct cursor key)
{
    struct buf text = buf_fixed(p->last_mem, sizeof(p->last_mem));
    (void)buf_slice(&text, slice_head(key.text, sizeof(p->last_mem)));
    p->last = (struct cursor){.kind = p->from.kind, .a = key.a, .b = key.b, .text = buf_view(&text)};
    p->scanned++;
}

void page_wrote(struct page *p, struct cursor key)
{
    page_skipped(p, key);
    p->written++;
}

void page_fail(struct page *p, enum status st)
{
    if (p->st == ST_OK) {
        p->st = st;
    }
}

enum status page_end(struct page *p, struct err *err)
{
    if (p->st != ST_OK) {
        return p->st;
    }
    jw_array_end(p->out);
    jw_key(p->out, "next");
    enum status st = cursor_write(p->more ? &p->last : NULL, p->out, err);
    if (st == ST_OK) {
        jw_object_end(p->out);
    }
    return st;
}

enum status page_whole(struct stmt *s, void (*write)(struct stmt *s, struct jw *out), struct jw *out, struct err *err)
{
    bool row = false;
    jw_object(out);
    jw_key(out, "items");
    jw_array(out);
    enum status st = stmt_step(s, &row, err);
    for (; st == ST_OK && row; st = stmt_step(s, &row, err)) {
        write(s, out);
    }
    jw_array_end(out);
    jw_key(out, "next");
    jw_null(out);
    jw_object_end(out);
    return st;
}
