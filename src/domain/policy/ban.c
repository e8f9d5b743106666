#include "domain/policy/ban.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/map.h"
#include "base/rate.h"
#include "base/utf8.h"
#include "core/ids.h"
#include "core/member.h"
#include "core/metrics.h"
#include "core/page.h"
#include "domain/audit/audit.h"
#include "domain/identity/throttle.h"
#include "domain/policy/security.h"
#include "domain/registry/registry.h"
#include "net/addr.h"
#include "net/crypto.h"
#define SQL_BAN_DEFINE
#include "domain/policy/sql/ban.sql.h"

#define SWEEP_MS    60000
#define SWEEP_MAX   1000
#define NET_BITS    128
#define NET_BITS_V4 96  // before an IPv4 address
#define VALUE_MAX   256 // bytes of a client id
#define MINUTE_US   60000000LL

static const struct slice none = {NULL, 0};

static const char *const kind_texts[] = {
    [BAN_ADDRESS] = "address", [BAN_CLIENT_ID] = "client_id", [BAN_DEVICE] = "device"};

// Refusals live as long as the process.
static struct metric refused[] = {
    [BAN_ADDRESS] = {.name = "muster_banned_total",
                     .labels = "kind=\"address\"",
                     .help = "CONNECTs of the banned, and connections of banned addresses.",
                     .kind = METRIC_COUNTER},
    [BAN_CLIENT_ID] = {.name = "muster_banned_total",
                       .labels = "kind=\"client_id\"",
                       .help = "CONNECTs of the banned, and connections of banned addresses.",
                       .kind = METRIC_COUNTER},
    [BAN_DEVICE] = {.name = "muster_banned_total",
                    .labels = "kind=\"device\"",
                    .help = "CONNECTs of the banned, and connections of banned addresses.",
                    .kind = METRIC_COUNTER},
};
static struct metric refused_flapping = {.name = "muster_banned_total",
                                         .labels = "kind=\"flapping\"",
                                         .help = "CONNECTs of the banned, and connections of banned addresses.",
                                         .kind = METRIC_COUNTER};

// One ban in memory.
struct ban {
    uint64_t row;
    int64_t expires_us; // INT64_MAX: until it is lifted
};

// The map holds all bans by what they are about; readers on any thread, one writer.
struct bans {
    pthread_rwlock_t lock;
    struct map by_key;               // key_of
    uint32_t prefixes[NET_BITS + 1]; // bans of networks by their length: which lengths to look for
    _Atomic uint32_t networks;       // how many of them
    struct throttle *flapping;       // core thread
    struct rate *takeovers;
    ban_close_fn on_create; // NULL: nobody keeps connections
    void *on_create_arg;
};

static struct bans *bans_of(const struct core *c)
{
    return core_slot(c, CORE_SLOT_BAN);
}

const char *ban_kind_text(enum ban_kind k)
{
    return k >= BAN_ADDRESS && k <= BAN_DEVICE ? kind_texts[k] : "unknown";
}

bool ban_kind_parse(struct slice text, enum ban_kind *ret)
{
    for (unsigned i = BAN_ADDRESS; i <= BAN_DEVICE; i++) {
        if (slice_eq_str(text, kind_texts[i])) {
            *ret = (enum ban_kind)i;
            return true;
        }
    }
    return false;
}

// --- configuration -----------------------------------------------------------------------------------------------

static const struct conf_key keys[] = {
    {.name = "ban.flapping_connects",
     .type = CONF_INT,
     .dflt = "60",
     .min = 0,
     .max = 1000000,
     .help = "CONNECTs a minute with one client id from one address before that client is banned for a minute, longer "
             "each time; 0 never bans it."},
    {.name = "ban.takeovers",
     .type = CONF_INT,
     .dflt = "5",
     .min = 0,
     .max = 1000000,
     .help = "Takeovers a minute of one client id before they are reported as a doubled credential; 0 never reports "
             "them."},
};
const struct conf_module ban_conf_module = {"Bans", keys, sizeof(keys) / sizeof(keys[0])};

void ban_conf_read(const struct conf *conf, struct ban_conf *ret)
{
    ret->flapping_connects = (uint32_t)conf_int(conf, "ban.flapping_connects");
    ret->takeovers = (uint32_t)conf_int(conf, "ban.takeovers");
}

// --- in memory ---------------------------------------------------------------------------------------------------

#define KEY_MAX (1 + 4 + VALUE_MAX)

// What a ban is about, as the key of the map: kind, tenant, value; of a network its length and bits.
static struct slice key_of(enum ban_kind kind, uint32_t tenant, struct slice value, uint8_t mem[KEY_MAX])
{
    struct buf b = buf_fixed(mem, KEY_MAX);
    (void)buf_u8(&b, (uint8_t)kind);
    (void)buf_u32(&b, tenant);
    (void)buf_slice(&b, value);
    return b.failed ? none : buf_view(&b);
}

static struct slice network_key(const struct addr_net *n, uint8_t mem[KEY_MAX])
{
    uint8_t text[1 + sizeof(n->ip)];
    struct buf b = buf_fixed(text, sizeof(text));
    (void)buf_u8(&b, (uint8_t)n->bits);
    (void)buf_put(&b, n->ip, sizeof(n->ip));
    return key_of(BAN_ADDRESS, 0, buf_view(&b), mem);
}

static enum status parse_network(struct slice text, struct addr_net *ret, struct err *err)
{
    char copy[ADDR_TEXT_MAX];
    if (!slice_to_cstr(text, copy, sizeof(copy))) {
        return err_set(err, ST_INVALID, "must be an address or a network such as 192.0.2.0/24");
    }
    return addr_net_parse(copy, ret, err);
}

static struct slice stored_key(enum ban_kind kind, uint32_t tenant, struct slice value, struct addr_net *n,
                               uint8_t mem[KEY_MAX])
{
    n->bits = NET_BITS + 1;
    if (kind != BAN_ADDRESS) {
        return key_of(kind, tenant, value, mem);
    }
    return parse_network(value, n, NULL) == ST_OK ? network_key(n, mem) : none;
}

// A change on its way into memory: a ban that comes or goes.
struct ban_change {
    bool add;
    unsigned bits; // of a network; else above NET_BITS
    struct ban *ban;
    size_t key_len;
    uint8_t key[KEY_MAX];
};

static void forget(struct bans *bs, struct slice key, unsigned bits)
{
    void *old = map_del(&bs->by_key, key);
    if (old != NULL && bits <= NET_BITS) {
        bs->prefixes[bits]--;
        atomic_fetch_sub(&bs->networks, 1);
    }
    free(old);
}

static void change_do(struct core *c, void *arg)
{
    struct bans *bs = bans_of(c);
    struct ban_change *ch = arg;
    struct slice key = slice_make(ch->key, ch->key_len);
    pthread_rwlock_wrlock(&bs->lock);
    forget(bs, key, ch->bits);
    if (ch->add && map_set(&bs->by_key, key, ch->ban)) {
        if (ch->bits <= NET_BITS) {
            bs->prefixes[ch->bits]++;
            atomic_fetch_add(&bs->networks, 1);
        }
        ch->ban = NULL;
    }
    pthread_rwlock_unlock(&bs->lock);
    if (ch->add && ch->ban != NULL) {
        log_error("ban", "no memory: a ban counts from the next start on", LOGU("ban", ch->ban->row));
    }
    free(ch->ban);
    free(ch);
}

static void change_drop(struct core *c, void *arg)
{
    struct ban_change *ch = arg;
    (void)c;
    free(ch->ban);
    free(ch);
}

static struct ban_change *change_new(enum ban_kind kind, uint32_t tenant, struct slice value)
{
    struct addr_net n;
    struct ban_change *ch = calloc(1, sizeof(*ch));
    if (ch != NULL) {
        ch->key_len = stored_key(kind, tenant, value, &n, ch->key).len;
        ch->bits = n.bits;
    }
    return ch;
}

// ban NULL: it goes. Taken.
static enum status change_later(struct tx *tx, struct ban_change *ch, struct ban *ban, struct err *err)
{
    if (ch == NULL) {
        free(ban);
        return err_set(err, ST_NOMEM, "no memory");
    }
    ch->ban = ban;
    ch->add = ban != NULL;
    if (!tx_after_commit(tx, change_do, change_drop, ch)) {
        change_drop(tx->core, ch);
        return err_set(err, ST_NOMEM, "no memory");
    }
    return ST_OK;
}

static struct ban *ban_new(uint64_t row, int64_t expires_us)
{
    struct ban *b = malloc(sizeof(*b));
    if (b != NULL) {
        *b = (struct ban){row, expires_us};
    }
    return b;
}

// --- asking ------------------------------------------------------------------------------------------------------

// With the lock held.
static bool banned(const struct bans *bs, struct slice key, int64_t now_us)
{
    const struct ban *b = key.len > 0 ? map_get(&bs->by_key, key) : NULL;
    return b != NULL && b->expires_us > now_us;
}

bool ban_address(const struct core *c, struct slice addr)
{
    struct addr peer;
    return addr_parse(addr, &peer) && ban_peer(c, &peer);
}

bool ban_peer(const struct core *c, const struct addr *peer)
{
    struct bans *bs = bans_of(c);
    bool yes = false;
    if (bs == NULL || atomic_load_explicit(&bs->networks, memory_order_relaxed) == 0) {
        return false;
    }
    int64_t now_us = clock_wall_us();
    pthread_rwlock_rdlock(&bs->lock);
    unsigned shortest = addr_is_ipv4(peer) ? NET_BITS_V4 : 0;
    for (unsigned bits = NET_BITS + 1; bits-- > shortest && !yes;) {
        uint8_t mem[KEY_MAX];
        if (bs->prefixes[bits] > 0) {
            struct addr_net n = addr_net_of(peer, (uint8_t)(bits - shortest), (uint8_t)bits);
            yes = banned(bs, network_key(&n, mem), now_us);
        }
    }
    pthread_rwlock_unlock(&bs->lock);
    if (yes) {
        metric_add(&refused[BAN_ADDRESS], 1);
    }
    return yes;
}

enum status ban_flapping(struct tx *tx, struct slice client_id, struct slice addr, struct err *err)
{
    struct bans *bs = bans_of(tx->core);
    uint64_t key = rate_source(addr, client_id.p != NULL ? client_id : SLICE(""));
    int64_t now_us = clock_mono_us();
    int64_t wait_us = 0;
    if (bs == NULL) {
        return ST_OK;
    }
    bool was = throttle_blocked(bs->flapping, key, now_us, &wait_us);
    if (!was) {
        throttle_failed(bs->flapping, key, now_us);
        was = throttle_blocked(bs->flapping, key, now_us, &wait_us);
        if (was) {
            security_report(
                tx->core, &(struct security_note){.what = SECURITY_FLAPPING, .client_id = client_id, .address = addr});
        }
    }
    if (was) {
        metric_add(&refused_flapping, 1);
        return err_set(err, ST_FORBIDDEN, "this client connects too often: banned for %lld s",
                       (long long)(wait_us / 1000000) + 1);
    }
    return ST_OK;
}

enum status ban_check(struct tx *tx, const struct principal *who, struct slice client_id, struct err *err)
{
    struct bans *bs = bans_of(tx->core);
    uint8_t mem[KEY_MAX];
    if (bs == NULL) {
        return ST_OK;
    }
    pthread_rwlock_rdlock(&bs->lock);
    bool id = banned(bs, key_of(BAN_CLIENT_ID, who->tenant, client_id, mem), tx->now_us);
    bool device =
        who->kind == WHO_DEVICE && banned(bs, key_of(BAN_DEVICE, who->tenant, slice_str(who->name), mem), tx->now_us);
    pthread_rwlock_unlock(&bs->lock);
    if (!id && !device) {
        return ST_OK;
    }
    metric_add(&refused[id ? BAN_CLIENT_ID : BAN_DEVICE], 1);
    return err_set(err, ST_FORBIDDEN, "this %s is banned", id ? "client id" : "device");
}

void ban_takeover(struct core *c, const struct principal *who, struct slice client_id)
{
    struct bans *bs = bans_of(c);
    uint64_t key = hash_u64(hash_bytes(client_id) + who->tenant);
    if (bs != NULL && !rate_take(bs->takeovers, key != 0 ? key : 1, clock_mono_us())) {
        bool device = who->kind == WHO_DEVICE;
        security_report(c, &(struct security_note){.what = SECURITY_TAKEOVERS,
                                                   .tenant = who->tenant,
                                                   .client_id = client_id,
                                                   .by = slice_str(who->name),
                                                   .address = slice_str(who->addr),
                                                   .device = device ? who->row : 0,
                                                   .device_id = device ? slice_str(who->name) : none});
    }
}

// --- banning -----------------------------------------------------------------------------------------------------

static enum status check_value(struct tx *tx, const struct ban_make *m, struct buf *ret_value, struct device_ref *ret_d,
                               struct err *err)
{
    struct addr_net n;
    char text[ADDR_TEXT_MAX];
    struct err why = {.code = ST_OK};
    enum status st = ST_OK;
    switch (m->kind) {
    case BAN_ADDRESS:
        if (!principal_may(tx->who, PERM_TENANT_WRITE)) {
            return err_at(err, ST_FORBIDDEN, "/kind", "addresses concern all tenants: only the system owner bans them");
        }
        st = parse_network(m->value, &n, &why);
        if (st != ST_OK) {
            return err_at(err, st, "/value", "%s", why.text);
        }
        (void)buf_str(ret_value, addr_net_text(&n, text));
        return ST_OK;
    case BAN_CLIENT_ID:
        if (m->value.len == 0 || m->value.len > VALUE_MAX || !utf8_mqtt_valid(m->value)) {
            return err_at(err, ST_INVALID, "/value", "a client id is 1 to %d bytes of text", VALUE_MAX);
        }
        (void)buf_slice(ret_value, m->value);
        return ST_OK;
    case BAN_DEVICE:
        (void)buf_slice(ret_value, m->value);
        return device_find(tx, m->value, ret_d, err);
    }
    return err_at(err, ST_INVALID, "/kind", "must be address, client_id or device");
}

static enum status check_rest(struct tx *tx, const struct ban_make *m, struct err *err)
{
    if (m->reason.len > BAN_REASON_MAX || !utf8_valid(m->reason)) {
        return err_at(err, ST_INVALID, "/reason", "a reason is at most %d bytes", BAN_REASON_MAX);
    }
    if (m->ttl_us != 0 && (m->ttl_us < 1000000 || m->ttl_us > BAN_TTL_MAX_US)) {
        return err_at(err, ST_INVALID, "/ttl", "a ban lasts between 1s and 3660d");
    }
    STMT(s, tx->db, &sql_ban[SQL_BAN_COUNT]);
    stmt_bind_i64(s, 1, m->kind == BAN_ADDRESS ? 0 : tx->who->tenant);
    bool row = false;
    enum status st = stmt_step(s, &row, err);
    if (st == ST_OK && row && col_i64(s, 0) >= BANS_MAX) {
        st = err_set(err, ST_LIMIT, "there are %d bans, which is the most: lift some", BANS_MAX);
    }
    return st;
}

static enum status store(struct tx *tx, uint64_t row, uint32_t tenant, const struct ban_make *m, struct slice value,
                         struct err *err)
{
    STMT(old, tx->db, &sql_ban[SQL_BAN_DELETE_VALUE]);
    stmt_bind_i64(old, 1, tenant);
    stmt_bind_i64(old, 2, m->kind);
    stmt_bind_text(old, 3, value);
    enum status st = stmt_run(old, err);
    if (st != ST_OK) {
        return st;
    }
    STMT(s, tx->db, &sql_ban[SQL_BAN_INSERT]);
    stmt_bind_i64(s, 1, (int64_t)row);
    if (tenant != 0) {
        stmt_bind_i64(s, 2, tenant);
    }
    stmt_bind_i64(s, 3, m->kind);
    stmt_bind_text(s, 4, value);
    stmt_bind_text(s, 5, m->reason);
    stmt_bind_str(s, 6, tx->who->name);
    stmt_bind_i64(s, 7, tx->now_us);
    if (m->ttl_us > 0) {
        stmt_bind_i64(s, 8, tx->now_us + m->ttl_us);
    }
    return stmt_run(s, err);
}

// The members of a ban as lists and answers show them.
struct ban_view {
    uint64_t row;
    enum ban_kind kind;
    struct slice value, reason, created_by;
    int64_t created_us, expires_us; // 0: until it is lifted
};

static void write_members(const struct ban_view *v, struct jw *out)
{
    jw_member_row_id(out, "id", v->row);
    jw_member_str(out, "kind", ban_kind_text(v->kind));
    jw_member_text(out, "value", v->value);
    jw_member_text(out, "reason", v->reason);
    jw_member_time(out, "created", v->created_us);
    jw_member_text(out, "created_by", v->created_by);
    jw_member_time_or_null(out, "expires", v->expires_us != 0, v->expires_us);
}

static void write_ban(const struct ban_view *v, struct jw *out)
{
    jw_object(out);
    write_members(v, out);
    jw_object_end(out);
}

// In the tenant's record; bans of addresses in that of who made them.
static enum status record(struct tx *tx, const char *action, enum ban_kind kind, struct slice value,
                          struct slice reason, struct err *err)
{
    uint8_t mem[(VALUE_MAX + BAN_REASON_MAX) * 6 + 64];
    struct buf text = buf_fixed(mem, sizeof(mem));
    struct jw w;
    jw_init(&w, &text);
    jw_object(&w);
    jw_member_str(&w, "kind", ban_kind_text(kind));
    jw_member_text(&w, "reason", reason);
    jw_object_end(&w);
    return audit_write(tx, action, "ban", value, none, buf_view(&text), err);
}

void ban_on_create(struct core *c, ban_close_fn fn, void *arg)
{
    struct bans *bs = bans_of(c);
    if (bs != NULL) {
        bs->on_create = fn;
        bs->on_create_arg = arg;
    }
}

// Those that are in.
static enum status close_open(struct tx *tx, enum ban_kind kind, struct slice value, const struct device_ref *d,
                              unsigned *ret_closed, struct err *err)
{
    const struct bans *bs = bans_of(tx->core);
    struct ban_whom whom = {.kind = kind, .tenant = tx->who->tenant, .client_id = value, .device = d->row};
    enum status st = kind == BAN_ADDRESS ? parse_network(value, &whom.network, err) : ST_OK;
    if (st == ST_OK && kind == BAN_DEVICE) {
        st = registry_notify(tx, d, DEVICE_CHANGE_REVOKED, err);
    }
    return st == ST_OK && bs != NULL && bs->on_create != NULL
               ? bs->on_create(tx, &whom, bs->on_create_arg, ret_closed, err)
               : st;
}

enum status ban_create(struct tx *tx, const struct ban_make *m, struct jw *out, struct err *err)
{
    uint8_t mem[VALUE_MAX];
    struct buf value = buf_fixed(mem, sizeof(mem));
    struct device_ref d = {.row = 0};
    unsigned closed = 0;
    enum status st = check_value(tx, m, &value, &d, err);
    if (st == ST_OK) {
        st = check_rest(tx, m, err);
    }
    if (st != ST_OK) {
        return st;
    }
    struct ban_view v = {.row = id_new(),
                         .kind = m->kind,
                         .value = buf_view(&value),
                         .reason = m->reason,
                         .created_by = slice_str(tx->who->name),
                         .created_us = tx->now_us,
                         .expires_us = m->ttl_us > 0 ? tx->now_us + m->ttl_us : 0};
    uint32_t tenant = m->kind == BAN_ADDRESS ? 0 : tx->who->tenant;
    st = store(tx, v.row, tenant, m, v.value, err);
    if (st == ST_OK) {
        struct ban *b = ban_new(v.row, m->ttl_us > 0 ? v.expires_us : INT64_MAX);
        st = b != NULL ? change_later(tx, change_new(m->kind, tenant, v.value), b, err)
                       : err_set(err, ST_NOMEM, "no memory");
    }
    if (st == ST_OK) {
        st = record(tx, "ban.create", m->kind, v.value, m->reason, err);
    }
    if (st == ST_OK) {
        st = close_open(tx, m->kind, v.value, &d, &closed, err);
    }
    if (st == ST_OK) {
        jw_object(out);
        write_members(&v, out);
        jw_key(out, "closed");
        jw_int(out, closed);
        jw_object_end(out);
    }
    return st;
}

static enum status remove_row(struct tx *tx, uint64_t row, enum ban_kind kind, uint32_t tenant, struct slice value,
                              struct err *err)
{
    enum status st = change_later(tx, change_new(kind, tenant, value), NULL, err);
    if (st != ST_OK) {
        return st;
    }
    STMT(s, tx->db, &sql_ban[SQL_BAN_DELETE]);
    stmt_bind_i64(s, 1, (int64_t)row);
    return stmt_run(s, err);
}

enum status ban_delete(struct tx *tx, struct slice id, struct err *err)
{
    uint64_t row = 0;
    bool found = false;
    bool known = row_id_parse(id, &row);
    STMT(s, tx->db, &sql_ban[SQL_BAN_FIND]);
    stmt_bind_i64(s, 1, (int64_t)row);
    stmt_bind_i64(s, 2, tx->who->tenant);
    stmt_bind_i64(s, 3, principal_may(tx->who, PERM_TENANT_WRITE) ? 1 : 0);
    enum status st = known ? stmt_step(s, &found, err) : ST_OK;
    if (st == ST_OK && !found) {
        return err_set(err, ST_NOT_FOUND, "there is no such ban");
    }
    if (st != ST_OK) {
        return st;
    }
    enum ban_kind kind = (enum ban_kind)col_i64(s, 0);
    st = remove_row(tx, row, kind, (uint32_t)col_i64(s, 2), col_text(s, 1), err);
    return st == ST_OK ? record(tx, "ban.delete", kind, col_text(s, 1), none, err) : st;
}

enum status ban_list(struct tx *tx, struct slice cursor, int64_t limit, struct jw *out, struct err *err)
{
    struct page p = {.limit = limit, .from = {.kind = PAGE_BANS}};
    enum status st = page_begin(&p, cursor, out, err);
    if (st != ST_OK) {
        return st;
    }
    STMT(s, tx->db, &sql_ban[SQL_BAN_LIST]);
    stmt_bind_i64(s, 1, tx->who->tenant);
    stmt_bind_i64(s, 2, principal_may(tx->who, PERM_TENANT_WRITE) ? 1 : 0);
    stmt_bind_i64(s, 3, p.from.a);
    stmt_bind_i64(s, 4, tx->now_us);
    stmt_bind_i64(s, 5, page_rows(&p));
    while (page_next(&p, s, err)) {
        write_ban(&(struct ban_view){(uint64_t)col_i64(s, 0), (enum ban_kind)col_i64(s, 1), col_text(s, 2),
                                     col_text(s, 3), col_text(s, 5), col_i64(s, 4), col_i64(s, 6)},
                  out);
        page_wrote(&p, (struct cursor){.a = col_i64(s, 0)});
    }
    return page_end(&p, err);
}

// --- life --------------------------------------------------------------------------------------------------------

// Those that have run out.
static enum status sweep(struct tx *tx, struct err *err)
{
    for (unsigned i = 0; i < SWEEP_MAX; i++) {
        STMT(s, tx->db, &sql_ban[SQL_BAN_EXPIRED]);
        stmt_bind_i64(s, 1, tx->now_us);
        stmt_bind_i64(s, 2, 1);
        bool row = false;
        enum status st = stmt_step(s, &row, err);
        if (st != ST_OK || !row) {
            return st;
        }
        st = remove_row(tx, (uint64_t)col_i64(s, 0), (enum ban_kind)col_i64(s, 2), (uint32_t)col_i64(s, 1),
                        col_text(s, 3), err);
        if (st != ST_OK) {
            return st;
        }
    }
    return ST_OK;
}

static enum status load(struct tx *tx, struct err *err)
{
    STMT(s, tx->db, &sql_ban[SQL_BAN_ALL]);
    for (;;) {
        bool row = false;
        enum status st = stmt_step(s, &row, err);
        if (st != ST_OK || !row) {
            return st;
        }
        struct ban *b = ban_new((uint64_t)col_i64(s, 0), col_is_null(s, 4) ? INT64_MAX : col_i64(s, 4));
        struct ban_change *ch =
            b != NULL ? change_new((enum ban_kind)col_i64(s, 2), (uint32_t)col_i64(s, 1), col_text(s, 3)) : NULL;
        if (ch == NULL) {
            free(b);
            return err_set(err, ST_NOMEM, "no memory for the bans");
        }
        ch->ban = b;
        ch->add = true;
        change_do(tx->core, ch);
    }
}

static void bans_free(struct bans *bs)
{
    size_t pos = 0;
    for (void *b = NULL; (b = map_next(&bs->by_key, &pos, NULL, NULL)) != NULL;) {
        free(b);
    }
    map_release(&bs->by_key);
    throttle_free(bs->flapping);
    rate_free(bs->takeovers);
    (void)pthread_rwlock_destroy(&bs->lock);
    free(bs);
}

enum status ban_start(struct tx *tx, void *arg, struct err *err)
{
    const struct ban_conf *conf = arg;
    struct bans *bs = calloc(1, sizeof(*bs));
    if (bs == NULL || pthread_rwlock_init(&bs->lock, NULL) != 0) {
        free(bs);
        return err_set(err, ST_NOMEM, "no memory for bans");
    }
    map_init(&bs->by_key);
    bs->flapping = throttle_new(conf->flapping_connects);
    bs->takeovers = rate_new(conf->takeovers > 0 ? MINUTE_US / conf->takeovers : 0, conf->takeovers);
    if (bs->flapping == NULL || bs->takeovers == NULL) {
        bans_free(bs);
        return err_set(err, ST_NOMEM, "no memory for bans");
    }
    for (unsigned i = BAN_ADDRESS; i <= BAN_DEVICE; i++) {
        metric_register(&refused[i]);
    }
    metric_register(&refused_flapping);
    core_set_slot(tx->core, CORE_SLOT_BAN, bs);
    core_every(tx->core, SWEEP_MS, sweep);
    return load(tx, err);
}

void ban_stop(struct core *c)
{
    if (bans_of(c) != NULL) {
        bans_free(bans_of(c));
    }
    core_set_slot(c, CORE_SLOT_BAN, NULL);
}
