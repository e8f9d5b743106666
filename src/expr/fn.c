#include "expr/fn.h"

#include <strings.h>

#include "expr/fn_priv.h"
#include "expr/tree.h"

#define BOOL  EXPR_OF(EXPR_BOOL)
#define INT   EXPR_OF(EXPR_INT)
#define REAL  EXPR_OF(EXPR_REAL)
#define NUM   EXPR_OF_NUMBER
#define TEXT  EXPR_OF(EXPR_TEXT)
#define TIME  EXPR_OF(EXPR_TIME)
#define VERS  EXPR_OF(EXPR_VERSION)
#define POINT EXPR_OF(EXPR_POINT)
#define OBJ   EXPR_OF(EXPR_OBJECT)
#define AREA  EXPR_OF(EXPR_POLYGON)
#define BAG   (expr_types)(EXPR_OF(EXPR_LIST) | EXPR_OF(EXPR_OBJECT))
#define SAID  (expr_types)(BOOL | NUM | TEXT | TIME | VERS | EXPR_OF(EXPR_INTERVAL))
#define ANY   EXPR_OF_ANY
#define MANY  EXPR_ARGS_MAX

static bool is_number_text(unsigned arg, const struct expr_value *v)
{
    (void)arg;
    return v->type != EXPR_TEXT || expr_to_number(v).type != EXPR_NULL;
}

static bool is_time_text(unsigned arg, const struct expr_value *v)
{
    (void)arg;
    return v->type != EXPR_TEXT || expr_to_time(v).type != EXPR_NULL;
}

static bool is_version_text(unsigned arg, const struct expr_value *v)
{
    (void)arg;
    return v->type != EXPR_TEXT || expr_version_valid(expr_value_slice(v));
}

static bool is_unit(unsigned arg, const struct expr_value *v)
{
    int field = arg == 0 && v->type == EXPR_TEXT ? expr_field_find(expr_value_slice(v)) : 0;
    return field >= 0 && field <= EXPR_SECOND;
}

static const char text_group[] = "Text";
static const char number_group[] = "Numbers";
static const char convert_group[] = "Conversions and types";
static const char null_group[] = "Missing values";
static const char time_group[] = "Time";
static const char geo_group[] = "Geography";
static const char message_group[] = "Messages (in statements only)";
static const char list_group[] = "Lists and objects";

#define FN(name_, group_, signature_, min_, max_, result_, call_, doc_, example_, gives_, ...)                         \
    {                                                                                                                  \
        .name = (name_), .group = (group_), .signature = (signature_), .min = (min_), .max = (max_),                   \
        .result = (result_), .call = (call_), .doc = (doc_), .example = (example_), .gives = (gives_), .args = {       \
            __VA_ARGS__                                                                                                \
        }                                                                                                              \
    }
#define FN_WITH(name_, group_, signature_, min_, max_, result_, call_, doc_, example_, gives_, flags_, literal_,       \
                rule_, ...)                                                                                            \
    {                                                                                                                  \
        .name = (name_), .group = (group_), .signature = (signature_), .min = (min_), .max = (max_),                   \
        .result = (result_), .call = (call_), .doc = (doc_), .example = (example_), .gives = (gives_),                 \
        .flags = (flags_), .literal = (literal_), .rule = (rule_), .args = {                                           \
            __VA_ARGS__                                                                                                \
        }                                                                                                              \
    }

// clang-format off
static const struct expr_fn table[] = {
    FN("lower", text_group, "text", 1, 1, TEXT, fn_lower, "with small letters; ASCII only", "lower('TH-20 \xc3\x84')", "'th-20 \xc3\x84'", TEXT),
    FN("upper", text_group, "text", 1, 1, TEXT, fn_upper, "with capital letters; ASCII only", "upper(model)", "'TH-20'", TEXT),
    FN("length", text_group, "text", 1, 1, INT, fn_length, "characters (code points)", "length('\xc3\x84" "b')", "2", TEXT),
    FN("substr", text_group, "text, start int [, count int]", 2, 3, TEXT, fn_substr, "characters from start on; the first is 1", "substr('device', 2, 3)", "'evi'", TEXT, INT, INT),
    FN("trim", text_group, "text", 1, 1, TEXT, fn_trim, "without blanks at both ends", "trim('  a b ')", "'a b'", TEXT),
    FN("ltrim", text_group, "text", 1, 1, TEXT, fn_ltrim, "without blanks at the front", "ltrim(' a ')", "'a '", TEXT),
    FN("rtrim", text_group, "text", 1, 1, TEXT, fn_rtrim, "without blanks at the end", "rtrim(' a ')", "' a'", TEXT),
    FN("replace", text_group, "text, what text, with text", 3, 3, TEXT, fn_replace, "with every `what` replaced", "replace('a-b-c', '-', '.')", "'a.b.c'", TEXT, TEXT, TEXT),
    FN("starts_with", text_group, "text, start text", 2, 2, BOOL, fn_starts_with, "does it begin so?", "starts_with(model, 'TH')", "true", TEXT, TEXT),
    FN("ends_with", text_group, "text, end text", 2, 2, BOOL, fn_ends_with, "does it end so?", "ends_with(model, '30')", "false", TEXT, TEXT),
    FN("contains", text_group, "text, part text", 2, 2, BOOL, fn_contains, "is the part in it?", "contains('sensor', 'so')", "true", TEXT, TEXT),
    FN("position", text_group, "text, part text", 2, 2, INT, fn_position, "the character the part begins at; 0 when it is not there", "position('sensor', 'so')", "4", TEXT, TEXT),
    FN("split_part", text_group, "text, by text, n int", 3, 3, TEXT, fn_split_part, "the n-th part, from 1; null when there are fewer", "split_part('plant/1/oven', '/', 3)", "'oven'", TEXT, TEXT, INT),
    FN("concat", text_group, "text, text, ...", 2, MANY, TEXT, fn_concat, "one behind the other, as with `||`", "concat(id, '/', model)", "'dev-1/TH-20'", TEXT, TEXT, TEXT, TEXT),

    FN("abs", number_group, "number", 1, 1, NUM, fn_abs, "without its sign", "abs(-3)", "3", NUM),
    FN("sign", number_group, "number", 1, 1, INT, fn_sign, "-1, 0 or 1", "sign(-2.5)", "-1", NUM),
    FN("floor", number_group, "number", 1, 1, NUM, fn_floor, "the next whole number below", "floor(-2.5)", "-3", NUM),
    FN("ceil", number_group, "number", 1, 1, NUM, fn_ceil, "the next whole number above", "ceil(2.1)", "3", NUM),
    FN("trunc", number_group, "number", 1, 1, NUM, fn_trunc, "without its fraction", "trunc(-2.5)", "-2", NUM),
    FN("round", number_group, "number [, digits int]", 1, 2, NUM, fn_round, "to 0 to 15 digits behind the point; halves go away from zero", "round(2.345, 1)", "2.3", NUM, INT),
    FN("div", number_group, "int, int", 2, 2, INT, fn_div, "whole division, towards zero; by zero it is null", "div(-7, 2)", "-3", INT, INT),
    FN("mod", number_group, "int, int", 2, 2, INT, fn_mod, "the rest of `div`, as with `%`", "mod(-7, 2)", "-1", INT, INT),
    FN("sqrt", number_group, "number", 1, 1, REAL, fn_sqrt, "square root; null below zero", "sqrt(9)", "3", NUM),
    FN("power", number_group, "number, number", 2, 2, REAL, fn_power, "the first to the power of the second", "power(2, 10)", "1024", NUM, NUM),
    FN("exp", number_group, "number", 1, 1, REAL, fn_exp, "e to the power of it", "exp(0)", "1", NUM),
    FN("ln", number_group, "number", 1, 1, REAL, fn_ln, "natural logarithm; null from zero down", "ln(1)", "0", NUM),
    FN("log10", number_group, "number", 1, 1, REAL, fn_log10, "decimal logarithm; null from zero down", "log10(1000)", "3", NUM),
    FN_WITH("least", number_group, "value, value, ...", 2, MANY, ANY, fn_least, "the smallest; null when one is null", "least(3, 1.5, 2)", "1.5", EXPR_FN_UNITE, NULL, NULL, SAID, SAID, SAID, SAID),
    FN_WITH("greatest", number_group, "value, value, ...", 2, MANY, ANY, fn_greatest, "the largest; null when one is null", "greatest('a', 'b')", "'b'", EXPR_FN_UNITE, NULL, NULL, SAID, SAID, SAID, SAID),

    FN_WITH("number", convert_group, "number, bool or text", 1, 1, NUM, fn_number, "the number a text spells; null when it spells none", "number(reported.count_text)", "17", 0, is_number_text, "a number as in JSON", (expr_types)(NUM | BOOL | TEXT)),
    FN("text", convert_group, "value", 1, 1, TEXT, fn_text, "the text of a number, bool, time, interval or version", "text(1.5) || ' bar'", "'1.5 bar'", SAID),
    FN("bool", convert_group, "bool or text", 1, 1, BOOL, fn_bool, "of the texts true and false; null for others", "bool('true')", "true", (expr_types)(BOOL | TEXT)),
    FN_WITH("time", convert_group, "time or text", 1, 1, TIME, fn_time, "the time a text spells (RFC 3339, or a date); null when it spells none", "time(reported.installed) < now()", "true", 0, is_time_text, "a time as in '2026-01-31T12:00:00Z'", (expr_types)(TIME | TEXT)),
    FN_WITH("version", convert_group, "version or text", 1, 1, VERS, fn_version, "a version: compares by its numbers", "version(reported.fw) > version('1.9')", "true", 0, is_version_text, "a version as in '1.10.0-rc.1'", (expr_types)(VERS | TEXT)),
    FN_WITH("typeof", convert_group, "value", 1, 1, TEXT, fn_typeof, "the name of its type", "typeof(reported.temp)", "'real'", EXPR_FN_NULLS, NULL, NULL, ANY),

    FN_WITH("coalesce", null_group, "value, value, ...", 2, MANY, ANY, NULL, "the first that is not null", "coalesce(tags.room, 'none')", "'none'", EXPR_FN_SPECIAL | EXPR_FN_NULLS | EXPR_FN_UNITE, NULL, NULL, ANY, ANY, ANY, ANY),
    FN_WITH("nullif", null_group, "value, other", 2, 2, ANY, fn_nullif, "the value; null when it equals the other", "nullif(model, 'TH-20')", "null", EXPR_FN_NULLS, NULL, NULL, ANY, ANY),

    FN_WITH("now", time_group, "", 0, 0, TIME, NULL, "the time of the evaluation", "now() - last_seen", "interval '5 minutes'", EXPR_FN_SPECIAL | EXPR_FN_VOLATILE, NULL, NULL, 0),
    FN_WITH("date_trunc", time_group, "unit text, time", 2, 2, TIME, fn_date_trunc, "the beginning of its year, month, day, hour, minute or second, in UTC", "date_trunc('month', created)", "time '2026-01-01'", 0, is_unit, "year, month, day, hour, minute or second", TEXT, TIME),
    FN("epoch_ms", time_group, "time", 1, 1, INT, fn_epoch_ms, "milliseconds since 1970", "epoch_ms(time '1970-01-02')", "86400000", TIME),
    FN("from_epoch_ms", time_group, "int", 1, 1, TIME, fn_from_epoch_ms, "the time so many milliseconds after 1970", "from_epoch_ms(86400000)", "time '1970-01-02'", INT),

    FN("point", geo_group, "lat number, lon number", 2, 2, POINT, fn_point, "a place in degrees; null outside of the earth", "point(52.52, 13.405) = location", "true", NUM, NUM),
    FN("lat", geo_group, "point", 1, 1, REAL, fn_lat, "its latitude", "lat(location)", "52.52", POINT),
    FN("lon", geo_group, "point", 1, 1, REAL, fn_lon, "its longitude", "lon(location)", "13.405", POINT),
    FN("distance", geo_group, "point, point", 2, 2, REAL, fn_distance, "metres between them, on a sphere", "round(distance(location, point(53.55, 9.99)))", "255419", POINT, POINT),
    FN("within", geo_group, "point, centre point, metres number", 3, 3, BOOL, fn_within, "is it at most so far from the centre?", "within(location, point(52.5, 13.4), 5000)", "true", POINT, POINT, NUM),
    FN("inside", geo_group, "point, polygon((lat lon, ...))", 2, 2, BOOL, fn_inside, "is it in the area? Edges are straight in degrees", "inside(location, polygon((52 13, 53 13, 53 14, 52 14)))", "true", POINT, AREA),

    FN("size", list_group, "list or object", 1, 1, INT, fn_size, "items of a list, keys of an object", "size(groups)", "2", BAG),
    FN("has_key", list_group, "object, key text", 2, 2, BOOL, fn_has_key, "is the key there, even with null?", "has_key(reported, 'gone')", "true", OBJ, TEXT),

    FN_WITH("topic", message_group, "[level int]", 0, 1, TEXT, NULL, "the topic, or its n-th level, from 1", NULL, NULL, EXPR_FN_SPECIAL | EXPR_FN_VOLATILE | EXPR_FN_MESSAGE, NULL, NULL, INT),
    FN_WITH("clientid", message_group, "", 0, 0, TEXT, NULL, "who sent it", NULL, NULL, EXPR_FN_SPECIAL | EXPR_FN_VOLATILE | EXPR_FN_MESSAGE, NULL, NULL, 0),
    FN_WITH("timestamp", message_group, "", 0, 0, INT, NULL, "when it arrived, in milliseconds since 1970", NULL, NULL, EXPR_FN_SPECIAL | EXPR_FN_VOLATILE | EXPR_FN_MESSAGE, NULL, NULL, 0),
    FN_WITH("qos", message_group, "", 0, 0, INT, NULL, "its quality of service: 0, 1 or 2", NULL, NULL, EXPR_FN_SPECIAL | EXPR_FN_VOLATILE | EXPR_FN_MESSAGE, NULL, NULL, 0),
};
// clang-format on
#define COUNT (sizeof(table) / sizeof(table[0]))

unsigned expr_fn_count(void)
{
    return COUNT;
}

const struct expr_fn *expr_fn_at(unsigned index)
{
    return index < COUNT ? &table[index] : NULL;
}

int expr_fn_find(struct slice name)
{
    for (unsigned i = 0; i < COUNT; i++) {
        if (strlen(table[i].name) == name.len && strncasecmp(table[i].name, (const char *)name.p, name.len) == 0) {
            return (int)i;
        }
    }
    return -1;
}

expr_types expr_fn_arg(const struct expr_fn *fn, unsigned index)
{
    return fn->args[index < 4 ? index : 3];
}

// The argument as the function takes it; NULL when it does not.
static struct expr_value fit(const struct expr_value *v, expr_types wanted)
{
    if ((EXPR_OF(v->type) & wanted) != 0) {
        return *v;
    }
    if (v->type == EXPR_TEXT && (wanted & TIME) != 0) {
        return expr_to_time(v);
    }
    return v->type == EXPR_TEXT && (wanted & VERS) != 0 ? expr_to_version(v) : expr_null();
}

struct expr_value expr_fn_apply(const struct expr_fn *fn, struct expr_call *c, const struct expr_value *args,
                                unsigned n)
{
    struct expr_value fitted[EXPR_ARGS_MAX];
    for (unsigned i = 0; i < n && i < EXPR_ARGS_MAX; i++) {
        fitted[i] = fit(&args[i], expr_fn_arg(fn, i));
        if (fitted[i].type == EXPR_NULL && (fn->flags & EXPR_FN_NULLS) == 0) {
            return expr_null();
        }
    }
    return fn->call(c, fitted, n);
}

// A cell of a Markdown table: bars within are escaped.
static void put_cell(struct buf *out, const char *before, const char *text, const char *after)
{
    buf_str(out, before);
    for (; *text != '\0'; text++) {
        buf_printf(out, *text == '|' ? "\\%c" : "%c", *text);
    }
    buf_str(out, after);
}

bool expr_fn_reference(struct buf *out)
{
    const char *group = NULL;
    for (unsigned i = 0; i < COUNT; i++) {
        const struct expr_fn *fn = &table[i];
        if (fn->group != group) {
            group = fn->group;
            buf_printf(out, "\n### %s\n\n| function | gives | | example | is |\n|---|---|---|---|---|\n", group);
        }
        char result[64];
        expr_types_text(fn->result, result, sizeof(result));
        buf_printf(out, "| `%s(%s)` | %s ", fn->name, fn->signature, result);
        put_cell(out, "| ", fn->doc, " ");
        if (fn->example == NULL) {
            buf_str(out, "| | |\n");
            continue;
        }
        put_cell(out, "| `", fn->example, "` ");
        put_cell(out, "| `", fn->gives, "` |\n");
    }
    return !out->failed;
}
