// Policies: who may publish, subscribe, receive and retain what, as documents that operators write and attach.
//
//   {"statements": [{"effect": "allow"|"deny", "actions": ["publish", "subscribe", "receive", "retain"],
//                    "topics": ["plant/${device.tags.site}/${device.id}/#", ...]}]}
//
// A document is attached to devices, groups, claims (devices that enrol with it get what it has at that time), operator
// tokens, or to a tenant (all its devices). What nothing allows is refused, and deny beats allow. Variables:
// ${device.id} ${device.model} ${device.tags.KEY} ${device.attributes.KEY} (text only) ${cert.cn} (of the device's
// certificate) ${client.id} ${tenant.id}. A variable stands for text within one level. One that has no value, or a value
// with '/', '+', '#' or control characters, makes an allow rule match nothing, and in a deny rule matches any level:
// no value opens a hole.
//
// Two things change what somebody may do. A document's new version: every permit made with it sees it at once, from the
// commit on, and its permit_version changes. An attachment, a tag, a group: the permit has to be made anew. Whoever keeps
// permits registers with policy_on_change and is told of both.
//
// Core thread, unless a line says otherwise.
#ifndef DOMAIN_POLICY_H
#define DOMAIN_POLICY_H

#include <jansson.h>

#include "base/json.h"
#include "core/core.h"
#include "domain/policy/permit.h"
#include "domain/registry/registry.h"

#define POLICY_DOCUMENT_MAX    16384 // bytes of JSON
#define POLICY_STATEMENTS_MAX  64
#define POLICY_TOPICS_MAX      64   // per statement
#define POLICY_RULES_MAX       512  // topics of all statements
#define POLICY_TOPIC_MAX       1024 // bytes of one topic pattern
#define POLICY_LEVELS_MAX      32
#define POLICY_VARS_MAX        32 // different ones in a document
#define POLICY_PER_TARGET_MAX  8  // attached to one device, group, ...
#define POLICY_PER_PERMIT_MAX  64 // that apply to one principal; beyond it nothing is allowed
#define POLICY_PER_TENANT_MAX  1000
#define POLICY_DESCRIPTION_MAX 1024

// --- life ----------------------------------------------------------------------------------------------------------

struct policy_conf {
    const char *anonymous; // id of the policy of anonymous clients in the tenant "default"; "": none may come in
};
// core_boot, after identity_open and before the broker starts. arg: const struct policy_conf, copied; NULL: all defaults.
enum status policy_start(struct tx *tx, void *arg, struct err *err);
void policy_stop(struct core *c); // after core_stop; permits may live longer

// --- permits -------------------------------------------------------------------------------------------------------

// The permit of a device (WHO_DEVICE), an application (WHO_OPERATOR: the policies of its token, and the mirror topics its
// permissions show) or WHO_ANONYMOUS. *ret_permit: a reference. ST_NOT_FOUND: there is no such device or token any more.
enum status policy_permit(struct tx *tx, const struct principal *who, struct slice client_id,
                          struct permit **ret_permit, struct err *err);
// The same principal and client id again, after a change.
enum status policy_permit_again(struct tx *tx, const struct permit *old, struct permit **ret_permit, struct err *err);

enum policy_scope {
    POLICY_OF_PRINCIPAL, // of one device or token: make its permits anew; a token may be gone (ST_NOT_FOUND): close
    POLICY_OF_TENANT,    // of any principal of the tenant: make all permits anew, in slices
    POLICY_DOCUMENT,     // a document has changed: permits follow by themselves; look at caches and subscriptions again
};
struct policy_change {
    enum policy_scope scope;
    uint32_t tenant;
    enum principal_kind kind; // WHO_DEVICE or WHO_OPERATOR, of POLICY_OF_PRINCIPAL
    uint64_t row;
};
// Called inside the transaction of the change, with the rows as they will be: what is to be done about live permits goes
// into a tx_after_commit hook. Failing fails the change. Once, before core_start, after policy_start.
typedef enum status (*policy_change_fn)(struct tx *tx, const struct policy_change *change, void *arg, struct err *err);
void policy_on_change(struct core *c, policy_change_fn fn, void *arg);

// --- documents -----------------------------------------------------------------------------------------------------

struct policy_ref {
    uint64_t row;
    int64_t version;
    char id[ID_MAX + 1];
};
enum status policy_find(struct tx *tx, struct slice id, struct policy_ref *ret, struct err *err); // any tx
// ST_INVALID with a JSON pointer. Touches nothing; any thread.
enum status policy_check(const json_t *document, struct err *err);
// description: p == NULL: none. ST_EXISTS, ST_LIMIT beyond POLICY_PER_TENANT_MAX.
enum status policy_create(struct tx *tx, struct slice id, struct slice description, const json_t *document,
                          struct policy_ref *ret, struct err *err);
// Replaces the document (NULL: keeps it) and the description (p == NULL: keeps it). if_version: expected version or -1.
enum status policy_update(struct tx *tx, struct policy_ref *p, struct slice description, const json_t *document,
                          int64_t if_version, struct err *err);
enum status policy_delete(struct tx *tx, const struct policy_ref *p, struct err *err); // ST_CONFLICT while attached
// {"id","description","version","document","attachments": count,"created","updated"}. Any tx.
enum status policy_write(struct tx *tx, const struct policy_ref *p, struct jw *out, struct err *err);
// {"items": [the same without "document"],"next"}, by id. Any tx.
enum status policy_list(struct tx *tx, struct slice cursor, int64_t limit, struct jw *out, struct err *err);

// --- attachments ---------------------------------------------------------------------------------------------------

// Numbers are stored: never renumber.
enum policy_target_kind { TARGET_DEVICE = 1, TARGET_GROUP, TARGET_CLAIM, TARGET_TOKEN, TARGET_TENANT };
struct policy_target {
    enum policy_target_kind kind;
    uint64_t row;
    char id[ID_MAX + 1];
};
const char *policy_target_kind_text(enum policy_target_kind k); // "device"; never NULL
bool policy_target_kind_parse(struct slice text, enum policy_target_kind *ret);
// By kind and id (of a claim: its public id; of a token: its name; of the tenant: its id or empty), within tx->who->tenant.
// ST_NOT_FOUND. Any tx.
enum status policy_target_find(struct tx *tx, enum policy_target_kind kind, struct slice id, struct policy_target *ret,
                               struct err *err);
// *ret_changed: false when it was attached (was not) already. ST_LIMIT beyond POLICY_PER_TARGET_MAX.
enum status policy_attach(struct tx *tx, const struct policy_ref *p, const struct policy_target *t, bool *ret_changed,
                          struct err *err);
enum status policy_detach(struct tx *tx, const struct policy_ref *p, const struct policy_target *t, bool *ret_changed,
                          struct err *err);
// Of one policy, or of one target (t), the other NULL: {"items": [{"policy","kind","target","created"}],"next"}. Any tx.
enum status policy_attachments(struct tx *tx, const struct policy_ref *policy, const struct policy_target *t,
                               struct slice cursor, int64_t limit, struct jw *out, struct err *err);

#endif
