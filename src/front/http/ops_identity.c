// claim.*, enroll.*, ca.*, cert.*, token.*: who may come in.
#include "base/clock.h"
#include "domain/doc/doc.h"
#include "domain/identity/cert.h"
#include "domain/identity/claim.h"
#include "domain/identity/operator.h"
#include "front/http/api.h"

#define CLAIM_TTL_US ((int64_t)3600 * 1000000) // as in claim.create.json

enum status op_claim_create(struct api_call *call, struct err *err);
enum status op_claim_list(struct api_call *call, struct err *err);
enum status op_claim_revoke(struct api_call *call, struct err *err);
enum status op_enroll_create(struct api_call *call, struct err *err);
enum status op_ca_get(struct api_call *call, struct err *err);
enum status op_cert_list(struct api_call *call, struct err *err);
enum status op_cert_get(struct api_call *call, struct err *err);
enum status op_cert_revoke(struct api_call *call, struct err *err);
enum status op_token_create(struct api_call *call, struct err *err);
enum status op_token_list(struct api_call *call, struct err *err);
enum status op_token_revoke(struct api_call *call, struct err *err);

static enum status read_ttl(const json_t *body, int64_t dflt_us, int64_t *ret_us, struct err *err)
{
    struct slice text = doc_str(body, "ttl");
    *ret_us = dflt_us;
    if (text.p == NULL || (clock_parse_duration(text, ret_us) && *ret_us > 0)) {
        return ST_OK;
    }
    return err_at(err, ST_INVALID, "/ttl", "must be a duration such as 30m, 1h or 7d");
}

// --- claims ------------------------------------------------------------------------------------------------------

enum status op_claim_create(struct api_call *call, struct err *err)
{
    const json_t *uses = json_object_get(call->body, "uses");
    const json_t *tags = json_object_get(call->body, "tags");
    struct claim_conf conf = {.uses = json_is_integer(uses) ? json_integer_value(uses) : 1,
                              .device_prefix = doc_str(call->body, "device_prefix"),
                              .model = doc_str(call->body, "model"),
                              .tags = json_is_object(tags) ? tags : NULL};
    enum status st = read_ttl(call->body, CLAIM_TTL_US, &conf.ttl_us, err);
    return st == ST_OK ? claim_create(call->tx, &conf, call->out, err) : st;
}

enum status op_claim_list(struct api_call *call, struct err *err)
{
    return claim_list(call->tx, api_param(call, "cursor"), api_param_int(call, "limit", 100), call->out, err);
}

enum status op_claim_revoke(struct api_call *call, struct err *err)
{
    return claim_revoke(call->tx, api_param(call, "claim"), err);
}

// --- enrolment ---------------------------------------------------------------------------------------------------

// The caller is a stranger with a claim: for this one call the claim is who acts.
enum status op_enroll_create(struct api_call *call, struct err *err)
{
    struct principal claim;
    if (call->bearer.p == NULL) {
        return err_set(err, ST_UNAUTHENTICATED, "enrolment needs a claim token: Authorization: Bearer TOKEN");
    }
    enum status st = identity_claim(call->tx, call->bearer, call->peer_addr, &claim, err);
    if (st != ST_OK) {
        return st;
    }
    const struct principal *before = call->tx->who;
    call->tx->who = &claim;
    st = identity_enroll(call->tx, doc_str(call->body, "csr"), doc_str(call->body, "device"), call->body, call->out,
                         err);
    call->tx->who = before;
    return st;
}

enum status op_ca_get(struct api_call *call, struct err *err)
{
    (void)err; // a reply that does not fit is the front's to notice
    (void)buf_slice(call->out->out, identity_ca_pem(identity_get(call->tx->core)));
    return ST_OK;
}

// --- certificates ------------------------------------------------------------------------------------------------

enum status op_cert_list(struct api_call *call, struct err *err)
{
    enum cert_state state = CERT_ACTIVE;
    bool by_state = cert_state_parse(api_param(call, "state"), &state);
    struct cert_filter f = {.device = api_param(call, "device"),
                            .state = by_state ? (int)state : -1,
                            .cursor = api_param(call, "cursor"),
                            .limit = api_param_int(call, "limit", 100)};
    return cert_list(call->tx, &f, call->out, err);
}

enum status op_cert_get(struct api_call *call, struct err *err)
{
    return cert_write(call->tx, api_param(call, "fingerprint"), call->out, err);
}

enum status op_cert_revoke(struct api_call *call, struct err *err)
{
    return cert_revoke(call->tx, api_param(call, "fingerprint"), doc_str(call->body, "reason"), err);
}

// --- operator tokens ---------------------------------------------------------------------------------------------

enum status op_token_create(struct api_call *call, struct err *err)
{
    struct operator_conf conf = {.name = doc_str(call->body, "name"), .role = ROLE_VIEWER};
    if (!role_parse(doc_str(call->body, "role"), &conf.role)) {
        return err_at(err, ST_INVALID, "/role", "must be owner, admin, operator, installer, viewer or auditor");
    }
    enum status st = read_ttl(call->body, 0, &conf.ttl_us, err);
    return st == ST_OK ? operator_create(call->tx, &conf, call->out, err) : st;
}

enum status op_token_list(struct api_call *call, struct err *err)
{
    return operator_list(call->tx, api_param(call, "cursor"), api_param_int(call, "limit", 100), call->out, err);
}

enum status op_token_revoke(struct api_call *call, struct err *err)
{
    return operator_revoke(call->tx, api_param(call, "name"), err);
}
