// Pages: every row once whatever the limit, the end without an empty page, and cursors that are not the list's own.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/page.h"
#include "unit/store/tmpdir.h"

// Rows 1 to ?2 behind row ?1, at most ?3.
static const struct sql_def rows = {
    "rows", "WITH RECURSIVE n (i) AS (SELECT ?1 + 1 WHERE ?1 < ?2 UNION ALL SELECT i + 1 FROM n WHERE i < ?2) "
            "SELECT i, printf('name %04d', i) FROM n ORDER BY i LIMIT ?3"};
static const struct sql_def wrong = {"wrong", "SELECT nothing FROM nowhere"};

static char dir[256];
static struct db *db;

struct list {
    struct page page;
    int64_t there;   // rows of the list
    int64_t every;   // shows each n-th row and skips the others
    size_t text_len; // of the key's text, 0: none
    // what came out
    enum status st;
    struct err err;
    int64_t first, last, n;
    char out[1 << 16];
    char next[CURSOR_MAX + 1]; // "": null
    bool bound_text;           // the text of the key came back
};

static int setup(void **state)
{
    char path[300];
    (void)state;
    tmpdir_make(dir, sizeof(dir));
    snprintf(path, sizeof(path), "%s/state.db", dir);
    return db_open(path, DB_WRITER, &db, NULL) == ST_OK ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    db_close(db);
    tmpdir_remove(dir);
    return 0;
}

// The "next" of a reply, the last member of it.
static void read_next(struct list *l)
{
    const char *at = strstr(l->out, "],\"next\":");
    assert_non_null(at);
    at += strlen("],\"next\":");
    l->next[0] = '\0';
    if (strcmp(at, "null}") != 0) {
        assert_int_equal(sscanf(at, "\"%364[A-Za-z0-9_-]\"}", l->next), 1);
    }
}

static void take(struct list *l, struct stmt *s, struct jw *w)
{
    static const char long_text[CURSOR_TEXT_MAX + 2] = {[0 ... CURSOR_TEXT_MAX] = 'x'};
    int64_t i = col_i64(s, 0);
    struct cursor key = {.kind = 99, .a = i, .b = -i, .text = slice_make(long_text, l->text_len)};
    if (i % l->every != 0) {
        page_skipped(&l->page, key);
        return;
    }
    jw_int(w, i);
    page_wrote(&l->page, key);
    l->first = l->n == 0 ? i : l->first;
    l->last = i;
    l->n++;
}

// One page from `cursor` on (NULL: the start).
static void run(struct list *l, const char *cursor)
{
    struct buf out = buf_fixed(l->out, sizeof(l->out) - 1);
    struct jw w;
    jw_init(&w, &out);
    l->n = l->first = l->last = 0;
    l->every = l->every == 0 ? 1 : l->every;
    l->page = (struct page){.limit = l->page.limit,
                            .scan_max = l->page.scan_max,
                            .bytes_max = l->page.bytes_max,
                            .from = {.kind = l->page.from.kind}};
    l->st = page_begin(&l->page, slice_str(cursor), &w, &l->err);
    if (l->st != ST_OK) {
        assert_int_equal(out.len, 0);
        return;
    }
    l->bound_text = l->page.from.text.len == l->text_len;
    STMT(s, db, &rows);
    stmt_bind_i64(s, 1, l->page.from.a);
    stmt_bind_i64(s, 2, l->there);
    stmt_bind_i64(s, 3, l->page.scan_max > 0 || l->every > 1 ? -1 : page_rows(&l->page));
    while (page_next(&l->page, s, &l->err)) {
        take(l, s, &w);
    }
    l->st = page_end(&l->page, &l->err);
    l->out[out.len] = '\0';
    if (l->st == ST_OK) {
        read_next(l);
    }
}

// Walks to the end: returns the pages, *ret_rows the rows, which come in order and once.
static unsigned walk(struct list *l, int64_t *ret_rows)
{
    char cursor[CURSOR_MAX + 1];
    int64_t before = 0;
    unsigned pages = 0;
    *ret_rows = 0;
    do {
        assert_true(pages < 2000);
        memcpy(cursor, l->next, sizeof(cursor));
        run(l, pages > 0 ? cursor : NULL);
        assert_int_equal(l->st, ST_OK);
        assert_true(pages == 0 || l->bound_text);
        assert_true(l->n == 0 || l->first == before + l->every);
        before = l->n > 0 ? l->last : before;
        *ret_rows += l->n;
        pages++;
    } while (l->next[0] != '\0');
    return pages;
}

static void every_row_comes_once(void **state)
{
    (void)state;
    static const int64_t limits[] = {1, 2, 3, 7, 10, 11, PAGE_LIMIT_MAX};
    static const size_t text_lens[] = {0, 9, CURSOR_TEXT_MAX};
    for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
        for (int64_t there = 0; there <= 22; there++) {
            struct list l = {.page = {.limit = limits[i], .from = {.kind = PAGE_CLAIMS}},
                             .there = there,
                             .text_len = text_lens[i % 3]};
            int64_t n = 0;
            unsigned pages = walk(&l, &n);
            assert_int_equal(n, there);
            // No page is empty but the only one of an empty list.
            assert_int_equal(pages, there == 0 ? 1 : (there + limits[i] - 1) / limits[i]);
        }
    }
}

static void limits_are_checked(void **state)
{
    (void)state;
    static const struct {
        int64_t limit;
        enum status st;
        int64_t n;
    } cases[] = {{INT64_MIN, ST_INVALID, 0},
                 {-1, ST_INVALID, 0},
                 {0, ST_INVALID, 0},
                 {1, ST_OK, 1},
                 {PAGE_LIMIT_MAX, ST_OK, 1000},
                 {PAGE_LIMIT_MAX + 1, ST_INVALID, 0},
                 {INT64_MAX, ST_INVALID, 0}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct list l = {.page = {.limit = cases[i].limit, .from = {.kind = PAGE_CLAIMS}}, .there = 2000};
        run(&l, NULL);
        assert_int_equal(l.st, cases[i].st);
        assert_int_equal(l.n, cases[i].n);
        if (l.st != ST_OK) {
            assert_string_equal(l.err.where, "limit");
        }
    }
}

// Rows left out: the page ends after scan_max of them, empty if need be, and goes on from there.
static void scans_are_bounded(void **state)
{
    (void)state;
    struct list l = {.page = {.limit = 2, .scan_max = 5, .from = {.kind = PAGE_CERTS}}, .there = 100, .every = 20};
    int64_t n = 0;
    unsigned pages = walk(&l, &n);
    assert_int_equal(n, 5);
    assert_int_equal(pages, 20);
    struct list full = {.page = {.limit = 2, .scan_max = 50, .from = {.kind = PAGE_CERTS}}, .there = 100, .every = 20};
    run(&full, NULL);
    assert_int_equal(full.n, 2); // the limit came before
    assert_int_equal(full.page.scanned, 40);
}

static void bytes_are_bounded(void **state)
{
    (void)state;
    struct list l = {.page = {.limit = 500, .bytes_max = 60, .from = {.kind = PAGE_CERTS}}, .there = 100};
    int64_t n = 0;
    unsigned pages = walk(&l, &n);
    assert_int_equal(n, 100);
    assert_true(pages > 5 && pages < 20);
}

static void encode(const struct cursor *c, char text[CURSOR_MAX + 1])
{
    struct buf out = buf_fixed(text, CURSOR_MAX);
    assert_true(cursor_encode(c, &out));
    text[out.len] = '\0';
}

static void other_cursors_are_refused(void **state)
{
    (void)state;
    char forged[6][CURSOR_MAX + 1] = {"", "nonsense", "AAAA====", "!"};
    encode(&(struct cursor){.kind = PAGE_CLAIMS, .a = 3, .text = SLICE("a\0b")}, forged[4]);
    encode(&(struct cursor){.kind = PAGE_CLAIMS, .a = 3, .text = SLICE("\xff\xfe")}, forged[5]);
    for (size_t i = 0; i < 6; i++) {
        struct list l = {.page = {.limit = 2, .from = {.kind = PAGE_CLAIMS}}, .there = 9};
        run(&l, forged[i]);
        assert_int_equal(l.st, ST_INVALID);
        assert_string_equal(l.err.where, "cursor");
    }
    for (unsigned kind = 0; kind <= UINT8_MAX; kind++) { // foreign: whatever list it is of
        char text[CURSOR_MAX + 1];
        struct list l = {.page = {.limit = 2, .from = {.kind = PAGE_CLAIMS}}, .there = 9};
        encode(&(struct cursor){.kind = (uint8_t)kind, .a = 3}, text);
        run(&l, text);
        assert_int_equal(l.st, kind == PAGE_CLAIMS ? ST_OK : ST_INVALID);
        assert_int_equal(l.first, kind == PAGE_CLAIMS ? 4 : 0);
    }
}

// A cursor with any numbers only starts elsewhere, or behind the end.
static void forged_places_start_elsewhere(void **state)
{
    (void)state;
    static const struct {
        int64_t a, first;
    } cases[] = {{-5, -4}, {8, 9}, {9, 0}, {100, 0}, {INT64_MAX, 0}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char text[CURSOR_MAX + 1];
        struct list l = {.page = {.limit = 2, .from = {.kind = PAGE_CLAIMS}}, .there = 9};
        encode(&(struct cursor){.kind = PAGE_CLAIMS, .a = cases[i].a}, text);
        run(&l, text);
        assert_int_equal(l.st, ST_OK);
        assert_int_equal(l.first, cases[i].first);
    }
}

static void errors_stick(void **state)
{
    (void)state;
    struct list l = {.page = {.limit = 2, .from = {.kind = PAGE_CLAIMS}}, .there = 9, .text_len = CURSOR_TEXT_MAX + 1};
    run(&l, NULL);
    assert_int_equal(l.st, ST_INTERNAL); // the key does not fit a cursor
    l.there = 2;
    run(&l, NULL);
    assert_int_equal(l.st, ST_OK); // nor need it at the end

    uint8_t mem[64];
    struct buf out = buf_fixed(mem, sizeof(mem));
    struct jw w;
    jw_init(&w, &out);
    struct page p = {.limit = 5, .from = {.kind = PAGE_CLAIMS}};
    assert_int_equal(page_begin(&p, (struct slice){NULL, 0}, &w, NULL), ST_OK);
    STMT(bad, db, &wrong);
    assert_false(page_next(&p, bad, NULL));
    enum status why = p.st;
    assert_int_not_equal(why, ST_OK);
    page_fail(&p, ST_NOMEM);
    STMT(s, db, &rows);
    stmt_bind_i64(s, 1, 0);
    stmt_bind_i64(s, 2, 9);
    stmt_bind_i64(s, 3, page_rows(&p));
    assert_false(page_next(&p, s, NULL));
    assert_false(page_room(&p));
    assert_int_equal(page_end(&p, NULL), why);
}

static void write_number(struct stmt *s, struct jw *out)
{
    jw_int(out, col_i64(s, 0));
}

static void short_lists_come_whole(void **state)
{
    (void)state;
    static const char *const whole[] = {"{\"items\":[],\"next\":null}", "{\"items\":[1],\"next\":null}",
                                        "{\"items\":[1,2],\"next\":null}"};
    for (int64_t there = 0; there <= 2; there++) {
        char text[64];
        struct buf out = buf_fixed(text, sizeof(text));
        struct jw w;
        jw_init(&w, &out);
        STMT(s, db, &rows);
        stmt_bind_i64(s, 1, 0);
        stmt_bind_i64(s, 2, there);
        stmt_bind_i64(s, 3, -1);
        assert_int_equal(page_whole(s, write_number, &w, NULL), ST_OK);
        assert_true(slice_eq_str(buf_view(&out), whole[there]));
    }
    char text[64];
    struct buf out = buf_fixed(text, sizeof(text));
    struct jw w;
    jw_init(&w, &out);
    STMT(bad, db, &wrong);
    assert_int_not_equal(page_whole(bad, write_number, &w, NULL), ST_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_row_comes_once),
        cmocka_unit_test(limits_are_checked),
        cmocka_unit_test(scans_are_bounded),
        cmocka_unit_test(bytes_are_bounded),
        cmocka_unit_test(other_cursors_are_refused),
        cmocka_unit_test(forged_places_start_elsewhere),
        cmocka_unit_test(errors_stick),
        cmocka_unit_test(short_lists_come_whole),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
