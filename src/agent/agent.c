#include "agent/agent.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/crc.h"
#include "base/rand.h"

#define FIRST_SAMPLE_MS 1000 // the CPU's load needs two readings
#define CLOSE_WAIT_MS   2000
#define SETTINGS_MAX    4096

int64_t agent_now_ms(void)
{
    return clock_mono_us() / 1000;
}

uint32_t agent_jitter(uint32_t bound)
{
    return (uint32_t)(rand_u64() % ((uint64_t)bound + 1));
}

// ---- Opening --------------------------------------------------------------------------------------------------------

static enum status read_claim_fd(int fd, char *dst, size_t size, struct err *err)
{
    size_t len = 0;
    while (len < size) {
        ssize_t n = read(fd, dst + len, size - len);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return err_at(err, ST_INVALID, "--claim-file", "cannot read the claim token: %s", strerror(errno));
        }
        if (n == 0) {
            break;
        }
        len += (size_t)n;
    }
    if (len == size) {
        return err_at(err, ST_INVALID, "--claim-file", "a claim token has at most %zu bytes", size - 1);
    }
    dst[len] = '\0';
    dst[strcspn(dst, " \t\r\n")] = '\0';
    return ST_OK;
}

// From --claim-file or MUSTER_CLAIM; the variable is wiped, so that it does not stay in /proc/PID/environ.
static enum status load_claim(struct agent *a, struct err *err)
{
    char *env = getenv("MUSTER_CLAIM");
    enum status s = ST_OK;
    if (a->options->claim_file != NULL) {
        bool standard = strcmp(a->options->claim_file, "-") == 0;
        int fd = standard ? STDIN_FILENO : open(a->options->claim_file, O_RDONLY | O_CLOEXEC);
        if (fd < 0) {
            s = err_at(err, ST_INVALID, "--claim-file", "cannot open %s: %s", a->options->claim_file, strerror(errno));
        } else {
            s = read_claim_fd(fd, a->claim, sizeof(a->claim), err);
        }
        if (fd >= 0 && !standard) {
            close(fd);
        }
    } else if (env != NULL && !slice_to_cstr(slice_str(env), a->claim, sizeof(a->claim))) {
        s = err_at(err, ST_INVALID, "MUSTER_CLAIM", "a claim token has at most %zu bytes", sizeof(a->claim) - 1);
    }
    if (env != NULL) {
        explicit_bzero(env, strlen(env));
        unsetenv("MUSTER_CLAIM");
    }
    return s;
}

// The settings in force before the last end are in force again before the server is reached.
static void load_settings(struct agent *a)
{
    settings_init(&a->defaults, a->options->log_level);
    a->settings = a->defaults;
    struct buf text = buf_fixed(a->scratch, SETTINGS_MAX);
    if (statedir_read(&a->dir, "settings.json", &text, NULL) == ST_OK) {
        a->settings_crc = crc32c(0, buf_view(&text));
        settings_apply(&a->settings, &a->defaults, (struct muster_text){(const char *)text.p, text.len});
    }
    log_set_level(a->settings.log_level);
}

static bool use_key(void *agent, struct ssl_ctx_st *ctx)
{
    const struct agent *a = agent;
    return a->keys.ops->use(&a->keys, enroll_key_slot(&a->enroll), ctx);
}

static enum status open_client(struct agent *a, struct err *err)
{
    struct muster_openssl_config tls = {.host = a->options->host,
                                        .port = a->options->port,
                                        .ca_file = a->options->ca_file,
                                        .use_key = use_key,
                                        .use_key_arg = a};
    a->transport = muster_openssl_new(&tls);
    if (a->transport == NULL) {
        return err_set(err, ST_NOMEM, "no memory for the connection");
    }
    struct muster_config config = {.keep_alive_s = 60,
                                   .window = AGENT_WINDOW,
                                   .rx_bytes = AGENT_RX_BYTES,
                                   .tx_bytes = AGENT_TX_BYTES,
                                   .store_bytes = AGENT_STORE_BYTES,
                                   .transport = muster_openssl_transport(a->transport),
                                   .callbacks = agent_callbacks,
                                   .user = a};
    size_t bytes = muster_memory_bytes(&config);
    a->client_memory = malloc(bytes);
    if (a->client_memory == NULL || muster_init(a->client_memory, bytes, &config, &a->client) != MUSTER_OK) {
        return err_set(err, ST_NOMEM, "no memory for the client");
    }
    return ST_OK;
}

static enum status check_claim(struct agent *a, struct err *err)
{
    bool expired = a->enroll.state == ENROLL_READY && clock_wall_us() >= a->enroll.not_after_us;
    if (expired && a->claim[0] != '\0') {
        log_warn("enroll", "the certificate has expired; enrolling again", LOGS("device", a->enroll.device));
        enum status s = enroll_forget(&a->enroll, err);
        if (s != ST_OK) {
            return s;
        }
    } else if (expired) {
        log_error("enroll", "the certificate has expired; a claim token is needed to enrol again");
    }
    if (a->enroll.state == ENROLL_KEYED && a->claim[0] == '\0') {
        return err_at(err, ST_UNAUTHENTICATED, "--claim-file",
                      "this device is not enrolled yet: give a claim token with --claim-file or in MUSTER_CLAIM");
    }
    if (a->enroll.state != ENROLL_KEYED) {
        explicit_bzero(a->claim, sizeof(a->claim));
    }
    return ST_OK;
}

enum status agent_open(struct agent *a, const struct options *o, const char *root, struct err *err)
{
    *a = (struct agent){.options = o, .root = root, .dir = {.fd = -1, .lock_fd = -1}};
    enum status s = load_claim(a, err);
    s = s == ST_OK ? statedir_open(&a->dir, o->state_dir, err) : s;
    if (s != ST_OK) {
        return s;
    }
    a->keys = keys_file(&a->dir);
    s = enroll_open(&a->enroll, &a->dir, &a->keys, err);
    s = s == ST_OK ? check_claim(a, err) : s;
    if (s != ST_OK) {
        return s;
    }
    load_settings(a);
    char path[STATEDIR_PATH_MAX];
    statedir_path(&a->dir, "queue", path);
    s = queue_open(path, o->queue_bytes, &a->queue, err);
    s = s == ST_OK ? open_client(a, err) : s;
    if (s != ST_OK) {
        return s;
    }
    health_init(&a->health, root, &a->settings);
    a->report_due = true;
    a->next_sample_ms = agent_now_ms() + FIRST_SAMPLE_MS;
    return agent_dial(a, err);
}

void agent_close(struct agent *a)
{
    queue_close(a->queue);
    muster_openssl_free(a->transport);
    free(a->client_memory);
    statedir_close(&a->dir);
    explicit_bzero(a->claim, sizeof(a->claim));
}

// ---- Running --------------------------------------------------------------------------------------------------------

// A new identity needs a new connection: the old one ends first.
static enum status turn_dial(struct agent *a, int64_t now_ms, struct err *err)
{
    if (!a->redial) {
        return ST_OK;
    }
    if (muster_state(a->client) != MUSTER_IDLE) {
        muster_stop(a->client);
        return ST_OK;
    }
    if (now_ms < a->dial_after_ms) {
        return ST_OK;
    }
    a->redial = false;
    return agent_dial(a, err);
}

// When the certificates have been read, after the handshake, and after an attempt that failed.
static void turn_memory(struct agent *a)
{
    enum muster_state state = muster_state(a->client);
    bool resting = state == MUSTER_OPENING || state == MUSTER_ONLINE || state == MUSTER_WAITING;
    if (resting && state != a->trimmed) {
        agent_trim_memory();
        a->trimmed = state;
    }
}

static void turn_once(struct agent *a)
{
    if (a->options->once && a->sampled && a->online && queue_len(a->queue) == 0 && !a->report_due &&
        !a->report_flying) {
        a->stop = true;
    }
}

static enum status agent_turn(struct agent *a, struct err *err)
{
    int64_t now_ms = agent_now_ms();
    enum status s = turn_dial(a, now_ms, err);
    if (s != ST_OK) {
        return s;
    }
    agent_renew(a, now_ms);
    agent_ask(a, now_ms);
    agent_sample(a, now_ms);
    agent_report(a, now_ms);
    agent_forward(a, now_ms);
    agent_sync(a, now_ms);
    turn_memory(a);
    turn_once(a);
    return ST_OK;
}

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int agent_wait_ms(const struct agent *a, uint32_t client_ms)
{
    int64_t now_ms = agent_now_ms();
    int64_t due = least(now_ms + client_ms, a->next_sample_ms);
    if (a->redial) {
        due = least(due, a->dial_after_ms > now_ms ? a->dial_after_ms : now_ms + 10);
    }
    if (a->forward_after_ms > now_ms) {
        due = least(due, a->forward_after_ms);
    }
    if (a->online && a->enroll.state == ENROLL_READY) {
        int64_t renew_ms = now_ms + (enroll_renew_at_us(&a->enroll) - clock_wall_us()) / 1000 + 1;
        due = least(due, renew_ms > a->next_renew_ms ? renew_ms : a->next_renew_ms);
    }
    if (queue_dirty(a->queue) || a->asked) {
        due = least(due, now_ms + 1000);
    }
    return due <= now_ms ? 0 : (int)(due - now_ms);
}

static void read_signal(struct agent *a, int signal_fd)
{
    struct signalfd_siginfo info;
    if (read(signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
        log_info("agent", "ending", LOGU("signal", info.ssi_signo));
        a->stop = true;
    }
}

static void agent_poll(struct agent *a, int signal_fd, int wait_ms)
{
    struct pollfd fds[2] = {{.fd = signal_fd, .events = POLLIN},
                            {.fd = muster_openssl_fd(a->transport),
                             .events = muster_openssl_events(a->transport, muster_wants_write(a->client))}};
    if (poll(fds, 2, wait_ms) > 0 && fds[0].revents != 0) {
        read_signal(a, signal_fd);
    }
}

// Says goodbye; what is not acknowledged stays in the queue.
static void agent_goodbye(struct agent *a, int signal_fd)
{
    int64_t until = agent_now_ms() + CLOSE_WAIT_MS;
    muster_stop(a->client);
    muster_step(a->client);
    while (muster_state(a->client) != MUSTER_IDLE && agent_now_ms() < until) {
        agent_poll(a, signal_fd, 50);
        muster_step(a->client);
    }
}

enum status agent_run(struct agent *a, int signal_fd, struct err *err)
{
    enum status s = ST_OK;
    while (!a->stop && s == ST_OK) {
        muster_step(a->client);
        s = agent_turn(a, err);
        uint32_t client_ms = muster_step(a->client); // what the turn gave it to do
        if (!a->stop && s == ST_OK) {
            agent_poll(a, signal_fd, agent_wait_ms(a, client_ms));
        }
    }
    agent_goodbye(a, signal_fd);
    struct err why;
    if (queue_sync(a->queue, &why) != ST_OK) {
        log_error("queue", "cannot sync", LOGS("error", why.text));
    }
    return s;
}
