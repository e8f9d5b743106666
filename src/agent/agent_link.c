// The connection: dialling as claim or device, asking for certificates, and the client's state changes.
#include "agent/agent.h"

#include "agent/facts.h"
#include "base/clock.h"

#define ANSWER_WAIT_MS     30000 // for a certificate; then the connection is made anew
#define ENROLL_PAUSE_MS    10000 // after a refused enrolment: full jitter, doubling
#define ENROLL_PAUSE_MAX   600000
#define RENEW_CHECK_MS     1000
#define RENEW_PAUSE_MIN_MS 5000
#define RENEW_PAUSE_MAX_MS 21600000
#define TRY_REFUSALS_MAX   3

enum status agent_dial(struct agent *a, struct err *err)
{
    const char *cert = enroll_cert_file(&a->enroll);
    char path[STATEDIR_PATH_MAX];
    bool ok;
    if (cert == NULL) {
        ok = muster_openssl_set_cert(a->transport, NULL, NULL) &&
             muster_set_identity(a->client, MUSTER_CLAIM, NULL, "$claim", a->claim) == MUSTER_OK;
    } else {
        statedir_path(&a->dir, cert, path);
        ok = muster_openssl_set_cert(a->transport, path, NULL) &&
             muster_set_identity(a->client, MUSTER_DEVICE, a->enroll.device, NULL, NULL) == MUSTER_OK;
        queue_rewind(a->queue); // the client has forgotten what it had
        a->flying = 0;
        a->report_due = a->report_due || a->report_flying;
        a->report_flying = false;
    }
    agent_trim_memory(); // what enrolment needed
    a->trimmed = MUSTER_IDLE;
    if (!ok || muster_start(a->client) != MUSTER_OK) {
        return err_set(err, ST_NOMEM, "cannot start the client");
    }
    log_debug("link", "dialling", LOGS("as", cert == NULL ? "$claim" : a->enroll.device),
              LOGS("enrolment", enroll_state_text(a->enroll.state)));
    return ST_OK;
}

// ---- Asking for certificates ----------------------------------------------------------------------------------------

static enum muster_status ask_first(struct agent *a, const char *csr)
{
    uint8_t mem[1024];
    struct buf extra = buf_fixed(mem, sizeof(mem) - 1);
    struct jw w;
    jw_init(&w, &extra);
    facts_write_hardware(a->root, a->options->model, !a->options->no_keys, &w);
    mem[extra.len] = '\0';
    return extra.failed ? MUSTER_E_TOO_LARGE : muster_provision(a->client, csr, a->options->device, (const char *)mem);
}

void agent_ask(struct agent *a, int64_t now_ms)
{
    bool first = a->enroll.state == ENROLL_KEYED;
    if (!a->online || a->redial || (!first && a->enroll.state != ENROLL_RENEWING)) {
        return;
    }
    if (a->asked) {
        if (now_ms - a->asked_ms >= ANSWER_WAIT_MS) {
            log_warn("enroll", "the server has not answered the request for a certificate; asking again");
            a->redial = true;
            a->dial_after_ms = now_ms;
        }
        return;
    }
    struct err err = {.code = ST_OK};
    struct buf csr = buf_fixed(a->scratch, sizeof(a->scratch) - 1);
    enum key_slot slot = first ? KEY_CURRENT : KEY_NEXT;
    const char *cn = !first ? a->enroll.device : a->options->device != NULL ? a->options->device : "";
    if (a->keys.ops->csr(&a->keys, slot, cn, &csr, &err) != ST_OK) {
        log_error("enroll", "cannot make a certificate request", LOGS("error", err.text));
        a->stop = true;
        return;
    }
    a->scratch[csr.len] = '\0';
    const char *pem = (const char *)a->scratch;
    enum muster_status s = first ? ask_first(a, pem) : muster_renew(a->client, pem);
    if (s != MUSTER_OK && s != MUSTER_E_FULL) {
        log_error("enroll", "cannot send the certificate request", LOGS("error", muster_status_text(s)));
        a->stop = true;
        return;
    }
    a->asked = s == MUSTER_OK;
    a->asked_ms = now_ms;
}

void agent_renew(struct agent *a, int64_t now_ms)
{
    if (now_ms < a->next_renew_ms) {
        return;
    }
    a->next_renew_ms = now_ms + RENEW_CHECK_MS;
    if (!a->online || a->enroll.state != ENROLL_READY || clock_wall_us() < enroll_renew_at_us(&a->enroll)) {
        return;
    }
    struct err err = {.code = ST_OK};
    if (enroll_renew(&a->enroll, &err) != ST_OK) {
        log_error("enroll", "cannot begin the renewal", LOGS("error", err.text));
        a->next_renew_ms = now_ms + RENEW_PAUSE_MIN_MS;
        return;
    }
    log_info("enroll", "renewing the certificate", LOGS("device", a->enroll.device));
    a->asked = false;
}

// The next attempt after a tenth of the time that is left.
static void renew_later(struct agent *a)
{
    struct err err = {.code = ST_OK};
    if (enroll_abandon(&a->enroll, &err) != ST_OK) {
        log_error("enroll", "cannot drop the new certificate", LOGS("error", err.text));
    }
    int64_t pause_ms = (a->enroll.not_after_us - clock_wall_us()) / 10000;
    pause_ms = pause_ms < RENEW_PAUSE_MIN_MS ? RENEW_PAUSE_MIN_MS : pause_ms;
    a->next_renew_ms = agent_now_ms() + (pause_ms > RENEW_PAUSE_MAX_MS ? RENEW_PAUSE_MAX_MS : pause_ms);
}

static void refused(struct agent *a, const char *code, const char *detail)
{
    bool first = a->enroll.state == ENROLL_KEYED;
    log_error("enroll", first ? "the server refused to enrol this device" : "the server refused the renewal",
              LOGS("code", code), LOGS("detail", detail));
    if (!first) {
        renew_later(a);
        return;
    }
    uint32_t bound = ENROLL_PAUSE_MS << (a->enroll_failures < 6 ? a->enroll_failures : 6);
    a->enroll_failures++;
    a->redial = true;
    a->dial_after_ms = agent_now_ms() + agent_jitter(bound > ENROLL_PAUSE_MAX ? ENROLL_PAUSE_MAX : bound);
}

static void provisioned(void *agent, const struct muster_provisioned *answer)
{
    struct agent *a = agent;
    bool first = a->enroll.state == ENROLL_KEYED;
    if (!a->asked || (!first && a->enroll.state != ENROLL_RENEWING)) {
        return; // an answer to a question of an earlier connection
    }
    a->asked = false;
    if (!answer->ok) {
        char code[48] = "";
        char detail[200] = "";
        muster_json_text(answer->code, code, sizeof(code));
        muster_json_text(answer->detail, detail, sizeof(detail));
        refused(a, code, detail);
        return;
    }
    char device[129];
    char *pem = (char *)a->scratch;
    struct err err = {.code = ST_OK};
    enum status s = ST_INVALID;
    if (muster_json_text(answer->device, device, sizeof(device)) == MUSTER_OK &&
        muster_json_text(answer->certificate, pem, sizeof(a->scratch)) == MUSTER_OK) {
        s = first ? enroll_certified(&a->enroll, device, slice_str(pem), &err)
                  : enroll_renewed(&a->enroll, slice_str(pem), &err);
    }
    if (s != ST_OK) {
        refused(a, status_text(s), err.text);
        return;
    }
    if (first) {
        explicit_bzero(a->claim, sizeof(a->claim));
        log_info("enroll", "enrolled", LOGS("device", a->enroll.device));
    }
    a->redial = true;
    a->dial_after_ms = 0;
    a->try_refusals = 0;
}

// ---- State changes --------------------------------------------------------------------------------------------------

static void went_online(struct agent *a)
{
    a->online = true;
    a->online_ms = agent_now_ms();
    a->asked = false;
    a->twin_due = a->enroll.state != ENROLL_KEYED;
    log_info("link", "connected", LOGS("device", a->enroll.device), LOGS("server", a->options->host));
    if (a->enroll.state == ENROLL_TRYING) {
        struct err err = {.code = ST_OK};
        if (enroll_confirm(&a->enroll, &err) != ST_OK) {
            log_error("enroll", "cannot keep the new certificate", LOGS("error", err.text));
            return;
        }
        char path[STATEDIR_PATH_MAX];
        statedir_path(&a->dir, enroll_cert_file(&a->enroll), path);
        if (!muster_openssl_set_cert(a->transport, path, NULL)) {
            a->redial = true;
        }
        log_info("enroll", "the new certificate is in use", LOGS("device", a->enroll.device));
    }
}

// The server does not want the new certificate: after a few refusals the old one is used again.
static void try_refused(struct agent *a, const struct muster_change *change)
{
    // MQTT 5: 0x86 bad user name or password, 0x87 not authorised.
    bool judged = change->reason == 0x86 || change->reason == 0x87 || muster_openssl_refused(a->transport);
    if (a->enroll.state != ENROLL_TRYING || !judged || ++a->try_refusals < TRY_REFUSALS_MAX) {
        return;
    }
    log_error("enroll", "the server does not accept the new certificate; going back to the old one");
    renew_later(a);
    a->redial = true;
    a->dial_after_ms = 0;
}

static void state_changed(void *agent, const struct muster_change *change)
{
    struct agent *a = agent;
    bool was_online = a->online;
    a->online = false;
    a->trimmed = MUSTER_IDLE; // a step may have passed through several states
    if (change->to == MUSTER_ONLINE) {
        went_online(a);
        return;
    }
    if (change->to == MUSTER_WAITING) {
        log_warn("link", was_online ? "connection lost" : "cannot connect", LOGS("server", a->options->host),
                 LOGS("why", change->text), LOGU("reason", change->reason), LOGU("retry_ms", change->retry_ms));
        try_refused(a, change);
    }
}

const struct muster_callbacks agent_callbacks = {.on_state = state_changed,
                                                 .on_acked = agent_acked,
                                                 .on_desired = agent_desired,
                                                 .on_twin = agent_desired,
                                                 .on_command = agent_command,
                                                 .on_provisioned = provisioned};
