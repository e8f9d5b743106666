// Who acts: an operator, a device, a claim on its way to become a device, or the system itself.
//
// The tenant comes from here and never from a request. Permissions are verbs on resources, bundled into roles.
#ifndef CORE_PRINCIPAL_H
#define CORE_PRINCIPAL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"

#define ID_MAX 128 // longest id of a device, tenant, token name: 1..128 of [A-Za-z0-9._:-]

//    enum suffix      name in api/*.json
#define PERM_MAP(X)                                                                                                    \
    X(DEVICE_READ, "device:read")                                                                                      \
    X(DEVICE_WRITE, "device:write")                                                                                    \
    X(DEVICE_DELETE, "device:delete")                                                                                  \
    X(CLAIM_READ, "claim:read")                                                                                        \
    X(CLAIM_WRITE, "claim:write")                                                                                      \
    X(CERT_READ, "cert:read")                                                                                          \
    X(CERT_REVOKE, "cert:revoke")                                                                                      \
    X(TWIN_READ, "twin:read")                                                                                          \
    X(TWIN_WRITE, "twin:write")                                                                                        \
    X(TELEMETRY_READ, "telemetry:read")                                                                                \
    X(COMMAND_READ, "command:read")                                                                                    \
    X(COMMAND_SEND, "command:send")                                                                                    \
    X(PRESENCE_READ, "presence:read")                                                                                  \
    X(LEDGER_READ, "ledger:read")                                                                                      \
    X(AUDIT_READ, "audit:read")                                                                                        \
    X(SETTINGS_READ, "settings:read")                                                                                  \
    X(SETTINGS_WRITE, "settings:write")                                                                                \
    X(TOKEN_READ, "token:read")                                                                                        \
    X(TOKEN_WRITE, "token:write")                                                                                      \
    X(POLICY_READ, "policy:read")                                                                                      \
    X(POLICY_WRITE, "policy:write")                                                                                    \
    X(MQTT_CONNECT, "mqtt:connect") /* come in over MQTT as an application */                                          \
    X(DIAG_READ, "diag:read")                                                                                          \
    X(DIAG_WRITE, "diag:write")                                                                                        \
    X(TENANT_READ, "tenant:read")   /* system owner only: across tenants */                                            \
    X(TENANT_WRITE, "tenant:write") /* system owner only */                                                            \
    X(METRICS_READ, "metrics:read") /* system owner only: figures of the whole process */

enum perm {
#define X(name, text) PERM_##name,
    PERM_MAP(X)
#undef X
                 PERM__COUNT,
             PERM_PUBLIC = 254, // no credential needed (health, enrolment, which checks its claim itself)
             PERM_NONE = 255
};

enum role { ROLE_OWNER, ROLE_ADMIN, ROLE_OPERATOR, ROLE_INSTALLER, ROLE_VIEWER, ROLE_AUDITOR, ROLE__COUNT };

// Numbers are stored in the audit record: never renumber. An application on MQTT is WHO_OPERATOR (its token) or
// WHO_ANONYMOUS (no credential, where mqtt.anonymous allows it).
enum principal_kind { WHO_NOBODY, WHO_OPERATOR, WHO_DEVICE, WHO_CLAIM, WHO_SYSTEM, WHO_ANONYMOUS };

struct principal {
    enum principal_kind kind;
    uint32_t tenant;       // row id
    uint64_t row;          // row id of the token, device or claim
    uint64_t lineage;      // of a device: which of its credentials it came in with (identity/lineage.h); 0: not known
    uint64_t perms;        // bit per enum perm
    char name[ID_MAX + 1]; // operator token name, device id, claim id, "system"
    char addr[64];         // where from: "192.0.2.1:1234", "" for the system
};

// Names and back: "device:read", "owner"; PERM_PUBLIC is "public". False for unknown names; unknown values are "none".
const char *perm_text(enum perm p);
bool perm_parse(struct slice text, enum perm *ret);
const char *role_text(enum role r);
bool role_parse(struct slice text, enum role *ret);
uint64_t role_perms(enum role r); // without TENANT_* and METRICS_READ: those belong to the system owner token only
uint64_t perms_all(void);
static inline bool principal_may(const struct principal *w, enum perm p)
{
    return p == PERM_PUBLIC || (p < PERM__COUNT && (w->perms >> p & 1U) != 0);
}
struct principal principal_system(void);
bool id_valid(struct slice id); // 1..ID_MAX of [A-Za-z0-9._:-]

#endif
