#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/queue.h"
#include "base/log.h"

static char dir[64];

static void clear_dir(void)
{
    DIR *d = opendir(dir);
    for (const struct dirent *e = d != NULL ? readdir(d) : NULL; e != NULL; e = readdir(d)) {
        char path[400];
        snprintf(path, sizeof(path), "%s/%s", dir, e->d_name);
        unlink(path);
    }
    if (d != NULL) {
        closedir(d);
    }
}

static int setup(void **state)
{
    (void)state;
    log_set_level(LOG_ERROR);
    snprintf(dir, sizeof(dir), "/tmp/muster-queue-XXXXXX");
    return mkdtemp(dir) != NULL ? 0 : -1;
}
static int teardown(void **state)
{
    (void)state;
    clear_dir();
    return rmdir(dir);
}

static struct queue *open_queue(uint64_t bytes_max)
{
    struct queue *q = NULL;
    struct err err;
    assert_int_equal(queue_open(dir, bytes_max, &q, &err), ST_OK);
    return q;
}

// Record n has a length that depends on n, so that a mix-up shows.
static void append(struct queue *q, unsigned n, size_t fill)
{
    char text[QUEUE_RECORD_MAX];
    memset(text, 'x', sizeof(text));
    int len = snprintf(text, sizeof(text), "%u:", n);
    text[len] = 'x';
    struct err err;
    assert_int_equal(queue_append(q, slice_make(text, (size_t)len + fill + n % 7), &err), ST_OK);
}

static enum status next(struct queue *q, unsigned *ret_n, uint64_t *ret_seq, bool *ret_repeat)
{
    static uint8_t mem[QUEUE_RECORD_MAX + 1];
    struct buf out = buf_fixed(mem, QUEUE_RECORD_MAX);
    struct err err;
    enum status s = queue_next(q, &out, ret_seq, ret_repeat, &err);
    if (s == ST_OK) {
        mem[out.len] = '\0';
        *ret_n = (unsigned)strtoul((char *)mem, NULL, 10);
    }
    return s;
}

static void expect_next(struct queue *q, unsigned n, bool repeat, uint64_t *ret_seq)
{
    unsigned got = 0;
    bool again = false;
    assert_int_equal(next(q, &got, ret_seq, &again), ST_OK);
    assert_int_equal(got, n);
    assert_int_equal(again, repeat);
}

static void in_order_and_removed_by_ack_only(void **state)
{
    (void)state;
    struct queue *q = open_queue(QUEUE_BYTES_MIN);
    uint64_t seq[6];
    for (unsigned n = 1; n <= 5; n++) {
        append(q, n, 10);
    }
    assert_true(queue_dirty(q));
    assert_int_equal(queue_sync(q, NULL), ST_OK);
    assert_false(queue_dirty(q));
    assert_int_equal(queue_len(q), 5);
    for (unsigned n = 1; n <= 3; n++) {
        expect_next(q, n, false, &seq[n]);
    }
    queue_ack(q, seq[2]); // ahead of its turn
    assert_int_equal(queue_len(q), 4);
    queue_rewind(q);
    expect_next(q, 1, true, &seq[1]);
    expect_next(q, 3, true, &seq[3]);
    expect_next(q, 4, false, &seq[4]);
    queue_put_back(q, seq[4]);
    expect_next(q, 4, true, &seq[4]);
    queue_ack(q, seq[1]);
    queue_ack(q, seq[1]); // twice is once
    queue_ack(q, 1000);   // never handed out
    queue_close(q);

    q = open_queue(QUEUE_BYTES_MIN); // the next run: 1 and 2 are done
    assert_int_equal(queue_len(q), 3);
    expect_next(q, 3, true, &seq[3]);
    expect_next(q, 4, true, &seq[4]);
    expect_next(q, 5, true, &seq[5]);
    unsigned n;
    bool repeat;
    assert_int_equal(next(q, &n, &seq[0], &repeat), ST_NOT_FOUND);
    append(q, 6, 10);
    expect_next(q, 6, false, &seq[0]);
    queue_close(q);
}

static void bounded_in_flight(void **state)
{
    (void)state;
    clear_dir();
    struct queue *q = open_queue(QUEUE_BYTES_MIN);
    uint64_t seq = 0;
    unsigned n;
    bool repeat;
    for (unsigned i = 1; i <= QUEUE_IN_FLIGHT + 5; i++) {
        append(q, i, 1);
    }
    for (unsigned i = 1; i <= QUEUE_IN_FLIGHT; i++) {
        expect_next(q, i, false, &seq);
    }
    assert_int_equal(next(q, &n, &seq, &repeat), ST_BUSY);
    for (uint64_t i = QUEUE_IN_FLIGHT; i >= 1; i--) { // backwards: the last of these frees all
        queue_ack(q, i);
    }
    assert_int_equal(queue_len(q), 5);
    expect_next(q, QUEUE_IN_FLIGHT + 1, false, &seq);
    queue_close(q);
}

static unsigned count_files(void)
{
    unsigned files = 0;
    DIR *d = opendir(dir);
    for (const struct dirent *e = readdir(d); e != NULL; e = readdir(d)) {
        files += strstr(e->d_name, ".seg") != NULL;
    }
    closedir(d);
    return files;
}

static void oldest_are_dropped_and_counted(void **state)
{
    (void)state;
    clear_dir();
    struct queue *q = open_queue(QUEUE_BYTES_MIN);
    unsigned total = 2000;
    uint64_t seq = 0;
    for (unsigned n = 1; n <= total; n++) {
        append(q, n, 200);
        if (n == 3) {
            expect_next(q, 1, false, &seq); // in flight when it is dropped
        }
    }
    uint64_t dropped = queue_dropped(q);
    assert_true(dropped > 500 && dropped < total);
    assert_int_equal(queue_len(q) + dropped, total);
    queue_ack(q, seq); // too late: harmless
    assert_int_equal(queue_len(q) + dropped, total);
    queue_close(q);

    q = open_queue(QUEUE_BYTES_MIN);
    assert_int_equal(queue_dropped(q), dropped);
    for (unsigned n = (unsigned)dropped + 1; n <= total; n++) {
        expect_next(q, n, true, &seq);
        queue_ack(q, seq);
    }
    assert_int_equal(queue_len(q), 0);
    assert_int_equal(count_files(), 1); // only the one that is being written
    queue_close(q);
}

static void too_large_is_refused(void **state)
{
    (void)state;
    clear_dir();
    struct queue *q = open_queue(QUEUE_BYTES_MIN);
    static uint8_t big[QUEUE_RECORD_MAX + 1];
    struct err err;
    assert_int_equal(queue_append(q, slice_make(big, sizeof(big)), &err), ST_TOO_LARGE);
    assert_int_equal(queue_append(q, slice_make(big, QUEUE_RECORD_MAX), &err), ST_OK);
    assert_int_equal(queue_append(q, slice_make(big, 0), &err), ST_OK);
    assert_int_equal(queue_len(q), 2);
    queue_close(q);
}

// ---- Damage ---------------------------------------------------------------------------------------------------------

static void first_segment(char *path, size_t size)
{
    char best[64] = "z";
    DIR *d = opendir(dir);
    for (const struct dirent *e = readdir(d); e != NULL; e = readdir(d)) {
        if (strstr(e->d_name, ".seg") != NULL && strcmp(e->d_name, best) < 0) {
            snprintf(best, sizeof(best), "%.60s", e->d_name);
        }
    }
    closedir(d);
    snprintf(path, size, "%s/%s", dir, best);
}

static void torn_tail_is_cut_off_at_every_length(void **state)
{
    (void)state;
    clear_dir();
    struct queue *q = open_queue(QUEUE_BYTES_MIN);
    for (unsigned n = 1; n <= 3; n++) {
        append(q, n, 5);
    }
    queue_close(q);
    char path[200];
    first_segment(path, sizeof(path));
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    const off_t ends[] = {16, 16 + 8 + 8, 16 + 8 + 8 + 8 + 9, st.st_size}; // "1:" + 5 + 1 and "2:" + 5 + 2
    for (off_t cut = st.st_size - 1; cut >= 0; cut--) {
        assert_int_equal(truncate(path, cut), 0);
        q = open_queue(QUEUE_BYTES_MIN);
        unsigned whole = 0;
        while (whole < 3 && ends[whole + 1] <= cut) {
            whole++;
        }
        assert_int_equal(queue_len(q), whole);
        uint64_t seq;
        for (unsigned n = 1; n <= whole; n++) {
            expect_next(q, n, true, &seq);
        }
        if (cut < 16) {
            queue_close(q);
            assert_int_equal(count_files(), 0);
            break;
        }
        queue_close(q);
    }
}

static void flipped_bits_never_pass(void **state)
{
    (void)state;
    clear_dir();
    struct queue *q = open_queue(QUEUE_BYTES_MIN);
    for (unsigned n = 1; n <= 3; n++) {
        append(q, n, 5);
    }
    queue_close(q);
    char path[200];
    first_segment(path, sizeof(path));
    uint8_t good[256];
    int fd = open(path, O_RDONLY);
    ssize_t len = read(fd, good, sizeof(good));
    close(fd);
    assert_true(len > 40);
    for (ssize_t at = 0; at < len; at++) {
        uint8_t bad[256];
        memcpy(bad, good, sizeof(bad));
        bad[at] ^= 0x10;
        fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
        assert_int_equal(write(fd, bad, (size_t)len), len);
        close(fd);
        q = open_queue(QUEUE_BYTES_MIN);
        assert_true(queue_len(q) < 3);
        unsigned n = 0;
        unsigned got = 0;
        uint64_t seq;
        bool repeat;
        while (next(q, &n, &seq, &repeat) == ST_OK) {
            assert_int_equal(n, ++got);
        }
        queue_close(q);
        clear_dir();
    }
}

// A segment that is broken in the middle: what follows it in this segment is lost and counted, the other segments are not.
static void damage_costs_one_segment(void **state)
{
    (void)state;
    for (int while_running = 0; while_running < 2; while_running++) {
        clear_dir();
        struct queue *q = open_queue(QUEUE_BYTES_MIN);
        for (unsigned n = 1; n <= 60; n++) {
            append(q, n, 200);
        }
        char path[200];
        first_segment(path, sizeof(path));
        if (!while_running) {
            queue_close(q);
        }
        int fd = open(path, O_RDWR);
        assert_int_equal(pwrite(fd, "!", 1, 16 + 3 * 215), 1);
        close(fd);
        if (!while_running) {
            q = open_queue(QUEUE_BYTES_MIN);
        }
        unsigned n = 0;
        unsigned last = 0;
        unsigned got = 0;
        uint64_t seq;
        bool repeat;
        enum status s;
        while ((s = next(q, &n, &seq, &repeat)) == ST_OK || s == ST_CORRUPT) {
            if (s == ST_OK) {
                assert_true(n > last);
                last = n;
                got++;
                queue_ack(q, seq);
            }
        }
        assert_int_equal(s, ST_NOT_FOUND);
        assert_int_equal(last, 60);
        assert_true(got > 40 && got < 60);
        assert_int_equal(got + queue_dropped(q), 60);
        assert_int_equal(queue_len(q), 0);
        append(q, 61, 1);
        expect_next(q, 61, false, &seq);
        queue_close(q);
    }
}

static void last_segment_damaged_while_running(void **state)
{
    (void)state;
    clear_dir();
    struct queue *q = open_queue(QUEUE_BYTES_MIN);
    for (unsigned n = 1; n <= 5; n++) {
        append(q, n, 5);
    }
    char path[200];
    first_segment(path, sizeof(path));
    assert_int_equal(truncate(path, 40), 0);
    uint64_t seq;
    unsigned n;
    bool repeat;
    expect_next(q, 1, false, &seq);
    assert_int_equal(next(q, &n, &seq, &repeat), ST_CORRUPT);
    append(q, 6, 5); // a new segment
    expect_next(q, 6, false, &seq);
    queue_ack(q, 1);
    queue_ack(q, seq);
    assert_int_equal(queue_len(q), 0);
    assert_int_equal(queue_dropped(q), 4);
    queue_close(q);
}

static void lost_note_means_repeats_only(void **state)
{
    (void)state;
    clear_dir();
    struct queue *q = open_queue(QUEUE_BYTES_MIN);
    uint64_t seq;
    for (unsigned n = 1; n <= 4; n++) {
        append(q, n, 5);
    }
    expect_next(q, 1, false, &seq);
    queue_ack(q, seq);
    queue_close(q);
    char path[200];
    snprintf(path, sizeof(path), "%s/acked", dir);
    unlink(path);
    q = open_queue(QUEUE_BYTES_MIN);
    for (unsigned n = 1; n <= 4; n++) {
        expect_next(q, n, true, &seq);
    }
    assert_int_equal(queue_dropped(q), 0);
    queue_close(q);
}

static void full_disk_keeps_what_is_there(void **state)
{
    (void)state;
    clear_dir();
    struct queue *q = open_queue(QUEUE_BYTES_MIN);
    append(q, 1, 100);
    // Files may not grow past 250 bytes: the second write is cut short, then fails, as on a full disk.
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct rlimit limit = {250, 250};
        signal(SIGXFSZ, SIG_IGN);
        bool ok = setrlimit(RLIMIT_FSIZE, &limit) == 0 && queue_append(q, slice_make(dir, 60), NULL) == ST_OK &&
                  queue_append(q, slice_make(dir, 60), NULL) == ST_IO && queue_len(q) == 2;
        _exit(ok ? 0 : 1);
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    queue_close(q);
    q = open_queue(QUEUE_BYTES_MIN);
    assert_int_equal(queue_len(q), 2); // nothing torn, nothing lost
    queue_close(q);
}

// ---- kill -9 at every system call -----------------------------------------------------------------------------------

struct progress {
    unsigned appended; // queue_append has returned
    unsigned acked;    // queue_ack has been called
};

// The life of a queue: appends faster than it acknowledges, with small segments, so that every path is walked. Exits by itself.
static void crash_child(struct progress *p, unsigned from)
{
    struct queue *q = NULL;
    if (queue_open(dir, QUEUE_BYTES_MIN, &q, NULL) != ST_OK) {
        _exit(9);
    }
    for (unsigned n = from; n < from + 60; n++) {
        char text[1200];
        memset(text, 'x', sizeof(text));
        int len = snprintf(text, sizeof(text), "%u:", n);
        text[len] = 'x';
        if (queue_append(q, slice_make(text, 300 + n % 800), NULL) != ST_OK) {
            _exit(8);
        }
        p->appended = n;
        if (n % 4 == 0 && queue_sync(q, NULL) != ST_OK) {
            _exit(7);
        }
        static uint8_t mem[QUEUE_RECORD_MAX];
        struct buf out = buf_fixed(mem, sizeof(mem));
        uint64_t seq;
        bool repeat;
        if (n % 2 == 0 && queue_next(q, &out, &seq, &repeat, NULL) == ST_OK) {
            p->acked = (unsigned)strtoul((char *)mem, NULL, 10);
            queue_ack(q, seq);
        }
    }
    _exit(0);
}

// Runs the child and kills it when it enters its n-th system call. True when it ended by itself before that.
static bool crash_at(struct progress *p, unsigned from, unsigned n)
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        ptrace(PTRACE_TRACEME, 0, NULL, NULL);
        raise(SIGSTOP);
        crash_child(p, from);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    for (unsigned stops = 0; WIFSTOPPED(status); stops++) {
        if (stops == 2 * n) { // each call stops twice: on its way in and out
            kill(pid, SIGKILL);
        } else {
            ptrace(PTRACE_SYSCALL, pid, NULL, NULL);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
    }
    assert_true(WIFEXITED(status) ? WEXITSTATUS(status) == 0 : WTERMSIG(status) == SIGKILL);
    return WIFEXITED(status);
}

// What the next run finds: everything appended and not acknowledged, in order, each once.
static void check_after_crash(const struct progress *p)
{
    struct queue *q = open_queue(QUEUE_BYTES_MIN);
    assert_int_equal(queue_dropped(q), 0);
    unsigned n = 0;
    unsigned last = 0;
    uint64_t seq;
    bool repeat;
    enum status s;
    while ((s = next(q, &n, &seq, &repeat)) == ST_OK) {
        assert_true(last == 0 ? n <= p->acked + 1 : n == last + 1);
        assert_true(repeat);
        last = n;
        queue_ack(q, seq);
    }
    assert_int_equal(s, ST_NOT_FOUND);
    assert_true(last >= p->appended || p->appended == p->acked);
    assert_true(last <= p->appended + 1);
    queue_close(q);
}

static void killed_at_every_system_call(void **state)
{
    (void)state;
    struct progress *p = mmap(NULL, sizeof(*p), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(p != MAP_FAILED);
    unsigned calls = 0;
    for (bool ended = false; !ended; calls++) {
        clear_dir();
        *p = (struct progress){0, 0};
        ended = crash_at(p, 1, calls);
        check_after_crash(p);
    }
    printf("killed at each of %u system calls\n", calls - 1);
    assert_true(calls > 150);
    munmap(p, sizeof(*p));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(in_order_and_removed_by_ack_only),
        cmocka_unit_test(bounded_in_flight),
        cmocka_unit_test(oldest_are_dropped_and_counted),
        cmocka_unit_test(too_large_is_refused),
        cmocka_unit_test(torn_tail_is_cut_off_at_every_length),
        cmocka_unit_test(flipped_bits_never_pass),
        cmocka_unit_test(damage_costs_one_segment),
        cmocka_unit_test(last_segment_damaged_while_running),
        cmocka_unit_test(lost_note_means_repeats_only),
        cmocka_unit_test(full_disk_keeps_what_is_there),
        cmocka_unit_test(killed_at_every_system_call),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
