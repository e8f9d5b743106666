#include "front/http/http_front.h"

#include <http_parser.h>
#include <jansson.h>
#include <stdlib.h>

#include "base/rand.h"
#include "core/metrics.h"
#include "front/http/http_priv.h"

#define EXPIRE_EVERY_MS 60000

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
