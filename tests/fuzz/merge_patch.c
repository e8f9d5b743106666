// Merge patches: two texts parted by a line feed. The first is merged into an empty twin section, the second onto it, and the
// result is compared with RFC 7396 as written there; the difference of the two states leads from one to the other.
#include <stdlib.h>

#include "base/buf.h"
#include "domain/doc/doc.h"
#include "domain/twin/section.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
    if (!ok) {
        abort();
    }
}

// Depth is bounded by the parser, so the model may recurse.
static json_t *model(json_t *target, json_t *patch)
{
    if (!json_is_object(patch)) {
        return json_deep_copy(patch);
    }
    json_t *out = json_is_object(target) ? json_deep_copy(target) : json_object();
    const char *key;
    json_t *value;
    json_object_foreach(patch, key, value)
    {
        if (json_is_null(value)) {
            json_object_del(out, key);
        } else {
            json_object_set_new(out, key, model(json_object_get(out, key), value));
        }
    }
    return out;
}

static json_t *parse(struct slice text)
{
    json_t *v = NULL;
    if (text.len > 65536 || doc_parse(text, TWIN_DEPTH_MAX, &v, NULL) != ST_OK) {
        return NULL;
    }
    if (!json_is_object(v) || section_check(v, NULL) != ST_OK) {
        json_decref(v);
        return NULL;
    }
    return v;
}

static void check_difference(const json_t *from, const json_t *to)
{
    json_t *diff = section_diff(from, to, true);
    json_t *doc = json_deep_copy(from);
    json_t *meta = json_object();
    check(diff != NULL && section_merge(doc, meta, diff, 1, NULL) == ST_OK);
    check(section_equal(doc, to));
    json_decref(diff);
    json_decref(doc);
    json_decref(meta);
}

static void check_pair(json_t *first, json_t *second)
{
    json_t *doc = json_object();
    json_t *meta = json_object();
    json_t *nothing = json_object();
    json_t *start = model(nothing, first);
    json_t *end = model(start, second);
    check(section_merge(doc, meta, first, 1, NULL) == ST_OK);
    check(json_equal(doc, start));
    check(section_merge(doc, meta, second, 2, NULL) == ST_OK);
    check(json_equal(doc, end));
    check_difference(start, end);
    check_difference(end, start);
    json_decref(doc);
    json_decref(meta);
    json_decref(nothing);
    json_decref(start);
    json_decref(end);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t cut = 0;
    while (cut < size && data[cut] != '\n') {
        cut++;
    }
    struct slice all = slice_make(data, size);
    json_t *first = parse(slice_head(all, cut));
    json_t *second = parse(slice_from(all, cut + 1));
    if (first != NULL && second != NULL) {
        check_pair(first, second);
    }
    json_decref(first);
    json_decref(second);
    return 0;
}
