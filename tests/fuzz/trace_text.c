// Any packet in words and into a capture file: the words are printable ASCII, a password never shows, the file's blocks add up.
// First byte: version and direction; then the peer's address up to a newline; then the packet.
#include <stdlib.h>

#include "proto/mqtt_text.h"
#include "proto/pcapng.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool ok)
{
    if (!ok) {
        abort();
    }
}

static uint32_t le32(struct reader *r)
{
    struct slice s = rd_bytes(r, 4);
    return r->failed ? 0 : (uint32_t)s.p[0] | (uint32_t)s.p[1] << 8 | (uint32_t)s.p[2] << 16 | (uint32_t)s.p[3] << 24;
}

static void check_file(struct slice file)
{
    struct reader r = reader_make(file);
    while (reader_left(&r) > 0) {
        (void)le32(&r);
        uint32_t len = le32(&r);
        require(len >= 12 && len % 4 == 0);
        (void)rd_bytes(&r, len - 12);
        require(le32(&r) == len && !r.failed);
    }
}

static void words(struct slice packet, enum mqtt_version v)
{
    struct mqtt_packet p;
    struct mqtt_error err;
    size_t used = 0;
    struct buf out = buf_heap(1u << 20);
    if (mqtt_decode(packet, v, &mqtt_limits_default, &p, &used, NULL, &err) == MQTT_DONE) {
        require(mqtt_text(&out, v, &p));
        for (size_t i = 0; i < out.len; i++) {
            require(out.p[i] >= 0x20 && out.p[i] < 0x7f);
        }
    }
    size_t at = 0;
    size_t len = 0;
    require(!mqtt_password_place(packet, &at, &len) || (len > 0 && at + len <= packet.len));
    buf_release(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct pcapng file;
    if (size == 0) {
        return 0;
    }
    struct slice in = slice_make(data + 1, size - 1);
    const uint8_t *newline = in.len > 0 ? memchr(in.p, '\n', in.len) : NULL;
    char peer[80] = "";
    if (newline != NULL) {
        (void)slice_to_cstr(slice_head(in, (size_t)(newline - in.p)), peer, sizeof(peer));
        in = slice_from(in, (size_t)(newline - in.p) + 1);
    }
    words(in, data[0] % 2 == 0 ? MQTT_V311 : MQTT_V5);
    struct buf out = buf_heap(4u << 20);
    struct pcapng_packet p = {.ts_us = 1, .conn = 1, .peer = peer, .to_peer = (data[0] & 2) != 0, .data = in};
    p.data_len = in.len + (data[0] & 4 ? 100000 : 0);
    p.note = (data[0] & 8) != 0 ? "note" : NULL;
    require(pcapng_begin(&file, &out, "fuzz") && pcapng_put(&file, &p) && pcapng_put(&file, &p));
    check_file(buf_view(&out));
    buf_release(&out);
    return 0;
}
