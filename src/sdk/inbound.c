#include "sdk/client.h"

static struct muster_text text_of(struct slice s)
{
    return (struct muster_text){(const char *)s.p, s.len};
}

static struct muster_text member(struct slice json, const char *path)
{
    struct muster_text t = {NULL, 0};
    muster_json_raw(text_of(json), path, &t);
    return t;
}

// The contents of a string member, without its quotes; absent when it is not a string.
static struct muster_text member_text(struct slice json, const char *path)
{
    struct muster_text t = member(json, path);
    if (t.len < 2 || t.p[0] != '"') {
        return (struct muster_text){NULL, 0};
    }
    return (struct muster_text){t.p + 1, t.len - 2};
}

static struct muster_text member_object(struct slice json, const char *path)
{
    struct muster_text t = member(json, path);
    return t.p != NULL && t.p[0] == '{' ? t : (struct muster_text){NULL, 0};
}

static struct muster_desired desired_of(struct slice json)
{
    struct muster_desired d = {.version = -1,
                               .desired = member_object(json, "desired"),
                               .delta = member_object(json, "delta"),
                               .reported = member_object(json, "reported")};
    muster_json_int(text_of(json), "version", &d.version);
    return d;
}

static void inbound_desired(struct muster *m, struct slice payload)
{
    struct muster_desired d = desired_of(payload);
    if (m->config.callbacks.on_desired != NULL && d.desired.p != NULL) {
        m->config.callbacks.on_desired(m->config.user, &d);
    }
}

static void inbound_twin(struct muster *m, struct slice payload)
{
    struct muster_desired d = desired_of(payload);
    if (m->config.callbacks.on_twin != NULL && d.desired.p != NULL) {
        m->config.callbacks.on_twin(m->config.user, &d);
    }
}

static void inbound_provisioned(struct muster *m, struct slice payload)
{
    if (m->config.callbacks.on_provisioned == NULL) {
        return;
    }
    struct muster_provisioned a = {.device = member_text(payload, "device"),
                                   .certificate = member_text(payload, "certificate"),
                                   .ca = member_text(payload, "ca"),
                                   .not_after = member_text(payload, "not_after"),
                                   .code = member_text(payload, "error/code"),
                                   .detail = member_text(payload, "error/detail")};
    a.ok = a.certificate.p != NULL && a.device.p != NULL;
    m->config.callbacks.on_provisioned(m->config.user, &a);
}

// rest: "name/id" behind "$muster/command/".
static void inbound_command(struct muster *m, struct slice rest, struct slice payload)
{
    const uint8_t *slash = rest.len > 0 ? memchr(rest.p, '/', rest.len) : NULL;
    if (slash == NULL || m->config.callbacks.on_command == NULL) {
        return;
    }
    size_t name_len = (size_t)(slash - rest.p);
    struct slice name = slice_head(rest, name_len);
    struct slice id = slice_from(rest, name_len + 1);
    if (name.len == 0 || id.len == 0 || memchr(id.p, '/', id.len) != NULL) {
        return;
    }
    struct muster_command c = {.name = text_of(name), .id = text_of(id), .payload = text_of(payload)};
    m->config.callbacks.on_command(m->config.user, &c);
}

static const struct {
    const char *topic;
    void (*handle)(struct muster *m, struct slice payload);
} inbound_topics[] = {
    {"$muster/twin/desired", inbound_desired},
    {"$muster/twin/get/reply", inbound_twin},
    {"$muster/provision/response", inbound_provisioned},
};

void inbound_publish(struct muster *m, const struct mqtt_publish *p)
{
    for (size_t i = 0; i < sizeof(inbound_topics) / sizeof(inbound_topics[0]); i++) {
        if (slice_eq_str(p->topic, inbound_topics[i].topic)) {
            inbound_topics[i].handle(m, p->payload);
            return;
        }
    }
    struct slice prefix = SLICE("$muster/command/");
    if (slice_starts(p->topic, prefix)) {
        inbound_command(m, slice_from(p->topic, prefix.len), p->payload);
    }
}
