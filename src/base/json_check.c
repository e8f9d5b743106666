#include <stdio.h>
#include <stdlib.h>

#include "base/json.h"
#include "base/map.h"

#define CHECK_SLOTS_FIRST 128 // on the stack: documents of up to 64 keys allocate nothing

// Duplicate keys are found by a set of 64-bit hashes of (object, key). The hash is keyed with the secret of the process, so
// nobody can look for collisions, and by chance two of 10,000 keys meet once in 10^11 documents.
struct check {
    struct json j;
    uint64_t *set; // open addressing, at most half full; 0: free
    size_t cap;
    size_t keys;
    uint32_t objects;                // begun so far
    uint32_t object[JSON_DEPTH_MAX]; // the serial number of the object at each level
    uint64_t first[CHECK_SLOTS_FIRST];
};

static bool check_grow(struct check *c)
{
    if (c->keys * 2 < c->cap) {
        return true;
    }
    uint64_t *set = calloc(c->cap * 2, sizeof(*set));
    if (set == NULL) {
        return false;
    }
    size_t mask = c->cap * 2 - 1;
    for (size_t i = 0; i < c->cap; i++) {
        size_t at = (size_t)c->set[i] & mask;
        while (c->set[i] != 0 && set[at] != 0) {
            at = (at + 1) & mask;
        }
        if (c->set[i] != 0) {
            set[at] = c->set[i];
        }
    }
    if (c->set != c->first) {
        free(c->set);
    }
    c->set = set;
    c->cap *= 2;
    return true;
}

// The hash of what the key just read means, within its object.
static bool check_hash(const struct check *c, uint64_t *ret)
{
    struct slice key = c->j.str;
    struct buf meaning = buf_heap(key.len);
    if (c->j.escaped) {
        if (!json_unescape(key, &meaning)) {
            buf_release(&meaning);
            return false;
        }
        key = buf_view(&meaning);
    }
    uint64_t h = hash_u64(hash_bytes(key) + c->object[c->j.depth - 1]);
    buf_release(&meaning);
    *ret = h != 0 ? h : 1;
    return true;
}

static enum status check_problem(enum status code, size_t off, const char *text, struct err *err)
{
    char where[32];
    snprintf(where, sizeof(where), "byte %zu", off);
    return err_at(err, code, where, "not acceptable JSON: %s", text);
}

static enum status check_key(struct check *c, size_t keys_max, struct err *err)
{
    size_t off = (size_t)(c->j.str.p - c->j.start) - 1;
    if (c->keys >= keys_max) {
        char text[64];
        snprintf(text, sizeof(text), "more than %zu keys", keys_max);
        return check_problem(ST_TOO_LARGE, off, text, err);
    }
    uint64_t h;
    if (!check_grow(c) || !check_hash(c, &h)) {
        return err_set(err, ST_NOMEM, "no memory to check the JSON text");
    }
    size_t at = (size_t)h & (c->cap - 1);
    while (c->set[at] != 0 && c->set[at] != h) {
        at = (at + 1) & (c->cap - 1);
    }
    if (c->set[at] == h) {
        return check_problem(ST_INVALID, off, "a key stands twice in the same object", err);
    }
    c->set[at] = h;
    c->keys++;
    return ST_OK;
}

static enum status check_run(struct check *c, size_t keys_max, struct err *err)
{
    for (;;) {
        enum json_token t = json_next(&c->j);
        enum status s = ST_OK;
        if (t == JT_ERROR) {
            return check_problem(ST_MALFORMED, c->j.off, c->j.error, err);
        }
        if (t == JT_END) {
            return ST_OK;
        }
        if (t == JT_OBJECT) {
            c->object[c->j.depth - 1] = ++c->objects;
        } else if (t == JT_KEY) {
            s = check_key(c, keys_max, err);
        }
        if (s != ST_OK) {
            return s;
        }
    }
}

enum status json_check(struct slice text, unsigned depth_max, unsigned keys_max, struct err *err)
{
    struct check c = {.cap = CHECK_SLOTS_FIRST};
    c.set = c.first;
    json_init(&c.j, text, depth_max);
    enum status s = check_run(&c, keys_max, err);
    if (c.set != c.first) {
        free(c.set);
    }
    return s;
}
