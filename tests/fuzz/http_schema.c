// Any document against the request schema of the test table: on refusal the pointer leads to a value of the document, or to
// a member that is missing in one.
#include <assert.h>
#include <stdlib.h>

#include "base/json.h"
#include "front/http/schema.h"
#include "front/http/testapi_ops.c"

// The value a key or index leads to; NULL when there is none.
static const json_t *child(const json_t *v, const char *key)
{
    return json_is_array(v) ? json_array_get(v, strtoul(key, NULL, 10)) : json_object_get(v, key);
}

// Follows `pointer`; true when only its last step may miss.
static bool leads_somewhere(const json_t *v, const char *pointer)
{
    while (*pointer == '/') {
        char key[100];
        size_t n = 0;
        for (pointer++; *pointer != '\0' && *pointer != '/'; pointer++) {
            bool escaped = *pointer == '~' && pointer[1] != '\0';
            pointer += escaped;
            key[n++] = (char)(!escaped ? *pointer : *pointer == '1' ? '/' : '~');
        }
        key[n] = '\0';
        if (v == NULL) {
            return false;
        }
        v = child(v, key);
    }
    return *pointer == '\0';
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err err = {.code = ST_OK};
    if (json_check(slice_make(data, size), JSON_DEPTH_MAX, 10000, &err) != ST_OK) {
        return 0;
    }
    json_error_t je;
    json_t *doc = json_loadb((const char *)data, size, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &je);
    if (doc == NULL) {
        return 0;
    }
    for (int i = 0; i < TESTAPI_OP__COUNT; i++) {
        err = (struct err){.code = ST_OK};
        enum status st = schema_check(testapi_ops[i].request, doc, &err);
        assert(st == ST_OK || (st == ST_INVALID && err.text[0] != '\0'));
        if (st != ST_OK && strlen(err.where) + 1 < sizeof(err.where)) { // a full one may be cut
            assert(leads_somewhere(doc, err.where));
        }
    }
    json_decref(doc);
    return 0;
}
