// Shared between the files of this folder.
#ifndef DOMAIN_POLICY_PRIV_H
#define DOMAIN_POLICY_PRIV_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/arena.h"
#include "base/map.h"
#include "domain/policy/policy.h"

// --- patterns: topic filters with variables --------------------------------------------------------------------------

enum pattern_kind { PATTERN_TEXT, PATTERN_PLUS, PATTERN_HASH, PATTERN_VARS };
struct pattern_level {
    enum pattern_kind kind;
    struct slice text;
};
struct pattern {
    unsigned levels_len;
    const struct pattern_level *levels;
};

// One piece of a level with variables: text, or the name between "${" and "}".
bool pattern_piece(struct slice *rest, bool *ret_var, struct slice *ret);
// Cuts `text` (which must live as long as the pattern) into levels from `a`. NULL when it is a valid pattern, else a static
// text that says why not; *ret is then unset. "no memory" when `a` is full.
const char *pattern_make(struct slice text, struct arena *a, struct pattern *ret);

// Values of variables, by name.
struct pattern_values {
    struct slice (*get)(const void *arg, struct slice name); // p == NULL: none
    const void *arg;
};
// Does it match this topic, or cover this filter (match every topic that the filter matches)? any: a variable without a
// value stands for every level; else the pattern matches nothing.
bool pattern_matches(const struct pattern *p, const struct pattern_values *v, bool any, struct slice topic);
bool pattern_covers(const struct pattern *p, const struct pattern_values *v, bool any, struct slice filter);
// May this text stand for a variable?
bool pattern_value_ok(struct slice value);

// --- documents: compiled, never changed --------------------------------------------------------------------------------

struct policy_rule {
    bool deny;
    uint8_t actions; // bit per enum permit_action
    uint8_t statement, topic;
    struct pattern pattern;
};
struct policy_doc {
    struct arena arena; // everything below, and the texts
    struct policy_rule *rules;
    unsigned rules_len;
    struct slice *vars; // names of its variables, each once
    unsigned vars_len;
};
// ST_INVALID with a pointer, ST_NOMEM.
enum status policy_doc_make(const json_t *document, struct policy_doc **ret, struct err *err);
void policy_doc_free(struct policy_doc *d); // NULL is allowed

// --- policies in memory ------------------------------------------------------------------------------------------------

// Reference-counted: one by the table of policies, one by each permit. The document is replaced under the lock; NULL allows
// nothing.
struct policy {
    _Atomic uint32_t refs;
    uint64_t row;
    uint32_t tenant;
    char id[ID_MAX + 1];
    _Atomic uint64_t version; // of everything in this process: grows, see policies.next_version
    pthread_rwlock_t lock;
    struct policy_doc *doc;
};
struct policy *policy_new(uint64_t row, uint32_t tenant, struct slice id, struct policy_doc *doc, uint64_t version);
struct policy *policy_get(struct policy *p); // one more reference
void policy_put(struct policy *p);           // NULL is allowed
// Takes doc. Permits ask the new one from now on.
void policy_swap(struct policy *p, struct policy_doc *doc, uint64_t version);

// --- making permits ----------------------------------------------------------------------------------------------------

struct permit_value {
    struct slice name, value;
};
struct permit_make {
    enum principal_kind kind;
    uint32_t tenant;
    uint64_t row, perms, version;
    struct slice client_id;
    struct policy *const *policies; // the permit takes references of its own
    size_t policies_len;
    const struct permit_value *values; // copied; those not pattern_value_ok are left out
    size_t values_len;
};
struct permit *permit_new(const struct permit_make *m); // NULL: no memory
uint64_t permit_perms(const struct permit *p);

// --- the module --------------------------------------------------------------------------------------------------------

// What CORE_SLOT_POLICY holds. Core thread only.
struct policies {
    struct map by_row; // of those that were needed since the start
    uint64_t next_version;
    char anonymous[ID_MAX + 1]; // the policy of clients without a credential; "": none
    policy_change_fn on_change;
    void *on_change_arg;
};
static inline struct policies *policies_of(const struct core *c)
{
    return core_slot(c, CORE_SLOT_POLICY);
}
// From memory, or from the store for the first time. Borrowed. ST_NOT_FOUND.
enum status policy_load(struct tx *tx, uint64_t row, struct policy **ret, struct err *err);
enum status policy_changed(struct tx *tx, enum policy_scope scope, uint32_t tenant, enum principal_kind kind,
                           uint64_t row, struct err *err);

#endif
