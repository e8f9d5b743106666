#include "front/http/http_front.h"

#include <http_parser.h>
#include <jansson.h>
#include <stdlib.h>

#include "base/rand.h"
#include "core/metrics.h"
#include "front/http/http_priv.h"

#define EXPIRE_EVERY_MS 60000
#define MINUTE_US       60000000
#define OPEN_TIMEOUT_MS 10000

enum status http_front_new(const struct http_front_conf *conf, struct http_front **ret, struct err *err)
{
    struct http_front *f = calloc(1, sizeof(*f));
    uint32_t per_min = conf->auth_failures_max > 0 ? conf->auth_failures_max : 1;
    struct rate *wrong_tokens = rate_new(MINUTE_US / per_min, per_min);
    if (f == NULL || wrong_tokens == NULL) {
        free(f);
        rate_free(wrong_tokens);
        return err_set(err, ST_NOMEM, "no memory for the HTTP front");
    }
    f->conf = *conf;
    f->wrong_tokens = wrong_tokens;
    http_parser_set_max_header_size(HTTP_HEAD_MAX);
    uint32_t seed = 0;
    rand_secret(&seed, sizeof(seed));
    json_object_seed(seed | 1U); // before the first object, so that no two threads race to do it
    http_metrics_register();
    core_every(conf->core, EXPIRE_EVERY_MS, http_idem_expire);
    *ret = f;
    return ST_OK;
}

struct conn_service http_front_service(struct http_front *f)
{
    return (struct conn_service){.proto = &http_proto,
                                 .front = f,
                                 .in_max = HTTP_IN_MAX,
                                 .in_max_before_auth = HTTP_IN_MAX,
                                 .out_max = HTTP_OUT_MAX,
                                 .open_timeout_ms = OPEN_TIMEOUT_MS};
}

void http_front_free(struct http_front *f)
{
    if (f != NULL) {
        rate_free(f->wrong_tokens);
        free(f);
    }
}
