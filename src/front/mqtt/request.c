#include "front/mqtt/request.h"

#include <stdlib.h>

#include <jansson.h>

#include "domain/command/command.h"
#include "domain/doc/doc.h"
#include "domain/identity/identity.h"
#include "domain/telemetry/ledger.h"
#include "domain/twin/twin.h"
#include "front/mqtt/counters.h"
#include "front/mqtt/reason.h"
#include "proto/cbor.h"

#define ANSWER_MAX    ((size_t)512 * 1024)
#define JSON_KEYS_MAX 10000

struct request;
struct request_def {
    const char *name;
    const char *answer_topic; // NULL: answered by the acknowledgement alone
    bool stored;              // counted as stored in the ledger, in the operation's own transaction
    bool answers_errors;      // a failure is answered on answer_topic too
    bool may_be_empty;        // no payload means null
    bool no_payload;          // whatever is in the payload is not looked at
    // I/O thread: what can be checked without the store. May be NULL.
    enum status (*prepare)(struct request *r, struct err *err);
    enum status (*run)(struct tx *tx, struct request *r, const struct device_ref *d, struct err *err);
};

struct request {
    struct op op;
    const struct request_def *def;
    enum route route;
    struct mqtt_loop *home;
    struct link *link; // one reference
    uint64_t conn;
    uint16_t packet_id;
    struct broker_session *once; // QoS 2 in a durable session: its packet id is kept; the connection's reference
    uint64_t id;                 // of the command
    json_t *doc;                 // provisioning: the request without its csr and device
    json_t *csr;
    json_t *device;
    struct buf answer;
    struct slice param, payload; // in bytes
    size_t bytes_len;
    uint8_t bytes[];
};

static void request_free(struct request *r)
{
    json_decref(r->doc);
    json_decref(r->csr);
    json_decref(r->device);
    buf_release(&r->answer);
    link_unref(r->link);
    free(r);
}

// --- one function each -------------------------------------------------------------------------------------------

static enum status run_event(struct tx *tx, struct request *r, const struct device_ref *d, struct err *err)
{
    return device_event(tx, d, r->param, r->payload, tx->now_us, err);
}

static enum status run_twin_get(struct tx *tx, struct request *r, const struct device_ref *d, struct err *err)
{
    struct jw w;
    jw_init(&w, &r->answer);
    return twin_write_for_device(tx, d, true, &w, err);
}

static enum status run_twin_report(struct tx *tx, struct request *r, const struct device_ref *d, struct err *err)
{
    return twin_report(tx, d, r->payload, err);
}

static enum status prepare_command_reply(struct request *r, struct err *err)
{
    uint64_t id = 0;
    for (size_t i = 0; i < r->param.len; i++) {
        unsigned digit = r->param.p[i] - (unsigned)'0';
        if (digit > 9 || id > (UINT64_MAX - digit) / 10) {
            return err_set(err, ST_NOT_FOUND, "a command id is a decimal number");
        }
        id = id * 10 + digit;
    }
    r->id = id;
    return ST_OK;
}

static enum status run_command_reply(struct tx *tx, struct request *r, const struct device_ref *d, struct err *err)
{
    return command_reply(tx, d, r->id, r->payload, err);
}

// Takes a string member out of the document. NULL when it is not there or no string.
static json_t *take_string(json_t *doc, const char *key)
{
    json_t *v = json_object_get(doc, key);
    if (!json_is_string(v)) {
        return NULL;
    }
    json_incref(v);
    json_object_del(doc, key);
    return v;
}

static enum status check_members(json_t *doc, const char *const *allowed, struct err *err)
{
    const char *key;
    json_t *value;
    json_object_foreach(doc, key, value)
    {
        const char *const *a = allowed;
        while (*a != NULL && strcmp(*a, key) != 0) {
            a++;
        }
        if (*a == NULL) {
            return err_set(err, ST_INVALID, "unknown or wrongly typed member \"%.64s\"", key);
        }
    }
    return ST_OK;
}

static enum status prepare_provision(struct request *r, const char *const *allowed, struct err *err)
{
    if (doc_parse(r->payload, DOC_DEPTH_MAX, &r->doc, err) == ST_NOMEM) {
        return ST_NOMEM;
    }
    if (!json_is_object(r->doc)) {
        return err_set(err, ST_INVALID, "the request is a JSON object with \"csr\"");
    }
    r->csr = take_string(r->doc, "csr");
    if (r->csr == NULL) {
        return err_at(err, ST_INVALID, "/csr", "\"csr\" is a certificate signing request as PEM text");
    }
    return check_members(r->doc, allowed, err);
}

static enum status prepare_enroll(struct request *r, struct err *err)
{
    static const char *const allowed[] = {"name", "model", "keys", "tags", "attributes", "device", NULL};
    enum status s = prepare_provision(r, allowed, err);
    if (s != ST_OK) {
        return s;
    }
    r->device = take_string(r->doc, "device");
    return json_object_get(r->doc, "device") == NULL ? ST_OK
                                                     : err_at(err, ST_INVALID, "/device", "\"device\" is a device id");
}

static enum status prepare_renew(struct request *r, struct err *err)
{
    static const char *const allowed[] = {NULL};
    return prepare_provision(r, allowed, err);
}

static struct slice text_of(const json_t *s)
{
    return s != NULL ? slice_make(json_string_value(s), json_string_length(s)) : (struct slice){NULL, 0};
}

static enum status run_enroll(struct tx *tx, struct request *r, const struct device_ref *d, struct err *err)
{
    (void)d;
    struct jw w;
    jw_init(&w, &r->answer);
    return identity_enroll(tx, text_of(r->csr), text_of(r->device), r->doc, &w, err);
}

static enum status run_renew(struct tx *tx, struct request *r, const struct device_ref *d, struct err *err)
{
    (void)d;
    struct jw w;
    jw_init(&w, &r->answer);
    return identity_renew(tx, text_of(r->csr), &w, err);
}

static const struct request_def defs[ROUTE__COUNT] = {
    [ROUTE_EVENT] = {.name = "mqtt.event", .stored = true, .may_be_empty = true, .run = run_event},
    [ROUTE_TWIN_GET] = {.name = "mqtt.twin_get",
                        .answer_topic = "$muster/twin/get/reply",
                        .no_payload = true,
                        .run = run_twin_get},
    [ROUTE_TWIN_REPORT] = {.name = "mqtt.twin_report", .stored = true, .run = run_twin_report},
    [ROUTE_COMMAND_REPLY] = {.name = "mqtt.command_reply",
                             .stored = true,
                             .may_be_empty = true,
                             .prepare = prepare_command_reply,
                             .run = run_command_reply},
    [ROUTE_ENROLL] = {.name = "mqtt.enroll",
                      .answer_topic = "$muster/provision/response",
                      .answers_errors = true,
                      .prepare = prepare_enroll,
                      .run = run_enroll},
    [ROUTE_RENEW] = {.name = "mqtt.renew",
                     .answer_topic = "$muster/provision/response",
                     .answers_errors = true,
                     .prepare = prepare_renew,
                     .run = run_renew},
};

// --- the operation -----------------------------------------------------------------------------------------------

static enum status find_device(struct tx *tx, const struct request *r, struct device_ref *ret, struct err *err)
{
    if (r->link->who.kind != WHO_DEVICE) {
        return ST_OK;
    }
    enum status s = device_find_row(tx, r->link->who.row, ret, err);
    if (s == ST_OK && (ret->state == DEVICE_SUSPENDED || ret->state == DEVICE_RETIRED)) {
        return err_set(err, ST_FORBIDDEN, "the device is %s", device_state_text(ret->state));
    }
    return s;
}

// Whose session was taken over meanwhile: the message comes again on the other connection.
static enum status keep_id(struct tx *tx, const struct request *r, struct err *err)
{
    bool new = true;
    enum status s = broker_inbound_put(tx, r->once, r->conn, r->packet_id, false, &new, err);
    return s == ST_OK && !new ? err_set(err, ST_CONFLICT, "another connection has the session") : s;
}

static enum status request_run(struct tx *tx, struct op *op, struct err *err)
{
    struct request *r = (struct request *)op;
    struct device_ref d = {0};
    enum status s = find_device(tx, r, &d, err);
    if (s == ST_OK && r->once != NULL) {
        s = keep_id(tx, r, err);
    }
    if (s == ST_OK) {
        s = r->def->run(tx, r, &d, err);
    }
    if (s == ST_OK && r->answer.failed) {
        s = r->answer.starved ? err_set(err, ST_NOMEM, "no memory for the answer")
                              : err_set(err, ST_TOO_LARGE, "the answer is larger than %zu bytes", ANSWER_MAX);
    }
    return s == ST_OK && r->def->stored ? ledger_stored(tx, r->link, err) : s;
}

static void write_error(struct buf *out, enum status status, const struct err *err)
{
    struct jw w;
    buf_clear(out);
    jw_init(&w, out);
    jw_object(&w);
    jw_key(&w, "error");
    jw_object(&w);
    jw_key(&w, "code");
    jw_str(&w, status_text(status));
    jw_key(&w, "detail");
    jw_str(&w, reason_say(status, err));
    if (err->where[0] != '\0') {
        jw_key(&w, "where");
        jw_str(&w, err->where);
    }
    jw_object_end(&w);
    jw_object_end(&w);
}

// The answer on its topic. Without memory for it the connection ends: the device asks again.
static void send_answer(struct mqtt_conn *mc, const struct request_def *def, const struct buf *answer)
{
    struct down *d = answer->failed ? NULL : down_publish(def->answer_topic, buf_view(answer), 0);
    if (d != NULL) {
        mqtt_deliver_to(mc, d);
    } else {
        mqtt_conn_no_memory(mc, "no memory for an answer");
    }
}

static void request_answer(struct mqtt_conn *mc, struct request *r)
{
    enum status s = r->op.status;
    bool answers = r->def->answer_topic != NULL && (s == ST_OK || r->def->answers_errors);
    if (answers) {
        if (s != ST_OK) {
            write_error(&r->answer, s, &r->op.err);
        }
        send_answer(mc, r->def, &r->answer);
    }
    // A device before MQTT 5 that has its answer is not cut off for what the answer says.
    bool said = answers && mc->version != MQTT_V5;
    mqtt_publish_settle(mc, r->packet_id, said ? ST_OK : s, s != ST_OK ? reason_say(s, &r->op.err) : NULL);
    mqtt_publish_flush(mc);
}

static void request_done(struct op *op)
{
    struct request *r = (struct request *)op;
    struct mqtt_conn *mc = mqtt_conn_find(r->home, r->conn);
    counter_message(r->route, op->status == ST_OK, 1);
    if (op->status != ST_OK && r->def->stored) {
        ingest_failed(r->home->ingest, r->link, op->status);
    }
    if (mc != NULL) {
        mc->requests--;
        request_answer(mc, r);
    }
    request_free(r);
}

// --- making it ---------------------------------------------------------------------------------------------------

// The payload as JSON text: borrowed from the packet, or from the loop's scratch buffer when it was CBOR.
static enum status payload_json(struct mqtt_loop *home, const struct request_def *def, const struct mqtt_publish *b,
                                struct slice *ret, struct err *err)
{
    if (def->no_payload) {
        *ret = SLICE("");
        return ST_OK;
    }
    if (b->payload.len == 0 && def->may_be_empty) {
        *ret = SLICE("null");
        return ST_OK;
    }
    struct slice type = MQTT_HAS(&b->props, MQTT_P_CONTENT_TYPE) ? b->props.content_type : (struct slice){NULL, 0};
    *ret = b->payload;
    if (slice_eq_str(type, "application/cbor") || (type.len == 0 && cbor_likely(b->payload))) {
        struct cbor_limits limits = cbor_limits_default();
        buf_clear(&home->scratch);
        enum status s = cbor_to_json(b->payload, &limits, &home->scratch, err);
        if (s != ST_OK) {
            return s;
        }
        *ret = buf_view(&home->scratch);
    }
    return json_check(*ret, JSON_DEPTH_MAX, JSON_KEYS_MAX, err);
}

static struct request *request_new(struct mqtt_conn *mc, enum route route, struct slice param, struct slice payload)
{
    struct request *r = calloc(1, sizeof(*r) + param.len + payload.len);
    if (r == NULL) {
        return NULL;
    }
    r->def = &defs[route];
    r->route = route;
    r->home = mc->home;
    r->conn = conn_id(mc->net);
    r->link = link_ref(mc->link);
    r->answer = buf_heap(ANSWER_MAX);
    struct buf b = buf_fixed(r->bytes, param.len + payload.len);
    buf_slice(&b, param);
    buf_slice(&b, payload);
    r->param = slice_head(buf_view(&b), param.len);
    r->payload = slice_from(buf_view(&b), param.len);
    r->op = (struct op){.run = request_run,
                        .done = request_done,
                        .reply_to = mc->home->loop,
                        .who = &r->link->who,
                        .name = r->def->name};
    return r;
}

static enum status refuse_early(struct mqtt_conn *mc, struct request *r, enum route route, enum status s,
                                const struct err *err)
{
    counter_message(route, false, 1);
    if (defs[route].answers_errors) {
        struct buf answer = buf_heap(ANSWER_MAX);
        write_error(&answer, s, err);
        send_answer(mc, &defs[route], &answer);
        buf_release(&answer);
    }
    if (r != NULL) {
        request_free(r);
    }
    return s;
}

enum status request_submit(struct mqtt_conn *mc, enum route route, struct slice param, const struct mqtt_publish *b,
                           struct err *err)
{
    const struct request_def *def = &defs[route];
    struct slice payload;
    err->where[0] = '\0';
    enum status s = payload_json(mc->home, def, b, &payload, err);
    if (s != ST_OK) {
        return refuse_early(mc, NULL, route, s, err);
    }
    struct request *r = request_new(mc, route, param, payload);
    s = r == NULL              ? err_set(err, ST_NOMEM, "%s", "the server is out of memory")
        : def->prepare != NULL ? def->prepare(r, err)
                               : ST_OK;
    if (s != ST_OK) {
        return refuse_early(mc, r, route, s, err);
    }
    r->packet_id = b->packet_id;
    r->once = b->qos == 2 && mc->durable ? mc->session : NULL;
    if (def->stored) {
        ledger_received(r->link);
    }
    mc->requests++;
    core_submit(mc->home->front->core, &r->op);
    return ST_OK;
}
