// Descriptions of devices from anywhere (API, import lines, enrolment): any bytes through parsing and checking. What passes is
// within every limit, can be written, and what was written passes again and is written the same.
#include <stdlib.h>

#include "domain/doc/doc.h"
#include "domain/registry/registry.h"

static void must(bool ok)
{
    if (!ok) {
        abort();
    }
}

static json_t *parse(struct slice text, enum status *ret_st)
{
    struct err err = {.code = ST_OK};
    json_t *v = NULL;
    *ret_st = doc_parse(text, DOC_DEPTH_MAX, &v, &err);
    must((*ret_st == ST_OK) == (v != NULL));
    must(*ret_st == ST_OK || (err.code == *ret_st && err.text[0] != '\0'));
    return v;
}

static void check_passed(const json_t *v)
{
    struct slice id = doc_str(v, "id");
    must(json_is_object(v));
    must(id.p == NULL || id_valid(id));
    must(doc_str(v, "name").len <= DEVICE_NAME_MAX && doc_str(v, "model").len <= DEVICE_MODEL_MAX);
    must(json_object_size(json_object_get(v, "tags")) <= DEVICE_TAGS_MAX);
    must(json_object_size(json_object_get(v, "keys")) <= DEVICE_KEYS_MAX);
    must(doc_depth(json_object_get(v, "attributes")) <= DEVICE_ATTRIBUTES_DEPTH);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum status st = ST_OK;
    struct err err = {.code = ST_OK};
    json_t *v = parse(slice_make(data, size), &st);
    if (v == NULL) {
        return 0;
    }
    must(doc_depth(v) <= DOC_DEPTH_MAX);
    struct buf out = buf_heap((size_t)16 << 20);
    must(doc_text(v, &out));
    json_t *back = parse(buf_view(&out), &st);
    struct buf again = buf_heap((size_t)16 << 20);
    must(st == ST_OK && doc_text(back, &again) && slice_eq(buf_view(&out), buf_view(&again)));
    st = device_check(v, &err);
    must(st == ST_OK || err.text[0] != '\0');
    must(device_check(back, NULL) == st);
    if (st == ST_OK) {
        check_passed(v);
    }
    if (json_is_object(
            v)) { // a patch of itself changes nothing but what it deletes, and applying it twice nothing more
        json_t *once = json_deep_copy(v);
        must(doc_merge(once, v, NULL) == ST_OK);
        json_t *twice = json_deep_copy(once);
        must(doc_merge(twice, v, NULL) == ST_OK && json_equal(once, twice));
        json_decref(once);
        json_decref(twice);
    }
    json_decref(back);
    json_decref(v);
    buf_release(&again);
    buf_release(&out);
    return 0;
}
