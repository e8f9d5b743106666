// Listing devices: one condition drives an index, the others are checked row by row, within a budget.
#include "core/page.h"
#include "domain/registry/registry_priv.h"
#include "domain/registry/sql/device.sql.h"

#define SCAN_MAX       20000
#define PAGE_BYTES_MAX ((size_t)1 << 20)

// An order of the list. A cursor holds the last row's number (row), or its text and number (id, name).
enum driver { BY_KEY, BY_GROUP, BY_TAG, BY_ID_TEXT, BY_NAME_TEXT, BY_MODEL, BY_STATE, BY_ID, DRIVER__COUNT };
enum cursor_text { TEXT_NONE, TEXT_ID, TEXT_NAME };

static const struct {
    int statement;
    enum cursor_text text; // the text column of its cursor
} drivers[DRIVER__COUNT] = {
    [BY_KEY] = {SQL_DEVICE_LIST_BY_KEY, TEXT_NONE},        [BY_GROUP] = {SQL_DEVICE_LIST_BY_GROUP, TEXT_NONE},
    [BY_TAG] = {SQL_DEVICE_LIST_BY_TAG, TEXT_NONE},        [BY_ID_TEXT] = {SQL_DEVICE_LIST_BY_ID, TEXT_ID},
    [BY_NAME_TEXT] = {SQL_DEVICE_LIST_BY_NAME, TEXT_NAME}, [BY_MODEL] = {SQL_DEVICE_LIST_BY_MODEL, TEXT_NONE},
    [BY_STATE] = {SQL_DEVICE_LIST_BY_STATE, TEXT_NONE},    [BY_ID] = {SQL_DEVICE_LIST_BY_ID, TEXT_ID},
};

struct listing {
    struct tx *tx;
    const struct device_filter *f;
    enum driver driver;
    uint64_t group; // row, 0: none asked for
    struct page page;
};

static enum driver choose_driver(const struct device_filter *f)
{
    const struct {
        bool asked;
        enum driver driver;
    } order[] = {{f->key_kind.p != NULL, BY_KEY}, {f->group.p != NULL, BY_GROUP}, {f->tag_key.p != NULL, BY_TAG},
                 {f->text.p != NULL, BY_ID_TEXT}, {f->model.p != NULL, BY_MODEL}, {f->state >= 0, BY_STATE}};
    for (size_t i = 0; i < sizeof(order) / sizeof(order[0]); i++) {
        if (order[i].asked) {
            return order[i].driver;
        }
    }
    return BY_ID;
}

// The upper end of a prefix range: the prefix and the greatest character there is. `mem` holds the bytes.
static struct slice prefix_end(struct slice prefix, uint8_t *mem, size_t mem_size)
{
    struct buf b = buf_fixed(mem, mem_size);
    (void)buf_slice(&b, prefix);
    (void)buf_str(&b, "\xf4\x8f\xbf\xbf");
    return buf_view(&b);
}

static bool tags_have(struct slice tags, struct slice key, struct slice value)
{
    struct json j;
    json_init(&j, tags, 2);
    bool here = false;
    for (enum json_token t = json_next(&j); t != JT_END && t != JT_ERROR; t = json_next(&j)) {
        if (t == JT_KEY) {
            here = slice_eq(j.str, key); // keys are of characters that are never escaped
        } else if (t == JT_STRING && here) {
            uint8_t mem[DEVICE_TAG_VALUE_MAX + 1];
            struct buf text = buf_fixed(mem, sizeof(mem));
            return json_unescape(j.str, &text) && slice_eq(buf_view(&text), value);
        }
    }
    return false;
}

// Everything the driver has not settled.
static enum status row_matches(const struct listing *l, struct stmt *s, bool *ret_match, struct err *err)
{
    const struct device_filter *f = l->f;
    bool by_id = f->text.p != NULL && slice_starts(col_text(s, 1), f->text);
    bool by_name = f->text.p != NULL && slice_starts(col_text(s, 2), f->text);
    *ret_match = (f->state < 0 || f->state == col_i64(s, 4)) &&
                 (f->model.p == NULL || slice_eq(f->model, col_text(s, 3))) &&
                 (f->tag_key.p == NULL || tags_have(col_text(s, 6), f->tag_key, f->tag_value)) &&
                 (f->text.p == NULL || by_id || by_name) &&
                 !(l->driver == BY_NAME_TEXT && by_id); // was listed by its id already
    if (!*ret_match || l->group == 0 || l->driver == BY_GROUP) {
        return ST_OK;
    }
    return group_has(l->tx, l->group, (uint64_t)col_i64(s, 0), ret_match, err);
}

// The place of the row in the order it is listed by.
static struct cursor key_of(const struct listing *l, struct stmt *s)
{
    static const int columns[] = {[TEXT_ID] = 1, [TEXT_NAME] = 2};
    enum cursor_text text = drivers[l->driver].text;
    return (struct cursor){.a = col_i64(s, 0), .text = text != TEXT_NONE ? col_text(s, columns[text]) : SLICE("")};
}

static void bind_condition(const struct listing *l, struct stmt *s, uint8_t *mem, size_t mem_size)
{
    const struct device_filter *f = l->f;
    switch (l->driver) {
    case BY_KEY:
        stmt_bind_text(s, 2, f->key_kind);
        stmt_bind_text(s, 3, f->key_value);
        break;
    case BY_GROUP:
        stmt_bind_i64(s, 2, (int64_t)l->group);
        break;
    case BY_TAG:
        stmt_bind_text(s, 2, f->tag_key);
        stmt_bind_text(s, 3, f->tag_value);
        break;
    case BY_MODEL:
        stmt_bind_text(s, 2, f->model);
        break;
    case BY_STATE:
        stmt_bind_i64(s, 2, f->state);
        break;
    case BY_ID_TEXT:
    case BY_NAME_TEXT:
    case BY_ID:
    case DRIVER__COUNT: {
        struct slice prefix = f->text.p != NULL ? f->text : SLICE("");
        stmt_bind_text(s, 2, prefix);
        stmt_bind_text(s, 3, prefix_end(prefix, mem, mem_size));
        break;
    }
    }
}

static void look_at(struct listing *l, struct stmt *s, struct err *err)
{
    bool match = false;
    enum status st = row_matches(l, s, &match, err);
    if (st == ST_OK && match) {
        st = device_row_write(l->tx, s, false, l->page.out, err);
        page_wrote(&l->page, key_of(l, s));
    } else {
        page_skipped(&l->page, key_of(l, s));
    }
    page_fail(&l->page, st);
}

// Runs one driver behind the key `from`.
static void run_driver(struct listing *l, const struct cursor *from, struct err *err)
{
    uint8_t mem[DEVICE_NAME_MAX + 8];
    STMT(s, l->tx->db, &sql_device[drivers[l->driver].statement]);
    stmt_bind_i64(s, 1, l->tx->who->tenant);
    bind_condition(l, s, mem, sizeof(mem));
    stmt_bind_i64(s, 4, from->a);
    stmt_bind_text(s, 5, from->text);
    while (page_next(&l->page, s, err)) {
        look_at(l, s, err);
    }
}

// Text search is two drivers, one behind the other: ids first, then names.
static void run_drivers(struct listing *l, struct err *err)
{
    run_driver(l, &l->page.from, err);
    if (!l->page.more && l->driver == BY_ID_TEXT) {
        l->driver = BY_NAME_TEXT;
        l->page.from.kind = PAGE_DEVICES + BY_NAME_TEXT;
        run_driver(l, &(struct cursor){.text = SLICE("")}, err);
    }
}

// A search for text that is among the names already goes on there.
static enum driver start_driver(const struct device_filter *f)
{
    uint8_t mem[CURSOR_MAX];
    struct cursor c = {.kind = 0};
    enum driver d = choose_driver(f);
    bool names = d == BY_ID_TEXT && f->cursor.p != NULL && cursor_decode(f->cursor, mem, &c, NULL) == ST_OK &&
                 c.kind == PAGE_DEVICES + BY_NAME_TEXT;
    return names ? BY_NAME_TEXT : d;
}

static enum status check_filter(struct listing *l, struct err *err)
{
    if (l->f->text.len > DEVICE_NAME_MAX) {
        return err_at(err, ST_INVALID, "text", "at most %d bytes", DEVICE_NAME_MAX);
    }
    if (l->f->group.p == NULL) {
        return ST_OK;
    }
    struct group_ref g;
    enum status st = group_find(l->tx, l->f->group, &g, err);
    if (st == ST_OK) {
        l->group = g.row;
    }
    return st;
}

enum status device_list(struct tx *tx, const struct device_filter *f, struct jw *out, struct err *err)
{
    enum driver driver = start_driver(f);
    struct listing l = {.tx = tx,
                        .f = f,
                        .driver = driver,
                        .page = {.limit = f->limit,
                                 .scan_max = SCAN_MAX,
                                 .bytes_max = PAGE_BYTES_MAX,
                                 .from = {.kind = (uint8_t)(PAGE_DEVICES + driver)}}};
    enum status st = check_filter(&l, err);
    if (st == ST_OK) {
        st = page_begin(&l.page, f->cursor, out, err);
    }
    if (st != ST_OK) {
        return st;
    }
    run_drivers(&l, err);
    return page_end(&l.page, err);
}
