#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "lib/ws_frame.h"
#include "proto/ws.h"

#define MESSAGE_MAX 70000

// All events of `in`, fed `piece` bytes at a time, as letters: p ping, c close, b broken.
static void read_all(struct ws *w, struct slice in, size_t piece, struct buf *out, char *events, size_t events_size)
{
    size_t n = 0;
    while (in.len > 0) {
        struct slice part = slice_head(in, piece);
        in = slice_from(in, part.len);
        struct reader r = reader_make(part);
        enum ws_event e;
        while ((e = ws_read(w, &r, out)) != WS_ALL) {
            assert_true(n + 1 < events_size);
            events[n++] = e == WS_PINGED ? 'p' : e == WS_CLOSED ? 'c' : 'b';
            if (e != WS_PINGED) {
                events[n] = '\0';
                return;
            }
        }
        assert_int_equal(reader_left(&r), 0);
    }
    events[n] = '\0';
}

static void test_messages_become_a_stream(void **state)
{
    (void)state;
    static char large[MESSAGE_MAX];
    for (size_t i = 0; i < sizeof(large); i++) {
        large[i] = (char)(i * 7);
    }
    struct buf in = buf_heap(1 << 20), want = buf_heap(1 << 20);
    ws_frame(&in, 0x82, "hello", 5);
    ws_frame(&in, 0x82, "", 0);
    ws_frame(&in, 0x02, "in ", 3); // in pieces, with control frames between them
    ws_frame(&in, 0x89, "are you there", 13);
    ws_frame(&in, 0x00, "thr", 3);
    ws_frame(&in, 0x8a, "not asked for", 13);
    ws_frame(&in, 0x80, "ee", 2);
    ws_frame(&in, 0x82, large, 126);
    ws_frame(&in, 0x82, large, 65535);
    ws_frame(&in, 0x82, large, 65536);
    ws_frame(&in, 0x89, "", 0);
    buf_str(&want, "helloin three");
    buf_put(&want, large, 126);
    buf_put(&want, large, 65535);
    buf_put(&want, large, 65536);
    static const size_t pieces[] = {1, 2, 3, 7, 13, 4096, 1 << 20};
    for (size_t i = 0; i < sizeof(pieces) / sizeof(pieces[0]); i++) {
        struct ws w;
        struct buf out = buf_heap(1 << 20);
        char events[8];
        ws_init(&w, MESSAGE_MAX);
        read_all(&w, buf_view(&in), pieces[i], &out, events, sizeof(events));
        assert_string_equal(events, "pp");
        assert_true(slice_eq(buf_view(&out), buf_view(&want)));
        buf_release(&out);
    }
    buf_release(&in);
    buf_release(&want);
}

static void test_ping_is_answered_with_its_payload(void **state)
{
    (void)state;
    uint8_t in_mem[256], out_mem[256];
    struct buf in = buf_fixed(in_mem, sizeof(in_mem)), out = buf_fixed(out_mem, sizeof(out_mem));
    char payload[WS_CONTROL_MAX];
    memset(payload, 'x', sizeof(payload));
    ws_frame(&in, 0x89, payload, sizeof(payload));
    struct ws w;
    ws_init(&w, MESSAGE_MAX);
    struct reader r = reader_make(buf_view(&in));
    assert_int_equal(ws_read(&w, &r, &out), WS_PINGED);
    assert_int_equal(out.len, 0);
    assert_true(ws_pong(&out, &w));
    assert_int_equal(out.len, 2 + sizeof(payload));
    assert_int_equal(out_mem[0], 0x8a);
    assert_int_equal(out_mem[1], sizeof(payload));
    assert_memory_equal(out_mem + 2, payload, sizeof(payload));
}

static void test_broken_rules(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t len;
        uint16_t code;
        const char *error;
    } rows[] = {
#define ROW(lit, code, error) {lit, sizeof(lit) - 1, code, error}
        ROW("\xc2\x80\0\0\0\0", WS_PROTOCOL_ERROR, "reserved"),
        ROW("\x92\x80\0\0\0\0", WS_PROTOCOL_ERROR, "reserved"),
        ROW("\x82\x01x", WS_PROTOCOL_ERROR, "not masked"),
        ROW("\x81\x81\0\0\0\0x", WS_UNSUPPORTED, "text"),
        ROW("\x83\x80\0\0\0\0", WS_PROTOCOL_ERROR, "opcode"),
        ROW("\x8b\x80\0\0\0\0", WS_PROTOCOL_ERROR, "opcode"),
        ROW("\x80\x80\0\0\0\0", WS_PROTOCOL_ERROR, "continuation"),
        ROW("\x02\x80\0\0\0\0\x82\x80\0\0\0\0", WS_PROTOCOL_ERROR, "inside another"),
        ROW("\x09\x80\0\0\0\0", WS_PROTOCOL_ERROR, "in pieces"),
        ROW("\x89\xfe\0\x7e\0\0\0\0", WS_PROTOCOL_ERROR, "125"),
        ROW("\x82\xfe\0\x7d\0\0\0\0", WS_PROTOCOL_ERROR, "shortest"),
        ROW("\x82\xff\0\0\0\0\0\0\xff\xff\0\0\0\0", WS_PROTOCOL_ERROR, "shortest"),
        ROW("\x82\xff\x80\0\0\0\0\0\0\0\0\0\0\0", WS_PROTOCOL_ERROR, "shortest"),
        ROW("\x82\xff\0\0\0\0\0\x01\x11\x71\0\0\0\0", WS_TOO_BIG, "limit"),
        ROW("\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff\0\0\0\0", WS_TOO_BIG, "limit"),
        ROW("\x88\x81\0\0\0\0\x03", WS_PROTOCOL_ERROR, "close code"),
        ROW("\x88\x82\0\0\0\0\x03\xed", WS_PROTOCOL_ERROR, "close code"), // 1005
        ROW("\x88\x82\0\0\0\0\x03\xe7", WS_PROTOCOL_ERROR, "close code"), // 999
        ROW("\x88\x82\0\0\0\0\x07\xd0", WS_PROTOCOL_ERROR, "close code"), // 2000
        ROW("\x88\x83\0\0\0\0\x03\xe8\xff", WS_BAD_TEXT, "UTF-8"),
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        for (size_t piece = 1; piece <= 64; piece *= 64) {
            struct ws w;
            uint8_t mem[16];
            struct buf out = buf_fixed(mem, sizeof(mem));
            char events[4];
            ws_init(&w, MESSAGE_MAX);
            read_all(&w, slice_make(rows[i].bytes, rows[i].len), piece, &out, events, sizeof(events));
            assert_string_equal(events, "b");
            assert_int_equal(w.code, rows[i].code);
            if (strstr(w.error, rows[i].error) == NULL) {
                fail_msg("row %zu: '%s' is not '%s'", i, w.error, rows[i].error);
            }
            struct reader more = reader_make(SLICE("\x82\x81\0\0\0\0x"));
            assert_int_equal(ws_read(&w, &more, &out), WS_ALL); // nothing is read any more
            assert_int_equal(reader_left(&more), 7);
        }
    }
}

// One below, at and one above the limit, in one frame and in two.
static void test_message_limit(void **state)
{
    (void)state;
    static const char bytes[12];
    for (size_t len = 9; len <= 11; len++) {
        for (int parts = 1; parts <= 2; parts++) {
            uint8_t in_mem[64], out_mem[64];
            struct buf in = buf_fixed(in_mem, sizeof(in_mem)), out = buf_fixed(out_mem, sizeof(out_mem));
            struct ws w;
            char events[4];
            ws_frame(&in, parts == 1 ? 0x82 : 0x02, bytes, len - (size_t)(parts - 1) * 4);
            if (parts == 2) {
                ws_frame(&in, 0x80, bytes, 4);
            }
            ws_init(&w, 10);
            read_all(&w, buf_view(&in), 64, &out, events, sizeof(events));
            assert_string_equal(events, len > 10 ? "b" : "");
            assert_int_equal(w.code, len > 10 ? WS_TOO_BIG : 0);
        }
    }
}

static void test_peer_closes(void **state)
{
    (void)state;
    static const struct {
        const char *payload;
        size_t len;
        uint16_t code;
    } rows[] = {{"", 0, WS_NO_CODE}, {"\x03\xe8", 2, 1000}, {"\x03\xe9gone", 6, 1001}, {"\x0b\xb8", 2, 3000}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        uint8_t in_mem[64], out_mem[8];
        struct buf in = buf_fixed(in_mem, sizeof(in_mem)), out = buf_fixed(out_mem, sizeof(out_mem));
        ws_frame(&in, 0x88, rows[i].payload, rows[i].len);
        ws_frame(&in, 0x82, "after", 5);
        struct ws w;
        char events[4];
        ws_init(&w, MESSAGE_MAX);
        read_all(&w, buf_view(&in), 64, &out, events, sizeof(events));
        assert_string_equal(events, "c");
        assert_int_equal(w.code, rows[i].code);
        assert_int_equal(out.len, 0);
    }
}

static void test_writing(void **state)
{
    (void)state;
    static const struct {
        uint64_t len;
        const char *bytes;
        size_t bytes_len;
    } rows[] = {{0, "\x82\x00", 2},
                {125, "\x82\x7d", 2},
                {126, "\x82\x7e\x00\x7e", 4},
                {65535, "\x82\x7e\xff\xff", 4},
                {65536, "\x82\x7f\0\0\0\0\0\x01\0\0", 10}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        uint8_t mem[16];
        struct buf out = buf_fixed(mem, sizeof(mem));
        assert_true(ws_header(&out, WS_BINARY, rows[i].len));
        assert_true(slice_eq(buf_view(&out), slice_make(rows[i].bytes, rows[i].bytes_len)));
    }
    uint8_t mem[200];
    struct buf out = buf_fixed(mem, sizeof(mem));
    assert_true(ws_close(&out, WS_NO_CODE, "not sent"));
    assert_true(slice_eq(buf_view(&out), SLICE("\x88\x00")));
    buf_clear(&out);
    assert_true(ws_close(&out, WS_POLICY, "no"));
    assert_true(slice_eq(buf_view(&out), SLICE("\x88\x04\x03\xf0no")));
    char text[201];
    memset(text, 'a', sizeof(text) - 1);
    text[200] = '\0';
    memcpy(text + 122, "\xc3\xa4", 2); // the cut falls between these two
    buf_clear(&out);
    assert_true(ws_close(&out, WS_NORMAL, text));
    assert_int_equal(out.len, 2 + 2 + 122);
    assert_int_equal(mem[1], 124);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_messages_become_a_stream),
        cmocka_unit_test(test_ping_is_answered_with_its_payload),
        cmocka_unit_test(test_broken_rules),
        cmocka_unit_test(test_message_limit),
        cmocka_unit_test(test_peer_closes),
        cmocka_unit_test(test_writing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
