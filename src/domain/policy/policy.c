// Making permits: which policies apply to a principal, and the values of the variables they use.
#include "domain/policy/policy.h"

#include <stdlib.h>

#include "base/log.h"
#include "domain/doc/doc.h"
#include "domain/identity/cert.h"
#include "domain/identity/operator.h"
#include "domain/policy/policy_priv.h"
#define SQL_POLICY_DEFINE
#include "domain/policy/sql/policy.sql.h"

#define VALUES_MAX 128 // different variables of all policies that apply to one principal; more have no value

// --- policies in memory ------------------------------------------------------------------------------------------

// A document that was stored and does not compile any more allows nothing, and says so.
static struct policy_doc *compile_stored(struct slice id, struct slice text)
{
    DOC *document = NULL;
    struct policy_doc *doc = NULL;
    struct err err = {.code = ST_OK};
    enum status st = doc_load(text, &document, &err);
    if (st == ST_OK) {
        st = policy_doc_make(document, &doc, &err);
    }
    if (st != ST_OK) {
        char name[ID_MAX + 1];
        (void)slice_to_cstr(id, name, sizeof(name));
        log_error("policy", "a stored policy cannot be used: it allows nothing", LOGS("policy", name),
                  LOGS("error", err.text));
    }
    return st == ST_OK ? doc : NULL;
}

static enum status load_stored(struct tx *tx, uint64_t row, struct policy **ret, struct err *err)
{
    struct policies *ps = policies_of(tx->core);
    STMT(s, tx->db, &sql_policy[SQL_POLICY_LOAD]);
    stmt_bind_i64(s, 1, (int64_t)row);
    bool found = false;
    enum status st = stmt_step(s, &found, err);
    if (st != ST_OK) {
        return st;
    }
    if (!found) {
        return err_set(err, ST_NOT_FOUND, "there is no such policy any more");
    }
    struct policy_doc *doc = compile_stored(col_text(s, 1), col_text(s, 2));
    struct policy *p = policy_new(row, (uint32_t)col_i64(s, 0), col_text(s, 1), doc, ++ps->next_version);
    if (p == NULL || !map_set_u64(&ps->by_row, row, p)) {
        if (p == NULL) {
            policy_doc_free(doc);
        }
        policy_put(p);
        return err_set(err, ST_NOMEM, "no memory for a policy");
    }
    *ret = p;
    return ST_OK;
}

enum status policy_load(struct tx *tx, uint64_t row, struct policy **ret, struct err *err)
{
    struct policy *p = map_get_u64(&policies_of(tx->core)->by_row, row);
    if (p == NULL) {
        return load_stored(tx, row, ret, err);
    }
    *ret = p;
    return ST_OK;
}

// --- which policies apply ----------------------------------------------------------------------------------------

struct applied {
    struct policy *policies[POLICY_PER_PERMIT_MAX];
    size_t len;
    bool too_many;
};

static enum status apply_rows(struct tx *tx, struct stmt *s, struct applied *a, struct err *err)
{
    for (;;) {
        bool row = false;
        enum status st = stmt_step(s, &row, err);
        if (st != ST_OK || !row) {
            return st;
        }
        if (a->len == POLICY_PER_PERMIT_MAX) {
            a->too_many = true;
            return ST_OK;
        }
        st = policy_load(tx, (uint64_t)col_i64(s, 0), &a->policies[a->len], err);
        if (st != ST_OK) {
            return st;
        }
        a->len++;
    }
}

static enum status apply_device(struct tx *tx, const struct principal *who, struct applied *a, struct err *err)
{
    STMT(s, tx->db, &sql_policy[SQL_POLICY_OF_DEVICE]);
    stmt_bind_i64(s, 1, (int64_t)who->row);
    stmt_bind_i64(s, 2, who->tenant);
    stmt_bind_i64(s, 3, POLICY_PER_PERMIT_MAX + 1);
    return apply_rows(tx, s, a, err);
}

static enum status apply_token(struct tx *tx, const struct principal *who, struct applied *a, struct err *err)
{
    STMT(s, tx->db, &sql_policy[SQL_POLICY_OF_TOKEN]);
    stmt_bind_i64(s, 1, (int64_t)who->row);
    stmt_bind_i64(s, 2, POLICY_PER_PERMIT_MAX + 1);
    return apply_rows(tx, s, a, err);
}

// The one policy of the configuration, by its name in the tenant; without it nothing is allowed.
static enum status apply_anonymous(struct tx *tx, const struct principal *who, struct applied *a, struct err *err)
{
    const struct policies *ps = policies_of(tx->core);
    STMT(s, tx->db, &sql_policy[SQL_POLICY_FIND]);
    stmt_bind_i64(s, 1, who->tenant);
    stmt_bind_str(s, 2, ps->anonymous);
    return ps->anonymous[0] != '\0' ? apply_rows(tx, s, a, err) : ST_OK;
}

static enum status apply(struct tx *tx, const struct principal *who, struct applied *a, struct err *err)
{
    static enum status (*const by_kind[])(struct tx *, const struct principal *, struct applied *, struct err *) = {
        [WHO_OPERATOR] = apply_token, [WHO_DEVICE] = apply_device, [WHO_ANONYMOUS] = apply_anonymous};
    *a = (struct applied){.len = 0};
    if ((unsigned)who->kind >= sizeof(by_kind) / sizeof(by_kind[0]) || by_kind[who->kind] == NULL) {
        return err_set(err, ST_FORBIDDEN, "only devices and applications have permits");
    }
    enum status st = by_kind[who->kind](tx, who, a, err);
    if (a->too_many) {
        log_warn("policy", "too many policies apply: nothing is allowed", LOGS("who", who->name),
                 LOGU("max", POLICY_PER_PERMIT_MAX));
        a->len = 0;
    }
    return st;
}

// --- values ------------------------------------------------------------------------------------------------------

struct values {
    struct permit_value list[VALUES_MAX];
    size_t len;
};

// Every variable that occurs in the policies, once, without a value yet.
static void name_values(const struct applied *a, struct values *v)
{
    for (size_t i = 0; i < a->len; i++) {
        const struct policy_doc *d = a->policies[i]->doc; // only the core thread, which we are, replaces it
        for (unsigned k = 0; d != NULL && k < d->vars_len; k++) {
            bool known = false;
            for (size_t n = 0; !known && n < v->len; n++) {
                known = slice_eq(v->list[n].name, d->vars[k]);
            }
            if (!known && v->len < VALUES_MAX) {
                v->list[v->len++] = (struct permit_value){d->vars[k], {NULL, 0}};
            }
        }
    }
}

static void set_value(struct values *v, const char *name, struct slice value)
{
    for (size_t i = 0; i < v->len; i++) {
        if (slice_eq_str(v->list[i].name, name)) {
            v->list[i].value = value;
        }
    }
}

static bool uses(const struct values *v, const char *prefix)
{
    for (size_t i = 0; i < v->len; i++) {
        if (slice_starts(v->list[i].name, slice_str(prefix))) {
            return true;
        }
    }
    return false;
}

// The members of a JSON object whose names stand behind `prefix`. `doc` keeps the texts alive.
static enum status set_members(struct values *v, const char *prefix, struct slice text, json_t **ret_doc,
                               struct err *err)
{
    struct slice p = slice_str(prefix);
    enum status st = uses(v, prefix) ? doc_load(text, ret_doc, err) : ST_OK;
    for (size_t i = 0; st == ST_OK && *ret_doc != NULL && i < v->len; i++) {
        char key[DEVICE_TAG_KEY_MAX + 1];
        if (slice_starts(v->list[i].name, p) && slice_to_cstr(slice_from(v->list[i].name, p.len), key, sizeof(key))) {
            v->list[i].value = doc_str(*ret_doc, key);
        }
    }
    return st;
}

// A permit on its way: what is known of it, and where it goes when all values are at hand.
struct making {
    struct permit_make m;
    struct applied applied;
    struct values values;
    struct permit **ret;
};

// The values are borrowed from rows and documents that live as long as this call.
static enum status finish(struct making *g, struct err *err)
{
    g->m.policies = g->applied.policies;
    g->m.policies_len = g->applied.len;
    g->m.values = g->values.list;
    g->m.values_len = g->values.len;
    set_value(&g->values, "client.id", g->m.client_id);
    *g->ret = permit_new(&g->m);
    return *g->ret != NULL ? ST_OK : err_set(err, ST_NOMEM, "no memory for a permit");
}

static enum status make_device(struct tx *tx, struct making *g, struct err *err)
{
    DOC *tags = NULL;
    DOC *attributes = NULL;
    char cn[CERT_NAME_MAX + 1] = "";
    struct values *v = &g->values;
    STMT(s, tx->db, &sql_policy[SQL_POLICY_DEVICE_VALUES]);
    stmt_bind_i64(s, 1, (int64_t)g->m.row);
    bool row = false;
    enum status st = stmt_step(s, &row, err);
    if (st == ST_OK && !row) {
        st = err_set(err, ST_NOT_FOUND, "there is no such device any more");
    }
    if (st == ST_OK && uses(v, "cert.cn")) {
        st = cert_common_name(tx, g->m.row, cn, err);
    }
    if (st != ST_OK) {
        return st;
    }
    set_value(v, "device.id", col_text(s, 0));
    set_value(v, "device.model", col_text(s, 1));
    set_value(v, "cert.cn", slice_str(cn));
    set_value(v, "tenant.id", col_text(s, 4));
    st = set_members(v, "device.tags.", col_text(s, 2), &tags, err);
    if (st == ST_OK) {
        st = set_members(v, "device.attributes.", col_text(s, 3), &attributes, err);
    }
    return st == ST_OK ? finish(g, err) : st;
}

static enum status make_application(struct tx *tx, struct making *g, struct err *err)
{
    STMT(s, tx->db, &sql_policy[SQL_POLICY_TENANT_ID]);
    stmt_bind_i64(s, 1, g->m.tenant);
    bool row = false;
    enum status st = stmt_step(s, &row, err);
    if (st == ST_OK && row) {
        set_value(&g->values, "tenant.id", col_text(s, 0));
    }
    return st == ST_OK ? finish(g, err) : st;
}

// What a token may now; its role does not change, but it can run out or be revoked.
static enum status token_now(struct tx *tx, struct principal *who, struct err *err)
{
    struct principal now;
    enum status st = who->kind == WHO_OPERATOR ? operator_principal(tx, who->row, &now, err) : ST_OK;
    if (st == ST_OK && who->kind == WHO_OPERATOR) {
        who->perms = now.perms;
    }
    return st;
}

static enum status make(struct tx *tx, const struct principal *given, struct slice client_id, struct permit **ret,
                        struct err *err)
{
    struct principal who = *given;
    enum status st = token_now(tx, &who, err);
    if (st != ST_OK) {
        return st;
    }
    struct making *g = calloc(1, sizeof(*g));
    if (g == NULL) {
        return err_set(err, ST_NOMEM, "no memory for a permit");
    }
    g->ret = ret;
    g->m = (struct permit_make){.kind = who.kind,
                                .tenant = who.tenant,
                                .row = who.row,
                                .perms = who.perms,
                                .version = ++policies_of(tx->core)->next_version,
                                .client_id = client_id};
    st = apply(tx, &who, &g->applied, err);
    if (st == ST_OK) {
        name_values(&g->applied, &g->values);
        st = who.kind == WHO_DEVICE ? make_device(tx, g, err) : make_application(tx, g, err);
    }
    free(g);
    return st;
}

enum status policy_permit(struct tx *tx, const struct principal *who, struct slice client_id,
                          struct permit **ret_permit, struct err *err)
{
    return make(tx, who, client_id, ret_permit, err);
}

enum status policy_permit_again(struct tx *tx, const struct permit *old, struct permit **ret_permit, struct err *err)
{
    const struct principal who = {
        .kind = permit_kind(old), .tenant = permit_tenant(old), .row = permit_row(old), .perms = permit_perms(old)};
    return make(tx, &who, permit_client_id(old), ret_permit, err);
}

// --- life --------------------------------------------------------------------------------------------------------

enum status policy_changed(struct tx *tx, enum policy_scope scope, uint32_t tenant, enum principal_kind kind,
                           uint64_t row, struct err *err)
{
    const struct policies *ps = policies_of(tx->core);
    const struct policy_change change = {.scope = scope, .tenant = tenant, .kind = kind, .row = row};
    return ps->on_change != NULL ? ps->on_change(tx, &change, ps->on_change_arg, err) : ST_OK;
}

// What variables show, and groups, which have policies of their own.
#define PERMIT_ROOTS                                                                                                   \
    (EXPR_DEVICE_BIT(NAME) | EXPR_DEVICE_BIT(MODEL) | EXPR_DEVICE_BIT(TAGS) | EXPR_DEVICE_BIT(ATTRIBUTES) |            \
     EXPR_DEVICE_BIT(KEYS) | EXPR_DEVICE_BIT(GROUPS))

static enum status data_changed(struct tx *tx, const struct device_changed *what, struct err *err)
{
    return policy_changed(tx, what->device != 0 ? POLICY_OF_PRINCIPAL : POLICY_OF_TENANT, what->tenant, WHO_DEVICE,
                          what->device, err);
}

static enum status token_gone(struct tx *tx, uint32_t tenant, uint64_t row, struct err *err)
{
    return policy_changed(tx, POLICY_OF_PRINCIPAL, tenant, WHO_OPERATOR, row, err);
}

// It may still be made, that takes a server that runs. Until then those it is for may do nothing.
static enum status warn_of_missing_anonymous(struct tx *tx, const struct policies *ps, struct err *err)
{
    bool row = true;
    enum status st = ST_OK;
    if (ps->anonymous[0] != '\0') {
        STMT(s, tx->db, &sql_policy[SQL_POLICY_FIND]);
        stmt_bind_i64(s, 1, 1); // the tenant of whoever has no credential
        stmt_bind_str(s, 2, ps->anonymous);
        st = stmt_step(s, &row, err);
    }
    if (st == ST_OK && !row) {
        log_warn(
            "policy",
            "the policy of mqtt.anonymous is not there: clients without a credential may do nothing until it is made",
            LOGS("policy", ps->anonymous));
    }
    return st;
}

enum status policy_start(struct tx *tx, void *arg, struct err *err)
{
    const struct policy_conf *conf = arg;
    struct policies *ps = calloc(1, sizeof(*ps));
    if (ps == NULL) {
        return err_set(err, ST_NOMEM, "no memory for policies");
    }
    map_init(&ps->by_row);
    if (conf != NULL && !slice_to_cstr(slice_str(conf->anonymous), ps->anonymous, sizeof(ps->anonymous))) {
        free(ps);
        return err_at(err, ST_INVALID, "mqtt.anonymous", "a policy's id has at most %d characters", ID_MAX);
    }
    if (ps->anonymous[0] != '\0') {
        log_warn("policy", "clients without a credential may come in where there is no TLS",
                 LOGS("policy", ps->anonymous));
    }
    core_set_slot(tx->core, CORE_SLOT_POLICY, ps);
    enum status st = warn_of_missing_anonymous(tx, ps, err);
    if (st != ST_OK) {
        return st;
    }
    operator_on_gone(tx->core, token_gone);
    return registry_watch_data(tx->core, PERMIT_ROOTS, data_changed, err);
}

void policy_stop(struct core *c)
{
    struct policies *ps = policies_of(c);
    if (ps == NULL) {
        return;
    }
    size_t pos = 0;
    for (struct policy *p = NULL; (p = map_next(&ps->by_row, &pos, NULL, NULL)) != NULL;) {
        policy_put(p);
    }
    map_release(&ps->by_row);
    free(ps);
    core_set_slot(c, CORE_SLOT_POLICY, NULL);
}

void policy_on_change(struct core *c, policy_change_fn fn, void *arg)
{
    struct policies *ps = policies_of(c);
    ps->on_change = fn;
    ps->on_change_arg = arg;
}
