#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/facts.h"
#include "agent/health.h"
#include "agent/settings.h"
#include "base/log.h"

// The fixtures lie beside this file.
static char board[512];

static void find_board(void)
{
    snprintf(board, sizeof(board), "%s", __FILE__);
    char *slash = strrchr(board, '/');
    assert_non_null(slash);
    snprintf(slash, sizeof(board) - (size_t)(slash - board), "/fixtures/board");
}

static struct muster_text sample(struct health *h, const char *metrics, char *mem, size_t size)
{
    static struct settings s;
    settings_init(&s, LOG_INFO);
    snprintf(s.metrics[0], sizeof(s.metrics[0]), "%s", metrics);
    h->settings = &s;
    size_t len = 0;
    if (!health_sample(h, 1700000000123, mem, size, &len)) {
        return (struct muster_text){NULL, 0};
    }
    return (struct muster_text){mem, len};
}

static double value(struct muster_text doc, const char *metric)
{
    char path[128];
    double v = -999;
    snprintf(path, sizeof(path), "values/%s", metric);
    assert_int_equal(muster_json_double(doc, path, &v), MUSTER_OK);
    return v;
}

static bool has(struct muster_text doc, const char *metric)
{
    char path[128];
    struct muster_text t;
    snprintf(path, sizeof(path), "values/%s", metric);
    return muster_json_raw(doc, path, &t) == MUSTER_OK;
}

static void reads_a_board(void **state)
{
    (void)state;
    struct health h;
    char mem[4096];
    health_init(&h, board, NULL);
    h.cpu_busy -= 30; // as if a second ago 30 of 100 jiffies had been less
    h.cpu_all -= 100;
    h.rtt_us = 1500;
    h.queue_len = 3;
    h.queue_dropped = 4;
    struct muster_text doc = sample(&h, "*", mem, sizeof(mem));
    assert_non_null(doc.p);
    int64_t ts = 0;
    assert_int_equal(muster_json_int(doc, "ts", &ts), MUSTER_OK);
    assert_int_equal(ts, 1700000000123);
    assert_float_equal(value(doc, "cpu.util"), 30, 1e-9);
    assert_float_equal(value(doc, "load.1"), 0.42, 1e-9);
    assert_float_equal(value(doc, "load.5"), 1.5, 1e-9);
    assert_float_equal(value(doc, "load.15"), 2.25, 1e-9);
    assert_float_equal(value(doc, "mem.total"), 1024000, 1e-9);
    assert_float_equal(value(doc, "mem.available"), 256000, 1e-9);
    assert_float_equal(value(doc, "mem.used"), 768000, 1e-9);
    assert_true(value(doc, "disk.used") > 0 && value(doc, "disk.total") >= value(doc, "disk.used"));
    assert_true(has(doc, "disk.boot_efi.used") && has(doc, "disk.data.total"));
    assert_false(has(doc, "disk.data_bind.used") || has(doc, "disk.tmp.used") || has(doc, "disk.missing.used"));
    assert_float_equal(value(doc, "net.rx_bytes"), 1030, 1e-9);
    assert_float_equal(value(doc, "net.tx_bytes"), 204, 1e-9);
    assert_float_equal(value(doc, "net.rtt_ms"), 1.5, 1e-9);
    assert_float_equal(value(doc, "temp.x86_pkg_temp"), 45.5, 1e-9);
    assert_float_equal(value(doc, "temp.x86_pkg_temp_2"), -1.25, 1e-9);
    assert_false(has(doc, "temp.broken"));
    assert_float_equal(value(doc, "battery.level"), 87, 1e-9);
    bool charging = false;
    assert_int_equal(muster_json_bool(doc, "values/battery.charging", &charging), MUSTER_OK);
    assert_true(charging);
    assert_float_equal(value(doc, "uptime"), 12345.67, 1e-9);
    assert_float_equal(value(doc, "proc.count"), 2, 1e-9);
    assert_float_equal(value(doc, "queue.len"), 3, 1e-9);
    assert_float_equal(value(doc, "queue.dropped"), 4, 1e-9);
}

static void obeys_the_wanted_set(void **state)
{
    (void)state;
    struct health h;
    char mem[4096];
    health_init(&h, board, NULL);
    struct muster_text doc = sample(&h, "mem.*", mem, sizeof(mem));
    assert_true(has(doc, "mem.used") && !has(doc, "load.1") && !has(doc, "uptime"));
    assert_null(sample(&h, "nothing", mem, sizeof(mem)).p);
    assert_null(sample(&h, "*", mem, 60).p); // does not fit
    h.rtt_us = -1;
    assert_null(sample(&h, "net.rtt_ms", mem, sizeof(mem)).p); // unknown is left out
}

static void is_silent_about_what_is_not_there(void **state)
{
    (void)state;
    struct health h;
    char mem[4096];
    health_init(&h, "/nonexistent", NULL);
    struct muster_text doc = sample(&h, "*", mem, sizeof(mem));
    assert_true(has(doc, "queue.len"));
    assert_false(has(doc, "cpu.util") || has(doc, "mem.used") || has(doc, "disk.used") || has(doc, "battery.level"));
}

static void reads_this_machine(void **state)
{
    (void)state;
    struct health h;
    char mem[16384];
    health_init(&h, "", NULL);
    struct muster_text doc = sample(&h, "*", mem, sizeof(mem));
    assert_true(value(doc, "mem.total") > 1e6 && value(doc, "mem.used") > 0);
    assert_true(value(doc, "uptime") > 0 && value(doc, "proc.count") >= 1 && value(doc, "disk.total") > 0);
}

static void knows_what_it_is(void **state)
{
    (void)state;
    char mem[2048];
    struct buf out = buf_fixed(mem, sizeof(mem));
    struct jw w;
    jw_init(&w, &out);
    jw_object(&w);
    facts_write(board, &w);
    jw_object_end(&w);
    struct muster_text doc = {mem, out.len};
    char text[64];
    assert_int_equal(muster_json_str(doc, "os", text, sizeof(text)), MUSTER_OK);
    assert_string_equal(text, "Fixture OS 1");
    assert_int_equal(muster_json_str(doc, "kernel", text, sizeof(text)), MUSTER_OK);
    assert_string_equal(text, "6.1.0-test");
    assert_int_equal(muster_json_str(doc, "boot_id", text, sizeof(text)), MUSTER_OK);
    assert_string_equal(text, "b00t-1d");
    assert_int_equal(muster_json_str(doc, "cpu/model", text, sizeof(text)), MUSTER_OK);
    assert_string_equal(text, "Fixture CPU");

    buf_clear(&out);
    jw_init(&w, &out);
    facts_write_hardware(board, NULL, true, &w);
    doc = (struct muster_text){mem, out.len};
    assert_int_equal(muster_json_str(doc, "model", text, sizeof(text)), MUSTER_OK);
    assert_string_equal(text, "Board 9");
    assert_int_equal(muster_json_str(doc, "keys/mac", text, sizeof(text)), MUSTER_OK);
    assert_string_equal(text, "02:00:00:00:00:01");
    assert_int_equal(muster_json_str(doc, "keys/machine_id", text, sizeof(text)), MUSTER_OK);
    assert_int_equal(strlen(text), 32);
    assert_null(strstr(mem, "0123456789abcdef")); // the file itself is confidential
    assert_int_equal(muster_json_str(doc, "keys/serial", text, sizeof(text)), MUSTER_E_NOT_FOUND); // a placeholder
    buf_clear(&out);
    jw_init(&w, &out);
    facts_write_hardware(board, "mine", false, &w);
    assert_true(slice_eq_str(buf_view(&out), "{\"model\":\"mine\"}"));
}

int main(void)
{
    find_board();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_a_board),
        cmocka_unit_test(obeys_the_wanted_set),
        cmocka_unit_test(is_silent_about_what_is_not_there),
        cmocka_unit_test(reads_this_machine),
        cmocka_unit_test(knows_what_it_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
