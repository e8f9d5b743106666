#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/conf.h"

static const struct conf_key mqtt_keys[] = {
    {.name = "mqtt.packet_max",
     .type = CONF_SIZE,
     .dflt = "64KiB",
     .min = 1024,
     .max = 1 << 28,
     .reload = true,
     .help = "Largest packet; a larger one ends the connection."},
    {.name = "mqtt.connect_timeout",
     .type = CONF_DURATION,
     .dflt = "10s",
     .min = 1000000,
     .max = 60000000,
     .help = "Time until CONNECT must have come."},
    {.name = "mqtt.receive_max",
     .flag = "receive-max",
     .type = CONF_INT,
     .dflt = "100",
     .min = 1,
     .max = 65535,
     .help = "Messages in flight."},
};
static const struct conf_key server_keys[] = {
    {.name = "listen.mqtts", .flag = "mqtts", .type = CONF_ADDR, .dflt = ":8883", .help = "MQTT over TLS."},
    {.name = "log.level",
     .type = CONF_ENUM,
     .dflt = "info",
     .choices = "debug info warn error",
     .reload = true,
     .help = "Lines below are not written."},
    {.name = "server.names", .flag = "name", .type = CONF_LIST, .dflt = "", .help = "Further host names."},
    {.name = "server.data", .type = CONF_STRING, .dflt = "/var/lib/muster", .help = "Data directory."},
    {.name = "server.sync", .type = CONF_BOOL, .dflt = "true", .help = "A|B."},
};
static const struct conf_module mods[] = {{"Server", server_keys, 5}, {"MQTT", mqtt_keys, 3}};

static char path[64];

// Loads text as a file called FILE, with overrides; the problems with the file's name shortened to "F".
static enum status load(const char *yaml, const char *const *overrides, struct conf **ret, char *problems, size_t size)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_int_equal(fwrite(yaml, 1, strlen(yaml), f), strlen(yaml));
    fclose(f);
    struct buf told = buf_heap(8192);
    enum status s = conf_load(mods, 2, path, overrides, ret, &told);
    buf_u8(&told, 0);
    const char *from = (const char *)told.p;
    size_t n = 0;
    while (*from != '\0' && n + 1 < size) {
        if (strncmp(from, path, strlen(path)) == 0) {
            problems[n++] = 'F';
            from += strlen(path);
        } else {
            problems[n++] = *from++;
        }
    }
    problems[n] = '\0';
    buf_release(&told);
    return s;
}

static void test_defaults(void **state)
{
    (void)state;
    struct conf *c = NULL;
    struct buf problems = buf_heap(1024);
    assert_int_equal(conf_load(mods, 2, NULL, NULL, &c, &problems), ST_OK);
    assert_int_equal(problems.len, 0);
    assert_int_equal(conf_int(c, "mqtt.packet_max"), 65536);
    assert_int_equal(conf_int(c, "mqtt.connect_timeout"), 10000000);
    assert_int_equal(conf_int(c, "log.level"), 1);
    assert_string_equal(conf_str(c, "log.level"), "info");
    assert_string_equal(conf_str(c, "listen.mqtts"), ":8883");
    assert_true(conf_bool(c, "server.sync"));
    const char *const *names;
    assert_int_equal(conf_list(c, "server.names", &names), 0);
    conf_free(c);
}

static void test_file_then_environment_then_command_line(void **state)
{
    (void)state;
    static const char yaml[] = "mqtt:\n"
                               "  packet_max: 1MiB\n"
                               "  connect_timeout: 20s # comment\n"
                               "  receive_max: 5\n"
                               "listen.mqtts: \"[::1]:1883\"\n"
                               "server:\n"
                               "  names:\n"
                               "    - a.example\n"
                               "    - 192.0.2.1\n"
                               "  sync: no\n";
    setenv("MUSTER_MQTT_CONNECT_TIMEOUT", "30s", 1);
    setenv("MUSTER_MQTT_RECEIVE_MAX", "6", 1);
    const char *const overrides[] = {"receive-max=7", "log.level=warn", NULL};
    char told[1024];
    struct conf *c = NULL;
    enum status s = load(yaml, overrides, &c, told, sizeof(told));
    unsetenv("MUSTER_MQTT_CONNECT_TIMEOUT");
    unsetenv("MUSTER_MQTT_RECEIVE_MAX");
    assert_string_equal(told, "");
    assert_int_equal(s, ST_OK);
    assert_int_equal(conf_int(c, "mqtt.packet_max"), 1 << 20);
    assert_int_equal(conf_int(c, "mqtt.connect_timeout"), 30000000);
    assert_int_equal(conf_int(c, "mqtt.receive_max"), 7);
    assert_int_equal(conf_int(c, "log.level"), 2);
    assert_string_equal(conf_str(c, "listen.mqtts"), "[::1]:1883");
    assert_false(conf_bool(c, "server.sync"));
    const char *const *names;
    assert_int_equal(conf_list(c, "server.names", &names), 2);
    assert_string_equal(names[0], "a.example");
    assert_string_equal(names[1], "192.0.2.1");
    assert_null(names[2]);
    conf_free(c);
}

static void test_every_problem_is_told(void **state)
{
    (void)state;
    static const struct {
        const char *yaml, *told;
    } rows[] = {
        {"mqtt:\n  packet_mx: 1\nlog:\n  level: loud\n",
         "F:2: mqtt.packet_mx: no such key; did you mean mqtt.packet_max?\n"
         "F:4: log.level: 'loud' is not understood; allowed is debug, info, warn or error\n"},
        {"packet_max: 64KiB\n", "F:1: packet_max: no such key; did you mean mqtt.packet_max?\n"},
        {"wholly_unknown_thing: 1\n", "F:1: wholly_unknown_thing: no such key; the manual lists all of them\n"},
        {"mqtt.packet_max: 1\n",
         "F:1: mqtt.packet_max: '1' is too small; allowed is a size from 1KiB to 256MiB, such as "
         "64KiB, 1GiB or plain bytes\n"},
        {"mqtt.packet_max: 1GiB\n", "F:1: mqtt.packet_max: '1GiB' is too large; allowed is a size from 1KiB to 256MiB, "
                                    "such as 64KiB, 1GiB or plain bytes\n"},
        {"mqtt.connect_timeout: 10\n", "F:1: mqtt.connect_timeout: '10' is not understood; allowed is a duration from "
                                       "1s to 1m, such as 90s, 1h30m or "
                                       "7d\n"},
        {"mqtt.receive_max: 12x\n",
         "F:1: mqtt.receive_max: '12x' is not understood; allowed is a whole number from 1 to 65535\n"},
        {"mqtt.receive_max: 99999999999999999999\n", "F:1: mqtt.receive_max: '99999999999999999999' is not understood; "
                                                     "allowed is a whole number from 1 to 65535\n"},
        {"mqtt.receive_max:\n", "F:1: mqtt.receive_max: the value is missing\n"},
        {"mqtt.receive_max: 1\nmqtt:\n  receive_max: 2\n", "F:3: mqtt.receive_max: set already in line 1\n"},
        {"mqtt: 5\n", "F:1: mqtt: this is a section: its keys stand indented on the lines below\n"},
        {"mqtt.receive_max:\n  a: {b: [1]}\nserver.sync: maybe\n",
         "F:2: mqtt.receive_max: this is a key with one value, not a section\n"
         "F:3: server.sync: 'maybe' is not understood; allowed is true or false\n"},
        {"mqtt.receive_max: [1, 2]\nserver.sync: 1\n",
         "F:1: mqtt.receive_max: a list is not allowed here; allowed is a whole number from 1 to 65535\n"
         "F:2: server.sync: '1' is not understood; allowed is true or false\n"},
        {"server.names: [a, [b]]\n", "F:1: server.names: a list holds plain texts\n"},
        {"server.names: [a, '']\n", "F:1: server.names: '' is empty, too long or holds control characters; allowed is "
                                    "a list of at most 64 texts\n"},
        {"- a\n", "F:1: a list stands behind a key\n"},
        {"just text\n", "F:1: the file holds keys and values: `section:`, and indented below it `key: value`\n"},
        {"listen.mqtts: localhost\n", "F:1: listen.mqtts: 'localhost' is not understood; allowed is HOST:PORT, "
                                      "[IPV6]:PORT, :PORT for all addresses, or off\n"},
        {"listen.mqtts: a b:1\n", "F:1: listen.mqtts: 'a b:1' is not understood; allowed is HOST:PORT, "
                                  "[IPV6]:PORT, :PORT for all addresses, or off\n"},
        {"listen.mqtts: x:70000\n", "F:1: listen.mqtts: 'x:70000' is not understood; allowed is HOST:PORT, "
                                    "[IPV6]:PORT, :PORT for all addresses, or off\n"},
        {"a: &x 1\nb: *x\n", "F:1: a: no such key; the manual lists all of them\nF:2: b: aliases are not supported\n"},
        {"? [a]\n: b\n", "F:1: a list stands behind a key\n"},
        {"server.data: \"a\\x07b\"\n",
         "F:1: server.data: 'a?b' is too long or holds control characters; allowed is text "
         "of at most 512 bytes\n"},
        {"log.level: info\n---\nlog.level: warn\n", "F:2: one document only\n"},
        {"log: {level: info\n", "F:2: not YAML: did not find expected ',' or '}' while parsing a flow mapping\n"},
        {"a: {b: {c: {d: {e: {f: {g: {h: {i: 1}}}}}}}}\n",
         "F:1: a.b.c.d.e.f.g.h: too many sections inside each other\n"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char told[2048];
        struct conf *c = NULL;
        enum status s = load(rows[i].yaml, NULL, &c, told, sizeof(told));
        assert_string_equal(told, rows[i].told);
        assert_int_equal(s, ST_INVALID);
        assert_null(c);
    }
}

static void test_problems_of_flags_environment_and_file_name(void **state)
{
    (void)state;
    const char *const overrides[] = {"recieve-max=1", "mqtt.recieve_max=1", "receive-max", "receive-max=0", NULL};
    char told[1024];
    struct conf *c = NULL;
    setenv("MUSTER_LOG_LEVEL", "all", 1);
    enum status s = load("", overrides, &c, told, sizeof(told));
    unsetenv("MUSTER_LOG_LEVEL");
    assert_string_equal(
        told, "MUSTER_LOG_LEVEL: log.level: 'all' is not understood; allowed is debug, info, warn or error\n"
              "command line: recieve-max: no such key; the manual lists all of them\n"
              "command line: mqtt.recieve_max: no such key; did you mean mqtt.receive_max?\n"
              "command line: receive-max: the value is missing\n"
              "command line: mqtt.receive_max: '0' is too small; allowed is a whole number from 1 to 65535\n");
    assert_int_equal(s, ST_INVALID);
    struct buf problems = buf_heap(1024);
    assert_int_equal(conf_load(mods, 2, "/nowhere/muster.yaml", NULL, &c, &problems), ST_INVALID);
    assert_true(slice_eq_str(buf_view(&problems), "/nowhere/muster.yaml: cannot be read: No such file or directory\n"));
    buf_clear(&problems);
    assert_int_equal(conf_load(mods, 2, "/", NULL, &c, &problems), ST_INVALID);
    assert_true(slice_eq_str(buf_view(&problems), "/: cannot be read: is it a file?\n"));
    buf_release(&problems);
}

static void test_good_values(void **state)
{
    (void)state;
    static const struct {
        const char *override, *key;
        int64_t want;
    } rows[] = {
        {"mqtt.packet_max=2048", "mqtt.packet_max", 2048},
        {"mqtt.packet_max=2048B", "mqtt.packet_max", 2048},
        {"mqtt.packet_max=3KiB", "mqtt.packet_max", 3072},
        {"mqtt.connect_timeout=1m", "mqtt.connect_timeout", 60000000},
        {"mqtt.connect_timeout=1s500ms", "mqtt.connect_timeout", 1500000},
        {"log.level=debug", "log.level", 0},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const char *const overrides[] = {rows[i].override, NULL};
        char told[256];
        struct conf *c = NULL;
        assert_int_equal(load("", overrides, &c, told, sizeof(told)), ST_OK);
        assert_int_equal(conf_int(c, rows[i].key), rows[i].want);
        conf_free(c);
    }
    const char *const overrides[] = {"name= a, b ,c", "mqtts=off", NULL};
    char told[256];
    struct conf *c = NULL;
    assert_int_equal(load("", overrides, &c, told, sizeof(told)), ST_OK);
    const char *const *names;
    assert_int_equal(conf_list(c, "server.names", &names), 3);
    assert_string_equal(names[1], "b");
    assert_string_equal(conf_str(c, "listen.mqtts"), "off");
    conf_free(c);
}

static void test_what_a_reload_cannot_change(void **state)
{
    (void)state;
    char told[256];
    struct conf *a = NULL;
    struct conf *b = NULL;
    assert_int_equal(load("server.names: [x]\n", NULL, &a, told, sizeof(told)), ST_OK);
    assert_int_equal(load("server.names: [y]\nmqtt.receive_max: 7\nlog.level: warn\nmqtt.connect_timeout: 10000ms\n",
                          NULL, &b, told, sizeof(told)),
                     ST_OK);
    struct buf out = buf_heap(1024);
    conf_diff_fixed(a, b, &out);
    assert_true(slice_eq_str(buf_view(&out), "server.names\nmqtt.receive_max\n"));
    buf_clear(&out);
    conf_diff_fixed(a, a, &out);
    assert_int_equal(out.len, 0);
    buf_release(&out);
    conf_free(a);
    conf_free(b);
}

static void test_help_and_reference(void **state)
{
    (void)state;
    struct buf out = buf_heap(65536);
    conf_write_help(mods, 2, &out);
    buf_u8(&out, 0);
    const char *help = (const char *)out.p;
    assert_non_null(strstr(help, "Server:\n  --mqtts, --listen.mqtts=HOST:PORT\n      MQTT over TLS.\n"));
    assert_non_null(strstr(help,
                           "\nMQTT:\n  --mqtt.packet_max=SIZE\n      Largest packet; a larger one ends the "
                           "connection.\n      Default: 64KiB. Allowed: a size from 1KiB to 256MiB, such as 64KiB, "
                           "1GiB or plain bytes.\n      SIGHUP applies a change.\n"));
    buf_clear(&out);
    conf_write_reference(mods, 2, &out);
    buf_u8(&out, 0);
    const char *ref = (const char *)out.p;
    assert_non_null(strstr(ref, "| `mqtt.receive_max` | `--receive-max` | `100` | a whole number from 1 to 65535 |  | "
                                "Messages in flight. |\n"));
    assert_non_null(strstr(ref, "| `server.names` | `--name` | none | a list of at most 64 texts |  | "));
    assert_non_null(strstr(ref, "| A\\|B. |\n"));
    buf_release(&out);
}

static int make_path(void **state)
{
    (void)state;
    snprintf(path, sizeof(path), "/tmp/muster-conf-XXXXXX");
    int fd = mkstemp(path);
    return fd < 0 ? -1 : close(fd);
}

static int drop_path(void **state)
{
    (void)state;
    return unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_file_then_environment_then_command_line),
        cmocka_unit_test(test_every_problem_is_told),
        cmocka_unit_test(test_problems_of_flags_environment_and_file_name),
        cmocka_unit_test(test_good_values),
        cmocka_unit_test(test_what_a_reload_cannot_change),
        cmocka_unit_test(test_help_and_reference),
    };
    return cmocka_run_group_tests(tests, make_path, drop_path);
}
