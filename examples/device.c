// A thermometer in one screen: sends a temperature and obeys the desired value "interval_s".
//   MUSTER_ACCESS_TOKEN=... device HOST PORT CA-FILE DEVICE-ID
#include <muster/transport_openssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

struct device {
    struct muster *client;
    int64_t interval_s;
};

static void on_desired(void *user, const struct muster_desired *desired)
{
    struct device *d = user;
    int64_t wanted;
    bool given = muster_json_int(desired->desired, "interval_s", &wanted) == MUSTER_OK;
    d->interval_s = given && wanted >= 1 && wanted <= 3600 ? wanted : d->interval_s;
    char json[64];
    int len = snprintf(json, sizeof(json), "{\"interval_s\":%d}", (int)d->interval_s);
    muster_report(d->client, json, (size_t)len, 0);
}

static void measure(struct device *d)
{
    char json[128];
    struct muster_telemetry t;
    muster_telemetry_begin(&t, json, sizeof(json), (int64_t)time(NULL) * 1000);
    muster_telemetry_add_double(&t, "temperature", 20.0 + (double)(time(NULL) % 50) / 10);
    if (muster_telemetry_end(&t) == MUSTER_OK) {
        muster_send_telemetry(d->client, t.json, t.len, false, 0);
    }
}

int main(int argc, char **argv)
{
    static char memory[64 * 1024];
    struct device d = {.interval_s = 10};
    if (argc != 5) {
        fprintf(stderr, "usage: device HOST PORT CA-FILE DEVICE-ID\n");
        return 2;
    }
    struct muster_openssl *tls = muster_openssl_new(
        &(struct muster_openssl_config){.host = argv[1], .port = (uint16_t)atoi(argv[2]), .ca_file = argv[3]});
    struct muster_config config = {.transport = muster_openssl_transport(tls), .user = &d};
    config.client_id = config.username = argv[4];
    config.password = getenv("MUSTER_ACCESS_TOKEN");
    config.callbacks.on_desired = on_desired;
    if (muster_init(memory, sizeof(memory), &config, &d.client) != MUSTER_OK || muster_start(d.client) != MUSTER_OK) {
        return 1;
    }
    for (time_t next = 0;; muster_openssl_wait(tls, muster_wants_write(d.client), 500)) {
        if (time(NULL) >= next) {
            measure(&d);
            next = time(NULL) + d.interval_s;
        }
        muster_step(d.client);
    }
}
