// Server bytes into the device SDK's client. The first byte chooses protocol and role, the next four how the input is cut into reads.
// After every step the client must be in a sane state, keep its promises about memory (ASan) and never call back with a message
// that was not sent.
#include <stdlib.h>

#include "../lib/fake_broker.h"
#include "sdk/client.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct fuzz {
    struct fake_broker broker;
    struct muster *m;
    uint64_t sent, acked;
    const uint8_t *in;
    size_t in_len;
};

static ptrdiff_t fuzz_read(void *arg, void *dst, size_t len)
{
    struct fuzz *f = arg;
    size_t n = f->in_len < len ? f->in_len : len;
    n = n > f->broker.chunk ? f->broker.chunk : n;
    if (n == 0) {
        return f->in_len == 0 ? MUSTER_E_CLOSED : 0;
    }
    memcpy(dst, f->in, n);
    f->in += n;
    f->in_len -= n;
    return (ptrdiff_t)n;
}
static ptrdiff_t fuzz_write(void *arg, const void *src, size_t len)
{
    struct fuzz *f = arg;
    (void)src;
    return (ptrdiff_t)(len > f->broker.chunk ? f->broker.chunk : len);
}

static void check(bool ok)
{
    if (!ok) {
        abort();
    }
}

static void on_acked(void *user, const struct muster_ack *a)
{
    struct fuzz *f = user;
    check(a->cookie >= 1 && a->cookie <= f->sent);
    f->acked++;
    check(f->acked <= f->sent);
}
static void on_desired(void *user, const struct muster_desired *d)
{
    struct fuzz *f = user;
    int64_t v = 0;
    check(d->desired.p != NULL && d->desired.p[0] == '{' && d->desired.p[d->desired.len - 1] == '}');
    (void)muster_json_int(d->desired, "agent/interval_s", &v);
    (void)muster_report(f->m, "{}", 2, 0);
}
static void on_command(void *user, const struct muster_command *c)
{
    struct fuzz *f = user;
    check(c->id.len > 0 && c->name.len > 0);
    (void)muster_command_reply(f->m, c->id, "{}", 2, 0);
}
static void on_provisioned(void *user, const struct muster_provisioned *p)
{
    (void)user;
    char text[256];
    if (p->ok) {
        (void)muster_json_text(p->certificate, text, sizeof(text));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2) {
        return 0;
    }
    struct fuzz f = {.in = data + 2, .in_len = size - 2};
    struct muster_config c = {.role = (data[0] & 2) != 0 ? MUSTER_CLAIM : MUSTER_DEVICE,
                              .protocol = (data[0] & 1) != 0 ? 4 : 5,
                              .rx_bytes = 512,
                              .tx_bytes = 512,
                              .store_bytes = 1024,
                              .window = 4,
                              .user = &f};
    c.transport = fb_init(&f.broker, MQTT_V5);
    c.transport.arg = &f; // its first member is the broker
    c.transport.read = fuzz_read;
    c.transport.write = fuzz_write;
    c.callbacks = (struct muster_callbacks){.on_acked = on_acked,
                                            .on_desired = on_desired,
                                            .on_twin = on_desired,
                                            .on_command = on_command,
                                            .on_provisioned = on_provisioned};
    f.broker.chunk = 1 + data[1] % 64;
    size_t bytes = muster_memory_bytes(&c);
    void *memory = malloc(bytes);
    check(memory != NULL && muster_init(memory, bytes, &c, &f.m) == MUSTER_OK);
    check(muster_start(f.m) == MUSTER_OK);
    for (unsigned i = 0; i < 4096; i++) {
        if (muster_send_telemetry(f.m, "{\"a\":1}", 7, false, f.sent + 1) == MUSTER_OK) {
            f.sent++;
        }
        uint32_t wait_ms = muster_step(f.m);
        check(wait_ms <= 60000 && (unsigned)muster_state(f.m) < MUSTER_STATES);
        check(muster_pending(f.m) + muster_room(f.m) == 4);
        if (f.in_len == 0 && muster_state(f.m) == MUSTER_WAITING) {
            break;
        }
        f.broker.now_ms += muster_state(f.m) == MUSTER_WAITING ? wait_ms : 1;
    }
    muster_stop(f.m);
    for (unsigned i = 0; i < 8 && muster_state(f.m) != MUSTER_IDLE; i++) {
        f.broker.now_ms += 2000;
        muster_step(f.m);
    }
    check(muster_state(f.m) == MUSTER_IDLE);
    free(memory);
    return 0;
}
