// Any file is either read or refused with at least one problem that begins with where it is.
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/conf.h"

static const struct conf_key keys[] = {
    {.name = "a.size", .type = CONF_SIZE, .dflt = "64KiB", .min = 1024, .max = 1 << 28, .help = "x"},
    {.name = "a.time", .type = CONF_DURATION, .dflt = "10s", .min = 1, .max = INT64_MAX, .help = "x"},
    {.name = "a.n", .type = CONF_INT, .dflt = "1", .help = "x"},
    {.name = "b.addr", .flag = "addr", .type = CONF_ADDR, .dflt = "off", .help = "x"},
    {.name = "b.pick", .type = CONF_ENUM, .dflt = "one", .choices = "one two", .help = "x"},
    {.name = "b.list", .type = CONF_LIST, .dflt = "", .help = "x"},
    {.name = "text", .type = CONF_STRING, .dflt = "", .help = "x"},
    {.name = "flag", .type = CONF_BOOL, .dflt = "no", .help = "x"},
};
static const struct conf_module module = {"Fuzz", keys, sizeof(keys) / sizeof(keys[0])};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int fd = memfd_create("conf", 0);
    assert(fd >= 0);
    assert(write(fd, data, size) == (ssize_t)size);
    char path[64];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    struct buf problems = buf_heap(1 << 20);
    struct conf *c = NULL;
    enum status s = conf_load(&module, 1, path, NULL, &c, &problems);
    close(fd);
    if (s == ST_OK) {
        assert(problems.len == 0);
        assert(conf_int(c, "a.size") >= 1024 && conf_int(c, "a.size") <= 1 << 28);
        assert(conf_int(c, "a.time") >= 1);
        assert(conf_int(c, "b.pick") == 0 || conf_int(c, "b.pick") == 1);
        const char *const *items;
        size_t n = conf_list(c, "b.list", &items);
        assert(n <= 64 && items[n] == NULL);
        assert(strlen(conf_str(c, "text")) <= 512);
    } else {
        assert(s == ST_INVALID && c == NULL);
        assert(slice_starts(buf_view(&problems), slice_str(path)));
        assert(problems.p[problems.len - 1] == '\n');
    }
    conf_free(c);
    buf_release(&problems);
    return 0;
}
