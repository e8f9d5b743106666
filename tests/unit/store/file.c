// Whole files: modes, limits, secrets others may read, leftovers of a crash.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <sys/stat.h>

#include "store/file.h"
#include "tmpdir.h"

static char dir[256];

static int setup(void **state)
{
    (void)state;
    tmpdir_make(dir, sizeof(dir));
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    tmpdir_remove(dir);
    return 0;
}

static const char *path_of(const char *name)
{
    static char path[512];
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    return path;
}

static void written_is_read(void **state)
{
    (void)state;
    char path[512];
    struct stat st;
    struct buf out = buf_heap(100);
    snprintf(path, sizeof(path), "%s", path_of("a"));
    assert_int_equal(file_write(path, 0600, SLICE("one"), NULL), ST_OK);
    assert_int_equal(file_write(path, 0600, SLICE("two, longer"), NULL), ST_OK);
    assert_int_equal(file_read(path, true, &out, NULL), ST_OK);
    assert_true(slice_eq_str(buf_view(&out), "two, longer"));
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(file_write(path, 0644, SLICE("x"), NULL), ST_OK);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0644);
    buf_release(&out);
}

static void a_leftover_does_not_stand_in_the_way(void **state)
{
    (void)state;
    assert_int_equal(file_write(path_of("a.tmp"), 0600, SLICE("left by a crash"), NULL), ST_OK);
    assert_int_equal(file_write(path_of("a"), 0600, SLICE("new"), NULL), ST_OK);
    assert_int_not_equal(access(path_of("a.tmp"), F_OK), 0);
}

static void limits_and_absence(void **state)
{
    (void)state;
    struct err err = {.code = ST_OK};
    struct buf out = buf_heap(10);
    assert_int_equal(file_read(path_of("none"), false, &out, &err), ST_NOT_FOUND);
    assert_non_null(strstr(err.text, "none"));
    assert_int_equal(file_write(path_of("a"), 0600, SLICE("0123456789"), NULL), ST_OK);
    assert_int_equal(file_read(path_of("a"), false, &out, NULL), ST_OK);
    buf_clear(&out);
    assert_int_equal(file_write(path_of("a"), 0600, SLICE("0123456789x"), NULL), ST_OK);
    assert_int_equal(file_read(path_of("a"), false, &out, &err), ST_TOO_LARGE);
    assert_int_equal(file_write(path_of("no/such/folder"), 0600, SLICE("x"), &err), ST_NOT_FOUND);
    buf_release(&out);
}

static void secrets_are_private(void **state)
{
    (void)state;
    static const mode_t bad[] = {0640, 0604, 0660, 0666, 0610};
    struct buf out = buf_heap(100);
    struct err err = {.code = ST_OK};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(file_write(path_of("s"), bad[i], SLICE("x"), NULL), ST_OK);
        assert_int_equal(file_read(path_of("s"), true, &out, &err), ST_FORBIDDEN);
        assert_non_null(strstr(err.text, "0600"));
        assert_int_equal(file_read(path_of("s"), false, &out, NULL), ST_OK);
    }
    char target[512];
    snprintf(target, sizeof(target), "%s", path_of("t"));
    assert_int_equal(file_write(target, 0600, SLICE("x"), NULL), ST_OK);
    assert_int_equal(symlink(target, path_of("link")), 0);
    assert_int_not_equal(file_read(path_of("link"), true, &out, NULL), ST_OK);
    assert_int_equal(mkdir(path_of("folder"), 0700), 0);
    assert_int_equal(file_read(path_of("folder"), true, &out, &err), ST_FORBIDDEN);
    buf_release(&out);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {TEST(written_is_read), TEST(a_leftover_does_not_stand_in_the_way),
                                       TEST(limits_and_absence), TEST(secrets_are_private)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
