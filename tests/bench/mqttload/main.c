// The run: who connects and publishes when, and when it is over. The phases are drawn in load.h.
#include <netdb.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "load.h"

enum { EVENTS = 512, TURN_MS = 20, PACE_NS = 20000 };

static volatile sig_atomic_t stopped;

static void on_stop(int s)
{
    (void)s;
    stopped = 1;
}

// ---- set-up ----

static void fail(const char *what)
{
    perror(what);
    exit(2);
}

static void resolve(struct load *l)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found = NULL;
    if (getaddrinfo(l->opt.host, l->opt.port, &hints, &found) != 0) {
        fprintf(stderr, "%s: unknown host\n", l->opt.host);
        exit(2);
    }
    memcpy(&l->address, found->ai_addr, found->ai_addrlen);
    l->address_len = found->ai_addrlen;
    freeaddrinfo(found);
}

static void make_clients(struct load *l)
{
    l->total = l->opt.clients + l->opt.subscribers;
    l->clients = calloc(l->total, sizeof(*l->clients));
    l->in = malloc(SCRATCH_BYTES);
    if (l->clients == NULL || l->in == NULL) {
        fail("clients");
    }
    l->counts[CLIENT_IDLE] = l->total;
    names_give(l);
    tls_setup(l);
    l->publishing = l->opt.clients > 0 && l->opt.cycles == 0 && !l->opt.hold && !l->opt.connect_only;
    for (unsigned i = 0; i < l->total; i++) {
        struct client *c = &l->clients[i];
        c->fd = -1;
        tls_certificate(l, c);
        if (l->publishing && !c->subscriber && l->opt.qos > 0) {
            c->slots = calloc(l->opt.window, sizeof(*c->slots));
            if (c->slots == NULL) {
                fail("window");
            }
        }
    }
}

static void setup(struct load *l)
{
    signal(SIGPIPE, SIG_IGN);
    struct sigaction stop = {.sa_handler = on_stop};
    sigaction(SIGTERM, &stop, NULL);
    sigaction(SIGINT, &stop, NULL);
    struct rlimit lim;
    getrlimit(RLIMIT_NOFILE, &lim);
    lim.rlim_cur = lim.rlim_max;
    setrlimit(RLIMIT_NOFILE, &lim);
    prctl(PR_SET_TIMERSLACK, 1000UL); // --rate spaces messages by less than the kernel's usual 50 us
    resolve(l);
    make_clients(l);
    if (l->opt.ledger != NULL) {
        l->ledger = fopen(l->opt.ledger, "a");
        if (l->ledger == NULL) {
            fail(l->opt.ledger);
        }
        setvbuf(l->ledger, NULL, _IOLBF, 0);
    }
    l->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (l->epoll < 0) {
        fail("epoll");
    }
}

// ---- phases ----

// From here on it counts.
static void begin(struct load *l, int64_t now)
{
    l->phase = PHASE_RUNNING;
    l->begin_ns = l->last_tick_ns = l->progress_ns = l->end_ns = now;
    l->connects_begin = l->opt.cycles > 0 && l->opt.resume ? l->connects : 0;
    l->resumed_begin = l->connects_begin > 0 ? l->resumed : 0;
    l->server_cpu_begin = figures_server_cpu(l);
}

// The first messages of everyone; acknowledgements bring the further ones.
static void publish_first(struct load *l)
{
    for (unsigned i = l->opt.subscribers; i < l->total && l->publishing && l->opt.rate <= 0; i++) {
        if (l->clients[i].state == CLIENT_OPEN) {
            packets_publish(l, &l->clients[i], UINT64_MAX);
        }
    }
}

// QoS 0 has no acknowledgement: an answered PINGREQ says that the server has read everything before it.
static void ping_all(struct load *l)
{
    l->phase = PHASE_BARRIER;
    for (unsigned i = l->opt.subscribers; i < l->total; i++) {
        struct client *c = &l->clients[i];
        if (c->state == CLIENT_OPEN) {
            c->pinged = true;
            packets_ping(l, c);
        }
    }
}

static bool pings_are_back(const struct load *l)
{
    for (unsigned i = l->opt.subscribers; i < l->total; i++) {
        if (l->clients[i].state == CLIENT_OPEN && l->clients[i].pinged) {
            return false;
        }
    }
    return true;
}

bool load_delivered(const struct load *l)
{
    return l->received >= l->sent * l->opt.copies;
}

static bool all_up(struct load *l, int64_t now)
{
    if (l->counts[CLIENT_OPEN] < l->total) {
        return false;
    }
    if (l->up_ns == 0) {
        l->up_ns = now;
    }
    return true;
}

static enum phase after_connecting(struct load *l, int64_t now)
{
    bool cycling = l->opt.cycles > 0 && (!l->opt.resume || l->connects >= l->total);
    bool up = all_up(l, now);
    if (up && l->opt.connect_only) {
        begin(l, now);
        return PHASE_OVER;
    }
    if (cycling || l->opt.reconnect || (up && l->opt.cycles == 0)) {
        begin(l, now);
        publish_first(l);
    }
    return l->phase;
}

static bool all_sent(const struct load *l)
{
    return l->opt.messages > 0 && l->sent >= l->opt.messages;
}

static enum phase after_running(struct load *l, int64_t now)
{
    all_up(l, now);
    bool time_up = l->opt.seconds > 0 && now - l->begin_ns > (int64_t)(l->opt.seconds * 1e9);
    if (!time_up && !all_sent(l)) {
        return PHASE_RUNNING;
    }
    if (l->opt.qos == 0 && l->publishing) {
        ping_all(l);
        return PHASE_BARRIER;
    }
    return time_up || l->acked >= l->sent ? PHASE_DRAINING : PHASE_RUNNING;
}

static enum phase after_draining(struct load *l, int64_t now)
{
    bool given_up = now - l->progress_ns > (int64_t)(l->opt.drain * 1e9);
    return load_delivered(l) || given_up ? PHASE_OVER : PHASE_DRAINING;
}

static void step(struct load *l, int64_t now)
{
    if (l->phase == PHASE_CONNECTING) {
        l->phase = after_connecting(l, now);
    }
    if (l->phase == PHASE_RUNNING) {
        l->phase = after_running(l, now);
    }
    if (l->phase == PHASE_BARRIER && pings_are_back(l)) {
        l->phase = PHASE_DRAINING;
    }
    if (l->phase == PHASE_DRAINING) {
        l->phase = after_draining(l, now);
    }
    if (l->counts[CLIENT_DEAD] == l->total) {
        l->phase = PHASE_OVER;
    }
}

// ---- a turn ----

static void connect_some(struct load *l, int64_t now)
{
    unsigned under_way = l->counts[CLIENT_CONNECTING] + l->counts[CLIENT_HANDSHAKE] + l->counts[CLIENT_CONNACK] +
                         l->counts[CLIENT_SUBACK];
    // Subscribers come first in the array; the publishers wait until they listen.
    unsigned among =
        l->subscribers_open < l->opt.subscribers && l->phase == PHASE_CONNECTING ? l->opt.subscribers : l->total;
    for (unsigned i = 0; i < among && l->counts[CLIENT_IDLE] > 0 && under_way < l->opt.burst; i++) {
        struct client *c = &l->clients[l->up_next++ % among];
        bool waits = l->opt.resume && c->met && l->phase == PHASE_CONNECTING; // until all have a session to resume
        if (c->state == CLIENT_IDLE && now >= c->retry_ns && !waits) {
            client_start(l, c);
            under_way++;
        }
    }
}

// With --rate: what time has allowed since the last turn, one message a client.
static void publish_paced(struct load *l, int64_t now)
{
    l->owed += l->opt.rate * (double)(now - l->last_tick_ns) / 1e9;
    l->last_tick_ns = now;
    for (unsigned i = 0; i < l->opt.clients && l->owed >= 1 && !all_sent(l); i++) {
        struct client *c = &l->clients[l->opt.subscribers + l->turn++ % l->opt.clients];
        if (c->state == CLIENT_OPEN) {
            l->owed -= (double)packets_publish(l, c, 1);
        }
    }
}

// At QoS 0 no acknowledgement wakes a client: whoever has sent all of the last turn sends on.
static void publish_flood(struct load *l)
{
    for (unsigned i = l->opt.subscribers; i < l->total; i++) {
        struct client *c = &l->clients[i];
        if (c->state == CLIENT_OPEN && c->pending.len == 0) {
            packets_publish(l, c, UINT64_MAX);
        }
    }
}

// Until something happens, or the next message of --rate is due.
static int wait_events(struct load *l, struct epoll_event *events, bool publishing)
{
    struct timespec t = {.tv_nsec = TURN_MS * 1000000L};
    if (publishing && l->opt.rate > 0) {
        double due = (1 - l->owed) / l->opt.rate * 1e9;
        t.tv_nsec = due < PACE_NS ? PACE_NS : due > t.tv_nsec ? t.tv_nsec : (long)due; // overdue: the windows are full
    } else if (publishing && l->opt.qos == 0) {
        t.tv_nsec = 0;
    }
    return epoll_pwait2(l->epoll, events, EVENTS, &t, NULL);
}

static void note_progress(struct load *l, uint64_t *done, int64_t now)
{
    uint64_t sum = l->acked + l->received + l->connects + l->pongs + (l->opt.qos == 0 ? l->sent : 0);
    if (sum != *done) {
        *done = sum;
        l->progress_ns = l->end_ns = now;
    }
}

// With --hold: a line whenever all are up, again after each loss.
static void report_up(struct load *l, bool *told)
{
    bool up = l->counts[CLIENT_OPEN] == l->total;
    if (l->opt.hold && up && !*told) {
        int64_t now = load_now_ns();
        printf("{\"up\":%u,\"after_s\":%.3f}\n", l->total,
               (double)(now - (l->down_ns > 0 ? l->down_ns : l->start_ns)) / 1e9);
        fflush(stdout);
        l->down_ns = 0;
    }
    *told = up;
}

static void run(struct load *l)
{
    struct epoll_event events[EVENTS];
    uint64_t done = 0;
    bool told = false;
    l->start_ns = load_now_ns();
    while (!stopped) {
        int64_t now = load_now_ns();
        connect_some(l, now);
        step(l, now);
        report_up(l, &told);
        if (l->phase == PHASE_OVER) {
            break;
        }
        bool publishing = l->publishing && l->phase == PHASE_RUNNING;
        if (publishing && l->opt.rate > 0) {
            publish_paced(l, now);
        } else if (publishing && l->opt.qos == 0) {
            publish_flood(l);
        }
        int n = wait_events(l, events, publishing);
        for (int i = 0; i < n; i++) {
            client_serve(l, events[i].data.ptr, events[i].events);
        }
        note_progress(l, &done, load_now_ns());
    }
    l->server_cpu_end = figures_server_cpu(l);
}

int main(int argc, char **argv)
{
    static struct load l;
    options_parse(argc, argv, &l.opt);
    setup(&l);
    run(&l);
    figures_print(&l);
    if (l.ledger != NULL) {
        fclose(l.ledger);
    }
    return 0;
}
