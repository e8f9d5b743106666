// The capture file, read back block by block: lengths, addresses, sequence numbers, checksums, what was cut.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/reader.h"
#include "proto/pcapng.h"

#define PACKETS_MAX 32

struct seen {
    bool v6;
    uint8_t from[16], to[16];
    uint16_t from_port, to_port;
    uint32_t seq, ack, kept, original;
    uint64_t us;
    uint8_t flags;
    struct slice data;
    bool comment;
};

static uint32_t le32(struct reader *r)
{
    struct slice s = rd_bytes(r, 4);
    return r->failed ? 0 : (uint32_t)s.p[0] | (uint32_t)s.p[1] << 8 | (uint32_t)s.p[2] << 16 | (uint32_t)s.p[3] << 24;
}

static void read_ip(struct reader *r, struct seen *s)
{
    s->v6 = (rd_peek(r) >> 4) == 6;
    if (s->v6) {
        rd_bytes(r, 6);
        assert_int_equal(rd_u8(r), 6);
        rd_u8(r);
    } else {
        struct slice head = slice_make(r->p, 20);
        uint32_t sum = 0;
        for (size_t i = 0; i < 20; i += 2) {
            sum += (uint32_t)head.p[i] << 8 | head.p[i + 1];
        }
        assert_int_equal((sum & 0xffff) + (sum >> 16), 0xffff); // a header with its checksum adds up to all ones
        rd_bytes(r, 12);
    }
    size_t n = s->v6 ? 16 : 4;
    memcpy(s->from, rd_bytes(r, n).p, n);
    memcpy(s->to, rd_bytes(r, n).p, n);
}

static void read_packet(struct reader r, struct seen *s)
{
    assert_int_equal(le32(&r), 0);
    s->us = (uint64_t)le32(&r) << 32;
    s->us |= le32(&r);
    s->kept = le32(&r);
    s->original = le32(&r);
    struct reader p = rd_sub(&r, s->kept);
    rd_bytes(&r, (4 - s->kept % 4) % 4);
    s->comment = reader_left(&r) > 0;
    read_ip(&p, s);
    s->from_port = rd_u16(&p);
    s->to_port = rd_u16(&p);
    s->seq = rd_u32(&p);
    s->ack = rd_u32(&p);
    assert_int_equal(rd_u8(&p), 0x50);
    s->flags = rd_u8(&p);
    rd_bytes(&p, 6);
    s->data = rd_rest(&p);
    assert_false(p.failed);
}

static size_t read_file(struct slice file, struct seen all[PACKETS_MAX])
{
    struct reader r = reader_make(file);
    size_t n = 0;
    for (unsigned block = 0; reader_left(&r) > 0; block++) {
        uint32_t type = le32(&r);
        uint32_t len = le32(&r);
        assert_true(len >= 12 && len % 4 == 0);
        struct reader body = rd_sub(&r, len - 12);
        assert_int_equal(le32(&r), len); // repeated at the end
        assert_false(r.failed);
        assert_int_equal(type, block == 0 ? 0x0a0d0d0a : block == 1 ? 1 : 6);
        if (block > 1) {
            assert_true(n < PACKETS_MAX);
            read_packet(body, &all[n++]);
        }
    }
    return n;
}

static void test_a_conversation(void **state)
{
    (void)state;
    struct pcapng w;
    struct buf out = buf_heap(1 << 20);
    struct seen s[PACKETS_MAX];
    assert_true(pcapng_begin(&w, &out, "muster"));
    struct pcapng_packet in = {.ts_us = 1700000000000001, .conn = 7, .peer = "192.0.2.1:4711", .data = SLICE("hello")};
    in.data_len = 5;
    struct pcapng_packet back = in;
    back.to_peer = true;
    back.data = SLICE("ok");
    back.data_len = 2;
    back.note = "said yes";
    assert_true(pcapng_put(&w, &in) && pcapng_put(&w, &back) && pcapng_put(&w, &in));
    size_t n = read_file(buf_view(&out), s);
    assert_int_equal(n, 5); // SYN, SYN+ACK, three of data
    assert_int_equal(s[0].flags, 0x02);
    assert_int_equal(s[1].flags, 0x12);
    assert_memory_equal(s[2].from, "\xc0\x00\x02\x01", 4);
    assert_int_equal(s[2].from_port, 4711);
    assert_int_equal(s[2].to_port, 1883);
    assert_int_equal(s[2].us, 1700000000000001);
    assert_int_equal(s[2].seq, 1);
    assert_true(slice_eq_str(s[2].data, "hello"));
    assert_int_equal(s[3].to_port, 4711);
    assert_int_equal(s[3].ack, 6);
    assert_true(s[3].comment);
    assert_int_equal(s[4].seq, 6);
    assert_int_equal(s[4].ack, 3);
    buf_release(&out);
}

static void test_addresses(void **state)
{
    (void)state;
    static const struct {
        const char *peer;
        bool v6;
        const char *bytes;
        uint16_t port;
    } cases[] = {
        {"[2001:db8::1]:80", true, "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01", 80},
        {"[::1]:1", true, "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01", 1},
        {"[fe80::]:9", true, "\xfe\x80\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 9},
        {"[1:2:3:4:5:6:7:8]:9", true, "\0\x01\0\x02\0\x03\0\x04\0\x05\0\x06\0\x07\0\x08", 9},
        {"[1:2:3]:9", false, "\0\0\0\0", 0},
        {"[1::2::3]:9", false, "\0\0\0\0", 0},
        {"[1:2:3:4:5:6:7:8:9]:9", false, "\0\0\0\0", 0},
        {"[zz::1]:9", false, "\0\0\0\0", 0},
        {"255.255.255.255:65535", false, "\xff\xff\xff\xff", 65535},
        {"1.2.3:1", false, "\0\0\0\0", 0},
        {"1.2.3.256:1", false, "\0\0\0\0", 0},
        {"1.2.3.4:65536", false, "\0\0\0\0", 0},
        {"nonsense", false, "\0\0\0\0", 0},
        {"", false, "\0\0\0\0", 0},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct pcapng w;
        struct buf out = buf_heap(1 << 16);
        struct seen s[PACKETS_MAX];
        struct pcapng_packet p = {.conn = 1, .peer = cases[i].peer, .data = SLICE("x"), .data_len = 1};
        assert_true(pcapng_begin(&w, &out, "") && pcapng_put(&w, &p));
        assert_int_equal(read_file(buf_view(&out), s), 3);
        assert_int_equal(s[2].v6, cases[i].v6);
        assert_memory_equal(s[2].from, cases[i].bytes, cases[i].v6 ? 16 : 4);
        assert_int_equal(s[2].from_port, cases[i].port);
        buf_release(&out);
    }
}

static void test_long_and_cut_packets(void **state)
{
    (void)state;
    static const uint8_t big[70000] = {1};
    struct pcapng w;
    struct buf out = buf_heap(1 << 20);
    struct seen s[PACKETS_MAX];
    struct pcapng_packet p = {.conn = 1, .peer = "1.2.3.4:5", .data = {big, sizeof(big)}, .data_len = sizeof(big)};
    assert_true(pcapng_begin(&w, &out, "muster") && pcapng_put(&w, &p));
    p.data_len = 100000; // only 70,000 of it were kept
    assert_true(pcapng_put(&w, &p));
    size_t n = read_file(buf_view(&out), s);
    assert_int_equal(n, 2 + 3 + 4);
    assert_int_equal(s[4].seq, 1 + 2 * 32768);
    assert_int_equal(s[8].seq, 1 + 70000 + 3 * 32768);
    assert_int_equal(s[8].data.len, 0);
    assert_int_equal(s[8].original, 40 + 100000 - 3 * 32768);
    buf_release(&out);
    out = buf_heap(64);
    assert_true(pcapng_begin(&w, &out, ""));
    assert_false(pcapng_put(&w, &p));
    buf_release(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_conversation),
        cmocka_unit_test(test_addresses),
        cmocka_unit_test(test_long_and_cut_packets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
