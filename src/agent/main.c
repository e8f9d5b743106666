#include "agent/agent.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/signalfd.h>
#include <unistd.h>

static int print_text(void (*write_text)(struct buf *out))
{
    struct buf out = buf_heap(65536);
    write_text(&out);
    bool ok = !out.failed && fwrite(out.p, 1, out.len, stdout) == out.len && fflush(stdout) == 0;
    buf_release(&out);
    return ok ? 0 : 1;
}

// SIGTERM and SIGINT become readable; a peer that closes is no reason to die.
static int open_signals(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    signal(SIGPIPE, SIG_IGN);
    return sigprocmask(SIG_BLOCK, &set, NULL) == 0 ? signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK) : -1;
}

static int run(const struct options *o)
{
    log_setup(o->log_level, o->log_format, STDERR_FILENO);
    int signal_fd = open_signals();
    struct agent *a = calloc(1, sizeof(*a));
    if (signal_fd < 0 || a == NULL) {
        fprintf(stderr, "muster-agent: no memory or descriptors to start\n");
        free(a);
        return 1;
    }
    struct err err = {.code = ST_OK};
    enum status s = agent_open(a, o, "", &err);
    bool callers_mistake = s == ST_INVALID || s == ST_UNAUTHENTICATED;
    if (s == ST_OK) {
        s = agent_run(a, signal_fd, &err);
    }
    if (s != ST_OK) {
        fprintf(stderr, "muster-agent: %s%s%s\n", err.where, err.where[0] != '\0' ? ": " : "", err.text);
    }
    agent_close(a);
    free(a);
    close(signal_fd);
    return s == ST_OK ? 0 : callers_mistake ? 2 : 1;
}

int main(int argc, char **argv)
{
    struct options o;
    struct err err = {.code = ST_OK};
    if (options_parse(&o, argc, argv, &err) != ST_OK) {
        fprintf(stderr, "muster-agent: %s: %s\n", err.where, err.text);
        return 2;
    }
    if (o.help || o.man) {
        return print_text(o.help ? options_help : options_man);
    }
    if (o.version) {
        return printf("muster-agent %s\n", MUSTER_VERSION) > 0 ? 0 : 1;
    }
    return run(&o);
}
