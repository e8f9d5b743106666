// A policy document: checked and compiled into rules, one for each topic of each statement.
#include <stdio.h>
#include <stdlib.h>

#include "domain/doc/doc.h"
#include "domain/policy/policy_priv.h"

#define DOC_ARENA_MAX ((size_t)512 * 1024) // rules, levels and texts of the largest document

static const char *const action_texts[] = {[PERMIT_PUBLISH] = "publish",
                                           [PERMIT_SUBSCRIBE] = "subscribe",
                                           [PERMIT_RECEIVE] = "receive",
                                           [PERMIT_RETAIN] = "retain"};
_Static_assert(sizeof(action_texts) / sizeof(action_texts[0]) == PERMIT_ACTION__COUNT, "a text for each action");

const char *permit_action_text(enum permit_action a)
{
    return (unsigned)a < PERMIT_ACTION__COUNT ? action_texts[a] : "unknown";
}

bool permit_action_parse(struct slice text, enum permit_action *ret)
{
    for (unsigned i = 0; i < PERMIT_ACTION__COUNT; i++) {
        if (slice_eq_str(text, action_texts[i])) {
            *ret = (enum permit_action)i;
            return true;
        }
    }
    return false;
}

// --- statements --------------------------------------------------------------------------------------------------

// Where in the document we are: "/statements/2/topics/0".
struct place {
    unsigned statement;
    const char *member; // NULL: the statement itself
    int index;          // -1: the member itself
};

static enum status wrong(const struct place *at, struct err *err, const char *why)
{
    char where[96];
    int n = snprintf(where, sizeof(where), "/statements/%u", at->statement);
    if (at->member != NULL) {
        n += snprintf(where + n, sizeof(where) - (size_t)n, "/%s", at->member);
    }
    if (at->index >= 0) {
        (void)snprintf(where + n, sizeof(where) - (size_t)n, "/%d", at->index);
    }
    return err_at(err, ST_INVALID, where, "%s", why);
}

static enum status check_members(const json_t *object, const char *const *allowed, size_t allowed_len,
                                 const char *where, struct err *err)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)object, key, value)
    {
        bool known = false;
        for (size_t i = 0; i < allowed_len; i++) {
            known = known || strcmp(key, allowed[i]) == 0;
        }
        if (!known) {
            return err_at(err, ST_INVALID, where, "unknown member \"%.64s\"", key);
        }
    }
    return ST_OK;
}

static enum status read_effect(const json_t *statement, struct place *at, bool *ret_deny, struct err *err)
{
    struct slice text = doc_str(statement, "effect");
    *at = (struct place){at->statement, "effect", -1};
    *ret_deny = slice_eq_str(text, "deny");
    return *ret_deny || slice_eq_str(text, "allow") ? ST_OK : wrong(at, err, "must be \"allow\" or \"deny\"");
}

static enum status read_actions(const json_t *statement, struct place *at, uint8_t *ret, struct err *err)
{
    const json_t *actions = json_object_get(statement, "actions");
    *at = (struct place){at->statement, "actions", -1};
    *ret = 0;
    if (json_array_size(actions) == 0 || json_array_size(actions) > PERMIT_ACTION__COUNT) {
        return wrong(at, err, "must be a list of 1 to 4 of publish, subscribe, receive and retain");
    }
    for (size_t i = 0; i < json_array_size(actions); i++) {
        enum permit_action a = PERMIT_PUBLISH;
        at->index = (int)i;
        if (!permit_action_parse(doc_slice(json_array_get(actions, i)), &a)) {
            return wrong(at, err, "must be publish, subscribe, receive or retain");
        }
        if ((*ret >> a & 1U) != 0) {
            return wrong(at, err, "is there twice");
        }
        *ret |= (uint8_t)(1U << a);
    }
    return ST_OK;
}

// --- rules -------------------------------------------------------------------------------------------------------

// The document keeps each name of a variable once.
static void note_vars(struct policy_doc *d, const struct pattern *p)
{
    for (unsigned i = 0; i < p->levels_len; i++) {
        struct slice rest = p->levels[i].text;
        struct slice piece;
        bool is_var = false;
        while (p->levels[i].kind == PATTERN_VARS && pattern_piece(&rest, &is_var, &piece)) {
            bool known = !is_var;
            for (unsigned k = 0; !known && k < d->vars_len; k++) {
                known = slice_eq(d->vars[k], piece);
            }
            if (!known && d->vars_len < POLICY_VARS_MAX) {
                d->vars[d->vars_len] = piece;
            }
            d->vars_len += known ? 0 : 1; // one too many is noticed by the caller
        }
    }
}

static enum status add_rule(struct policy_doc *d, const json_t *topic, const struct policy_rule *like,
                            const struct place *at, struct err *err)
{
    struct slice text = doc_slice(topic);
    if (text.p == NULL) {
        return wrong(at, err, "must be a text");
    }
    if (d->rules_len == POLICY_RULES_MAX) {
        return wrong(at, err, "a policy has at most 512 topics in all");
    }
    text = arena_copy(&d->arena, text);
    if (text.p == NULL) {
        return err_set(err, ST_NOMEM, "no memory for a policy");
    }
    struct policy_rule *r = &d->rules[d->rules_len];
    *r = *like;
    const char *why = pattern_make(text, &d->arena, &r->pattern);
    if (why != NULL) {
        return wrong(at, err, why);
    }
    d->rules_len++;
    note_vars(d, &r->pattern);
    return d->vars_len <= POLICY_VARS_MAX ? ST_OK : wrong(at, err, "a policy has at most 32 different variables");
}

static enum status read_topics(struct policy_doc *d, const json_t *statement, struct place *at,
                               struct policy_rule *like, struct err *err)
{
    const json_t *topics = json_object_get(statement, "topics");
    *at = (struct place){at->statement, "topics", -1};
    if (json_array_size(topics) == 0 || json_array_size(topics) > POLICY_TOPICS_MAX) {
        return wrong(at, err, "must be a list of 1 to 64 topic patterns");
    }
    enum status st = ST_OK;
    for (size_t i = 0; st == ST_OK && i < json_array_size(topics); i++) {
        at->index = (int)i;
        like->topic = (uint8_t)i;
        st = add_rule(d, json_array_get(topics, i), like, at, err);
    }
    return st;
}

static enum status read_statement(struct policy_doc *d, const json_t *statement, unsigned index, struct err *err)
{
    static const char *const members[] = {"effect", "actions", "topics"};
    struct place at = {index, NULL, -1};
    char where[32];
    if (!json_is_object(statement)) {
        return wrong(&at, err, "must be an object of effect, actions and topics");
    }
    (void)snprintf(where, sizeof(where), "/statements/%u", index);
    struct policy_rule like = {.statement = (uint8_t)index};
    enum status st = check_members(statement, members, 3, where, err);
    if (st == ST_OK) {
        st = read_effect(statement, &at, &like.deny, err);
    }
    if (st == ST_OK) {
        st = read_actions(statement, &at, &like.actions, err);
    }
    return st == ST_OK ? read_topics(d, statement, &at, &like, err) : st;
}

static enum status read_document(struct policy_doc *d, const json_t *document, struct err *err)
{
    static const char *const members[] = {"statements"};
    const json_t *statements = json_object_get(document, "statements");
    if (!json_is_object(document)) {
        return err_at(err, ST_INVALID, "", "a policy is an object with a list of statements");
    }
    enum status st = check_members(document, members, 1, "", err);
    if (st == ST_OK && (!json_is_array(statements) || json_array_size(statements) > POLICY_STATEMENTS_MAX)) {
        st = err_at(err, ST_INVALID, "/statements", "must be a list of at most %d statements", POLICY_STATEMENTS_MAX);
    }
    for (size_t i = 0; st == ST_OK && i < json_array_size(statements); i++) {
        st = read_statement(d, json_array_get(statements, i), (unsigned)i, err);
    }
    return st;
}

// --- doors -------------------------------------------------------------------------------------------------------

// How many rules there will be: 1 to POLICY_RULES_MAX, whatever the document is.
static size_t topics_of(const json_t *document)
{
    const json_t *statements = json_object_get(document, "statements");
    size_t n = 1;
    for (size_t i = 0; i < json_array_size(statements) && n < POLICY_RULES_MAX; i++) {
        n += json_array_size(json_object_get(json_array_get(statements, i), "topics"));
    }
    return n < POLICY_RULES_MAX ? n : POLICY_RULES_MAX;
}

enum status policy_doc_make(const json_t *document, struct policy_doc **ret, struct err *err)
{
    struct policy_doc *d = calloc(1, sizeof(*d));
    if (d == NULL) {
        return err_set(err, ST_NOMEM, "no memory for a policy");
    }
    arena_init(&d->arena, DOC_ARENA_MAX);
    d->rules = arena_array(&d->arena, topics_of(document), sizeof(*d->rules));
    d->vars = arena_array(&d->arena, POLICY_VARS_MAX, sizeof(*d->vars));
    enum status st = d->rules != NULL && d->vars != NULL ? read_document(d, document, err)
                                                         : err_set(err, ST_NOMEM, "no memory for a policy");
    if (st != ST_OK) {
        policy_doc_free(d);
        return st;
    }
    *ret = d;
    return ST_OK;
}

void policy_doc_free(struct policy_doc *d)
{
    if (d != NULL) {
        arena_release(&d->arena);
        free(d);
    }
}

enum status policy_check(const json_t *document, struct err *err)
{
    struct policy_doc *d = NULL;
    enum status st = policy_doc_make(document, &d, err);
    if (st == ST_OK) {
        policy_doc_free(d);
    }
    return st;
}
