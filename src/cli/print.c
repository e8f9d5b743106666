#include "cli/print.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/json.h"

#define CELL_MAX      4096
#define COLUMNS_MAX   16
#define RECORD_DEPTH  8
#define COLUMNS_LEAST 20
#define COLUMNS_MOST  10000
#define COLUMN_LEAST  4
#define TIME_WIDTH    20 // "2026-11-23T20:37:41Z"

// The number in $COLUMNS; 0 when it is none or absurd.
static int columns_wanted(const char *text)
{
    char *end = NULL;
    long n = text != NULL ? strtol(text, &end, 10) : 0;
    return text == NULL || end == text || *end != '\0' || n < 0 || n > COLUMNS_MOST ? 0 : (int)n;
}

int print_terminal_width(void)
{
    struct winsize w;
    int columns = columns_wanted(getenv("COLUMNS"));
    if (columns >= COLUMNS_LEAST) {
        return columns;
    }
    if (isatty(STDOUT_FILENO) && ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col >= COLUMNS_LEAST) {
        return w.ws_col;
    }
    return isatty(STDOUT_FILENO) ? 80 : 100000;
}

// The value at a dotted path, also when a key itself has dots.
static const json_t *at_path(const json_t *item, const char *path)
{
    while (item != NULL && *path != '\0') {
        const json_t *whole = json_object_get(item, path);
        if (whole != NULL) {
            return whole;
        }
        size_t n = strcspn(path, ".");
        item = json_object_getn(item, path, n);
        path += n + (path[n] == '.');
    }
    return item;
}

static size_t display_width(const char *s)
{
    if (s == NULL) { // there was no memory for the cell
        return 0;
    }
    size_t n = 0;
    for (; *s != '\0'; s++) {
        n += ((unsigned char)*s & 0xc0) != 0x80;
    }
    return n;
}

void print_clean(char *text)
{
    for (char *p = text; *p != '\0'; p++) {
        unsigned char next = (unsigned char)p[1];
        if ((unsigned char)*p < 32 || *p == 127) {
            *p = ' ';
        } else if ((unsigned char)*p == 0xc2 && next >= 0x80 && next < 0xa0) { // C1 as UTF-8
            p[0] = p[1] = ' ';
        }
    }
}

// Caller frees.
static char *cell_text(const json_t *v)
{
    struct buf b = buf_heap(CELL_MAX);
    if (v == NULL || json_is_null(v)) {
        buf_str(&b, "-");
    } else if (json_is_string(v)) {
        buf_put(&b, json_string_value(v), json_string_length(v) < CELL_MAX - 1 ? json_string_length(v) : CELL_MAX - 1);
    } else if (json_is_object(v)) {
        const char *key;
        json_t *val;
        json_object_foreach((json_t *)v, key, val)
        {
            char *text =
                json_is_string(val) ? strdup(json_string_value(val)) : json_dumps(val, JSON_ENCODE_ANY | JSON_COMPACT);
            buf_printf(&b, "%s%s=%s", b.len > 0 ? " " : "", key, text != NULL ? text : "");
            free(text);
        }
    } else if (json_is_real(v)) {
        struct jw w;
        jw_init(&w, &b);
        jw_double(&w, json_real_value(v)); // the shortest text that is exactly this number
    } else {
        char *text = json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT);
        buf_str(&b, text != NULL ? text : "?");
        free(text);
    }
    char *out = strndup(b.p != NULL ? (const char *)b.p : "", b.len);
    buf_release(&b);
    if (out == NULL) {
        return strdup("?");
    }
    print_clean(out);
    return out;
}

static const char *column_title(const char *path)
{
    const char *dot = strrchr(path, '.');
    return dot != NULL ? dot + 1 : path;
}

static void print_cell(const char *text, size_t width, bool last)
{
    size_t have = display_width(text);
    if (have > width) { // cut at a character
        size_t n = 0;
        size_t bytes = 0;
        while (n + 1 < width && text[bytes] != '\0') {
            bytes++;
            while (((unsigned char)text[bytes] & 0xc0) == 0x80) {
                bytes++;
            }
            n++;
        }
        printf("%.*s~", (int)bytes, text);
        have = width;
    } else {
        printf("%s", text);
    }
    printf("%*s", last ? 0 : (int)(width - have + 2), "");
}

// Takes from the widest column that is above its least width until the line fits.
static void fit(size_t *width, const size_t *least, size_t n, size_t total)
{
    for (;;) {
        size_t sum = 0, widest = n;
        for (size_t i = 0; i < n; i++) {
            sum += width[i] + (i + 1 < n ? 2 : 0);
            widest = width[i] > least[i] && (widest == n || width[i] > width[widest]) ? i : widest;
        }
        if (sum <= total || widest == n) {
            return;
        }
        width[widest]--;
    }
}

static size_t line_width(const size_t *width, size_t n)
{
    size_t sum = n > 0 ? (n - 1) * 2 : 0;
    for (size_t i = 0; i < n; i++) {
        sum += width[i];
    }
    return sum;
}

// "2026-11-23T20:37:41.095822Z" loses its fraction; other texts stay. True for a time.
static bool shorten_time(char *text)
{
    int64_t us = 0;
    if (strlen(text) != strlen("2026-11-23T20:37:41.095822Z") || text[19] != '.' ||
        !clock_parse(slice_str(text), &us)) {
        return false;
    }
    text[19] = 'Z';
    text[20] = '\0';
    return true;
}

static void measure(char **cells, size_t rows, size_t n, const char *const *columns, size_t *width)
{
    for (size_t c = 0; c < n; c++) {
        width[c] = strlen(column_title(columns[c]));
        for (size_t r = 0; r < rows; r++) {
            size_t w = display_width(cells[r * n + c]);
            width[c] = w > width[c] ? w : width[c];
        }
    }
}

void print_table(const json_t *items, const char *const *columns)
{
    size_t rows = json_array_size(items), n = 0;
    while (n < COLUMNS_MAX && columns[n] != NULL) {
        n++;
    }
    char **cells = calloc(rows * n + 1, sizeof(char *));
    if (cells == NULL) {
        return;
    }
    size_t width[COLUMNS_MAX] = {0};
    size_t total = (size_t)print_terminal_width();
    for (size_t r = 0; r < rows; r++) {
        for (size_t c = 0; c < n; c++) {
            cells[r * n + c] = cell_text(at_path(json_array_get(items, r), columns[c]));
        }
    }
    measure(cells, rows, n, columns, width);
    if (line_width(width, n) > total) {
        size_t least[COLUMNS_MAX];
        for (size_t c = 0; c < n; c++) {
            least[c] = COLUMN_LEAST;
        }
        for (size_t i = 0; i < rows * n; i++) {
            if (shorten_time(cells[i])) { // half a time says nothing
                least[i % n] = TIME_WIDTH;
            }
        }
        measure(cells, rows, n, columns, width);
        fit(width, least, n, total);
        for (size_t c = 0; c < n; c++) { // not even so: then times too
            least[c] = COLUMN_LEAST;
        }
        fit(width, least, n, total);
    }
    for (size_t c = 0; c < n; c++) {
        print_cell(column_title(columns[c]), width[c], c + 1 == n);
    }
    printf("\n");
    for (size_t r = 0; r < rows; r++) {
        for (size_t c = 0; c < n; c++) {
            print_cell(cells[r * n + c], width[c], c + 1 == n);
            free(cells[r * n + c]);
        }
        printf("\n");
    }
    free(cells);
}

struct level {
    json_t *object;
    void *iter;
    size_t prefix_len;
};

void print_record(const json_t *object)
{
    struct level stack[RECORD_DEPTH];
    char prefix[1024] = "";
    int depth = 0;
    stack[0] = (struct level){(json_t *)object, json_object_iter((json_t *)object), 0};
    while (depth >= 0) {
        struct level *l = &stack[depth];
        if (l->iter == NULL) {
            depth--;
            continue;
        }
        const char *key = json_object_iter_key(l->iter);
        json_t *val = json_object_iter_value(l->iter);
        l->iter = json_object_iter_next(l->object, l->iter);
        prefix[l->prefix_len] = '\0';
        char name[1200];
        snprintf(name, sizeof(name), "%s%s", prefix, key);
        if (json_is_object(val) && json_object_size(val) > 0 && depth + 1 < RECORD_DEPTH &&
            strlen(name) + 2 < sizeof(prefix)) {
            snprintf(prefix, sizeof(prefix), "%.1000s.", name);
            stack[depth + 1] = (struct level){val, json_object_iter(val), strlen(prefix)};
            depth++;
            continue;
        }
        char *text = cell_text(val);
        print_clean(name);
        printf("%-24s %s\n", name, text);
        free(text);
    }
}

void print_metrics(const json_t *metrics)
{
    static const char *const columns[] = {"metric", "value", "time", NULL};
    json_t *rows = json_array();
    const char *name;
    json_t *last;
    json_object_foreach((json_t *)metrics, name, last)
    {
        json_array_append_new(rows, json_pack("{sssOsO?}", "metric", name, "value", json_object_get(last, "value"),
                                              "time", json_object_get(last, "time")));
    }
    print_table(rows, columns);
    json_decref(rows);
}

void print_points(const json_t *points)
{
    static const char *const columns[] = {"time", "value", NULL};
    json_t *rows = json_array();
    size_t i;
    json_t *point;
    json_array_foreach((json_t *)points, i, point)
    {
        char iso[CLOCK_RFC3339_MAX];
        clock_rfc3339((int64_t)(json_number_value(json_array_get(point, 0)) * 1000 + 0.5), iso);
        json_array_append_new(rows, json_pack("{sssO?}", "time", iso, "value", json_array_get(point, 1)));
    }
    print_table(rows, columns);
    json_decref(rows);
}
