#include "lib/net_harness.h"

static struct harness h;

static int setup(void **state)
{
    (void)state;
    harness_init(&h);
    return 0;
}

static void expect_why(enum close_cause cause, const char *text)
{
    assert_true(wait_until(&h.causes[cause], 1));
    pthread_mutex_lock(&h.lock);
    assert_non_null(strstr(h.why, text));
    pthread_mutex_unlock(&h.lock);
}

static void echo(void **state)
{
    (void)state;
    harness_start(&h);
    int fd = dial(&h);
    say(fd, "echo hello\n");
    expect_reply(fd, "hello\n");
    say(fd, "ec");
    usleep(20000);
    say(fd, "ho in two ");
    usleep(20000);
    say(fd, "parts\necho and\necho more");
    expect_reply(fd, "in two parts\nand\n");
    say(fd, "\n");
    expect_reply(fd, "more\n");
    assert_memory_equal(h.peer_addr, "127.0.0.1:", 10);
    close(fd);
    expect_why(CLOSE_EOF, "");
    assert_true(wait_none_open(&h));
    harness_end(&h);
}

static void answers_of_a_turn_leave_together(void **state)
{
    (void)state;
    harness_start(&h);
    int fd = dial(&h);
    char batch[600], got[600];
    struct buf b = buf_fixed(batch, sizeof(batch));
    for (int i = 0; i < 50; i++) {
        buf_str(&b, "echo 1234\n");
    }
    send_all_bytes(fd, b.p, b.len);
    ssize_t n = recv(fd, got, sizeof(got), 0);
    assert_int_equal(n, 50 * 5); // one write, so one read sees them all
    close(fd);
    harness_end(&h);
}

static void close_drains_first(void **state)
{
    (void)state;
    h.conf.service.out_max = 16 * 1024 * 1024;
    harness_start(&h);
    int fd = dial(&h);
    say(fd, "flood 12000000\n");
    usleep(50000); // more than the sockets take: the rest waits
    say(fd, "close\necho nobody hears this\n");
    size_t n = 0;
    assert_int_equal(read_to_end(fd, &n), 0);
    assert_int_equal(n, 12000000 / 4096 * 4096 + 4); // and "bye\n"
    expect_why(CLOSE_LOCAL, "asked to");
    close(fd);
    assert_true(wait_none_open(&h));
    harness_end(&h);
}

// The peer goes on sending after we have closed: it must read our last words, not a reset.
static void close_does_not_reset(void **state)
{
    (void)state;
    harness_start(&h);
    int fd = dial(&h);
    char noise[4000];
    memset(noise, 'x', sizeof(noise));
    say(fd, "close\n");
    for (int i = 0; i < 10; i++) {
        send_all_bytes(fd, noise, sizeof(noise));
    }
    usleep(100000);
    expect_reply(fd, "bye\n");
    expect_end(fd);
    expect_why(CLOSE_LOCAL, "asked to");
    close(fd);
    assert_true(wait_none_open(&h));
    harness_end(&h);
}

// A peer that neither ends nor stops sending is cut off after a while.
static void linger_is_bounded(void **state)
{
    (void)state;
    harness_start(&h);
    int fd = dial(&h);
    say(fd, "close\n");
    expect_reply(fd, "bye\n");
    assert_true(wait_none_open(&h)); // within CONN_LINGER_MS, while our side is open still
    close(fd);
    harness_end(&h);
}

static void abort_drops_output(void **state)
{
    (void)state;
    harness_start(&h);
    int fd = dial(&h);
    say(fd, "abort\n");
    size_t n = 0;
    (void)read_to_end(fd, &n);
    assert_int_equal(n, 0);
    expect_why(CLOSE_LOCAL, "aborted");
    close(fd);
    assert_true(wait_none_open(&h));
    harness_end(&h);
}

static void reset_by_peer_is_seen(void **state)
{
    (void)state;
    harness_start(&h);
    int fd = dial(&h);
    say(fd, "echo x\n");
    expect_reply(fd, "x\n");
    const struct linger hard = {.l_onoff = 1};
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard)), 0);
    close(fd);
    expect_why(CLOSE_RESET, "reset");
    harness_end(&h);
}

static void input_limit_before_and_after_authentication(void **state)
{
    (void)state;
    static char line[64 * 1024];
    memset(line, 'x', sizeof(line));
    h.authenticate = false;
    harness_start(&h);
    int fd = dial(&h);
    size_t n = 0;
    send_all_bytes(fd, line, 4095);
    send_all_bytes(fd, "\n", 0);
    usleep(50000);
    assert_int_equal(h.closed, 0);
    send_all_bytes(fd, line, 1);
    (void)read_to_end(fd, &n);
    expect_why(CLOSE_OVERFLOW, "4096 bytes allowed before authentication");
    close(fd);

    fd = dial(&h);
    say(fd, "auth\necho ");
    send_all_bytes(fd, line, 60000); // dribbles in over several reads, far above what is joined
    say(fd, "\necho short\n");
    static char got[60001];
    for (size_t off = 0; off < sizeof(got); off += n) {
        ssize_t r = recv(fd, got + off, sizeof(got) - off, 0);
        assert_true(r > 0);
        n = (size_t)r;
    }
    assert_memory_equal(got, line, 60000);
    expect_reply(fd, "short\n");
    send_all_bytes(fd, line, sizeof(line));
    (void)read_to_end(fd, &n);
    expect_why(CLOSE_OVERFLOW, "65536 bytes allowed after authentication");
    close(fd);
    harness_end(&h);
}

static void slow_reader_overflows(void **state)
{
    (void)state;
    harness_start(&h);
    int fd = dial(&h);
    say(fd, "flood 900000\nflood 900000\nflood 900000\nflood 900000\nflood 900000\nflood 900000\n");
    expect_why(CLOSE_OVERFLOW, "1048576 bytes wait for a slow reader");
    close(fd);
    assert_true(wait_none_open(&h));
    harness_end(&h);
}

static void pause_keeps_order(void **state)
{
    (void)state;
    harness_start(&h);
    int fd = dial(&h);
    say(fd, "echo 1\npause\necho 2\nyield\necho 3\npause\npause\necho 4\n");
    expect_reply(fd, "1\n2\n3\n4\n");
    say(fd, "pause\n");
    usleep(2000);
    say(fd, "echo 5\n"); // arrives while paused, or right after
    expect_reply(fd, "5\n");
    close(fd);
    harness_end(&h);
}

// A client that never stops sending is held up by the front, not buffered.
static void pause_holds_the_sender(void **state)
{
    (void)state;
    harness_start(&h);
    int fd = dial(&h);
    char batch[1024];
    struct buf b = buf_fixed(batch, sizeof(batch));
    buf_str(&b, "pause\n");
    for (int i = 0; i < 100; i++) {
        buf_str(&b, "echo x\n");
    }
    for (int i = 0; i < 40; i++) {
        send_all_bytes(fd, b.p, b.len);
    }
    say(fd, "close\n");
    size_t n = 0;
    assert_int_equal(read_to_end(fd, &n), 0);
    assert_int_equal(n, 40 * 100 * 2 + 4);
    close(fd);
    harness_end(&h);
}

struct script {
    int fd;
    uint32_t seed;
    struct buf out; // what is sent
    struct buf in;  // what must come back
};

static uint32_t next_random(uint32_t *seed, uint32_t below)
{
    *seed = *seed * 1664525 + 1013904223;
    return (*seed >> 8) % below;
}

static void *send_in_pieces(void *arg)
{
    struct script *s = arg;
    for (size_t off = 0; off < s->out.len;) {
        static const uint32_t sizes[] = {1, 7, 100, 4096, 4097, 20000, 100000};
        struct slice piece =
            slice_head(slice_from(buf_view(&s->out), off), 1 + next_random(&s->seed, sizes[next_random(&s->seed, 7)]));
        send_all_bytes(s->fd, piece.p, piece.len);
        off += piece.len;
        if (next_random(&s->seed, 4) == 0) {
            usleep(200);
        }
    }
    return NULL;
}

// Lines of every length up to the limit, cut anywhere, with pauses: every byte arrives once and in order.
static void any_cut_of_the_input(void **state)
{
    (void)state;
    harness_start(&h);
    for (uint32_t seed = 1; seed <= 4; seed++) {
        struct script s = {.fd = dial(&h), .seed = seed, .out = buf_heap(1 << 24), .in = buf_heap(1 << 24)};
        for (int i = 0; i < 300; i++) {
            static const uint32_t lens[] = {3, 60, 4090, 9000, 65000};
            static const char *const waits[] = {"pause\n", "yield\n"};
            uint32_t len = next_random(&s.seed, lens[next_random(&s.seed, 5)]);
            buf_str(&s.out, "echo ");
            for (uint32_t k = 0; k < len; k++) {
                uint8_t c = (uint8_t)('a' + next_random(&s.seed, 26));
                buf_u8(&s.out, c);
                buf_u8(&s.in, c);
            }
            buf_u8(&s.out, '\n');
            buf_u8(&s.in, '\n');
            if (i % 3 == 0) {
                buf_str(&s.out, waits[next_random(&s.seed, 2)]);
            }
        }
        assert_false(s.out.failed || s.in.failed);
        pthread_t sender;
        assert_int_equal(pthread_create(&sender, NULL, send_in_pieces, &s), 0);
        static char got[65536];
        for (size_t off = 0; off < s.in.len;) {
            ssize_t n = recv(s.fd, got, sizeof(got), 0);
            assert_true(n > 0);
            assert_memory_equal(got, s.in.p + off, n);
            off += (size_t)n;
        }
        pthread_join(sender, NULL);
        close(s.fd);
        buf_release(&s.out);
        buf_release(&s.in);
    }
    assert_int_equal(h.causes[CLOSE_OVERFLOW], 0);
    harness_end(&h);
}

static void drain_streams(void **state)
{
    (void)state;
    harness_start(&h);
    int fd = dial(&h);
    say(fd, "stream 20000000\n");
    size_t n = 0;
    assert_int_equal(read_to_end(fd, &n), 0);
    assert_int_equal(n, 20000000);
    assert_true(h.drained > 10);
    expect_why(CLOSE_LOCAL, "streamed");
    close(fd);
    harness_end(&h);
}

// The peer ends its side and waits for the answer.
static void half_closed_peer_gets_its_answer(void **state)
{
    (void)state;
    harness_start(&h);
    int fd = dial(&h);
    say(fd, "stream 8000000\n");
    assert_int_equal(shutdown(fd, SHUT_WR), 0);
    size_t n = 0;
    assert_int_equal(read_to_end(fd, &n), 0);
    assert_int_equal(n, 8000000);
    close(fd);

    fd = dial(&h);
    say(fd, "echo last words\n");
    assert_int_equal(shutdown(fd, SHUT_WR), 0);
    expect_reply(fd, "last words\n");
    expect_end(fd);
    expect_why(CLOSE_EOF, "");
    close(fd);
    assert_true(wait_none_open(&h));
    harness_end(&h);
}

static void open_timeout_ends_strangers(void **state)
{
    (void)state;
    h.authenticate = false;
    h.conf.service.open_timeout_ms = 400;
    harness_start(&h);
    int silent = dial(&h), known = dial(&h);
    say(known, "auth\n");
    expect_why(CLOSE_TIMEOUT, "not authenticated within 400 ms");
    usleep(150000);
    say(known, "echo still here\n");
    expect_reply(known, "still here\n");
    assert_int_equal(h.closed, 1);
    close(silent);
    close(known);
    harness_end(&h);
}

static void refused_on_open(void **state)
{
    (void)state;
    h.open_status = ST_BUSY;
    harness_start(&h);
    int fd = dial(&h);
    size_t n = 0;
    (void)read_to_end(fd, &n);
    assert_int_equal(n, 0);
    close(fd);
    assert_true(wait_none_open(&h));
    assert_int_equal(h.opened, 1);
    assert_int_equal(h.closed, 0); // no further callback
    harness_end(&h);
}

static void many_connections_on_two_loops(void **state)
{
    (void)state;
    enum { N = 600 };
    static int fds[N];
    h.loops_len = 2;
    harness_start(&h);
    for (int i = 0; i < N; i++) {
        fds[i] = dial(&h);
    }
    char line[32], want[32];
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < N; i++) {
            snprintf(line, sizeof(line), "echo %d\n", i);
            say(fds[i], line);
        }
        for (int i = 0; i < N; i++) {
            snprintf(want, sizeof(want), "%d\n", i);
            expect_reply(fds[i], want);
        }
    }
    assert_int_equal(h.opened, N);
    for (int i = 0; i < N; i += 2) {
        close(fds[i]);
    }
    assert_true(wait_until(&h.closed, N / 2));
    for (int i = 1; i < N; i += 2) {
        say(fds[i], "echo still\n");
        expect_reply(fds[i], "still\n");
        close(fds[i]);
    }
    assert_true(wait_none_open(&h));
    harness_end(&h);
}

// ---- messages from other threads find the connection by its id ----

struct push {
    struct post post;
    struct loop *loop;
    uint64_t id;
    atomic_uint sent, gone;
};
static void push_line(struct post *p)
{
    struct push *m = (struct push *)p;
    struct conn *c = conn_find(m->loop, m->id);
    if (c == NULL) {
        atomic_fetch_add(&m->gone, 1);
    } else {
        assert_true(conn_write(c, SLICE("pushed\n")));
        atomic_fetch_add(&m->sent, 1);
    }
}

static void push_from_another_thread(void **state)
{
    (void)state;
    harness_start(&h);
    int fd = dial(&h);
    assert_true(wait_until(&h.opened, 1));
    struct push m = {.post = {.fn = push_line}, .loop = h.loops[0], .id = h.last_id};
    loop_post(m.loop, &m.post);
    expect_reply(fd, "pushed\n");
    assert_true(wait_until(&m.sent, 1));
    close(fd);
    assert_true(wait_none_open(&h));
    loop_post(m.loop, &m.post);
    assert_true(wait_until(&m.gone, 1));
    harness_end(&h);
}

static void shutdown_ends_all_in_order(void **state)
{
    (void)state;
    harness_start(&h);
    int a = dial(&h), b = dial(&h);
    say(a, "echo x\n");
    expect_reply(a, "x\n");
    assert_true(wait_until(&h.opened, 2));
    harness_end(&h);
    assert_int_equal(h.causes[CLOSE_SHUTDOWN], 2);
    expect_end(a);
    expect_end(b);
    close(a);
    close(b);
}

static void causes_have_names(void **state)
{
    (void)state;
    for (int i = CLOSE_LOCAL; i <= CLOSE_SHUTDOWN; i++) {
        assert_true(strlen(close_cause_text((enum close_cause)i)) > 0);
        assert_string_not_equal(close_cause_text((enum close_cause)i), "unknown");
        for (int k = CLOSE_LOCAL; k < i; k++) {
            assert_string_not_equal(close_cause_text((enum close_cause)i), close_cause_text((enum close_cause)k));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(echo, setup),
        cmocka_unit_test_setup(answers_of_a_turn_leave_together, setup),
        cmocka_unit_test_setup(close_drains_first, setup),
        cmocka_unit_test_setup(close_does_not_reset, setup),
        cmocka_unit_test_setup(linger_is_bounded, setup),
        cmocka_unit_test_setup(abort_drops_output, setup),
        cmocka_unit_test_setup(reset_by_peer_is_seen, setup),
        cmocka_unit_test_setup(input_limit_before_and_after_authentication, setup),
        cmocka_unit_test_setup(slow_reader_overflows, setup),
        cmocka_unit_test_setup(pause_keeps_order, setup),
        cmocka_unit_test_setup(pause_holds_the_sender, setup),
        cmocka_unit_test_setup(any_cut_of_the_input, setup),
        cmocka_unit_test_setup(drain_streams, setup),
        cmocka_unit_test_setup(half_closed_peer_gets_its_answer, setup),
        cmocka_unit_test_setup(open_timeout_ends_strangers, setup),
        cmocka_unit_test_setup(refused_on_open, setup),
        cmocka_unit_test_setup(many_connections_on_two_loops, setup),
        cmocka_unit_test_setup(push_from_another_thread, setup),
        cmocka_unit_test_setup(shutdown_ends_all_in_order, setup),
        cmocka_unit_test(causes_have_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
