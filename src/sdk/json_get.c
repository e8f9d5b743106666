#include "base/json.h"
#include "muster/muster.h"

#define DEPTH_MAX JSON_DEPTH_MAX

// The reader stands in front of a value: passes over white space and the colon, so that raw text starts at the value.
static struct slice value_text(const uint8_t *from, const uint8_t *to)
{
    struct slice s = slice_make(from, (size_t)(to - from));
    while (s.len > 0 && (s.p[0] == ' ' || s.p[0] == '\t' || s.p[0] == '\n' || s.p[0] == '\r' || s.p[0] == ':')) {
        s = slice_from(s, 1);
    }
    return s;
}

// Goes into the object whose brace was just read, to the value of the member `name`.
static enum muster_status member_find(struct json *j, struct slice name)
{
    for (;;) {
        enum json_token t = json_next(j);
        if (t == JT_OBJECT_END) {
            return MUSTER_E_NOT_FOUND;
        }
        if (t != JT_KEY) {
            return MUSTER_E_INVALID;
        }
        if (!j->escaped && slice_eq(j->str, name)) {
            return MUSTER_OK;
        }
        if (!json_skip(j, json_next(j))) {
            return MUSTER_E_INVALID;
        }
    }
}

// Finds the value; on MUSTER_OK its first token has been read.
static enum muster_status value_find(struct json *j, struct muster_text json, const char *path,
                                     enum json_token *ret_token, const uint8_t **ret_from)
{
    json_init(j, slice_make(json.p, json.len), DEPTH_MAX);
    *ret_from = j->p;
    enum json_token t = json_next(j);
    const char *part = path;
    while (part[0] != '\0') {
        size_t len = strcspn(part, "/");
        if (t != JT_OBJECT) {
            return t == JT_ERROR ? MUSTER_E_INVALID : MUSTER_E_NOT_FOUND;
        }
        enum muster_status s = member_find(j, slice_make(part, len));
        if (s != MUSTER_OK) {
            return s;
        }
        *ret_from = j->p;
        t = json_next(j);
        part += len;
        part += part[0] == '/' ? 1 : 0;
    }
    *ret_token = t;
    return t == JT_ERROR || t == JT_END ? MUSTER_E_INVALID : MUSTER_OK;
}

enum muster_status muster_json_raw(struct muster_text json, const char *path, struct muster_text *ret_value)
{
    struct json j;
    enum json_token t = JT_ERROR;
    const uint8_t *from = NULL;
    enum muster_status s = value_find(&j, json, path, &t, &from);
    if (s != MUSTER_OK) {
        return s;
    }
    if (!json_skip(&j, t)) {
        return MUSTER_E_INVALID;
    }
    struct slice raw = value_text(from, j.p);
    *ret_value = (struct muster_text){(const char *)raw.p, raw.len};
    return MUSTER_OK;
}

enum muster_status muster_json_int(struct muster_text json, const char *path, int64_t *ret_value)
{
    struct json j;
    enum json_token t = JT_ERROR;
    const uint8_t *from = NULL;
    enum muster_status s = value_find(&j, json, path, &t, &from);
    if (s == MUSTER_OK && t != JT_INT) {
        s = MUSTER_E_TYPE;
    }
    if (s == MUSTER_OK) {
        *ret_value = j.i;
    }
    return s;
}

enum muster_status muster_json_double(struct muster_text json, const char *path, double *ret_value)
{
    struct json j;
    enum json_token t = JT_ERROR;
    const uint8_t *from = NULL;
    enum muster_status s = value_find(&j, json, path, &t, &from);
    if (s == MUSTER_OK && t != JT_INT && t != JT_DOUBLE) {
        s = MUSTER_E_TYPE;
    }
    if (s == MUSTER_OK) {
        *ret_value = t == JT_INT ? (double)j.i : j.d;
    }
    return s;
}

enum muster_status muster_json_bool(struct muster_text json, const char *path, bool *ret_value)
{
    struct json j;
    enum json_token t = JT_ERROR;
    const uint8_t *from = NULL;
    enum muster_status s = value_find(&j, json, path, &t, &from);
    if (s == MUSTER_OK && t != JT_TRUE && t != JT_FALSE) {
        s = MUSTER_E_TYPE;
    }
    if (s == MUSTER_OK) {
        *ret_value = t == JT_TRUE;
    }
    return s;
}

enum muster_status muster_json_text(struct muster_text raw, char *dst, size_t dst_bytes)
{
    if (dst_bytes == 0) {
        return MUSTER_E_TOO_LARGE;
    }
    dst[0] = '\0';
    struct buf out = buf_fixed(dst, dst_bytes - 1);
    if (!json_unescape(slice_make(raw.p, raw.len), &out)) {
        dst[0] = '\0';
        return out.failed ? MUSTER_E_TOO_LARGE : MUSTER_E_INVALID;
    }
    dst[out.len] = '\0';
    if (strlen(dst) != out.len) {
        dst[0] = '\0';
        return MUSTER_E_INVALID;
    }
    return MUSTER_OK;
}

enum muster_status muster_json_str(struct muster_text json, const char *path, char *dst, size_t dst_bytes)
{
    struct json j;
    enum json_token t = JT_ERROR;
    const uint8_t *from = NULL;
    enum muster_status s = value_find(&j, json, path, &t, &from);
    if (s == MUSTER_OK && t != JT_STRING) {
        s = MUSTER_E_TYPE;
    }
    return s == MUSTER_OK ? muster_json_text((struct muster_text){(const char *)j.str.p, j.str.len}, dst, dst_bytes)
                          : s;
}
