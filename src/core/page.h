// One page of a list, from the cursor a client hands in to the "next" it takes away: {"items": [...], "next": "..."}.
//
//   struct page p = {.limit = limit, .from = {.kind = PAGE_CLAIMS, .a = INT64_MAX}};
//   enum status st = page_begin(&p, cursor, out, err);
//   if (st != ST_OK) {
//       return st;
//   }
//   STMT(s, ...);                              where row < ?2 order by row desc limit ?3
//   stmt_bind_i64(s, 2, p.from.a);
//   stmt_bind_i64(s, 3, page_rows(&p));
//   while (page_next(&p, s, err)) {
//       write_claim(s, out);
//       page_wrote(&p, (struct cursor){.a = col_i64(s, 0)});
//   }
//   return page_end(&p, err);
//
// A page ends with its last row: the statement is asked for one row more, and only when that one is there is there a next page.
// Errors stick: once something failed, page_next gives no more rows and page_end says why; what was written by then is
// thrown away by the caller. Any thread, one page each; a page holds pointers into itself and must not be copied.
#ifndef CORE_PAGE_H
#define CORE_PAGE_H

#include "core/cursor.h"
#include "store/db.h"

#define PAGE_LIMIT_MAX 1000 // rows of a page, as api/*.json says

// Which list a cursor belongs to. Every list has its own number, so that the cursor of another list is refused.
enum page_kind {
    PAGE_AUDIT_TIME = 1,
    PAGE_AUDIT_OBJECT,
    PAGE_CERTS,
    PAGE_CERTS_OF_DEVICE,
    PAGE_CLAIMS,
    PAGE_OPERATORS,
    PAGE_TENANTS,
    PAGE_GROUPS,
    PAGE_POLICIES,
    PAGE_ATTACHMENTS,
    PAGE_BANS,
    PAGE_PRESENCE,
    PAGE_PRESENCE_SESSIONS,
    PAGE_COMMANDS,
    PAGE_EVENTS,
    PAGE_BROKER_SESSIONS,
    PAGE_RETAINED,
    PAGE_TELEMETRY,
    PAGE_TRACES,
    PAGE_TLS_FAILURES,
    PAGE_DEVICES = 64 // and the orders of the list of devices behind it
};

struct page {
    int64_t limit;    // rows written at most, 1 to PAGE_LIMIT_MAX
    int64_t scan_max; // rows looked at at most, for lists that leave rows out; 0: no bound
    size_t bytes_max; // no further row once the reply is so long; 0: no bound
    struct cursor
        from; // behind which key it starts: the very start as the caller sets it, what the cursor says after page_begin
    // the page's own
    struct jw *out;
    struct cursor last; // key of the last row looked at
    int64_t written, scanned;
    bool more;
    enum status st;
    uint8_t from_mem[CURSOR_MAX], last_mem[CURSOR_TEXT_MAX + 1];
};

// Reads the cursor (p == NULL: none, the start) and opens the object and its items in `out`, which is borrowed until page_end.
// ST_INVALID: the limit is out of bounds, or the cursor is forged or another list's; then nothing was written.
enum status page_begin(struct page *p, struct slice cursor, struct jw *out, struct err *err);
// Rows to ask the store for: as many as may still be written, and one that tells of a next page.
int64_t page_rows(const struct page *p);
// The next row of the statement is there and has room: every row is answered by page_wrote or page_skipped before the next.
// False: the end of the rows, of the page, or an error.
bool page_next(struct page *p, struct stmt *s, struct err *err);
// The same for rows that come from elsewhere: one is there; has it room?
bool page_room(struct page *p);
// The row was written (was left out); `key`: a, b and text as its list orders by, the text copied. Its kind is not read.
void page_wrote(struct page *p, struct cursor key);
void page_skipped(struct page *p, struct cursor key);
// The row could not be written: ends the page. ST_OK does nothing.
void page_fail(struct page *p, enum status st);
// Closes items and object. What page_next or page_fail met; ST_INTERNAL: the last key does not fit a cursor.
enum status page_end(struct page *p, struct err *err);

// A list that is bounded by what its rows belong to, on one page: all rows of the statement, and "next" is null.
enum status page_whole(struct stmt *s, void (*write)(struct stmt *s, struct jw *out), struct jw *out, struct err *err);

#endif
