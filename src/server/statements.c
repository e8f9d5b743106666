#include "server/statements.h"

#include "domain/audit/sql/audit.sql.h"
#include "domain/broker/sql/broker_queue.sql.h"
#include "domain/broker/sql/broker_retained.sql.h"
#include "domain/broker/sql/broker_session.sql.h"
#include "domain/broker/sql/broker_will.sql.h"
#include "domain/command/sql/command.sql.h"
#include "domain/command/sql/device_event.sql.h"
#include "domain/identity/sql/certificate.sql.h"
#include "domain/identity/sql/claim.sql.h"
#include "domain/identity/sql/device_password.sql.h"
#include "domain/identity/sql/device_psk.sql.h"
#include "domain/identity/sql/device_token.sql.h"
#include "domain/identity/sql/identity_file.sql.h"
#include "domain/identity/sql/operator.sql.h"
#include "domain/policy/sql/attachment.sql.h"
#include "domain/policy/sql/ban.sql.h"
#include "domain/policy/sql/limit.sql.h"
#include "domain/policy/sql/policy.sql.h"
#include "domain/presence/sql/presence.sql.h"
#include "domain/registry/sql/device.sql.h"
#include "domain/registry/sql/device_erase.sql.h"
#include "domain/registry/sql/device_group.sql.h"
#include "domain/telemetry/sql/ledger.sql.h"
#include "domain/telemetry/sql/retention.sql.h"
#include "domain/trace/sql/trace.sql.h"
#include "domain/twin/sql/twin.sql.h"
#include "front/http/http_front.h"

#define TABLE(t)                                                                                                       \
    {                                                                                                                  \
        t, sizeof(t) / sizeof((t)[0])                                                                                  \
    }

size_t statement_tables(const struct sql_def *ret_tables[STATEMENT_TABLES_MAX], size_t ret_lens[STATEMENT_TABLES_MAX])
{
    const struct {
        const struct sql_def *defs;
        size_t len;
    } all[] = {
        TABLE(sql_audit),        TABLE(sql_device),          TABLE(sql_device_group),  TABLE(sql_certificate),
        TABLE(sql_claim),        TABLE(sql_device_token),    TABLE(sql_device_psk),    TABLE(sql_identity_file),
        TABLE(sql_operator),     TABLE(sql_presence),        TABLE(sql_twin),          TABLE(sql_ledger),
        TABLE(sql_retention),    TABLE(sql_command),         TABLE(sql_device_event),  TABLE(sql_device_erase),
        TABLE(sql_policy),       TABLE(sql_device_password), TABLE(sql_attachment),    TABLE(sql_broker_session),
        TABLE(sql_broker_queue), TABLE(sql_broker_retained), TABLE(sql_broker_will),   TABLE(sql_ban),
        TABLE(sql_limit),        TABLE(sql_trace),           {http_sql, http_sql_len},
    };
    _Static_assert(sizeof(all) / sizeof(all[0]) <= STATEMENT_TABLES_MAX, "room for all tables");
    size_t n = sizeof(all) / sizeof(all[0]);
    for (size_t i = 0; i < n; i++) {
        ret_tables[i] = all[i].defs;
        ret_lens[i] = all[i].len;
    }
    return n;
}
