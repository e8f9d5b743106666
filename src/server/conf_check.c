#include "server/conf_check.h"

#include <string.h>

#include "core/ids.h"
#include "front/http/http_front.h"
#include "net/addr.h"
#include "server/tls_setup.h"

struct check {
    const struct conf *conf;
    const char *file;
    struct buf *problems;
    bool bad;
};

static void problem(struct check *k, const char *key, const char *text)
{
    unsigned line = conf_file_line(k->conf, key);
    if (line > 0 && k->file != NULL) {
        buf_printf(k->problems, "%s:%u: ", k->file, line);
    }
    buf_printf(k->problems, "%s: %s\n", key, text);
    k->bad = true;
}

static void check_proxies(struct check *k)
{
    const char *const *list = NULL;
    size_t n = conf_list(k->conf, "listen.proxy_from", &list);
    for (size_t i = 0; i < n; i++) {
        struct addr_net net;
        struct err err = {.code = ST_OK};
        if (addr_net_parse(list[i], &net, &err) != ST_OK) {
            problem(k, "listen.proxy_from", err.text);
        }
    }
}

static void check_origins(struct check *k)
{
    const char *const *list = NULL;
    size_t n = conf_list(k->conf, "http.websocket_origins", &list);
    for (size_t i = 0; i < n; i++) {
        struct err err = {.code = ST_OK};
        if (!http_origin_valid(slice_str(list[i]))) {
            (void)err_set(
                &err, ST_INVALID,
                "\"%.100s\" is no origin and would match nothing; https://HOST, https://HOST:PORT (without the "
                "usual port, without a path), null or * is allowed",
                list[i]);
            problem(k, "http.websocket_origins", err.text);
        }
    }
}

static void check_redirect(struct check *k)
{
    if (conf_int(k->conf, "mqtt.redirect") != 0 && conf_str(k->conf, "mqtt.redirect_to")[0] == '\0') {
        problem(k, "mqtt.redirect",
                "clients would be refused and not told where to go; set mqtt.redirect_to too, or off");
    }
}

static void check_anonymous(struct check *k)
{
    const char *policy = conf_str(k->conf, "mqtt.anonymous");
    if (policy[0] != '\0' && !id_valid(slice_str(policy))) {
        problem(k, "mqtt.anonymous",
                "this cannot be the id of a policy; 1 to 128 of letters, digits, '.', '_', ':' and '-' are allowed");
    }
}

static void check_pair(struct check *k)
{
    bool cert = conf_str(k->conf, "tls.cert_file")[0] != '\0', key = conf_str(k->conf, "tls.key_file")[0] != '\0';
    if (cert != key) {
        problem(k, cert ? "tls.cert_file" : "tls.key_file", "tls.cert_file and tls.key_file are given together");
    }
}

bool conf_check(const struct conf *c, const char *file, struct buf *problems)
{
    static void (*const checks[])(struct check *) = {check_proxies, check_origins, check_redirect, check_anonymous,
                                                     check_pair};
    struct check k = {.conf = c, .file = file, .problems = problems};
    for (size_t i = 0; i < sizeof(checks) / sizeof(checks[0]); i++) {
        checks[i](&k);
    }
    return !k.bad;
}

static void on_tls_problem(void *arg, const char *key, const char *text)
{
    problem(arg, key, text);
}

bool conf_check_files(const struct conf *c, const char *file, struct buf *problems)
{
    struct check k = {.conf = c, .file = file, .problems = problems};
    tls_setup_check(c, on_tls_problem, &k);
    return !k.bad;
}

void conf_check_unknown(const struct conf *c, struct buf *out)
{
    const char *const *sites = NULL;
    buf_str(out, "not checked: whether the data directory and the ports can be had\n");
    if (conf_str(c, "mqtt.anonymous")[0] != '\0') {
        buf_printf(out, "not checked: whether there is a policy \"%s\" (mqtt.anonymous); the log says at the start\n",
                   conf_str(c, "mqtt.anonymous"));
    }
    if (conf_list(c, "tls.sni", &sites) > 0) {
        buf_str(out, "not checked: whether there are the tenants that tls.sni names\n");
    }
}
