#include "core/principal.h"

#define BIT(p) (UINT64_C(1) << PERM_##p)

static const char *const perm_texts[] = {
#define X(name, text) [PERM_##name] = (text),
    PERM_MAP(X)
#undef X
};

_Static_assert(PERM__COUNT <= 64, "a principal keeps its permissions in 64 bits");

// All that only looks, but the audit record.
#define PERMS_LOOK                                                                                                     \
    (BIT(DEVICE_READ) | BIT(CLAIM_READ) | BIT(CERT_READ) | BIT(TWIN_READ) | BIT(TELEMETRY_READ) | BIT(COMMAND_READ) |  \
     BIT(PRESENCE_READ) | BIT(LEDGER_READ) | BIT(SETTINGS_READ) | BIT(TOKEN_READ) | BIT(POLICY_READ))
// What tells of all tenants or changes them: no role has it, only the system owner.
#define PERMS_ACROSS_TENANTS (BIT(TENANT_READ) | BIT(TENANT_WRITE) | BIT(METRICS_READ))
#define PERMS_ALL            ((UINT64_C(1) << PERM__COUNT) - 1)

struct role_row {
    const char *text;
    uint64_t perms;
};

// owner      all of a tenant, and who may enter it
// admin      as the owner, but neither makes nor revokes API tokens: an admin cannot make itself an owner
// operator   daily work: changes devices, twins and claims, sends commands, looks into connections, comes in over MQTT;
//            deletes no devices, revokes no certificates, writes no policies
// installer  on site: brings devices in with claims and sees whether they report
// viewer     looks at all but the audit record
// auditor    looks at all, the audit record too
static const struct role_row role_rows[] = {
    [ROLE_OWNER] = {"owner", PERMS_ALL & ~PERMS_ACROSS_TENANTS},
    [ROLE_ADMIN] = {"admin", PERMS_ALL & ~PERMS_ACROSS_TENANTS & ~BIT(TOKEN_WRITE)},
    [ROLE_OPERATOR] = {"operator", PERMS_LOOK | BIT(DEVICE_WRITE) | BIT(TWIN_WRITE) | BIT(COMMAND_SEND) |
                                       BIT(CLAIM_WRITE) | BIT(MQTT_CONNECT) | BIT(DIAG_READ) | BIT(DIAG_WRITE)},
    [ROLE_INSTALLER] = {"installer", PERMS_LOOK | BIT(DEVICE_WRITE) | BIT(CLAIM_WRITE)},
    [ROLE_VIEWER] = {"viewer", PERMS_LOOK},
    [ROLE_AUDITOR] = {"auditor", PERMS_LOOK | BIT(AUDIT_READ)},
};
_Static_assert(sizeof(role_rows) / sizeof(role_rows[0]) == ROLE__COUNT, "a row for each role");

const char *perm_text(enum perm p)
{
    if (p == PERM_PUBLIC) {
        return "public";
    }
    return (unsigned)p < PERM__COUNT ? perm_texts[p] : "none";
}

bool perm_parse(struct slice text, enum perm *ret)
{
    if (slice_eq_str(text, "public")) {
        *ret = PERM_PUBLIC;
        return true;
    }
    for (unsigned i = 0; i < PERM__COUNT; i++) {
        if (slice_eq_str(text, perm_texts[i])) {
            *ret = (enum perm)i;
            return true;
        }
    }
    return false;
}

const char *role_text(enum role r)
{
    return (unsigned)r < ROLE__COUNT ? role_rows[r].text : "none";
}

bool role_parse(struct slice text, enum role *ret)
{
    for (unsigned i = 0; i < ROLE__COUNT; i++) {
        if (slice_eq_str(text, role_rows[i].text)) {
            *ret = (enum role)i;
            return true;
        }
    }
    return false;
}

uint64_t role_perms(enum role r)
{
    return (unsigned)r < ROLE__COUNT ? role_rows[r].perms : 0;
}

uint64_t perms_all(void)
{
    return PERMS_ALL;
}

struct principal principal_system(void)
{
    return (struct principal){.kind = WHO_SYSTEM, .perms = PERMS_ALL, .name = "system"};
}

bool id_valid(struct slice id)
{
    // "." and ".." are letters of a path: a client would never send them as a name.
    if (id.len == 0 || id.len > ID_MAX || slice_eq(id, SLICE(".")) || slice_eq(id, SLICE(".."))) {
        return false;
    }
    for (size_t i = 0; i < id.len; i++) {
        uint8_t c = id.p[i];
        bool letter = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
        bool digit = c >= '0' && c <= '9';
        if (!letter && !digit && c != '.' && c != '_' && c != ':' && c != '-') {
            return false;
        }
    }
    return true;
}
