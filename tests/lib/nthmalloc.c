// Preloaded into a program under test: the N-th allocation from now fails, once.
//
// NTHMALLOC names a file of at least 16 bytes that test and program map: `countdown` is how many allocations are still to
// succeed before the one that fails (the test writes it while the program runs; 0 or less: none fails), `failed` counts the
// failures. Allocations of all threads count. With NTHMALLOC_TRACE in the environment each failure's call chain goes to
// standard error.
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

struct control {
    _Atomic int64_t countdown;
    _Atomic int64_t failed;
};

// The C library's own, under the names that dlsym is not needed for.
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t size);

static struct control *control;
static int trace;

__attribute__((constructor)) static void nthmalloc_start(void)
{
    const char *path = getenv("NTHMALLOC");
    int fd = path != NULL ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0) {
        return;
    }
    void *p = mmap(NULL, sizeof(*control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    (void)close(fd);
    trace = getenv("NTHMALLOC_TRACE") != NULL;
    if (p != MAP_FAILED) {
        control = p;
    }
}

static int must_fail(void)
{
    if (control == NULL || atomic_load_explicit(&control->countdown, memory_order_relaxed) <= 0 ||
        atomic_fetch_sub(&control->countdown, 1) != 1) {
        return 0;
    }
    atomic_fetch_add(&control->failed, 1);
    if (trace) {
        void *frames[40];
        backtrace_symbols_fd(frames, backtrace(frames, 40), 2);
        (void)!write(2, "--\n", 3);
    }
    errno = ENOMEM;
    return 1;
}

void *malloc(size_t size)
{
    return must_fail() ? NULL : __libc_malloc(size);
}

void *calloc(size_t n, size_t size)
{
    return must_fail() ? NULL : __libc_calloc(n, size);
}

void *realloc(void *p, size_t size)
{
    return must_fail() ? NULL : __libc_realloc(p, size);
}
