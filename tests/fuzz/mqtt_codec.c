// Any bytes into the decoder: it survives, takes no more than it was given, and what it accepts survives a round trip.
// The first byte of the input chooses the version.
#include <stdlib.h>

#include "proto/mqtt.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool ok)
{
    if (!ok) {
        abort();
    }
}

// Walks everything a user of the packet would walk.
static void walk(const struct mqtt_packet *p, enum mqtt_version v)
{
    size_t pos = 0;
    unsigned n = 0;
    struct mqtt_filter f;
    if (p->type == MQTT_SUBSCRIBE || p->type == MQTT_UNSUBSCRIBE) {
        while (mqtt_filter_next(p, v, &pos, &f)) {
            require(mqtt_filter_valid(f.filter, &mqtt_limits_default));
            n++;
        }
        require(n == p->u.subscribe.count && pos == p->u.subscribe.filters.len);
    }
    if (p->type == MQTT_PUBLISH) {
        struct slice k;
        struct slice val;
        pos = 0;
        n = 0;
        while (mqtt_props_next_user(&p->u.publish.props, &pos, &k, &val)) {
            n++;
        }
        require(n == p->u.publish.props.user_count);
    }
}

static void round_trip(const struct mqtt_packet *p, enum mqtt_version v)
{
    struct buf once = buf_heap(MQTT_PACKET_MAX);
    struct buf twice = buf_heap(MQTT_PACKET_MAX);
    struct mqtt_packet q;
    struct mqtt_error err;
    size_t used = 0;
    require(mqtt_encode(&once, v, p));
    require(mqtt_decode(buf_view(&once), v, &mqtt_limits_default, &q, &used, NULL, &err) == MQTT_DONE);
    require(used == once.len && q.type == p->type);
    require(mqtt_encode(&twice, v, &q) && slice_eq(buf_view(&once), buf_view(&twice)));
    buf_release(&once);
    buf_release(&twice);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) {
        return 0;
    }
    enum mqtt_version v = (data[0] & 1) != 0 ? MQTT_V5 : MQTT_V311;
    struct slice in = slice_from(slice_make(data, size), 1);
    for (unsigned packets = 0; packets < 64; packets++) {
        struct mqtt_packet p;
        struct mqtt_error err = {0, NULL};
        size_t used = 0;
        size_t need = 0;
        enum mqtt_result r = mqtt_decode(in, v, &mqtt_limits_default, &p, &used, &need, &err);
        if (r == MQTT_BAD) {
            require(err.text != NULL && err.reason >= 0x80);
            return 0;
        }
        if (r == MQTT_MORE) {
            require(need == 0 || need > in.len);
            return 0;
        }
        require(used >= 2 && used <= in.len);
        v = p.type == MQTT_CONNECT ? p.u.connect.version : v;
        walk(&p, v);
        round_trip(&p, v);
        in = slice_from(in, used);
    }
    return 0;
}
