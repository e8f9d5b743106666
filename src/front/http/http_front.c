#include "front/http/http_front.h"

#include <http_parser.h>
#include <jansson.h>
#include <stdlib.h>

#include "base/rand.h"
#include "core/metrics.h"
#include "front/http/http_priv.h"

#define EXPIRE_EVERY_MS 60000

static const struct conf_key conf_keys[] = {
    {.name = "http.idle",
     .type = CONF_DURATION,
     .dflt = "60s",
     .min = 1000000,
     .max = INT64_C(3600) * 1000000,
     .help = "How long a kept-alive HTTP connection may wait without a request before the server closes it."},
    {.name = "http.streams",
     .type = CONF_INT,
     .dflt = "256",
     .min = 0,
     .max = 10000,
     .help = "Event streams (server-sent events) open at one time; further ones are refused with 503."},
    {.name = "http.auth_failures",
     .type = CONF_INT,
     .dflt = "10",
     .min = 1,
     .max = 10000,
     .help = "Wrong tokens one source address may send per minute before it is answered 429."},
};
const struct conf_module http_conf_module = {"HTTP", conf_keys, sizeof(conf_keys) / sizeof(conf_keys[0])};

void http_front_conf_read(const struct conf *c, struct http_front_conf *ret)
{
    ret->idle_ms = (uint32_t)(conf_int(c, "http.idle") / 1000);
    ret->streams_max = (uint32_t)conf_int(c, "http.streams");
    ret->auth_failures_max = (uint32_t)conf_int(c, "http.auth_failures");
}

enum status http_front_new(const struct http_front_conf *conf, struct http_front **ret, struct err *err)
{
    struct http_front *f = calloc(1, sizeof(*f));
    struct limiter *limiter = limiter_new(conf->auth_failures_max);
    if (f == NULL || limiter == NULL) {
        free(f);
        limiter_free(limiter);
        return err_set(err, ST_NOMEM, "no memory for the HTTP front");
    }
    f->conf = *conf;
    f->limiter = limiter;
    http_parser_set_max_header_size(HTTP_HEAD_MAX);
    uint32_t seed = 0;
    rand_secret(&seed, sizeof(seed));
    json_object_seed(seed | 1U); // before the first object, so that no two threads race to do it
    http_metrics_register();
    core_every(conf->core, EXPIRE_EVERY_MS, http_idem_expire);
    *ret = f;
    return ST_OK;
}

void http_front_free(struct http_front *f)
{
    if (f != NULL) {
        limiter_free(f->limiter);
        free(f);
    }
}
