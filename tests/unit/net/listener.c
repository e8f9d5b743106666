#include "lib/net_harness.h"

#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

static struct harness h;

static int setup(void **state)
{
    (void)state;
    harness_init(&h);
    return 0;
}

static void addresses_are_checked(void **state)
{
    (void)state;
    static const char *const bad[] = {"",       "localhost", "localhost:",   "localhost:x",         ":65536", ":-1",
                                      "::1:80", "[]:80",     "127.0.0.1:1x", "no.such.host.test:1", ": 1",    ":+1"};
    struct loop *l = loop_new("test-io", NULL);
    assert_non_null(l);
    h.conf.loops = &l;
    h.conf.loops_len = 1;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct err err = {0};
        h.conf.addr = bad[i];
        assert_int_equal(listener_open(&h.conf, &h.listener, &err), ST_INVALID);
        assert_string_equal(err.where, bad[i]);
        assert_non_null(strstr(err.text, "cannot listen on"));
    }
    loop_free(l);
}

static int connect_to(int family, uint16_t port)
{
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    struct sockaddr_in in4 = {.sin_family = AF_INET, .sin_port = htons(port)};
    in4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const struct sockaddr *to = family == AF_INET6 ? (struct sockaddr *)&in6 : (struct sockaddr *)&in4;
    if (fd >= 0 && connect(fd, to, family == AF_INET6 ? sizeof(in6) : sizeof(in4)) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

static bool have_ipv6(void)
{
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    int fd = socket(AF_INET6, SOCK_STREAM, 0);
    bool ok = fd >= 0 && bind(fd, (struct sockaddr *)&in6, sizeof(in6)) == 0;
    close(fd);
    return ok;
}

static void expect_echo(int family, const char *peer_prefix)
{
    int fd = connect_to(family, listener_port(h.listener));
    assert_true(fd >= 0);
    say(fd, "echo hi\n");
    expect_reply(fd, "hi\n");
    assert_memory_equal(h.peer_addr, peer_prefix, strlen(peer_prefix));
    close(fd);
}

static void all_addresses_means_both_families(void **state)
{
    (void)state;
    h.conf.addr = ":0";
    harness_start(&h);
    expect_echo(AF_INET, "127.0.0.1:"); // not ::ffff:127.0.0.1
    if (have_ipv6()) {
        expect_echo(AF_INET6, "[::1]:");
    }
    harness_end(&h);
}

static void ipv6_alone(void **state)
{
    (void)state;
    if (!have_ipv6()) {
        skip();
    }
    h.conf.addr = "[::1]:0";
    harness_start(&h);
    expect_echo(AF_INET6, "[::1]:");
    assert_int_equal(connect_to(AF_INET, listener_port(h.listener)), -1);
    harness_end(&h);
}

static void a_name_means_all_its_addresses(void **state)
{
    (void)state;
    h.conf.addr = "localhost:0";
    h.loops_len = 2;
    harness_start(&h);
    expect_echo(AF_INET, "127.0.0.1:");
    harness_end(&h);
}

static void port_zero_is_one_port_for_all_loops(void **state)
{
    (void)state;
    h.loops_len = 4;
    harness_start(&h);
    assert_true(listener_port(h.listener) > 0);
    for (int i = 0; i < 40; i++) { // whichever loop's socket the kernel picks
        expect_echo(AF_INET, "127.0.0.1:");
    }
    harness_end(&h);
}

// Also with several loops, whose sockets share their port among themselves.
static void port_in_use_is_refused(void **state)
{
    (void)state;
    h.loops_len = 2;
    harness_start(&h);
    char addr[32];
    snprintf(addr, sizeof(addr), "127.0.0.1:%u", listener_port(h.listener));
    struct listen_conf second = h.conf;
    second.addr = addr;
    for (unsigned n = 1; n <= 2; n++) {
        struct listener *other = NULL;
        struct err err = {0};
        second.loops_len = n;
        assert_int_equal(listener_open(&second, &other, &err), ST_EXISTS);
        assert_non_null(strstr(err.text, "in use"));
        assert_null(other);
    }
    harness_end(&h);
}

// The one too many waits in the kernel's queue and is served when another has gone.
static void conns_max_lets_the_others_wait(void **state)
{
    (void)state;
    h.conf.conns_max = 3;
    harness_start(&h);
    int fds[3];
    for (int i = 0; i < 3; i++) {
        fds[i] = dial(&h);
    }
    assert_true(wait_until(&h.opened, 3));
    int over = dial(&h);
    say(over, "echo me too\n");
    for (int i = 0; i < 3; i++) {
        say(fds[i], "echo ok\n");
        expect_reply(fds[i], "ok\n");
    }
    usleep(50000);
    struct listener_stats st;
    listener_stats(h.listener, &st);
    assert_int_equal(st.open, 3);
    assert_true(st.pauses > 0);
    close(fds[0]);
    expect_reply(over, "me too\n");
    listener_stats(h.listener, &st);
    assert_int_equal(st.refused, 0);
    assert_int_equal(st.accepted, 4);
    assert_int_equal(st.open, 3);
    close(over);
    close(fds[1]);
    close(fds[2]);
    harness_end(&h);
}

// A stranger makes room for the next one, whoever is authenticated stays.
static void conns_max_drops_the_oldest_stranger(void **state)
{
    (void)state;
    h.conf.conns_max = 3;
    h.authenticate = false;
    harness_start(&h);
    int known = dial(&h);
    say(known, "auth\necho ok\n");
    expect_reply(known, "ok\n");
    int first = dial(&h), second = dial(&h);
    assert_true(wait_until(&h.opened, 3));
    int next = dial(&h);
    expect_end(first);
    assert_int_equal(h.causes[CLOSE_CROWDED], 1);
    say(next, "auth\necho in\n");
    expect_reply(next, "in\n");
    say(second, "auth\necho here\n");
    expect_reply(second, "here\n");
    say(known, "echo ok\n");
    expect_reply(known, "ok\n");
    close(known);
    close(first);
    close(second);
    close(next);
    harness_end(&h);
}

static void stop_keeps_what_is_open(void **state)
{
    (void)state;
    harness_start(&h);
    int fd = dial(&h);
    say(fd, "echo before\n");
    expect_reply(fd, "before\n");
    listener_stop(h.listener);
    listener_stop(h.listener);
    int late = 0;
    for (int i = 0; i < 1000 && late >= 0; i++) {
        late = connect_to(AF_INET, listener_port(h.listener));
        if (late >= 0) {
            close(late);
            usleep(1000);
        }
    }
    assert_int_equal(late, -1);
    say(fd, "echo after\n");
    expect_reply(fd, "after\n");
    close(fd);
    harness_end(&h);
}

static double cpu_seconds(void)
{
    struct timespec ts;
    assert_int_equal(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts), 0);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

// In a child, because the limit is the whole process's: existing connections are served, new ones are hung up on instead of
// hanging, accepting does not spin, and all is well once there are descriptors again.
static int run_out_of_descriptors(void)
{
    harness_start(&h);
    int fd = dial(&h);
    say(fd, "echo x\n");
    expect_reply(fd, "x\n");
    int late[8];
    for (int i = 0; i < 8; i++) { // our own ends, made before the limit falls
        late[i] = socket(AF_INET, SOCK_STREAM, 0);
        assert_true(late[i] >= 0);
    }
    int lowest_free = dup(0); // nothing below it is free, so this as the limit leaves nothing at all
    assert_true(lowest_free > 0);
    close(lowest_free);
    const struct rlimit none = {.rlim_cur = (rlim_t)lowest_free, .rlim_max = 1024};
    const struct rlimit plenty = {.rlim_cur = 1024, .rlim_max = 1024};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(listener_port(h.listener))};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    double cpu = cpu_seconds();
    for (int i = 0; i < 4; i++) {
        assert_int_equal(connect(late[i], (struct sockaddr *)&to, sizeof(to)), 0);
    }
    for (int i = 0; i < 4; i++) {
        expect_end(late[i]);
    }
    usleep(500000);
    assert_true(cpu_seconds() - cpu < 0.1);
    assert_true(listener_accept_failures(h.listener) > 0);
    assert_true(listener_accept_failures(h.listener) <= 4);
    say(fd, "echo still served\n");
    expect_reply(fd, "still served\n");
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &plenty), 0);
    usleep(250000);
    for (int i = 4; i < 8; i++) {
        assert_int_equal(connect(late[i], (struct sockaddr *)&to, sizeof(to)), 0);
        say(late[i], "echo again\n");
        expect_reply(late[i], "again\n");
    }
    for (int i = 0; i < 8; i++) {
        close(late[i]);
    }
    close(fd);
    assert_true(wait_none_open(&h));
    harness_end(&h);
    return 0;
}

static void out_of_descriptors(void **state)
{
    (void)state;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        _exit(run_out_of_descriptors());
    }
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(addresses_are_checked, setup),
        cmocka_unit_test_setup(all_addresses_means_both_families, setup),
        cmocka_unit_test_setup(ipv6_alone, setup),
        cmocka_unit_test_setup(a_name_means_all_its_addresses, setup),
        cmocka_unit_test_setup(port_zero_is_one_port_for_all_loops, setup),
        cmocka_unit_test_setup(port_in_use_is_refused, setup),
        cmocka_unit_test_setup(conns_max_lets_the_others_wait, setup),
        cmocka_unit_test_setup(conns_max_drops_the_oldest_stranger, setup),
        cmocka_unit_test_setup(stop_keeps_what_is_open, setup),
        cmocka_unit_test_setup(out_of_descriptors, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
