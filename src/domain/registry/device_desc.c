// Checking a device's description: every limit in one place, every error with its JSON pointer.
#include "base/utf8.h"
#include "domain/registry/registry_priv.h"

#define ACCESS_TOKEN_MIN 4
#define ACCESS_TOKEN_MAX 128

// More than any description can become: bodies are at most 1 MiB, and no JSON text grows fourfold when it is written anew.
#define TEXTS_MAX ((size_t)4 << 20)

static bool is_id_char(uint8_t c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '_' ||
           c == ':' || c == '-';
}

static bool name_like(struct slice s, size_t max)
{
    if (s.len == 0 || s.len > max) {
        return false;
    }
    for (size_t i = 0; i < s.len; i++) {
        if (!is_id_char(s.p[i])) {
            return false;
        }
    }
    return true;
}

static bool printable_ascii(struct slice s)
{
    for (size_t i = 0; i < s.len; i++) {
        if (s.p[i] < 0x21 || s.p[i] > 0x7e) {
            return false;
        }
    }
    return true;
}

// Text for people: UTF-8 without control characters.
static bool plain_text(struct slice s)
{
    for (size_t i = 0; i < s.len; i++) {
        if (s.p[i] < 0x20 || s.p[i] == 0x7f) {
            return false;
        }
    }
    return utf8_valid(s);
}

static enum status read_id(const json_t *v, struct device_desc *ret, struct err *err)
{
    ret->id = doc_slice(v);
    if (!id_valid(ret->id)) {
        return err_at(err, ST_INVALID, "/id", "a device id is 1 to %d characters of A-Z a-z 0-9 . _ : -", ID_MAX);
    }
    return ST_OK;
}

static enum status read_name(const json_t *v, struct device_desc *ret, struct err *err)
{
    ret->name = doc_slice(v);
    if (ret->name.len == 0 || ret->name.len > DEVICE_NAME_MAX || !plain_text(ret->name)) {
        return err_at(err, ST_INVALID, "/name", "a name is 1 to %d bytes of text without control characters",
                      DEVICE_NAME_MAX);
    }
    return ST_OK;
}

static enum status read_model(const json_t *v, struct device_desc *ret, struct err *err)
{
    ret->model = doc_slice(v);
    if (ret->model.len == 0 || ret->model.len > DEVICE_MODEL_MAX || !plain_text(ret->model)) {
        return err_at(err, ST_INVALID, "/model", "a model is 1 to %d bytes of text without control characters",
                      DEVICE_MODEL_MAX);
    }
    return ST_OK;
}

static enum status read_tags(const json_t *v, struct device_desc *ret, struct err *err)
{
    if (!json_is_object(v) || json_object_size(v) > DEVICE_TAGS_MAX) {
        return err_at(err, ST_INVALID, "/tags", "tags are an object of at most %d strings", DEVICE_TAGS_MAX);
    }
    ret->tags = (json_t *)(uintptr_t)v;
    const char *key = NULL;
    json_t *value = NULL;
    json_object_foreach(ret->tags, key, value)
    {
        struct slice text = doc_slice(value);
        if (!name_like(slice_str(key), DEVICE_TAG_KEY_MAX)) {
            return err_at(err, ST_INVALID, "/tags", "a tag's key is 1 to %d characters of A-Z a-z 0-9 . _ : -",
                          DEVICE_TAG_KEY_MAX);
        }
        if (text.p == NULL || text.len > DEVICE_TAG_VALUE_MAX || !plain_text(text)) {
            char where[DEVICE_TAG_KEY_MAX + 8];
            (void)snprintf(where, sizeof(where), "/tags/%s", key);
            return err_at(err, ST_INVALID, where,
                          "a tag's value is a string of at most %d bytes without control "
                          "characters",
                          DEVICE_TAG_VALUE_MAX);
        }
    }
    return ST_OK;
}

static enum status read_attributes(const json_t *v, struct device_desc *ret, struct err *err)
{
    if (!json_is_object(v)) {
        return err_at(err, ST_INVALID, "/attributes", "attributes are an object");
    }
    if (doc_depth(v) > DEVICE_ATTRIBUTES_DEPTH) {
        return err_at(err, ST_INVALID, "/attributes", "attributes are nested at most %d levels deep",
                      DEVICE_ATTRIBUTES_DEPTH);
    }
    ret->attributes = (json_t *)(uintptr_t)v;
    return ST_OK;
}

static enum status read_keys(const json_t *v, struct device_desc *ret, struct err *err)
{
    if (!json_is_object(v) || json_object_size(v) > DEVICE_KEYS_MAX) {
        return err_at(err, ST_INVALID, "/keys", "hardware keys are an object of at most %d strings", DEVICE_KEYS_MAX);
    }
    ret->keys = (json_t *)(uintptr_t)v;
    const char *kind = NULL;
    json_t *value = NULL;
    json_object_foreach(ret->keys, kind, value)
    {
        struct slice text = doc_slice(value);
        if (!name_like(slice_str(kind), DEVICE_KEY_KIND_MAX)) {
            return err_at(err, ST_INVALID, "/keys",
                          "a key's kind (serial, mac, imei) is 1 to %d characters of "
                          "A-Z a-z 0-9 . _ : -",
                          DEVICE_KEY_KIND_MAX);
        }
        if (text.len == 0 || text.len > DEVICE_KEY_VALUE_MAX || !printable_ascii(text)) {
            char where[DEVICE_KEY_KIND_MAX + 8];
            (void)snprintf(where, sizeof(where), "/keys/%s", kind);
            return err_at(err, ST_INVALID, where, "a hardware key is 1 to %d printable ASCII characters without blanks",
                          DEVICE_KEY_VALUE_MAX);
        }
    }
    return ST_OK;
}

static enum status read_access_token(const json_t *v, struct device_desc *ret, struct err *err)
{
    ret->access_token = doc_slice(v);
    if (ret->access_token.len < ACCESS_TOKEN_MIN || ret->access_token.len > ACCESS_TOKEN_MAX ||
        !printable_ascii(ret->access_token)) {
        return err_at(err, ST_INVALID, "/access_token",
                      "an access token is %d to %d printable ASCII characters without blanks", ACCESS_TOKEN_MIN,
                      ACCESS_TOKEN_MAX);
    }
    return ST_OK;
}

static const struct {
    const char *name;
    enum status (*read)(const json_t *v, struct device_desc *ret, struct err *err);
} members[] = {
    {"id", read_id},
    {"name", read_name},
    {"model", read_model},
    {"tags", read_tags},
    {"keys", read_keys},
    {"attributes", read_attributes},
    {"access_token", read_access_token},
};

// The first member of desc that is not in the table; "" when there is none.
static const char *unknown_member(const json_t *desc)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)desc, key, value)
    {
        size_t i = 0;
        while (i < sizeof(members) / sizeof(members[0]) && strcmp(members[i].name, key) != 0) {
            i++;
        }
        if (i == sizeof(members) / sizeof(members[0])) {
            return key;
        }
    }
    return "";
}

enum status device_desc_read(const json_t *desc, struct device_desc *ret, struct err *err)
{
    *ret = (struct device_desc){.id = {NULL, 0}};
    if (!json_is_object(desc)) {
        return err_set(err, ST_INVALID, "a device's description is a JSON object");
    }
    size_t known = 0;
    for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++) {
        const json_t *v = json_object_get(desc, members[i].name);
        if (v == NULL) {
            continue;
        }
        known++;
        enum status st = json_is_null(v) ? ST_OK : members[i].read(v, ret, err);
        if (st != ST_OK) {
            return st;
        }
    }
    if (known != json_object_size(desc)) {
        return err_set(err, ST_INVALID,
                       "unknown member \"%.64s\"; allowed are id, name, model, tags, attributes, keys, access_token",
                       unknown_member(desc));
    }
    return ST_OK;
}

enum status device_check(const json_t *desc, struct err *err)
{
    struct device_desc d;
    enum status st = device_desc_read(desc, &d, err);
    if (st != ST_OK) {
        return st;
    }
    DEVICE_TEXTS texts;
    return device_texts_make(&d, &texts, err);
}

static bool put_text(const json_t *v, struct buf *mem, size_t *ret_end)
{
    bool ok = v != NULL ? doc_text(v, mem) : buf_str(mem, "{}");
    *ret_end = mem->len;
    return ok;
}

enum status device_texts_make(const struct device_desc *d, struct device_texts *ret, struct err *err)
{
    *ret = (struct device_texts){.mem = buf_heap(TEXTS_MAX)};
    size_t attributes_end = 0;
    size_t tags_end = 0;
    size_t keys_end = 0;
    if (!put_text(d->attributes, &ret->mem, &attributes_end) || !put_text(d->tags, &ret->mem, &tags_end) ||
        !put_text(d->keys, &ret->mem, &keys_end)) {
        return err_set(err, ST_NOMEM, "no memory");
    }
    if (attributes_end > DEVICE_ATTRIBUTES_MAX) {
        return err_at(err, ST_INVALID, "/attributes", "attributes are at most %d bytes of JSON, these are %zu",
                      DEVICE_ATTRIBUTES_MAX, attributes_end);
    }
    ret->attributes = slice_make(ret->mem.p, attributes_end);
    ret->tags = slice_make(ret->mem.p + attributes_end, tags_end - attributes_end);
    ret->keys = slice_make(ret->mem.p + tags_end, keys_end - tags_end);
    return ST_OK;
}
