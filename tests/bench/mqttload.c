// Load generator: many MQTT publishers in one thread, with windows, TLS, pacing, and a ledger of what was acknowledged.
//
// It is used against Muster and against other brokers alike, so it speaks plain MQTT 3.1.1 by hand and knows nothing of
// the server's own code. Prints one JSON line with its figures at the end.
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define WINDOW_MAX 256
#define IN_MAX     65536
#define OUT_MAX    65536

enum state { IDLE, CONNECTING, HANDSHAKE, CONNACK_WAIT, OPEN, SUB_WAIT, DEAD };

struct client {
    int fd, index;
    enum state state;
    SSL *ssl;
    SSL_SESSION *session;
    uint8_t *in, *out;
    size_t in_len, out_len;
    uint32_t events;
    uint64_t seq;                    // next to send
    uint64_t window_seq[WINDOW_MAX]; // by packet id modulo window
    int64_t window_sent_us[WINDOW_MAX];
    unsigned in_flight;
    uint16_t next_id;
    int64_t retry_us, connect_us;
    char id[160], password[160];
};

static struct {
    const char *host, *port, *topic, *ca, *cert, *key, *users, *ledger, *client_prefix, *subscribe;
    unsigned clients, window, payload, qos, connect_burst;
    uint64_t messages, cycles;
    double seconds, rate;
    bool tls, seq, reconnect, connect_only, resume, idle;
} opt = {.host = "127.0.0.1",
         .port = "1883",
         .topic = "$muster/telemetry",
         .clients = 100,
         .window = 20,
         .payload = 100,
         .qos = 1,
         .client_prefix = "load-",
         .connect_burst = 200};

static struct client *clients;
static int ep;
static SSL_CTX *ctx;
static FILE *ledger;
static volatile sig_atomic_t stop;
static uint64_t sent, acked, connects, refused, lost, received;
static uint64_t latency[24]; // 2^i us
static int64_t first_send;
static struct addrinfo *address;

static int64_t now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static void on_stop(int s)
{
    (void)s;
    stop = 1;
}

static void set_events(struct client *c, uint32_t events)
{
    if (c->events != events) {
        struct epoll_event ev = {.events = events, .data.ptr = c};
        epoll_ctl(ep, EPOLL_CTL_MOD, c->fd, &ev);
        c->events = events;
    }
}

static void drop(struct client *c)
{
    if (c->state == IDLE || c->state == DEAD) {
        return;
    }
    if (c->state == OPEN) {
        lost++;
    } else {
        refused++;
    }
    if (c->ssl != NULL) {
        SSL_free(c->ssl);
        c->ssl = NULL;
    }
    close(c->fd);
    c->fd = -1;
    c->in_len = c->out_len = 0;
    c->in_flight = 0;
    c->state = opt.reconnect ? IDLE : DEAD;
    c->retry_us = now_us() + 20000 + rand() % 80000;
}

static void flush(struct client *c)
{
    size_t done = 0;
    while (done < c->out_len) {
        ssize_t n;
        if (c->ssl != NULL) {
            n = SSL_write(c->ssl, c->out + done, (int)(c->out_len - done));
            if (n <= 0) {
                int e = SSL_get_error(c->ssl, (int)n);
                if (e != SSL_ERROR_WANT_WRITE && e != SSL_ERROR_WANT_READ) {
                    drop(c);
                    return;
                }
                break;
            }
        } else {
            n = send(c->fd, c->out + done, c->out_len - done, MSG_NOSIGNAL);
            if (n < 0) {
                if (errno != EAGAIN) {
                    drop(c);
                    return;
                }
                break;
            }
        }
        done += (size_t)n;
    }
    memmove(c->out, c->out + done, c->out_len - done);
    c->out_len -= done;
    set_events(c, EPOLLIN | (c->out_len > 0 ? EPOLLOUT : 0));
}

static uint8_t *put_str(uint8_t *p, const char *s)
{
    size_t n = strlen(s);
    p[0] = (uint8_t)(n >> 8);
    p[1] = (uint8_t)n;
    memcpy(p + 2, s, n);
    return p + 2 + n;
}

static uint8_t *put_len(uint8_t *p, size_t n)
{
    do {
        *p++ = (uint8_t)((n & 127) | (n > 127 ? 128 : 0));
        n >>= 7;
    } while (n > 0);
    return p;
}

static void send_connect(struct client *c)
{
    uint8_t body[512], *p = put_str(body, "MQTT");
    bool user = c->password[0] != '\0';
    *p++ = 4;
    *p++ = (uint8_t)(2 | (user ? 0xc0 : 0));
    *p++ = 0;
    *p++ = 0;
    p = put_str(p, c->id);
    if (user) {
        p = put_str(p, c->id);
        p = put_str(p, c->password);
    }
    uint8_t *o = c->out + c->out_len;
    *o++ = 0x10;
    o = put_len(o, (size_t)(p - body));
    memcpy(o, body, (size_t)(p - body));
    c->out_len = (size_t)(o - c->out) + (size_t)(p - body);
    c->state = CONNACK_WAIT;
    flush(c);
}

static void send_subscribe(struct client *c)
{
    uint8_t body[300], *p = body;
    *p++ = 0;
    *p++ = 1;
    p = put_str(p, opt.subscribe);
    *p++ = (uint8_t)opt.qos;
    uint8_t *o = c->out + c->out_len;
    *o++ = 0x82;
    o = put_len(o, (size_t)(p - body));
    memcpy(o, body, (size_t)(p - body));
    c->out_len = (size_t)(o - c->out) + (size_t)(p - body);
    c->state = SUB_WAIT;
    flush(c);
}

static size_t make_payload(struct client *c, char *dst, size_t size)
{
    int n;
    if (opt.seq) {
        n = snprintf(dst, size, "{\"seq\":%llu", (unsigned long long)c->seq);
    } else {
        n = snprintf(dst, size, "{\"temperature_celsius\":%.2f,\"relative_humidity_percent\":%.2f",
                     20 + (double)(c->seq % 997) / 100, 40 + (double)(c->seq % 613) / 100);
    }
    while (n < (int)opt.payload - 1) {
        dst[n++] = ' ';
    }
    dst[n++] = '}';
    return (size_t)n;
}

static bool finished(void)
{
    return opt.messages > 0 && sent >= opt.messages;
}

// Fills the window; with --rate only as far as `budget` allows.
static void publish(struct client *c, uint64_t *budget)
{
    char topic[200];
    const char *t = opt.topic;
    if (strchr(t, '%') != NULL) {
        snprintf(topic, sizeof(topic), "%.*s%d", (int)strcspn(t, "%"), t, c->index);
        t = topic;
    }
    while ((opt.qos == 0 || c->in_flight < opt.window) && !finished() && (budget == NULL || *budget > 0) &&
           c->out_len + opt.payload + 300 < OUT_MAX && (opt.qos > 0 || c->out_len < 8192)) {
        char payload[4096];
        size_t plen = make_payload(c, payload, sizeof(payload));
        size_t rest = 2 + strlen(t) + (opt.qos > 0 ? 2 : 0) + plen;
        uint8_t *o = c->out + c->out_len;
        *o++ = (uint8_t)(0x30 | opt.qos << 1);
        o = put_len(o, rest);
        o = put_str(o, t);
        if (opt.qos > 0) {
            // Ids go round in the window, so that the slot of an id is free when it comes again.
            while (c->window_sent_us[c->next_id % opt.window] != 0) {
                c->next_id++;
            }
            unsigned slot = c->next_id % opt.window;
            uint16_t id = (uint16_t)(slot + 1);
            c->window_seq[slot] = c->seq;
            c->window_sent_us[slot] = now_us();
            *o++ = (uint8_t)(id >> 8);
            *o++ = (uint8_t)id;
            c->next_id++;
            c->in_flight++;
        }
        memcpy(o, payload, plen);
        c->out_len = (size_t)(o - c->out) + plen;
        if (sent == 0) {
            first_send = now_us();
        }
        c->seq++;
        sent++;
        if (budget != NULL) {
            (*budget)--;
        }
    }
    if (c->out_len > 0) {
        flush(c);
    }
}

static void on_puback(struct client *c, uint16_t id)
{
    unsigned slot = (unsigned)(id - 1) % opt.window;
    int64_t us = now_us() - c->window_sent_us[slot];
    unsigned b = 0;
    while (b < 23 && us >= (1LL << b)) {
        b++;
    }
    latency[b]++;
    acked++;
    c->in_flight--;
    c->window_sent_us[slot] = 0;
    if (ledger != NULL) {
        fprintf(ledger, "%s %llu\n", c->id, (unsigned long long)c->window_seq[slot]);
    }
}

// Connected: ends in order and connects again, until --cycles connections were made.
static void cycle(struct client *c)
{
    static const uint8_t bye[2] = {0xe0, 0};
    memcpy(c->out + c->out_len, bye, 2);
    c->out_len += 2;
    flush(c);
    if (c->fd < 0) {
        return;
    }
    if (c->ssl != NULL) {
        if (opt.resume && c->session == NULL) {
            c->session = SSL_get1_session(c->ssl);
        }
        SSL_shutdown(c->ssl);
        SSL_free(c->ssl);
        c->ssl = NULL;
    }
    close(c->fd);
    c->fd = -1;
    c->in_len = c->out_len = 0;
    c->state = connects < opt.cycles ? IDLE : DEAD;
    c->retry_us = 0;
}

static void on_packet(struct client *c, uint8_t first, const uint8_t *p, size_t n)
{
    switch (first >> 4) {
    case 2:
        if (n < 2 || p[1] != 0) {
            drop(c);
            return;
        }
        connects++;
        memset(c->window_sent_us, 0, sizeof(c->window_sent_us));
        c->state = OPEN;
        if (opt.cycles > 0) {
            cycle(c);
            return;
        }
        if (opt.resume && c->ssl != NULL && c->session == NULL) {
            c->session = SSL_get1_session(c->ssl);
        }
        if (opt.subscribe != NULL) {
            send_subscribe(c);
        }
        break;
    case 9:
        c->state = OPEN;
        break;
    case 4:
        if (n >= 2) {
            on_puback(c, (uint16_t)(p[0] << 8 | p[1]));
        }
        break;
    case 3:
        received++;
        if ((first >> 1 & 3) == 1) {
            size_t t = (size_t)(p[0] << 8 | p[1]);
            uint8_t ack[4] = {0x40, 2, p[2 + t], p[3 + t]};
            memcpy(c->out + c->out_len, ack, 4);
            c->out_len += 4;
        }
        break;
    default:
        break;
    }
}

static void parse(struct client *c)
{
    size_t at = 0;
    while (c->in_len - at >= 2 && c->fd >= 0) {
        size_t len = 0, i = 1;
        unsigned shift = 0;
        bool whole = false;
        while (at + i < c->in_len && i <= 4) {
            uint8_t b = c->in[at + i++];
            len |= (size_t)(b & 127) << shift;
            shift += 7;
            if (b < 128) {
                whole = true;
                break;
            }
        }
        if (!whole || c->in_len - at < i + len) {
            break;
        }
        on_packet(c, c->in[at], c->in + at + i, len);
        at += i + len;
    }
    if (c->fd >= 0) {
        memmove(c->in, c->in + at, c->in_len - at);
        c->in_len -= at;
    }
}

static void start(struct client *c)
{
    c->fd = socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0) {
        c->retry_us = now_us() + 100000;
        return;
    }
    int one = 1;
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    c->connect_us = now_us();
    if (connect(c->fd, address->ai_addr, address->ai_addrlen) != 0 && errno != EINPROGRESS) {
        close(c->fd);
        c->fd = -1;
        c->retry_us = now_us() + 50000;
        if (!opt.reconnect) {
            c->state = DEAD;
            refused++;
        }
        return;
    }
    struct epoll_event ev = {.events = EPOLLOUT, .data.ptr = c};
    c->events = EPOLLOUT;
    epoll_ctl(ep, EPOLL_CTL_ADD, c->fd, &ev);
    c->state = CONNECTING;
}

static void handshake(struct client *c)
{
    int r = SSL_connect(c->ssl);
    if (r == 1) {
        send_connect(c);
        return;
    }
    int e = SSL_get_error(c->ssl, r);
    if (e == SSL_ERROR_WANT_READ) {
        set_events(c, EPOLLIN);
    } else if (e == SSL_ERROR_WANT_WRITE) {
        set_events(c, EPOLLOUT);
    } else {
        drop(c);
    }
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
    if (!opt.tls) {
        send_connect(c);
        return;
    }
    c->ssl = SSL_new(ctx);
    SSL_set_fd(c->ssl, c->fd);
    SSL_set_tlsext_host_name(c->ssl, "localhost");
    if (c->session != NULL) {
        SSL_set_session(c->ssl, c->session);
    }
    c->state = HANDSHAKE;
    handshake(c);
}

static void read_all(struct client *c)
{
    for (;;) {
        ssize_t n;
        if (c->ssl != NULL) {
            n = SSL_read(c->ssl, c->in + c->in_len, (int)(IN_MAX - c->in_len));
            if (n <= 0) {
                int e = SSL_get_error(c->ssl, (int)n);
                if (e == SSL_ERROR_WANT_READ || e == SSL_ERROR_WANT_WRITE) {
                    return;
                }
                drop(c);
                return;
            }
        } else {
            n = recv(c->fd, c->in + c->in_len, IN_MAX - c->in_len, 0);
            if (n < 0 && errno == EAGAIN) {
                return;
            }
            if (n <= 0) {
                drop(c);
                return;
            }
        }
        c->in_len += (size_t)n;
        parse(c);
        if (c->fd < 0 || (c->ssl == NULL && n < 4096)) {
            return;
        }
    }
}

static void on_event(struct client *c, uint32_t events, uint64_t *budget)
{
    if (c->fd < 0) {
        return;
    }
    if (c->state == CONNECTING) {
        on_connected(c);
        return;
    }
    if (c->state == HANDSHAKE) {
        handshake(c);
        return;
    }
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
        read_all(c);
    }
    if (c->fd >= 0 && c->state == OPEN && !opt.connect_only && !opt.idle && opt.subscribe == NULL) {
        publish(c, budget);
    }
    if (c->fd >= 0 && c->out_len > 0) {
        flush(c);
    }
}

static void load_users(void)
{
    if (opt.users == NULL) {
        for (unsigned i = 0; i < opt.clients; i++) {
            snprintf(clients[i].id, sizeof(clients[i].id), "%s%u", opt.client_prefix, i);
        }
        return;
    }
    FILE *f = fopen(opt.users, "r");
    if (f == NULL) {
        perror(opt.users);
        exit(2);
    }
    for (unsigned i = 0; i < opt.clients; i++) {
        if (fscanf(f, "%159s %159s", clients[i].id, clients[i].password) != 2) {
            fprintf(stderr, "%s: fewer than %u lines\n", opt.users, opt.clients);
            exit(2);
        }
    }
    fclose(f);
}

static void setup_tls(void)
{
    ctx = SSL_CTX_new(TLS_client_method());
    if (opt.ca != NULL) {
        SSL_CTX_load_verify_locations(ctx, opt.ca, NULL);
        SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
    }
    if (opt.cert != NULL && (SSL_CTX_use_certificate_chain_file(ctx, opt.cert) != 1 ||
                             SSL_CTX_use_PrivateKey_file(ctx, opt.key, SSL_FILETYPE_PEM) != 1)) {
        ERR_print_errors_fp(stderr);
        exit(2);
    }
}

static double percentile(double q)
{
    uint64_t total = 0, sum = 0;
    for (unsigned i = 0; i < 24; i++) {
        total += latency[i];
    }
    for (unsigned i = 0; i < 24; i++) {
        sum += latency[i];
        if (total > 0 && (double)sum >= q * (double)total) {
            return (double)(1ULL << i) / 1000;
        }
    }
    return 0;
}

// What an option does with its argument.
enum option_kind { TEXT, FIGURE, COUNT, BIG, FLAG };

static const struct option_row {
    const char *name;
    enum option_kind kind;
    void *to; // const char *, double, unsigned, uint64_t, bool
} options[] = {
    {"host", TEXT, &opt.host},
    {"port", TEXT, &opt.port},
    {"topic", TEXT, &opt.topic},
    {"ca", TEXT, &opt.ca},
    {"cert", TEXT, &opt.cert},
    {"key", TEXT, &opt.key},
    {"users", TEXT, &opt.users},
    {"ledger", TEXT, &opt.ledger},
    {"prefix", TEXT, &opt.client_prefix},
    {"subscribe", TEXT, &opt.subscribe},
    {"clients", COUNT, &opt.clients},
    {"window", COUNT, &opt.window},
    {"payload", COUNT, &opt.payload},
    {"qos", COUNT, &opt.qos},
    {"burst", COUNT, &opt.connect_burst},
    {"messages", BIG, &opt.messages},
    {"cycles", BIG, &opt.cycles},
    {"seconds", FIGURE, &opt.seconds},
    {"rate", FIGURE, &opt.rate},
    {"tls", FLAG, &opt.tls},
    {"seq", FLAG, &opt.seq},
    {"reconnect", FLAG, &opt.reconnect},
    {"connect-only", FLAG, &opt.connect_only},
    {"resume", FLAG, &opt.resume},
    {"idle", FLAG, &opt.idle},
};
#define OPTIONS (sizeof(options) / sizeof(options[0]))

static void fail_option(const char *name, const char *value)
{
    fprintf(stderr, "--%s %s: not a number of at least 0\n", name, value);
    exit(2);
}

static void take_option(const struct option_row *o, const char *value)
{
    char *end = NULL;
    switch (o->kind) {
    case TEXT:
        *(const char **)o->to = value;
        return;
    case FLAG:
        *(bool *)o->to = true;
        return;
    case FIGURE: {
        double f = strtod(value, &end);
        if (end == value || *end != '\0' || !(f >= 0)) {
            fail_option(o->name, value);
        }
        *(double *)o->to = f;
        return;
    }
    case COUNT:
    case BIG:
        break;
    }
    unsigned long long n = strtoull(value, &end, 10);
    if (end == value || *end != '\0' || value[0] == '-' || (o->kind == COUNT && n > UINT32_MAX)) {
        fail_option(o->name, value);
    }
    if (o->kind == COUNT) {
        *(unsigned *)o->to = (unsigned)n;
    } else {
        *(uint64_t *)o->to = n;
    }
}

static void parse_options(int argc, char **argv)
{
    struct option longs[OPTIONS + 1] = {0};
    for (size_t i = 0; i < OPTIONS; i++) {
        longs[i] = (struct option){.name = options[i].name, .has_arg = options[i].kind != FLAG, .val = 256 + (int)i};
    }
    int o;
    while ((o = getopt_long(argc, argv, "", longs, NULL)) != -1) {
        if (o < 256) {
            exit(2);
        }
        take_option(&options[o - 256], optarg);
    }
    if (opt.window < 1 || opt.window > WINDOW_MAX || opt.payload > 4000 || opt.clients < 1) {
        fprintf(stderr, "window 1..%d, payload at most 4000, at least one client\n", WINDOW_MAX);
        exit(2);
    }
}

static void setup_clients(void)
{
    clients = calloc(opt.clients, sizeof(*clients));
    for (unsigned i = 0; i < opt.clients; i++) {
        clients[i].fd = -1;
        clients[i].index = (int)i;
        clients[i].in = malloc(IN_MAX);
        clients[i].out = malloc(OUT_MAX);
    }
    load_users();
}

static void setup(void)
{
    signal(SIGPIPE, SIG_IGN);
    signal(SIGTERM, on_stop);
    signal(SIGINT, on_stop);
    struct rlimit lim;
    getrlimit(RLIMIT_NOFILE, &lim);
    lim.rlim_cur = lim.rlim_max;
    setrlimit(RLIMIT_NOFILE, &lim);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    if (getaddrinfo(opt.host, opt.port, &hints, &address) != 0) {
        fprintf(stderr, "%s: unknown host\n", opt.host);
        exit(2);
    }
    setup_clients();
    if (opt.ledger != NULL) {
        ledger = fopen(opt.ledger, "a");
        if (ledger == NULL) {
            perror(opt.ledger);
            exit(2);
        }
        setvbuf(ledger, NULL, _IOLBF, 0);
    }
    if (opt.tls) {
        setup_tls();
    }
    ep = epoll_create1(EPOLL_CLOEXEC);
}

struct run {
    int64_t begin, all_up, last_tick;
    double owed;            // messages --rate allows that have not been sent
    unsigned up_next, turn; // whose turn it is to connect, to publish
    unsigned open, starting, dead;
};

static void count_states(struct run *r)
{
    r->open = r->starting = r->dead = 0;
    for (unsigned i = 0; i < opt.clients; i++) {
        r->open += clients[i].state == OPEN;
        r->dead += clients[i].state == DEAD;
        r->starting += clients[i].state > IDLE && clients[i].state < OPEN;
    }
}

static void start_some(struct run *r, int64_t now)
{
    for (unsigned i = 0; i < opt.clients && r->starting < opt.connect_burst; i++) {
        struct client *c = &clients[r->up_next++ % opt.clients];
        if (c->state == IDLE && now >= c->retry_us) {
            start(c);
            r->starting++;
        }
    }
}

// With --rate: what time has allowed since the last turn, one message a client.
static void publish_paced(struct run *r, int64_t now)
{
    r->owed += opt.rate * (double)(now - r->last_tick) / 1e6;
    uint64_t budget = (uint64_t)r->owed;
    r->owed -= (double)budget;
    for (unsigned i = 0; i < opt.clients && budget > 0; i++) {
        struct client *c = &clients[r->turn++ % opt.clients];
        if (c->state == OPEN) {
            uint64_t one = 1;
            publish(c, &one);
            budget -= 1 - one;
        }
    }
}

static bool over(struct run *r, int64_t now)
{
    if (r->open == opt.clients && r->all_up == 0 && opt.cycles == 0) {
        r->all_up = now;
        if (opt.connect_only) {
            return true;
        }
    }
    return r->dead == opt.clients || (opt.seconds > 0 && now - r->begin > (int64_t)(opt.seconds * 1e6)) ||
           (finished() && (opt.qos == 0 || acked >= sent));
}

static void work(struct run *r)
{
    r->begin = r->last_tick = now_us();
    while (!stop) {
        int64_t now = now_us();
        count_states(r);
        start_some(r, now);
        if (over(r, now)) {
            break;
        }
        if (opt.rate > 0) {
            publish_paced(r, now);
        }
        r->last_tick = now;
        struct epoll_event evs[512];
        bool flood = opt.qos == 0 && opt.rate <= 0 && opt.subscribe == NULL && !opt.connect_only && !opt.idle;
        int n = epoll_wait(ep, evs, 512, flood ? 0 : opt.rate > 0 ? 1 : 20);
        uint64_t none = 0;
        // No acknowledgement wakes a client at QoS 0: whoever has sent all of the last turn sends on.
        for (unsigned i = 0; flood && i < opt.clients; i++) {
            if (clients[i].state == OPEN && clients[i].out_len == 0) {
                publish(&clients[i], NULL);
            }
        }
        for (int i = 0; i < n; i++) {
            on_event(evs[i].data.ptr, evs[i].events, opt.rate > 0 ? &none : NULL);
        }
    }
}

static void print_figures(struct run *r)
{
    double wall = (double)(now_us() - (first_send > 0 ? first_send : r->begin)) / 1e6;
    struct rusage ru;
    getrusage(RUSAGE_SELF, &ru);
    count_states(r);
    printf(
        "{\"sent\":%llu,\"acked\":%llu,\"received\":%llu,\"connects\":%llu,\"open\":%u,\"refused\":%llu,\"lost\":%llu,"
        "\"connect_s\":%.3f,\"seconds\":%.3f,"
        "\"rate\":%.0f,\"ack_p50_ms\":%.3f,\"ack_p99_ms\":%.3f,\"generator_cpu_s\":%.2f}\n",
        (unsigned long long)sent, (unsigned long long)acked, (unsigned long long)received, (unsigned long long)connects,
        r->open, (unsigned long long)refused, (unsigned long long)lost,
        r->all_up > 0 ? (double)(r->all_up - r->begin) / 1e6 : -1.0, wall,
        (double)(opt.qos > 0 ? acked : sent) / (wall > 0 ? wall : 1), percentile(0.5), percentile(0.99),
        (double)(ru.ru_utime.tv_sec + ru.ru_stime.tv_sec) + (double)(ru.ru_utime.tv_usec + ru.ru_stime.tv_usec) / 1e6);
}

int main(int argc, char **argv)
{
    parse_options(argc, argv);
    setup();
    struct run r = {0};
    work(&r);
    print_figures(&r);
    if (ledger != NULL) {
        fclose(ledger);
    }
    return 0;
}
