// What the agent sends: samples through the queue, reports of facts and settings, answers to commands.
#include "agent/agent.h"

#include "agent/facts.h"
#include "base/clock.h"
#include "base/crc.h"

#define COOKIE_REPORT  (UINT64_C(1) << 63)
#define WINDOW_RESERVE 3    // places in the window that telemetry leaves to reports and replies
#define SYNC_AFTER_MS  2000 // online: a message that is not acknowledged by then goes to the disk for good
#define PAUSE_MIN_MS   1000 // after a refusal for the time being
#define PAUSE_MAX_MS   30000

// ---- Samples --------------------------------------------------------------------------------------------------------

static void enqueue(struct agent *a, struct slice json, int64_t now_ms)
{
    struct err err = {.code = ST_OK};
    if (!queue_dirty(a->queue)) {
        a->dirty_ms = now_ms;
    }
    enum status s = queue_append(a->queue, json, &err);
    if (s == ST_OK && !a->online) {
        s = queue_sync(a->queue, &err);
    }
    if (s != ST_OK) {
        queue_count_dropped(a->queue);
        log_error("queue", "cannot keep a sample", LOGS("error", err.text));
    }
}

static void sample_now(struct agent *a, int64_t now_ms)
{
    a->health.rtt_us = a->online ? muster_openssl_rtt_us(a->transport) : -1;
    a->health.queue_len = queue_len(a->queue);
    a->health.queue_dropped = queue_dropped(a->queue);
    size_t len = 0;
    int64_t time_ms = clock_wall_us() / 1000;
    log_debug("agent", "sample", LOGI("ts", time_ms));
    if (health_sample(&a->health, time_ms, a->scratch, QUEUE_RECORD_MAX, &len)) {
        enqueue(a, slice_make(a->scratch, len), now_ms);
    }
    a->sampled = true;
}

void agent_sample(struct agent *a, int64_t now_ms)
{
    if (now_ms < a->next_sample_ms) {
        return;
    }
    sample_now(a, now_ms);
    int64_t interval_ms = a->settings.interval_s * 1000;
    a->next_sample_ms += interval_ms;
    if (a->next_sample_ms <= now_ms) {
        a->next_sample_ms = now_ms + interval_ms; // the machine slept
    }
}

void agent_sync(struct agent *a, int64_t now_ms)
{
    if (!queue_dirty(a->queue) || (a->online && now_ms - a->dirty_ms < SYNC_AFTER_MS)) {
        return;
    }
    a->dirty_ms = now_ms;
    struct err err = {.code = ST_OK};
    if (queue_sync(a->queue, &err) != ST_OK) {
        log_error("queue", "cannot sync", LOGS("error", err.text));
    }
}

// ---- Forwarding -----------------------------------------------------------------------------------------------------

// False: nothing more can be sent now.
static bool forward_one(struct agent *a)
{
    struct err err = {.code = ST_OK};
    struct buf out = buf_fixed(a->scratch, sizeof(a->scratch));
    uint64_t seq = 0;
    bool repeat = false;
    enum status s = queue_next(a->queue, &out, &seq, &repeat, &err);
    if (s == ST_CORRUPT) {
        log_error("queue", "lost messages", LOGS("error", err.text));
        return true;
    }
    if (s != ST_OK) {
        if (s != ST_NOT_FOUND && s != ST_BUSY) {
            log_error("queue", "cannot read", LOGS("error", err.text));
            a->forward_after_ms = agent_now_ms() + PAUSE_MAX_MS;
        }
        return false;
    }
    enum muster_status sent = muster_send_telemetry(a->client, (const char *)out.p, out.len, repeat, seq);
    if (sent == MUSTER_OK) {
        a->flying++;
        return true;
    }
    if (sent == MUSTER_E_FULL || sent == MUSTER_E_STATE) {
        queue_put_back(a->queue, seq);
        return false;
    }
    log_error("queue", "a message cannot be sent and is dropped", LOGU("seq", seq),
              LOGS("error", muster_status_text(sent)));
    queue_count_dropped(a->queue);
    queue_ack(a->queue, seq);
    return true;
}

void agent_forward(struct agent *a, int64_t now_ms)
{
    if (!a->online || a->redial || a->enroll.state == ENROLL_KEYED || now_ms < a->forward_after_ms) {
        return;
    }
    if (a->rewind) {
        if (a->flying > 0) {
            return; // the order is kept: first the answers to what is on its way
        }
        queue_rewind(a->queue);
        a->rewind = false;
    }
    while (muster_room(a->client) > WINDOW_RESERVE && forward_one(a)) {
    }
}

// Reasons that will not change when the same message is sent again (MQTT 5.0 section 3.4.2.1).
static bool refused_for_good(uint8_t reason)
{
    return reason == 0x87 || reason == 0x90 || reason == 0x95 || reason == 0x99; // authority, topic, size, payload
}

static void telemetry_acked(struct agent *a, const struct muster_ack *ack)
{
    a->flying -= a->flying > 0 ? 1 : 0;
    if (ack->stored) {
        queue_ack(a->queue, ack->cookie);
        return;
    }
    struct slice why = slice_make(ack->text.p != NULL ? ack->text.p : "", ack->text.len);
    if (refused_for_good(ack->reason)) {
        log_error("link", "the server refused a message", LOGU("seq", ack->cookie), LOGU("reason", ack->reason),
                  LOGSL("why", why));
        queue_count_dropped(a->queue);
        queue_ack(a->queue, ack->cookie);
        return;
    }
    log_warn("link", "the server cannot store now; trying again", LOGU("reason", ack->reason), LOGSL("why", why));
    a->rewind = true;
    a->forward_after_ms = agent_now_ms() + PAUSE_MIN_MS + agent_jitter(PAUSE_MAX_MS);
}

void agent_acked(void *agent, const struct muster_ack *ack)
{
    struct agent *a = agent;
    if (ack->cookie != COOKIE_REPORT) {
        telemetry_acked(a, ack);
        return;
    }
    a->report_flying = false;
    if (ack->stored) {
        a->reported_crc = a->reporting_crc;
    } else {
        log_warn("link", "the server refused the report", LOGU("reason", ack->reason));
        a->report_due = a->report_due || !refused_for_good(ack->reason);
        a->forward_after_ms = agent_now_ms() + PAUSE_MIN_MS + agent_jitter(PAUSE_MAX_MS);
    }
}

// ---- Twin -----------------------------------------------------------------------------------------------------------

static bool report_write(struct agent *a, struct buf *out)
{
    struct jw w;
    jw_init(&w, out);
    jw_object(&w);
    jw_key(&w, "agent");
    jw_object(&w);
    jw_key(&w, "version");
    jw_str(&w, MUSTER_VERSION);
    settings_write(&a->settings, &w);
    jw_object_end(&w);
    facts_write(a->root, &w);
    jw_object_end(&w);
    return !out->failed;
}

void agent_report(struct agent *a, int64_t now_ms)
{
    if (!a->online || a->redial || a->enroll.state == ENROLL_KEYED || now_ms < a->forward_after_ms) {
        return;
    }
    if (a->twin_due && muster_twin_get(a->client) == MUSTER_OK) {
        a->twin_due = false;
    }
    if (!a->report_due || a->report_flying) {
        return;
    }
    struct buf out = buf_fixed(a->scratch, sizeof(a->scratch));
    enum muster_status s = MUSTER_E_TOO_LARGE;
    if (report_write(a, &out)) {
        a->reporting_crc = crc32c(0, buf_view(&out));
        if (a->reporting_crc == a->reported_crc) {
            a->report_due = false; // the server knows all this
            return;
        }
        s = muster_report(a->client, (const char *)out.p, out.len, COOKIE_REPORT);
    }
    if (s == MUSTER_E_FULL) {
        return;
    }
    a->report_due = false;
    a->report_flying = s == MUSTER_OK;
    if (s != MUSTER_OK) {
        log_error("link", "cannot report", LOGS("error", muster_status_text(s)));
    }
}

// Keeps {"agent": ...} for the next start, when it has changed.
static void settings_save(struct agent *a, struct muster_text agent)
{
    struct buf out = buf_fixed(a->scratch, sizeof(a->scratch));
    struct jw w;
    jw_init(&w, &out);
    jw_object(&w);
    if (agent.p != NULL) {
        jw_key(&w, "agent");
        jw_raw(&w, slice_make(agent.p, agent.len));
    }
    jw_object_end(&w);
    uint32_t crc = crc32c(0, buf_view(&out));
    struct err err = {.code = ST_OK};
    if (out.failed || crc == a->settings_crc) {
        return;
    }
    if (statedir_write(&a->dir, "settings.json", buf_view(&out), 0600, &err) != ST_OK) {
        log_warn("agent", "cannot keep the settings for the next start", LOGS("error", err.text));
        return;
    }
    a->settings_crc = crc;
}

void agent_desired(void *agent, const struct muster_desired *desired)
{
    struct agent *a = agent;
    int64_t interval_s = a->settings.interval_s;
    bool from_twin = desired->reported.p != NULL; // the answer to a question of ours
    settings_apply(&a->settings, &a->defaults, desired->desired);
    log_set_level(a->settings.log_level);
    struct muster_text own = {NULL, 0};
    muster_json_raw(desired->desired, "agent", &own);
    settings_save(a, own);
    if (a->settings.interval_s != interval_s) {
        int64_t next = agent_now_ms() + a->settings.interval_s * 1000;
        a->next_sample_ms = next < a->next_sample_ms ? next : a->next_sample_ms;
    }
    LOG_AT(from_twin ? LOG_DEBUG : LOG_INFO, "agent", "settings taken", LOGI("version", desired->version),
           LOGI("interval_s", a->settings.interval_s), LOGU("errors", a->settings.errors_len));
    a->report_due = true;
}

// ---- Commands -------------------------------------------------------------------------------------------------------

static void command_ping(struct agent *a, struct jw *w)
{
    (void)a;
    jw_key(w, "agent");
    jw_str(w, MUSTER_VERSION);
}

static void command_sample(struct agent *a, struct jw *w)
{
    a->next_sample_ms = agent_now_ms();
    jw_key(w, "queued");
    jw_bool(w, true);
}

static const struct {
    const char *name;
    void (*run)(struct agent *a, struct jw *w);
} commands[] = {{"ping", command_ping}, {"sample", command_sample}};

void agent_command(void *agent, const struct muster_command *command)
{
    struct agent *a = agent;
    uint8_t mem[256];
    struct buf out = buf_fixed(mem, sizeof(mem));
    struct jw w;
    jw_init(&w, &out);
    jw_object(&w);
    bool known = false;
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]) && !known; i++) {
        if (slice_eq_str(slice_make(command->name.p, command->name.len), commands[i].name)) {
            commands[i].run(a, &w);
            known = true;
        }
    }
    if (!known) {
        jw_key(&w, "error");
        jw_object(&w);
        jw_key(&w, "code");
        jw_str(&w, "unsupported");
        jw_key(&w, "detail");
        jw_str(&w, "this agent knows the commands ping and sample");
        jw_object_end(&w);
    }
    jw_object_end(&w);
    enum muster_status s = muster_command_reply(a->client, command->id, (const char *)out.p, out.len, 0);
    log_info("agent", "command", LOGSL("name", slice_make(command->name.p, command->name.len)),
             LOGS("reply", muster_status_text(s)));
}
