// The other domain modules: traces, bans, quotas, identity, presence, twin, commands, events. A part of fake_mqtt.h, which includes it.
#ifndef TESTS_LIB_FAKE_MQTT_DOMAIN_H
#define TESTS_LIB_FAKE_MQTT_DOMAIN_H

// --- traces: nobody looks -----------------------------------------------------------------------------------------

struct trace_loop *trace_loop(struct trace_hub *h, const struct loop *l)
{
    (void)h;
    (void)l;
    return NULL;
}
void trace_on_change(struct trace_loop *tl, void (*fn)(void *arg), void *arg)
{
    (void)tl;
    (void)fn;
    (void)arg;
}
uint32_t trace_match(const struct trace_loop *tl, const struct trace_who *who)
{
    (void)tl;
    (void)who;
    return 0;
}
bool trace_running(const struct trace_loop *tl)
{
    (void)tl;
    return false;
}
void trace_record(struct trace_loop *tl, uint32_t traces, const struct trace_piece *p)
{
    (void)tl;
    (void)traces;
    (void)p;
}
void conn_tap(struct conn *c, bool on)
{
    (void)c;
    (void)on;
}
struct slice permit_client_id(const struct permit *p)
{
    (void)p;
    return (struct slice){NULL, 0};
}

// --- bans and quotas ----------------------------------------------------------------------------------------------

static struct quotas *fake_quotas;
void *core_slot(const struct core *c, enum core_slot s)
{
    (void)c;
    return s == CORE_SLOT_QUOTA ? fake_quotas : NULL;
}
void core_set_slot(struct core *c, enum core_slot s, void *p)
{
    (void)c;
    (void)s;
    (void)p;
}
bool ban_address(const struct core *c, struct slice addr)
{
    (void)c;
    return slice_starts(addr, SLICE("203.0.113.66:"));
}
void ban_takeover(struct core *c, const struct principal *who, struct slice client_id)
{
    (void)c;
    (void)who;
    (void)client_id;
    assert(false); // no connection of the fake core takes over another one
}
bool broker_connected(const struct core *c, const struct principal *who, struct slice client_id)
{
    (void)c;
    (void)who;
    (void)client_id;
    return false;
}
enum status ban_flapping(struct tx *tx, const struct principal *who, struct slice client_id, struct slice addr,
                         struct err *err)
{
    (void)tx;
    assert(who->kind != WHO_NOBODY); // never before it is known who comes
    (void)addr;
    return slice_eq_str(client_id, "flapping") ? err_set(err, ST_FORBIDDEN, "flapping") : ST_OK;
}
enum status ban_check(struct tx *tx, const struct principal *who, struct slice client_id, struct err *err)
{
    (void)tx;
    (void)who;
    return slice_eq_str(client_id, "banned") ? err_set(err, ST_FORBIDDEN, "banned") : ST_OK;
}
// The password of every name is "pencil".
enum status identity_login(struct tx *tx, const struct credential *cred, struct device_login *ret, struct err *err)
{
    if (slice_eq_str(cred->username, "often")) {
        return err_set(err, ST_LIMIT, "too many failures");
    }
    (void)tx;
    ret->state = LOGIN_ASKED;
    return scram_verifier_make(SLICE("pencil"), SCRAM_ITERATIONS_MIN, &ret->verifier, err);
}
void device_password_check(struct device_login *login, struct slice password)
{
    login->state = slice_eq_str(password, "right") ? LOGIN_PROVED : LOGIN_WRONG;
}

// --- identity and presence: the user name says what happens ------------------------------------------------------

enum status identity_authenticate(struct tx *tx, const struct credential *cred, struct principal *ret,
                                  struct device_ref *ret_device, struct err *err)
{
    static const struct {
        const char *user;
        enum status status;
    } bad[] = {{"stranger", ST_UNAUTHENTICATED}, {"revoked", ST_FORBIDDEN}, {"often", ST_LIMIT}, {"broken", ST_IO}};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        if (slice_eq_str(cred->username, bad[i].user)) {
            return err_set(err, bad[i].status, "secret detail");
        }
    }
    if (slice_eq_str(cred->username, "pass") && cred->login->state != LOGIN_PROVED) { // a password is to be checked
        cred->login->state = cred->login->state == LOGIN_NONE ? LOGIN_ASKED : cred->login->state;
        return err_set(err, ST_UNAUTHENTICATED, "wrong password");
    }
    if (slice_eq_str(cred->username, "app")) {
        *ret = (struct principal){.kind = WHO_OPERATOR, .tenant = 1, .row = 9, .name = "app"};
        tx->core->applications++;
        return ST_OK;
    }
    if (cred->login != NULL && cred->login->state == LOGIN_WRONG) {
        return err_set(err, ST_UNAUTHENTICATED, "wrong password");
    }
    bool claim = slice_eq_str(cred->username, "$claim");
    *ret = (struct principal){
        .kind = claim ? WHO_CLAIM : WHO_DEVICE, .tenant = 1, .row = slice_eq_str(cred->username, "other") ? 8 : 7};
    snprintf(ret->name, sizeof(ret->name), "%s", claim ? "claim-1" : "d1");
    *ret_device = (struct device_ref){.row = 7, .tenant = 1, .state = DEVICE_ACTIVE, .id = "d1"};
    slice_to_cstr(cred->client_id, tx->core->client_id, sizeof(tx->core->client_id));
    return ST_OK;
}
void identity_auth_failed(struct core *c, struct slice peer_addr)
{
    (void)peer_addr;
    c->auth_failures++;
}
enum status presence_connected(struct tx *tx, struct link *link, const struct device_ref *d,
                               const struct presence_info *info, struct err *err)
{
    (void)d;
    (void)err;
    tx->core->connected++;
    slice_to_cstr(info->protocol, tx->core->protocol, sizeof(tx->core->protocol));
    link_unref(tx->core->link);
    tx->core->link = link_ref(link);
    return ST_OK;
}
enum status presence_disconnected(struct tx *tx, struct link *link, struct slice reason, struct slice detail,
                                  struct err *err)
{
    (void)link;
    (void)err;
    tx->core->disconnected++;
    slice_to_cstr(reason, tx->core->reason, sizeof(tx->core->reason));
    slice_to_cstr(detail, tx->core->detail, sizeof(tx->core->detail));
    return ST_OK;
}
struct link *presence_link(struct core *c, uint64_t device)
{
    (void)c;
    (void)device;
    return NULL;
}
static enum device_state fake_device_state = DEVICE_ACTIVE;
enum status device_find_row(struct tx *tx, uint64_t row, struct device_ref *ret, struct err *err)
{
    (void)tx;
    (void)err;
    *ret = (struct device_ref){.row = row, .tenant = 1, .state = fake_device_state, .id = "d1"};
    return ST_OK;
}
const char *device_state_text(enum device_state s)
{
    return s == DEVICE_SUSPENDED ? "suspended" : "active";
}
enum status identity_enroll(struct tx *tx, struct slice csr_pem, struct slice device, const json_t *desc,
                            struct jw *out, struct err *err)
{
    if (!slice_eq_str(csr_pem, "CSR")) {
        return err_at(err, ST_INVALID, "/csr", "no CSR");
    }
    tx->core->enrolled++;
    snprintf(tx->core->payload, sizeof(tx->core->payload), SLICE_FMT " %zu", SLICE_ARG(device), json_object_size(desc));
    jw_object(out);
    jw_key(out, "device");
    jw_slice(out, device);
    jw_object_end(out);
    return ST_OK;
}
enum status identity_renew(struct tx *tx, struct slice csr_pem, struct jw *out, struct err *err)
{
    (void)csr_pem;
    (void)err;
    tx->core->renewed++;
    jw_object(out);
    jw_object_end(out);
    return ST_OK;
}

// --- twin, commands, events --------------------------------------------------------------------------------------

static inline void fake_keep(struct core *c, struct slice payload)
{
    slice_to_cstr(payload, c->payload, sizeof(c->payload));
}
enum status twin_report(struct tx *tx, const struct device_ref *d, struct slice patch, struct err *err)
{
    (void)d;
    tx->core->reports++;
    fake_keep(tx->core, patch);
    return tx->core->twin_status == ST_OK ? ST_OK : err_set(err, tx->core->twin_status, "refused by the twin");
}
enum status twin_write_for_device(struct tx *tx, const struct device_ref *d, bool with_reported, struct jw *out,
                                  struct err *err)
{
    (void)tx;
    (void)d;
    (void)err;
    jw_object(out);
    jw_key(out, "reported");
    jw_bool(out, with_reported);
    jw_object_end(out);
    return ST_OK;
}
enum status twin_push_pending(struct tx *tx, const struct device_ref *d, struct link *link, struct err *err)
{
    (void)d;
    (void)link;
    tx->core->twin_pushes++;
    return tx->core->push_status == ST_OK ? ST_OK : err_set(err, tx->core->push_status, "no");
}
enum status command_push_pending(struct tx *tx, const struct device_ref *d, struct link *link, struct err *err)
{
    (void)d;
    (void)link;
    (void)err;
    tx->core->command_pushes++;
    return ST_OK;
}
enum status command_reply(struct tx *tx, const struct device_ref *d, uint64_t id, struct slice payload, struct err *err)
{
    (void)d;
    (void)err;
    tx->core->replies++;
    tx->core->reply_id = id;
    fake_keep(tx->core, payload);
    return ST_OK;
}
enum status device_event(struct tx *tx, const struct device_ref *d, struct slice name, struct slice payload,
                         int64_t ts_us, struct err *err)
{
    (void)d;
    (void)ts_us;
    if (slice_eq_str(name, "bad")) {
        return err_set(err, ST_INVALID, "bad event");
    }
    tx->core->events++;
    fake_keep(tx->core, payload);
    return ST_OK;
}

#endif
