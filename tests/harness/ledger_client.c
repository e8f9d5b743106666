// The ledger's load: publishers and subscribers with sessions that outlive connections, and an account of what was
// acknowledged and what came, kept outside the server. It knows nothing of the server's code and speaks MQTT 3.1.1 and
// 5.0 by hand, so that it can be let loose on any broker. Connections may die at any moment; it comes back and, where
// its session is still there, goes on as the protocol says (PUBLISH again with DUP, PUBREL again).
//
// Each message is made of (client, sequence number): {"seq":N,"check":C} with C the first 48 bits of SHA-256("client N").
// The account, one line each, is read by tests/lib/ledger.py:
//   a CLIENT SEQ QOS        acknowledged (PUBACK or PUBCOMP without an error)
//   n CLIENT SEQ REASON     refused by the acknowledgement
//   r SUBSCRIBER CLIENT SEQ QOS DUP   came to a subscriber, in this order
//   x SUBSCRIBER CLIENT     came, but is no message of that client
//   u SUBSCRIBER            SUBACK: from here on everything acknowledged must come
//   g SUBSCRIBER            came back and found its session gone
//   m CLIENT SEQ            at the end: sequence numbers below this one were sent
// Publishing starts when every subscriber has its SUBACK. SIGUSR1: no further messages, but listen on. SIGTERM: end.
#include <errno.h>
#include <getopt.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <openssl/sha.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define WINDOW_MAX 256
#define BUFFER_MAX 131072
#define ID_MAX     100

enum packet { CONNACK = 2, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK = 9, DISCONNECT = 14 };

// FREE -> SENT (PUBLISH is out) -> FREE (PUBACK), or with QoS 2 SENT -> RELEASED (PUBREC came, PUBREL is out) -> FREE (PUBCOMP)
enum flight_state { FREE, SENT, RELEASED };
struct flight {
    enum flight_state state;
    uint16_t packet_id;
    uint64_t seq;
};

// AWAY -> CONNECTING -> GREETING (CONNECT is out) -> OPEN -> AWAY
enum state { AWAY, CONNECTING, GREETING, OPEN };
struct client {
    int fd;
    enum state state;
    bool subscriber, subscribed, had_session;
    uint8_t version, qos;
    uint16_t next_id;
    uint32_t events;
    uint64_t seq; // next to send
    int64_t retry_us, leave_us, heard_us;
    bool pinged;
    unsigned in_flight, oldest; // flights[] is a ring in the order of sending
    struct flight flights[WINDOW_MAX];
    uint8_t seen[8192]; // subscriber: packet ids of QoS 2 that await their PUBREL
    size_t in_len, out_len;
    uint8_t *in, *out;
    char id[ID_MAX], password[ID_MAX];
};

static struct {
    const char *host, *port, *topic, *filter, *users, *ledger, *prefix;
    unsigned publishers, subscribers, window, payload, qos, version, offline_ms, patience_ms, churn;
    double rate, seconds;
} opt = {.host = "127.0.0.1",
         .port = "1883",
         .topic = "ledger/%",
         .filter = "ledger/#",
         .prefix = "led",
         .publishers = 10,
         .window = 10,
         .payload = 60,
         .qos = 1,
         .version = 4,
         .patience_ms = 5000};

static struct client *clients;
static unsigned clients_len;
static int ep;
static FILE *ledger;
static struct addrinfo *address;
static volatile sig_atomic_t stop, quiet;
static uint64_t sent, acked, refused, received, wrong, drops, gone;
static double owed;

static int64_t now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static void on_signal(int s)
{
    if (s == SIGUSR1) {
        quiet = 1;
    } else {
        stop = 1;
    }
}

// --- bytes ---

static void put(struct client *c, const void *bytes, size_t n)
{
    if (c->out_len + n > BUFFER_MAX) {
        fprintf(stderr, "%s: output of more than %d bytes\n", c->id, BUFFER_MAX);
        exit(1);
    }
    memcpy(c->out + c->out_len, bytes, n);
    c->out_len += n;
}

static void put_u16(struct client *c, size_t v)
{
    uint8_t b[2] = {(uint8_t)(v >> 8), (uint8_t)v};
    put(c, b, 2);
}

static void put_str(struct client *c, const char *s)
{
    put_u16(c, strlen(s));
    put(c, s, strlen(s));
}

static void put_head(struct client *c, uint8_t first, size_t len)
{
    uint8_t b[5] = {first};
    size_t n = 1;
    do {
        b[n++] = (uint8_t)((len & 127) | (len > 127 ? 128 : 0));
        len >>= 7;
    } while (len > 0);
    put(c, b, n);
}

static void put_ack(struct client *c, enum packet type, uint16_t packet_id)
{
    put_head(c, (uint8_t)(type << 4 | (type == PUBREL ? 2 : 0)), 2);
    put_u16(c, packet_id);
}

static void watch(struct client *c, uint32_t events)
{
    if (c->events != events) {
        struct epoll_event ev = {.events = events, .data.ptr = c};
        epoll_ctl(ep, EPOLL_CTL_MOD, c->fd, &ev);
        c->events = events;
    }
}

static void go_away(struct client *c, int64_t for_us)
{
    close(c->fd);
    c->fd = -1;
    c->in_len = c->out_len = 0;
    c->state = AWAY;
    c->retry_us = now_us() + for_us;
}

static void drop(struct client *c)
{
    drops += c->state == OPEN;
    go_away(c, 10000 + rand() % 40000);
}

static void flush(struct client *c)
{
    size_t done = 0;
    while (done < c->out_len) {
        ssize_t n = send(c->fd, c->out + done, c->out_len - done, MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN) {
            drop(c);
            return;
        }
        if (n < 0) {
            break;
        }
        done += (size_t)n;
    }
    memmove(c->out, c->out + done, c->out_len - done);
    c->out_len -= done;
    watch(c, EPOLLIN | (c->out_len > 0 ? EPOLLOUT : 0));
}

// --- messages ---

static size_t make_payload(const char *client, uint64_t seq, char *dst, size_t size)
{
    char key[ID_MAX + 32];
    uint8_t digest[SHA256_DIGEST_LENGTH];
    int n = snprintf(key, sizeof(key), "%s %llu", client, (unsigned long long)seq);
    SHA256((const uint8_t *)key, (size_t)n, digest);
    uint64_t check = 0;
    for (unsigned i = 0; i < 6; i++) {
        check = check << 8 | digest[i];
    }
    n = snprintf(dst, size, "{\"seq\":%llu,\"check\":%llu", (unsigned long long)seq, (unsigned long long)check);
    while (n < (int)opt.payload - 1) {
        dst[n++] = ' ';
    }
    dst[n++] = '}';
    return (size_t)n;
}

static void make_topic(const struct client *c, char *dst, size_t size)
{
    size_t head = strcspn(opt.topic, "%");
    snprintf(dst, size, "%.*s%s%s", (int)head, opt.topic, opt.topic[head] != '\0' ? c->id : "",
             opt.topic[head] != '\0' ? opt.topic + head + 1 : "");
}

static void put_publish(struct client *c, const struct flight *f, bool dup)
{
    char topic[300], payload[4200];
    make_topic(c, topic, sizeof(topic));
    size_t n = make_payload(c->id, f->seq, payload, sizeof(payload));
    put_head(c, (uint8_t)(PUBLISH << 4 | c->qos << 1 | (dup ? 8 : 0)), 4 + strlen(topic) + (c->version == 5) + n);
    put_str(c, topic);
    put_u16(c, f->packet_id);
    if (c->version == 5) {
        put(c, "", 1);
    }
    put(c, payload, n);
}

static struct flight *flight_at(struct client *c, unsigned i)
{
    return &c->flights[(c->oldest + i) % opt.window];
}

static struct flight *flight_find(struct client *c, uint16_t packet_id)
{
    for (unsigned i = 0; i < c->in_flight; i++) {
        struct flight *f = flight_at(c, i);
        if (f->state != FREE && f->packet_id == packet_id) {
            return f;
        }
    }
    return NULL;
}

static uint16_t new_packet_id(struct client *c)
{
    do {
        c->next_id = (uint16_t)(c->next_id == UINT16_MAX ? 1 : c->next_id + 1);
    } while (flight_find(c, c->next_id) != NULL);
    return c->next_id;
}

static void publish(struct client *c)
{
    while (c->in_flight < opt.window && owed >= 1 && c->out_len < BUFFER_MAX / 2) {
        struct flight *f = flight_at(c, c->in_flight);
        *f = (struct flight){.state = SENT, .packet_id = new_packet_id(c), .seq = c->seq++};
        c->in_flight++;
        put_publish(c, f, false);
        sent++;
        owed--;
        if (opt.rate > 0) {
            break; // the next one's turn
        }
    }
}

// After a connection was made anew: everything that is not settled again, in the order it was sent (4.4).
static void resume(struct client *c, bool session)
{
    for (unsigned i = 0; i < c->in_flight; i++) {
        struct flight *f = flight_at(c, i);
        if (f->state == RELEASED && session) {
            put_ack(c, PUBREL, f->packet_id);
        } else if (f->state != FREE) {
            f->state = SENT; // a lost session has lost the PUBREC too
            put_publish(c, f, session);
        }
    }
}

static void settle(struct client *c, struct flight *f, uint8_t reason)
{
    if (reason >= 0x80) {
        refused++;
        fprintf(ledger, "n %s %llu %u\n", c->id, (unsigned long long)f->seq, reason);
    } else {
        acked++;
        fprintf(ledger, "a %s %llu %u\n", c->id, (unsigned long long)f->seq, c->qos);
    }
    f->state = FREE;
    while (c->in_flight > 0 && flight_at(c, 0)->state == FREE) {
        c->oldest = (c->oldest + 1) % opt.window;
        c->in_flight--;
    }
}

static void on_ack(struct client *c, enum packet type, uint16_t packet_id, uint8_t reason)
{
    struct flight *f = flight_find(c, packet_id);
    bool fits = f != NULL && ((type == PUBACK && f->state == SENT && c->qos == 1) || (type == PUBREC && c->qos == 2) ||
                              (type == PUBCOMP && f->state == RELEASED));
    if (!fits) {
        fprintf(stderr, "%s: packet %d for id %u, which awaits none\n", c->id, (int)type, packet_id);
        wrong++;
        return;
    }
    if (type == PUBREC && reason < 0x80) {
        f->state = RELEASED;
        put_ack(c, PUBREL, packet_id);
        return;
    }
    // A PUBREL that was sent again, for a message that was done before the connection broke: no error (4.13).
    settle(c, f, type == PUBCOMP && reason == 0x92 ? 0 : reason);
}

static void note(struct client *c, const char *topic, size_t topic_len, const uint8_t *payload, size_t n, uint8_t first)
{
    char from[ID_MAX], expected[4200], text[64] = "";
    const char *slash = memrchr(topic, '/', topic_len);
    size_t at = slash != NULL ? (size_t)(slash - topic) + 1 : 0;
    snprintf(from, sizeof(from), "%.*s", (int)(topic_len - at), topic + at);
    memcpy(text, payload, n < sizeof(text) - 1 ? n : sizeof(text) - 1);
    unsigned long long seq = 0;
    bool ours = sscanf(text, "{\"seq\":%llu", &seq) == 1 && make_payload(from, seq, expected, sizeof(expected)) == n &&
                memcmp(expected, payload, n) == 0;
    if (!ours) {
        wrong++;
        fprintf(ledger, "x %s %s\n", c->id, from);
        return;
    }
    received++;
    fprintf(ledger, "r %s %s %llu %d %d\n", c->id, from, seq, first >> 1 & 3, first >> 3 & 1);
}

// Length of the properties of MQTT 5 at p with their own length in front; 0 in 3.1.1.
static size_t props_len(const struct client *c, const uint8_t *p, size_t n)
{
    size_t len = 0, i = 0;
    if (c->version != 5) {
        return 0;
    }
    while (i < n && i < 4) {
        len |= (size_t)(p[i] & 127) << (7 * i);
        if (p[i++] < 128) {
            break;
        }
    }
    return i + len;
}

static void on_publish(struct client *c, uint8_t first, const uint8_t *p, size_t n)
{
    uint8_t qos = first >> 1 & 3;
    size_t topic_len = n >= 2 ? (size_t)(p[0] << 8 | p[1]) : 0, at = 2 + topic_len + (qos > 0 ? 2 : 0);
    if (at > n || at + props_len(c, p + at, n - at) > n) {
        wrong++;
        return;
    }
    uint16_t id = qos > 0 ? (uint16_t)(p[at - 2] << 8 | p[at - 1]) : 0;
    at += props_len(c, p + at, n - at);
    bool again = qos == 2 && (c->seen[id / 8] & 1U << id % 8) != 0;
    if (!again) {
        note(c, (const char *)p + 2, topic_len, p + at, n - at, first);
    }
    if (qos == 2) {
        c->seen[id / 8] |= (uint8_t)(1U << id % 8);
    }
    if (qos > 0) {
        put_ack(c, qos == 1 ? PUBACK : PUBREC, id);
    }
}

static void subscribe(struct client *c)
{
    put_head(c, 0x82, 2 + (c->version == 5) + 2 + strlen(opt.filter) + 1);
    put_u16(c, 1);
    if (c->version == 5) {
        put(c, "", 1);
    }
    put_str(c, opt.filter);
    put(c, &c->qos, 1);
}

static void on_connack(struct client *c, const uint8_t *p, size_t n)
{
    if (n < 2 || p[1] != 0) {
        drop(c);
        return;
    }
    bool session = (p[0] & 1) != 0;
    if (c->subscribed && !session) {
        fprintf(ledger, "g %s\n", c->id);
    }
    gone += c->had_session && !session;
    if (!session) {
        memset(c->seen, 0, sizeof(c->seen));
    }
    c->had_session = true;
    c->state = OPEN;
    c->leave_us = opt.offline_ms > 0 ? now_us() + 1000LL * (rand() % (int)(4 * opt.offline_ms)) : INT64_MAX;
    resume(c, session);
    if (c->subscriber && !(c->subscribed && session)) {
        subscribe(c);
    }
}

static void on_packet(struct client *c, uint8_t first, const uint8_t *p, size_t n)
{
    enum packet type = first >> 4;
    uint16_t id = n >= 2 ? (uint16_t)(p[0] << 8 | p[1]) : 0;
    switch (type) {
    case CONNACK:
        on_connack(c, p, n);
        break;
    case PUBLISH:
        on_publish(c, first, p, n);
        break;
    case PUBACK:
    case PUBREC:
    case PUBCOMP:
        on_ack(c, type, id, n > 2 ? p[2] : 0);
        break;
    case PUBREL:
        c->seen[id / 8] &= (uint8_t) ~(1U << id % 8);
        put_ack(c, PUBCOMP, id);
        break;
    case SUBACK:
        if (n > 0 && p[n - 1] < 0x80) {
            c->subscribed = true;
            fprintf(ledger, "u %s\n", c->id);
        } else {
            fprintf(stderr, "%s: subscription refused: 0x%02x\n", c->id, n > 0 ? p[n - 1] : 0);
            exit(1);
        }
        break;
    default:
        break;
    }
}

// --- connections ---

static void put_connect(struct client *c)
{
    bool user = c->password[0] != '\0';
    static const uint8_t expiry[6] = {5, 0x11, 0, 1, 0x51, 0x80}; // the session lives for a day
    size_t n = 10 + (c->version == 5 ? sizeof(expiry) : 0) + 2 + strlen(c->id);
    n += user ? 4 + strlen(c->id) + strlen(c->password) : 0;
    uint8_t fixed[4] = {c->version, user ? 0xc0 : 0, 0, 60};
    put_head(c, 0x10, n);
    put_str(c, "MQTT");
    put(c, fixed, 4);
    if (c->version == 5) {
        put(c, expiry, sizeof(expiry));
    }
    put_str(c, c->id);
    if (user) {
        put_str(c, c->id);
        put_str(c, c->password);
    }
}

static void start(struct client *c)
{
    c->fd = socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int one = 1;
    if (c->fd < 0) {
        c->retry_us = now_us() + 100000;
        return;
    }
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    if (connect(c->fd, address->ai_addr, address->ai_addrlen) != 0 && errno != EINPROGRESS) {
        go_away(c, 30000);
        return;
    }
    struct epoll_event ev = {.events = EPOLLOUT, .data.ptr = c};
    c->events = EPOLLOUT;
    epoll_ctl(ep, EPOLL_CTL_ADD, c->fd, &ev);
    c->state = CONNECTING;
    c->leave_us = now_us() + 1000LL * opt.patience_ms; // a connection that is not open by then is given up
    c->heard_us = now_us();
}

static void on_connected(struct client *c)
{
    int err = 0;
    socklen_t n = sizeof(err);
    getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &err, &n);
    if (err != 0) {
        drop(c);
        return;
    }
    c->state = GREETING;
    put_connect(c);
}

// The packets that are whole; false when the connection is gone.
static bool take_packets(struct client *c)
{
    size_t at = 0;
    while (c->in_len - at >= 2) {
        size_t len = 0, i = 1;
        bool whole = false;
        while (at + i < c->in_len && i <= 4 && !whole) {
            uint8_t b = c->in[at + i];
            len |= (size_t)(b & 127) << (7 * (i - 1));
            whole = b < 128;
            i++;
        }
        if (!whole || c->in_len - at < i + len) {
            break;
        }
        on_packet(c, c->in[at], c->in + at + i, len);
        if (c->fd < 0) {
            return false;
        }
        at += i + len;
    }
    memmove(c->in, c->in + at, c->in_len - at);
    c->in_len -= at;
    return true;
}

static void on_readable(struct client *c)
{
    ssize_t n = recv(c->fd, c->in + c->in_len, BUFFER_MAX - c->in_len, 0);
    if (n < 0 && errno == EAGAIN) {
        return;
    }
    if (n <= 0) {
        drop(c);
        return;
    }
    c->in_len += (size_t)n;
    c->heard_us = now_us();
    c->pinged = false;
    (void)take_packets(c);
}

static void on_event(struct client *c, uint32_t events)
{
    if (c->fd >= 0 && c->state == CONNECTING) {
        on_connected(c);
    } else if (c->fd >= 0 && (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) {
        on_readable(c);
    }
    if (c->fd >= 0 && c->out_len > 0) {
        flush(c);
    }
}

// --- options, start, the loop ---

enum option_kind { TEXT, FIGURE, COUNT };
static const struct option_row {
    const char *name;
    enum option_kind kind;
    void *to; // const char *, double, unsigned
} options[] = {
    {"host", TEXT, &opt.host},
    {"port", TEXT, &opt.port},
    {"topic", TEXT, &opt.topic},
    {"filter", TEXT, &opt.filter},
    {"users", TEXT, &opt.users},
    {"ledger", TEXT, &opt.ledger},
    {"prefix", TEXT, &opt.prefix},
    {"publishers", COUNT, &opt.publishers},
    {"subscribers", COUNT, &opt.subscribers},
    {"window", COUNT, &opt.window},
    {"payload", COUNT, &opt.payload},
    {"qos", COUNT, &opt.qos},                 // 1, 2, or 0: both, by turns
    {"version", COUNT, &opt.version},         // 4 (3.1.1), 5, or 0: both, by turns
    {"offline-ms", COUNT, &opt.offline_ms},   // subscribers go away now and then, for at most so long
    {"churn", COUNT, &opt.churn},             // 1: publishers do so too, in the middle of everything
    {"patience-ms", COUNT, &opt.patience_ms}, // a server silent for so long is taken for dead
    {"rate", FIGURE, &opt.rate},
    {"seconds", FIGURE, &opt.seconds},
};
#define OPTIONS (sizeof(options) / sizeof(options[0]))

static void take_option(const struct option_row *o, const char *value)
{
    char *end = NULL;
    double f = o->kind == TEXT ? 0 : strtod(value, &end);
    if (o->kind != TEXT && (end == value || *end != '\0' || !(f >= 0) || f > 1e9)) {
        fprintf(stderr, "--%s %s: not a number of at least 0\n", o->name, value);
        exit(2);
    }
    if (o->kind == TEXT) {
        *(const char **)o->to = value;
    } else if (o->kind == FIGURE) {
        *(double *)o->to = f;
    } else {
        *(unsigned *)o->to = (unsigned)f;
    }
}

static void parse_options(int argc, char **argv)
{
    struct option longs[OPTIONS + 1] = {0};
    for (size_t i = 0; i < OPTIONS; i++) {
        longs[i] = (struct option){.name = options[i].name, .has_arg = required_argument, .val = 256 + (int)i};
    }
    int o;
    while ((o = getopt_long(argc, argv, "", longs, NULL)) != -1) {
        if (o < 256) {
            exit(2);
        }
        take_option(&options[o - 256], optarg);
    }
    if (opt.window < 1 || opt.window > WINDOW_MAX || opt.payload > 4000 || opt.qos > 2 || opt.ledger == NULL ||
        (opt.version != 0 && opt.version != 4 && opt.version != 5)) {
        fprintf(stderr, "--ledger FILE; window 1..%d, payload at most 4000, qos 0..2, version 0, 4 or 5\n", WINDOW_MAX);
        exit(2);
    }
}

static void name_clients(void)
{
    FILE *f = opt.users != NULL ? fopen(opt.users, "r") : NULL;
    if (opt.users != NULL && f == NULL) {
        perror(opt.users);
        exit(2);
    }
    for (unsigned i = 0; i < clients_len; i++) {
        struct client *c = &clients[i];
        if (f == NULL) {
            snprintf(c->id, sizeof(c->id), "%s%u", opt.prefix, i);
        } else if (fscanf(f, "%99s %99s", c->id, c->password) != 2) {
            fprintf(stderr, "%s: fewer than %u lines\n", opt.users, clients_len);
            exit(2);
        }
    }
    if (f != NULL) {
        fclose(f);
    }
}

static void setup(void)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    if (getaddrinfo(opt.host, opt.port, &hints, &address) != 0) {
        fprintf(stderr, "%s: unknown host\n", opt.host);
        exit(2);
    }
    clients_len = opt.publishers + opt.subscribers;
    clients = calloc(clients_len, sizeof(*clients));
    for (unsigned i = 0; i < clients_len; i++) {
        struct client *c = &clients[i];
        c->fd = -1;
        c->subscriber = i >= opt.publishers;
        unsigned n = c->subscriber ? i - opt.publishers : i;
        c->qos = (uint8_t)(c->subscriber ? 2 - n % 2 : opt.qos != 0 ? opt.qos : 1 + n % 2);
        c->version = (uint8_t)(opt.version != 0 ? opt.version : n % 4 < 2 ? 4 : 5);
        c->in = malloc(BUFFER_MAX);
        c->out = malloc(BUFFER_MAX);
    }
    name_clients();
    ledger = fopen(opt.ledger, "a");
    ep = epoll_create1(EPOLL_CLOEXEC);
    if (ledger == NULL || ep < 0) {
        perror(opt.ledger);
        exit(2);
    }
    struct sigaction act = {.sa_handler = on_signal};
    sigaction(SIGTERM, &act, NULL);
    sigaction(SIGINT, &act, NULL);
    sigaction(SIGUSR1, &act, NULL);
}

static bool all_subscribed(void)
{
    for (unsigned i = opt.publishers; i < clients_len; i++) {
        if (!clients[i].subscribed) {
            return false;
        }
    }
    return true;
}

// A machine that lost its power sends no RST: whoever hears nothing asks, and then gives up.
static void listen_for(struct client *c, int64_t now)
{
    int64_t silent_ms = (now - c->heard_us) / 1000;
    if (silent_ms > opt.patience_ms) {
        drop(c);
    } else if (silent_ms > opt.patience_ms / 2 && !c->pinged) {
        c->pinged = true;
        put_head(c, 0xc0, 0);
        flush(c);
    }
}

// What time asks for: connections that are due, clients whose absence begins.
static void tick(int64_t now)
{
    for (unsigned i = 0; i < clients_len; i++) {
        struct client *c = &clients[i];
        if (c->state == AWAY && now >= c->retry_us) {
            start(c);
        } else if (c->state != AWAY && c->state != OPEN && now >= c->leave_us) {
            drop(c);
        } else if (c->state == OPEN && (c->subscriber ? c->subscribed : opt.churn > 0) && !quiet &&
                   now >= c->leave_us) {
            go_away(c, 1000LL * (rand() % (int)(opt.offline_ms + 1)));
        } else if (c->state == OPEN) {
            listen_for(c, now);
        }
    }
}

static void publish_some(int64_t passed_us)
{
    static unsigned turn;
    owed = opt.rate > 0 ? owed + opt.rate * (double)passed_us / 1e6 : 1e9;
    owed = opt.rate > 0 && owed > opt.rate / 10 + 1 ? opt.rate / 10 + 1 : owed; // what was missed is not caught up with
    for (unsigned i = 0; i < opt.publishers && owed >= 1; i++) {
        struct client *c = &clients[turn++ % opt.publishers];
        if (c->state == OPEN) {
            publish(c);
            if (c->out_len > 0) {
                flush(c);
            }
        }
    }
}

static void work(void)
{
    int64_t begin = now_us(), last = begin;
    bool go = false;
    while (!stop && (opt.seconds <= 0 || now_us() - begin < (int64_t)(opt.seconds * 1e6))) {
        struct epoll_event evs[256];
        int n = epoll_wait(ep, evs, 256, opt.rate > 0 ? 2 : 10);
        for (int i = 0; i < n; i++) {
            on_event(evs[i].data.ptr, evs[i].events);
        }
        int64_t now = now_us();
        tick(now);
        go = go || all_subscribed();
        if (go && !quiet) {
            publish_some(now - last);
        }
        last = now;
        fflush(ledger);
    }
}

int main(int argc, char **argv)
{
    parse_options(argc, argv);
    setup();
    work();
    for (unsigned i = 0; i < opt.publishers; i++) {
        fprintf(ledger, "m %s %llu\n", clients[i].id, (unsigned long long)clients[i].seq);
    }
    fclose(ledger);
    printf("{\"sent\":%llu,\"acked\":%llu,\"refused\":%llu,\"received\":%llu,\"wrong\":%llu,\"drops\":%llu,\"sessions_"
           "lost\":%llu}\n",
           (unsigned long long)sent, (unsigned long long)acked, (unsigned long long)refused,
           (unsigned long long)received, (unsigned long long)wrong, (unsigned long long)drops,
           (unsigned long long)gone);
    return 0;
}
