// A core in a folder of its own, without threads, for unit tests of the domain. Include after cmocka.h.
//
//   struct testcore t;
//   testcore_open(&t);                      // migrated store; testcore_identity(&t) adds keys, CA, tokens
//   testcore_run(&t, fn, arg)               // fn(tx, arg, err) as t.who, in a transaction that is committed
//   testcore_close(&t);
//
// t.who is an owner of the tenant "default" unless a test changes it; t.out collects what the function wrote through t.w.
#ifndef TESTS_LIB_TESTCORE_H
#define TESTS_LIB_TESTCORE_H

#include <ftw.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/json.h"
#include "core/core.h"
#include "domain/identity/identity.h"
#include "domain/registry/registry.h"
#include "store/migrations.h"

typedef enum status (*testcore_fn)(struct tx *tx, void *arg, struct err *err);

struct testcore {
    char dir[256];
    struct core *core;
    struct identity *identity;
    struct principal who;
    struct buf out;
    struct jw w;
    struct err err;     // of the last run
    int64_t now_us;     // 0: the real time
    uint32_t queue_max; // of the core, from the next reopen on; 0: its default
};

static inline struct principal testcore_principal(uint32_t tenant, enum role role, const char *name)
{
    struct principal p = {.kind = WHO_OPERATOR, .tenant = tenant, .row = 1, .perms = role_perms(role)};
    snprintf(p.name, sizeof(p.name), "%s", name);
    snprintf(p.addr, sizeof(p.addr), "192.0.2.7:4711");
    return p;
}

static inline void testcore_reopen(struct testcore *t)
{
    struct core_conf conf = {.dir = t->dir,
                             .migrations = db_migrations,
                             .migrations_len = DB_MIGRATIONS_LEN,
                             .readers = 1,
                             .queue_max = t->queue_max};
    struct err err = {.code = ST_OK};
    if (core_new(&conf, &t->core, &err) != ST_OK) {
        fail_msg("%s", err.text);
    }
}

static inline void testcore_open(struct testcore *t)
{
    const char *base = getenv("TMPDIR");
    *t = (struct testcore){.who = testcore_principal(1, ROLE_OWNER, "tester"), .out = buf_heap((size_t)64 << 20)};
    snprintf(t->dir, sizeof(t->dir), "%s/muster-test-XXXXXX", base != NULL ? base : "/tmp");
    assert_non_null(mkdtemp(t->dir));
    testcore_reopen(t);
}

static inline enum status testcore_identity(struct testcore *t)
{
    static const char *const names[] = {"muster.example"};
    struct identity_conf conf = {.dir = t->dir,
                                 .names = names,
                                 .names_len = 1,
                                 .cert_validity_us = (int64_t)90 * 24 * 3600 * 1000000,
                                 .auth_failures_per_min = 10,
                                 .claim_failures_per_min = 5};
    t->err = (struct err){.code = ST_OK};
    return identity_open(t->core, &conf, &t->identity, &t->err);
}

// Ends the core but keeps the folder: testcore_reopen goes on with it.
static inline void testcore_stop(struct testcore *t)
{
    identity_free(t->identity);
    t->identity = NULL;
    registry_release(t->core);
    core_free(t->core);
    t->core = NULL;
}

static inline int testcore_remove_one(const char *path, const struct stat *st, int type, struct FTW *walk)
{
    (void)st;
    (void)type;
    (void)walk;
    return remove(path);
}

static inline void testcore_close(struct testcore *t)
{
    testcore_stop(t);
    buf_release(&t->out);
    (void)nftw(t->dir, testcore_remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

struct testcore_call {
    struct testcore *t;
    testcore_fn fn;
    void *arg;
};

static inline enum status testcore_call(struct tx *tx, void *arg, struct err *err)
{
    const struct testcore_call *c = arg;
    tx->who = &c->t->who;
    if (c->t->now_us != 0) {
        tx->now_us = c->t->now_us;
    }
    return c->fn(tx, c->arg, err);
}

// Runs fn as one operation. t->out and t->w are empty before; t->err is set when it fails.
static inline enum status testcore_run(struct testcore *t, testcore_fn fn, void *arg)
{
    struct testcore_call c = {t, fn, arg};
    buf_clear(&t->out);
    jw_init(&t->w, &t->out);
    t->err = (struct err){.code = ST_OK};
    enum status st = core_boot(t->core, testcore_call, &c, &t->err);
    if (st != ST_OK) {
        assert_int_equal(t->err.code, st);
        assert_true(t->err.text[0] != '\0');
    }
    return st;
}

// What the last run wrote, as a document the caller drops.
static inline json_t *testcore_json(const struct testcore *t)
{
    json_error_t why;
    assert_false(t->out.failed);
    json_t *v = json_loadb((const char *)t->out.p, t->out.len, JSON_DECODE_ANY, &why);
    if (v == NULL) {
        fail_msg("not JSON: %s: %.*s", why.text, (int)t->out.len, (const char *)t->out.p);
    }
    return v;
}

// A document from text with ' for ".
static inline json_t *testcore_doc(const char *text)
{
    char copy[65536];
    json_error_t why;
    assert_true(strlen(text) < sizeof(copy));
    size_t i = 0;
    for (; text[i] != '\0'; i++) {
        copy[i] = text[i] == '\'' ? '"' : text[i];
    }
    copy[i] = '\0';
    json_t *v = json_loads(copy, JSON_DECODE_ANY, &why);
    if (v == NULL) {
        fail_msg("not JSON: %s: %s", why.text, copy);
    }
    return v;
}

#endif
