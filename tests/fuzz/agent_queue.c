// Any bytes as the files of the agent's queue: the note of acknowledgements (first 84 bytes) and one segment. Opening must never
// crash, numbers must come out in order, and after it the queue must work: what is appended then comes out unchanged.
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "agent/queue.h"
#include "base/log.h"

#define NOTE 84

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
    if (!ok) {
        abort();
    }
}

static void put_file(const char *dir, const char *name, const uint8_t *data, size_t size)
{
    char path[128];
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    check(fd >= 0 && write(fd, data, size) == (ssize_t)size);
    close(fd);
}

static void remove_dir(const char *dir)
{
    DIR *d = opendir(dir);
    check(d != NULL);
    for (const struct dirent *e = readdir(d); e != NULL; e = readdir(d)) {
        if (e->d_name[0] != '.') {
            check(unlinkat(dirfd(d), e->d_name, 0) == 0);
        }
    }
    closedir(d);
    check(rmdir(dir) == 0);
}

static void use(struct queue *q)
{
    static uint8_t mem[QUEUE_RECORD_MAX];
    struct buf out = buf_fixed(mem, sizeof(mem));
    uint64_t seq = 0;
    uint64_t last = 0;
    bool repeat = false;
    enum status s;
    while ((s = queue_next(q, &out, &seq, &repeat, NULL)) == ST_OK) {
        check(seq > last);
        last = seq;
        queue_ack(q, seq);
        buf_clear(&out);
    }
    check(s == ST_NOT_FOUND && queue_len(q) == 0);
    check(queue_append(q, SLICE("after"), NULL) == ST_OK);
    check(queue_next(q, &out, &seq, &repeat, NULL) == ST_OK && slice_eq_str(buf_view(&out), "after") && !repeat);
    check(seq > last);
}

static void fuzz_in(const char *dir, const uint8_t *data, size_t size)
{
    put_file(dir, "acked", data, NOTE);
    // Two segments, cut where the last byte of the note says: gaps, overlaps and a torn middle are all possible.
    size_t rest = size - NOTE;
    size_t cut = rest * data[NOTE - 1] / 255;
    put_file(dir, "0000000000000001.seg", data + NOTE, cut);
    put_file(dir, "0000000000000004.seg", data + NOTE + cut, rest - cut);
    for (int run = 0; run < 2; run++) {
        struct queue *q = NULL;
        if (queue_open(dir, QUEUE_BYTES_MIN, &q, NULL) == ST_OK) {
            use(q);
            queue_close(q);
        }
    }
    remove_dir(dir);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    log_set_level(LOG_ERROR);
    if (size < NOTE) {
        return 0;
    }
    // In memory where there is such a place: syncing a disk is not what is tested here.
    char dir[] = "/dev/shm/muster-queue-XXXXXX";
    char on_disk[] = "/tmp/muster-queue-XXXXXX";
    const char *made = mkdtemp(dir);
    made = made != NULL ? made : mkdtemp(on_disk);
    check(made != NULL);
    fuzz_in(made, data, size);
    return 0;
}
