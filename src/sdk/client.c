#include "sdk/client.h"

#include "base/utf8.h"

#define STEP_PASSES_MAX  4u // states passed through in one muster_step
#define STEP_WAIT_MAX_MS 60000
#define CLOSING_WAIT_MS  2000
#define STEADY_MS        10000 // a connection that lasted this long makes the next pause short again
#define PING_WAIT_MIN_MS 5000

int64_t client_now(const struct muster *m)
{
    return m->config.transport.now_ms(m->config.transport.arg);
}

// ---- Entering states ------------------------------------------------------------------------------------------------

static void client_drop(struct muster *m)
{
    m->config.transport.close(m->config.transport.arg);
    buf_clear(&m->rx);
    buf_clear(&m->tx);
    m->tx_off = 0;
    m->blocked = false;
    m->ping_ms = -1;
    window_rewind(&m->window);
}

static void client_open(struct muster *m)
{
    m->deadline_ms = client_now(m) + m->config.connect_wait_ms;
}

// Full jitter: the pause is uniform in [0, bound], the bound doubles up to retry_max_ms.
static void client_wait(struct muster *m)
{
    client_drop(m);
    int64_t now = client_now(m);
    if (m->online_ms >= 0 && now - m->online_ms >= STEADY_MS) {
        m->retry_bound_ms = m->config.retry_min_ms;
    }
    m->online_ms = -1;
    uint32_t spread = 0;
    m->config.transport.random(m->config.transport.arg, &spread, sizeof(spread));
    m->retry_ms = (uint32_t)(((uint64_t)spread * ((uint64_t)m->retry_bound_ms + 1)) >> 32);
    m->deadline_ms = now + m->retry_ms;
    m->retry_bound_ms = m->retry_bound_ms > m->config.retry_max_ms / 2 ? m->config.retry_max_ms : m->retry_bound_ms * 2;
}

static void client_idle(struct muster *m)
{
    client_drop(m);
    m->online_ms = -1;
    m->retry_bound_ms = m->config.retry_min_ms;
}

static void client_online(struct muster *m)
{
    m->ever_connected = true;
    m->online_ms = client_now(m);
}

static void client_goodbye(struct muster *m)
{
    m->deadline_ms = client_now(m) + CLOSING_WAIT_MS;
    wire_disconnect(m, MQTT_RC_SUCCESS);
}

#define STAY(s)                                                                                                        \
    {                                                                                                                  \
        (s), NULL                                                                                                      \
    }
const struct client_move client_moves[MUSTER_STATES][EV__COUNT] = {
    [MUSTER_IDLE] = {[EV_START] = {MUSTER_OPENING, client_open},
                     [EV_STOP] = STAY(MUSTER_IDLE),
                     [EV_OPENED] = STAY(MUSTER_IDLE),
                     [EV_CONNACK] = STAY(MUSTER_IDLE),
                     [EV_SUBACKED] = STAY(MUSTER_IDLE),
                     [EV_FAILED] = STAY(MUSTER_IDLE),
                     [EV_RETRY] = STAY(MUSTER_IDLE),
                     [EV_DRAINED] = STAY(MUSTER_IDLE)},
    [MUSTER_OPENING] = {[EV_START] = STAY(MUSTER_OPENING),
                        [EV_STOP] = {MUSTER_IDLE, client_idle},
                        [EV_OPENED] = {MUSTER_CONNECTING, wire_connect},
                        [EV_CONNACK] = STAY(MUSTER_OPENING),
                        [EV_SUBACKED] = STAY(MUSTER_OPENING),
                        [EV_FAILED] = {MUSTER_WAITING, client_wait},
                        [EV_RETRY] = STAY(MUSTER_OPENING),
                        [EV_DRAINED] = STAY(MUSTER_OPENING)},
    [MUSTER_CONNECTING] = {[EV_START] = STAY(MUSTER_CONNECTING),
                           [EV_STOP] = {MUSTER_IDLE, client_idle},
                           [EV_OPENED] = STAY(MUSTER_CONNECTING),
                           [EV_CONNACK] = {MUSTER_SUBSCRIBING, wire_subscribe},
                           [EV_SUBACKED] = STAY(MUSTER_CONNECTING),
                           [EV_FAILED] = {MUSTER_WAITING, client_wait},
                           [EV_RETRY] = STAY(MUSTER_CONNECTING),
                           [EV_DRAINED] = STAY(MUSTER_CONNECTING)},
    [MUSTER_SUBSCRIBING] = {[EV_START] = STAY(MUSTER_SUBSCRIBING),
                            [EV_STOP] = {MUSTER_CLOSING, client_goodbye},
                            [EV_OPENED] = STAY(MUSTER_SUBSCRIBING),
                            [EV_CONNACK] = STAY(MUSTER_SUBSCRIBING),
                            [EV_SUBACKED] = {MUSTER_ONLINE, client_online},
                            [EV_FAILED] = {MUSTER_WAITING, client_wait},
                            [EV_RETRY] = STAY(MUSTER_SUBSCRIBING),
                            [EV_DRAINED] = STAY(MUSTER_SUBSCRIBING)},
    [MUSTER_ONLINE] = {[EV_START] = STAY(MUSTER_ONLINE),
                       [EV_STOP] = {MUSTER_CLOSING, client_goodbye},
                       [EV_OPENED] = STAY(MUSTER_ONLINE),
                       [EV_CONNACK] = STAY(MUSTER_ONLINE),
                       [EV_SUBACKED] = STAY(MUSTER_ONLINE),
                       [EV_FAILED] = {MUSTER_WAITING, client_wait},
                       [EV_RETRY] = STAY(MUSTER_ONLINE),
                       [EV_DRAINED] = STAY(MUSTER_ONLINE)},
    [MUSTER_WAITING] = {[EV_START] = STAY(MUSTER_WAITING),
                        [EV_STOP] = {MUSTER_IDLE, client_idle},
                        [EV_OPENED] = STAY(MUSTER_WAITING),
                        [EV_CONNACK] = STAY(MUSTER_WAITING),
                        [EV_SUBACKED] = STAY(MUSTER_WAITING),
                        [EV_FAILED] = STAY(MUSTER_WAITING),
                        [EV_RETRY] = {MUSTER_OPENING, client_open},
                        [EV_DRAINED] = STAY(MUSTER_WAITING)},
    [MUSTER_CLOSING] = {[EV_START] = STAY(MUSTER_CLOSING),
                        [EV_STOP] = STAY(MUSTER_CLOSING),
                        [EV_OPENED] = STAY(MUSTER_CLOSING),
                        [EV_CONNACK] = STAY(MUSTER_CLOSING),
                        [EV_SUBACKED] = STAY(MUSTER_CLOSING),
                        [EV_FAILED] = {MUSTER_IDLE, client_idle},
                        [EV_RETRY] = STAY(MUSTER_CLOSING),
                        [EV_DRAINED] = {MUSTER_IDLE, client_idle}},
};
#undef STAY

void client_event(struct muster *m, enum client_event ev)
{
    enum muster_state from = m->state;
    const struct client_move *move = &client_moves[from][ev];
    if (move->next == from) {
        return;
    }
    m->state = move->next;
    if (move->act != NULL) {
        move->act(m);
    }
    if (m->config.callbacks.on_state != NULL) {
        struct muster_change change = {.from = from, .to = move->next, .text = ""};
        if (ev == EV_FAILED) {
            change.reason = m->reason;
            change.text = m->text;
            change.retry_ms = move->next == MUSTER_WAITING ? m->retry_ms : 0;
        }
        m->config.callbacks.on_state(m->config.user, &change);
    }
}

void client_fail(struct muster *m, uint8_t reason, struct slice text)
{
    m->reason = reason;
    size_t n = text.len < sizeof(m->text) - 1 ? text.len : sizeof(m->text) - 1;
    for (size_t i = 0; i < n; i++) {
        m->text[i] = text.p[i] < 0x20 || text.p[i] == 0x7f ? '?' : (char)text.p[i];
    }
    // Not cut inside a character.
    while (n > 0 && !utf8_valid(slice_make(m->text, n))) {
        n--;
    }
    m->text[n] = '\0';
    client_event(m, EV_FAILED);
}

// ---- What each state does with its time -----------------------------------------------------------------------------

static void client_fail_transport(struct muster *m, const char *fallback)
{
    const struct muster_transport *t = &m->config.transport;
    const char *why = t->error != NULL ? t->error(t->arg) : NULL;
    client_fail(m, 0, slice_str(why != NULL && why[0] != '\0' ? why : fallback));
}

static void drive_idle(struct muster *m)
{
    (void)m;
}

static void drive_opening(struct muster *m)
{
    enum muster_status s = m->config.transport.open(m->config.transport.arg);
    if (s == MUSTER_OK) {
        m->last_rx_ms = m->last_tx_ms = client_now(m);
        client_event(m, EV_OPENED);
    } else if (s != MUSTER_E_STATE) {
        client_fail_transport(m, "cannot open the connection");
    } else if (client_now(m) >= m->deadline_ms) {
        client_fail(m, 0, SLICE("the connection did not open in time"));
    }
}

static void drive_handshake(struct muster *m)
{
    enum muster_state state = m->state;
    wire_flush(m);
    if (m->state == state) {
        wire_read(m);
    }
    if (m->state == state && client_now(m) >= m->deadline_ms) {
        client_fail(m, 0, SLICE("the server did not answer in time"));
    }
}

// When the next keep-alive action is due: a PINGREQ, or giving up on its answer.
static int64_t client_ping_due(const struct muster *m)
{
    if (m->keep_alive_ms == 0) {
        return INT64_MAX;
    }
    if (m->ping_ms >= 0) {
        int64_t half = m->keep_alive_ms / 2;
        return m->ping_ms + (half > PING_WAIT_MIN_MS ? half : PING_WAIT_MIN_MS);
    }
    // Silence in either direction: publishing alone does not prove that anybody listens.
    int64_t last = m->last_tx_ms < m->last_rx_ms ? m->last_tx_ms : m->last_rx_ms;
    return last + m->keep_alive_ms;
}

static void drive_online(struct muster *m)
{
    wire_read(m);
    if (m->state == MUSTER_ONLINE && client_now(m) >= client_ping_due(m)) {
        if (m->ping_ms >= 0) {
            client_fail(m, 0, SLICE("the server did not answer a ping"));
        } else {
            wire_ping(m);
        }
    }
    if (m->state == MUSTER_ONLINE) {
        wire_pump(m);
    }
    if (m->state == MUSTER_ONLINE) {
        wire_flush(m);
    }
}

static void drive_waiting(struct muster *m)
{
    if (client_now(m) >= m->deadline_ms) {
        client_event(m, EV_RETRY);
    }
}

static void drive_closing(struct muster *m)
{
    wire_flush(m);
    if (m->state == MUSTER_CLOSING && (m->tx.len == m->tx_off || client_now(m) >= m->deadline_ms)) {
        client_event(m, EV_DRAINED);
    }
}

static void (*const client_drive[MUSTER_STATES])(struct muster *m) = {
    [MUSTER_IDLE] = drive_idle,
    [MUSTER_OPENING] = drive_opening,
    [MUSTER_CONNECTING] = drive_handshake,
    [MUSTER_SUBSCRIBING] = drive_handshake,
    [MUSTER_ONLINE] = drive_online,
    [MUSTER_WAITING] = drive_waiting,
    [MUSTER_CLOSING] = drive_closing,
};

static uint32_t client_wait_ms(const struct muster *m)
{
    int64_t due = m->deadline_ms;
    if (m->state == MUSTER_IDLE) {
        return STEP_WAIT_MAX_MS;
    }
    if (m->state == MUSTER_ONLINE) {
        due = client_ping_due(m);
    }
    if (m->more || m->stop_wanted) {
        return 0;
    }
    int64_t left = due - client_now(m);
    return left <= 0 ? 0 : left > STEP_WAIT_MAX_MS ? STEP_WAIT_MAX_MS : (uint32_t)left;
}

uint32_t muster_step(struct muster *m)
{
    if (m->in_step) {
        return 0;
    }
    m->in_step = true;
    m->more = false;
    enum muster_state before;
    unsigned passes = 0;
    do {
        before = m->state;
        if (m->stop_wanted) {
            m->stop_wanted = false;
            client_event(m, EV_STOP);
        }
        client_drive[m->state](m);
    } while (m->state != before && ++passes < STEP_PASSES_MAX);
    if (m->state != before) {
        m->more = true;
    }
    m->in_step = false;
    return client_wait_ms(m);
}

// ---- Setting up -----------------------------------------------------------------------------------------------------

static void config_defaults(struct muster_config *c)
{
    c->protocol = c->protocol != 0 ? c->protocol : 5;
    c->keep_alive_s = c->keep_alive_s != 0 ? c->keep_alive_s : 60;
    c->window = c->window != 0 ? c->window : 16;
    c->connect_wait_ms = c->connect_wait_ms != 0 ? c->connect_wait_ms : 20000;
    c->retry_min_ms = c->retry_min_ms != 0 ? c->retry_min_ms : 1000;
    c->retry_max_ms = c->retry_max_ms != 0 ? c->retry_max_ms : 300000;
    c->rx_bytes = c->rx_bytes != 0 ? c->rx_bytes : 4096;
    c->tx_bytes = c->tx_bytes != 0 ? c->tx_bytes : 4096;
    c->store_bytes = c->store_bytes != 0 ? c->store_bytes : 16384;
}

static bool config_valid(const struct muster_config *c)
{
    const struct muster_transport *t = &c->transport;
    if (t->open == NULL || t->read == NULL || t->write == NULL || t->close == NULL || t->now_ms == NULL ||
        t->random == NULL) {
        return false;
    }
    if ((c->protocol != 4 && c->protocol != 5) || c->window > 256 || c->retry_min_ms > c->retry_max_ms) {
        return false;
    }
    return c->rx_bytes >= 256 && c->rx_bytes <= MQTT_PACKET_MAX && c->tx_bytes >= 256 &&
           c->tx_bytes <= MQTT_PACKET_MAX && c->store_bytes >= c->tx_bytes && c->store_bytes <= MQTT_PACKET_MAX;
}

#define MEMORY_ALIGN _Alignof(max_align_t)

static size_t memory_round(size_t n)
{
    return (n + MEMORY_ALIGN - 1) / MEMORY_ALIGN * MEMORY_ALIGN;
}

// Everything behind the alignment of the first byte.
static size_t memory_needed(const struct muster_config *c)
{
    return memory_round(sizeof(struct muster)) + memory_round(c->window * sizeof(struct slot)) + c->rx_bytes +
           2 * c->tx_bytes + c->store_bytes;
}

size_t muster_memory_bytes(const struct muster_config *config)
{
    struct muster_config c = *config;
    config_defaults(&c);
    return memory_needed(&c) + MEMORY_ALIGN - 1;
}

enum muster_status muster_init(void *memory, size_t memory_bytes, const struct muster_config *config,
                               struct muster **ret_client)
{
    struct muster_config c = *config;
    config_defaults(&c);
    if (!config_valid(&c)) {
        return MUSTER_E_INVALID;
    }
    uint8_t *at = memory;
    size_t skew = (uintptr_t)at % MEMORY_ALIGN == 0 ? 0 : MEMORY_ALIGN - (uintptr_t)at % MEMORY_ALIGN;
    if (memory_bytes < skew || memory_bytes - skew < memory_needed(&c)) {
        return MUSTER_E_SMALL;
    }
    at += skew;
    struct muster *m = (struct muster *)(void *)at;
    at += memory_round(sizeof(*m));
    *m = (struct muster){.config = c, .state = MUSTER_IDLE, .ping_ms = -1, .online_ms = -1};
    m->version = c.protocol == 5 ? MQTT_V5 : MQTT_V311;
    m->retry_bound_ms = c.retry_min_ms;
    m->limits = mqtt_limits_default;
    m->limits.packet_max = (uint32_t)c.rx_bytes;
    struct slot *slots = (struct slot *)(void *)at;
    at += memory_round(c.window * sizeof(struct slot));
    m->rx = buf_fixed(at, c.rx_bytes);
    at += c.rx_bytes;
    m->tx = buf_fixed(at, c.tx_bytes);
    at += c.tx_bytes;
    m->scratch = buf_fixed(at, c.tx_bytes);
    at += c.tx_bytes;
    window_init(&m->window, slots, c.window, at, c.store_bytes);
    *ret_client = m;
    return MUSTER_OK;
}

enum muster_status muster_set_identity(struct muster *m, enum muster_role role, const char *client_id,
                                       const char *username, const char *password)
{
    if (m->state != MUSTER_IDLE) {
        return MUSTER_E_STATE;
    }
    m->config.role = role;
    m->config.client_id = client_id;
    m->config.username = username;
    m->config.password = password;
    m->ever_connected = false;
    window_clear(&m->window);
    return MUSTER_OK;
}

enum muster_status muster_start(struct muster *m)
{
    if (m->state != MUSTER_IDLE) {
        return MUSTER_E_STATE;
    }
    m->stop_wanted = false;
    client_event(m, EV_START);
    return MUSTER_OK;
}

void muster_stop(struct muster *m)
{
    m->stop_wanted = m->state != MUSTER_IDLE;
}

bool muster_wants_write(const struct muster *m)
{
    return m->tx.len > m->tx_off;
}

enum muster_state muster_state(const struct muster *m)
{
    return m->state;
}

unsigned muster_pending(const struct muster *m)
{
    return m->window.count;
}

unsigned muster_room(const struct muster *m)
{
    return (unsigned)m->window.cap - m->window.count;
}

const char *muster_state_text(enum muster_state s)
{
    static const char *const text[MUSTER_STATES] = {"idle",   "opening", "connecting", "subscribing",
                                                    "online", "waiting", "closing"};
    return (unsigned)s < MUSTER_STATES ? text[s] : "unknown";
}

const char *muster_status_text(enum muster_status s)
{
    static const char *const text[] = {"ok",        "invalid",     "too little memory", "window full",
                                       "too large", "wrong state", "i/o error",         "closed",
                                       "not found", "wrong type"};
    return s <= 0 && (size_t)-s < sizeof(text) / sizeof(text[0]) ? text[-s] : "unknown";
}
