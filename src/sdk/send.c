#include "base/json.h"
#include "sdk/client.h"

#define PAYLOAD_DEPTH_MAX 32
#define NAME_MAX_BYTES    64

// Syntax and depth; the server looks at the content.
static bool payload_valid(struct slice json, bool object_only)
{
    struct json j;
    json_init(&j, json, PAYLOAD_DEPTH_MAX);
    enum json_token t = json_next(&j);
    if (object_only && t != JT_OBJECT) {
        return false;
    }
    while (t != JT_END && t != JT_ERROR) {
        t = json_next(&j);
    }
    return t == JT_END;
}

// Names in topics: 1 to 64 of [A-Za-z0-9._-].
static bool name_valid(struct slice name)
{
    struct reader r = reader_make(name);
    while (reader_left(&r) > 0) {
        uint8_t c = rd_u8(&r);
        bool ok = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' ||
                  c == '-';
        if (!ok) {
            return false;
        }
    }
    return name.len >= 1 && name.len <= NAME_MAX_BYTES;
}

static enum muster_status send(struct muster *m, enum muster_role role, struct slice topic, struct slice payload,
                               bool repeat, uint64_t cookie)
{
    if (m->config.role != role) {
        return MUSTER_E_STATE;
    }
    return window_put(&m->window, m->version, topic, payload, repeat, cookie, m->config.tx_bytes);
}

enum muster_status muster_send_telemetry(struct muster *m, const char *json, size_t len, bool repeat, uint64_t cookie)
{
    struct slice payload = slice_make(json, len);
    if (!payload_valid(payload, false)) {
        return MUSTER_E_INVALID;
    }
    return send(m, MUSTER_DEVICE, SLICE("$muster/telemetry"), payload, repeat, cookie);
}

enum muster_status muster_send_event(struct muster *m, const char *name, const char *json, size_t len, uint64_t cookie)
{
    struct slice payload = slice_make(json, len);
    if (!name_valid(slice_str(name)) || !payload_valid(payload, false)) {
        return MUSTER_E_INVALID;
    }
    uint8_t mem[32 + NAME_MAX_BYTES];
    struct buf topic = buf_fixed(mem, sizeof(mem));
    buf_str(&topic, "$muster/event/");
    buf_str(&topic, name);
    return send(m, MUSTER_DEVICE, buf_view(&topic), payload, false, cookie);
}

enum muster_status muster_report(struct muster *m, const char *json, size_t len, uint64_t cookie)
{
    struct slice payload = slice_make(json, len);
    if (!payload_valid(payload, true)) {
        return MUSTER_E_INVALID;
    }
    return send(m, MUSTER_DEVICE, SLICE("$muster/twin/reported"), payload, false, cookie);
}

enum muster_status muster_twin_get(struct muster *m)
{
    return send(m, MUSTER_DEVICE, SLICE("$muster/twin/get"), SLICE("{}"), false, 0);
}

enum muster_status muster_command_reply(struct muster *m, struct muster_text id, const char *json, size_t len,
                                        uint64_t cookie)
{
    struct slice payload = slice_make(json, len);
    struct slice name = slice_make(id.p, id.len);
    if (!name_valid(name) || !payload_valid(payload, false)) {
        return MUSTER_E_INVALID;
    }
    uint8_t mem[32 + NAME_MAX_BYTES];
    struct buf topic = buf_fixed(mem, sizeof(mem));
    buf_str(&topic, "$muster/command/");
    buf_slice(&topic, name);
    buf_str(&topic, "/reply");
    return send(m, MUSTER_DEVICE, buf_view(&topic), payload, false, cookie);
}

// {"csr": ..., "device": ..., members of extra} into the scratch buffer.
static enum muster_status compose_request(struct muster *m, const char *csr_pem, const char *device, const char *extra)
{
    buf_clear(&m->scratch);
    struct jw w;
    jw_init(&w, &m->scratch);
    jw_object(&w);
    jw_key(&w, "csr");
    jw_str(&w, csr_pem);
    if (device != NULL) {
        jw_key(&w, "device");
        jw_str(&w, device);
    }
    if (extra != NULL) {
        struct json j;
        json_init(&j, slice_str(extra), PAYLOAD_DEPTH_MAX);
        json_next(&j); // the object's brace: it was checked before
        while (json_next(&j) == JT_KEY) {
            char key[NAME_MAX_BYTES + 1];
            struct muster_text value = {NULL, 0};
            if (j.escaped || !slice_to_cstr(j.str, key, sizeof(key)) || strchr(key, '/') != NULL ||
                muster_json_raw((struct muster_text){extra, strlen(extra)}, key, &value) != MUSTER_OK ||
                !json_skip(&j, json_next(&j))) {
                return MUSTER_E_INVALID;
            }
            jw_key(&w, key);
            jw_raw(&w, slice_make(value.p, value.len));
        }
    }
    jw_object_end(&w);
    return m->scratch.failed ? MUSTER_E_TOO_LARGE : MUSTER_OK;
}

static enum muster_status request(struct muster *m, enum muster_role role, struct slice topic, const char *csr_pem,
                                  const char *device, const char *extra)
{
    if (extra != NULL && !payload_valid(slice_str(extra), true)) {
        return MUSTER_E_INVALID;
    }
    enum muster_status s = compose_request(m, csr_pem, device, extra);
    if (s != MUSTER_OK) {
        return s;
    }
    return send(m, role, topic, buf_view(&m->scratch), false, 0);
}

enum muster_status muster_provision(struct muster *m, const char *csr_pem, const char *device, const char *extra_json)
{
    return request(m, MUSTER_CLAIM, SLICE("$muster/provision/request"), csr_pem, device, extra_json);
}

enum muster_status muster_renew(struct muster *m, const char *csr_pem)
{
    return request(m, MUSTER_DEVICE, SLICE("$muster/provision/renew"), csr_pem, NULL, NULL);
}
