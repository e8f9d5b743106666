#include "server/serve.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "net/loop.h"
#include "server/conf_check.h"
#include "server/notify.h"
#include "server/options.h"
#include "server/wire.h"

#define PROBLEMS_MAX (64u << 10)

//   start -> READY -> (SIGHUP: reload -> READY) -> SIGTERM or SIGINT -> drain -> end
struct process {
    struct options options;
    struct conf *conf;
    struct server *server;
    struct loop *loop; // the main thread's: signals, and a look at the files
    struct timer watch;
};

static void print_help(void)
{
    struct buf text = buf_heap(256u << 10);
    buf_str(&text, "Usage: muster serve --data DIR [options]\n\n"
                   "Runs the device cloud: MQTT for devices, HTTPS for operators, everything stored in DIR.\n"
                   "Options come from the command line, MUSTER_* in the environment, the file given by --config, in "
                   "this order.\n\n"
                   "  --config FILE     configuration file (YAML)\n"
                   "  --check-config    print every problem of the configuration and stop\n"
                   "  --reference       print docs/configuration.md and stop\n\n");
    struct conf_module mods[SERVER_MODULES_MAX];
    size_t mods_len = server_modules(mods);
    conf_write_help(mods, mods_len, &text);
    fwrite(text.p, 1, text.len, stdout);
    buf_release(&text);
}

// The Markdown page docs/configuration.md.
static void print_reference(void)
{
    struct buf text = buf_heap(256u << 10);
    struct conf_module mods[SERVER_MODULES_MAX];
    size_t mods_len = server_modules(mods);
    conf_write_reference(mods, mods_len, &text);
    fwrite(text.p, 1, text.len, stdout);
    buf_release(&text);
}

static void print_valid(const struct conf *conf)
{
    struct buf text = buf_heap(PROBLEMS_MAX);
    conf_check_unknown(conf, &text);
    printf("configuration is valid\n" SLICE_FMT, SLICE_ARG(buf_view(&text)));
    buf_release(&text);
}

static bool load_conf(struct process *p, struct conf **ret)
{
    struct buf problems = buf_heap(PROBLEMS_MAX);
    struct conf_module mods[SERVER_MODULES_MAX];
    size_t mods_len = server_modules(mods);
    const char *file = p->options.config_file;
    enum status s = conf_load(mods, mods_len, file, p->options.overrides, ret, &problems);
    if (s == ST_OK) {
        bool good = conf_check(*ret, file, &problems);
        if (p->options.check_only) {
            good = conf_check_files(*ret, file, &problems) && good;
        }
        s = good ? ST_OK : ST_INVALID;
    }
    if (s != ST_OK) {
        conf_free(*ret);
        *ret = NULL;
        fprintf(stderr, "muster serve: the configuration has problems:\n" SLICE_FMT, SLICE_ARG(buf_view(&problems)));
    }
    buf_release(&problems);
    return s == ST_OK;
}

static void reload(struct process *p)
{
    notify_service("RELOADING=1");
    struct conf *fresh = NULL;
    struct err err = {.code = ST_OK};
    if (!load_conf(p, &fresh)) {
        log_error("serve", "configuration not reloaded: the old one stays in force");
    } else if (server_reload(p->server, fresh, &err) != ST_OK) {
        log_error("serve", "not reloaded: the old configuration and certificates stay", LOGS("error", err.text));
        conf_free(fresh);
    } else {
        struct buf fixed = buf_heap(PROBLEMS_MAX);
        conf_diff_fixed(p->conf, fresh, &fixed);
        for (size_t i = 0; i < fixed.len; i++) {
            fixed.p[i] = fixed.p[i] == '\n' ? ' ' : fixed.p[i];
        }
        if (fixed.len > 0) {
            log_warn("serve", "these keys need a restart", LOGSL("keys", slice_head(buf_view(&fixed), fixed.len - 1)));
        }
        buf_release(&fixed);
        conf_free(p->conf);
        p->conf = fresh;
        log_set_level((enum log_level)conf_int(p->conf, "log.level"));
        log_info("serve", "configuration and certificates reloaded");
    }
    notify_service("READY=1");
}

// Certificates and lists that others renew are loaded without being told.
static void on_watch(struct timer *t)
{
    struct process *p = (struct process *)((char *)t - offsetof(struct process, watch));
    struct err err = {.code = ST_OK};
    if (!server_files_changed(p->server)) {
        return;
    }
    if (server_reload(p->server, p->conf, &err) == ST_OK) {
        log_info("serve", "certificates reloaded: their files have changed");
    } else {
        log_error("serve", "changed files are not loaded: the old certificates stay", LOGS("error", err.text));
    }
}

static void start_watch(struct process *p)
{
    uint32_t every_ms = (uint32_t)(conf_int(p->conf, "tls.watch") / 1000);
    timer_init(&p->watch, p->loop, on_watch);
    if (every_ms > 0) {
        timer_start(&p->watch, every_ms, every_ms);
    }
}

static void on_signal(void *arg, int signum)
{
    struct process *p = arg;
    if (signum == SIGHUP) {
        reload(p);
    } else {
        log_info("serve", "stopping", LOGS("signal", strsignal(signum)));
        notify_service("STOPPING=1");
        loop_stop(p->loop);
    }
}

static void announce(struct process *p)
{
    struct buf line = buf_heap(1024);
    buf_str(&line, "muster ready ");
    server_addresses(p->server, &line);
    buf_str(&line, "\n");
    fwrite(line.p, 1, line.len, stdout);
    fflush(stdout);
    buf_release(&line);
    notify_service("READY=1");
}

static int run(struct process *p)
{
    struct err err = {.code = ST_OK};
    p->loop = loop_new("main", &err);
    if (p->loop == NULL || server_new(p->conf, &p->server, &err) != ST_OK) {
        fprintf(stderr, "muster serve: %s%s%s\n", err.where, err.where[0] != '\0' ? ": " : "", err.text);
        return 1;
    }
    static const int signals[] = {SIGTERM, SIGINT, SIGHUP};
    for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
        if (loop_on_signal(p->loop, signals[i], on_signal, p, &err) != ST_OK) {
            fprintf(stderr, "muster serve: %s\n", err.text);
            server_stop(p->server);
            return 1;
        }
    }
    announce(p);
    start_watch(p);
    loop_run(p->loop);
    server_stop(p->server);
    log_info("serve", "stopped");
    return 0;
}

int serve_main(int argc, char **argv)
{
    umask(077);
    (void)signal(SIGPIPE, SIG_IGN);
    struct process p = {0};
    struct buf problems = buf_heap(PROBLEMS_MAX);
    int rc = 2;
    if (!options_parse(&p.options, argc, argv, &problems)) {
        fprintf(stderr, "muster serve: " SLICE_FMT, SLICE_ARG(buf_view(&problems)));
    } else if (p.options.help) {
        print_help();
        rc = 0;
    } else if (p.options.reference) {
        print_reference();
        rc = 0;
    } else if (load_conf(&p, &p.conf)) {
        log_setup((enum log_level)conf_int(p.conf, "log.level"), (enum log_format)conf_int(p.conf, "log.format"),
                  STDERR_FILENO);
        if (p.options.check_only) {
            print_valid(p.conf);
            rc = 0;
        } else {
            rc = run(&p);
        }
    }
    server_free(p.server);
    loop_free(p.loop);
    conf_free(p.conf);
    options_release(&p.options);
    buf_release(&problems);
    return rc;
}
