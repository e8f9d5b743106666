// The configuration keys of the HTTP front.
#include "front/http/http_front.h"

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
    {.name = "http.websocket_origins",
     .type = CONF_LIST,
     .dflt = "",
     .help =
         "Origins (https://app.example.org) whose pages may open a WebSocket, beside those of the server's own host; * "
         "allows all. Clients that are no browsers send no origin and are not concerned."},
};
const struct conf_module http_conf_module = {"HTTP", conf_keys, sizeof(conf_keys) / sizeof(conf_keys[0])};

void http_front_conf_read(const struct conf *c, struct http_front_conf *ret)
{
    ret->idle_ms = (uint32_t)(conf_int(c, "http.idle") / 1000);
    ret->streams_max = (uint32_t)conf_int(c, "http.streams");
    ret->auth_failures_max = (uint32_t)conf_int(c, "http.auth_failures");
    ret->websocket.origins_len = conf_list(c, "http.websocket_origins", &ret->websocket.origins);
}
