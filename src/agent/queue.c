#include "agent/queue.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/crc.h"
#include "base/log.h"
#include "base/reader.h"

#define SEGMENT_MAGIC   0x4d515545u // "MQUE"
#define SEGMENT_VERSION 1u
#define SEGMENT_HEADER  16u
#define RECORD_HEADER   8u
#define NAME_BYTES      24 // "0123456789abcdef.seg"
#define NOTE_BYTES      20u
#define NOTE_STRIDE     UINT64_C(64)

struct segment {
    uint64_t first_seq;
    uint64_t count;
    uint64_t bytes; // of the file, valid part
};
// invariant: segments are in order of first_seq and do not overlap; acked < cursor <= next_seq;
// bit i of acked_ahead: acked + 1 + i is acknowledged (bit 0 is never set); every handed-out record lies in
// (acked, acked + QUEUE_IN_FLIGHT].
struct queue {
    int dir_fd;
    int append_fd; // of the last segment; -1: none
    int read_fd;   // of segment read_at
    size_t read_at;
    uint64_t read_off, read_seq; // where record `read_seq` begins in it
    int note_fd;
    unsigned note_turn;
    uint64_t bytes_max, bytes;
    uint64_t segment_max;
    uint64_t next_seq;    // of the next append
    uint64_t acked;       // all up to here are done
    uint64_t acked_ahead; // bits
    uint64_t cursor;      // next to hand out
    uint64_t handed;      // all below were handed out once, by this run or perhaps by an earlier one
    uint64_t dropped;
    bool dirty;
    size_t segments_len;
    struct segment segments[QUEUE_SEGMENTS_MAX];
};

static enum status fail(struct err *err, const char *what)
{
    int e = errno;
    return err_at(err, e == ENOSPC || e == EDQUOT ? ST_FULL : ST_IO, "queue", "cannot %s: %s", what, strerror(e));
}

// ---- The bytes ------------------------------------------------------------------------------------------------------

static uint32_t record_crc(uint64_t seq, struct slice payload)
{
    uint8_t mem[8];
    struct buf b = buf_fixed(mem, sizeof(mem));
    buf_u64(&b, seq);
    return crc32c(crc32c(0, buf_view(&b)), payload);
}

static void segment_name(uint64_t first_seq, char dst[NAME_BYTES])
{
    snprintf(dst, NAME_BYTES, "%016" PRIx64 ".seg", first_seq);
}

static bool segment_name_parse(const char *name, uint64_t *ret_first_seq)
{
    uint64_t seq = 0;
    if (strlen(name) != 20 || strcmp(name + 16, ".seg") != 0) {
        return false;
    }
    for (int i = 0; i < 16; i++) {
        char c = name[i];
        if (c >= '0' && c <= '9') {
            seq = seq << 4 | (uint64_t)(c - '0');
        } else if (c >= 'a' && c <= 'f') {
            seq = seq << 4 | (uint64_t)(c - 'a' + 10);
        } else {
            return false;
        }
    }
    *ret_first_seq = seq;
    return true;
}

static ssize_t pread_all(int fd, void *dst, size_t len, uint64_t off)
{
    size_t have = 0;
    while (have < len) {
        ssize_t n = pread(fd, (uint8_t *)dst + have, len - have, (off_t)(off + have));
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return -1;
        }
        if (n == 0) {
            break;
        }
        have += (size_t)n;
    }
    return (ssize_t)have;
}

// Reads the record with number `seq` at `off`. ST_NOT_FOUND: the file ends here; ST_CORRUPT: what is here is no record.
static enum status record_read(int fd, uint64_t off, uint64_t seq, struct buf *out, uint64_t *ret_bytes,
                               struct err *err)
{
    uint8_t mem[RECORD_HEADER];
    ssize_t n = pread_all(fd, mem, sizeof(mem), off);
    if (n < 0) {
        return fail(err, "read a segment");
    }
    if (n == 0) {
        return ST_NOT_FOUND;
    }
    struct reader r = reader_make(slice_make(mem, (size_t)n));
    uint32_t len = rd_u32(&r);
    uint32_t crc = rd_u32(&r);
    if (r.failed || len > QUEUE_RECORD_MAX) {
        return ST_CORRUPT;
    }
    size_t before = out->len;
    uint8_t *to = buf_reserve(out, len);
    if (to == NULL) {
        return err_set(err, ST_NOMEM, "no room for a record of %u bytes", len);
    }
    n = pread_all(fd, to, len, off + RECORD_HEADER);
    if (n < 0) {
        return fail(err, "read a segment");
    }
    if ((size_t)n != len || record_crc(seq, slice_make(to, len)) != crc) {
        return ST_CORRUPT;
    }
    buf_commit(out, len);
    *ret_bytes = RECORD_HEADER + out->len - before;
    return ST_OK;
}

static bool write_all(int fd, struct slice data)
{
    while (data.len > 0) {
        ssize_t n = write(fd, data.p, data.len);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return false;
        }
        data = slice_from(data, (size_t)n);
    }
    return true;
}

// ---- The note of what is acknowledged -------------------------------------------------------------------------------

static void note_write(struct queue *q)
{
    uint8_t mem[NOTE_BYTES];
    struct buf b = buf_fixed(mem, sizeof(mem));
    buf_u64(&b, q->acked);
    buf_u64(&b, q->dropped);
    buf_u32(&b, crc32c(0, buf_view(&b)));
    q->note_turn ^= 1;
    if (pwrite(q->note_fd, mem, sizeof(mem), (off_t)(q->note_turn * NOTE_STRIDE)) != (ssize_t)sizeof(mem)) {
        // The older note still stands: more repeats after a restart, nothing worse.
        log_warn("queue", "cannot note what is acknowledged", LOGS("error", strerror(errno)));
    }
}

static void note_read(struct queue *q)
{
    for (unsigned turn = 0; turn < 2; turn++) {
        uint8_t mem[NOTE_BYTES];
        if (pread_all(q->note_fd, mem, sizeof(mem), turn * NOTE_STRIDE) != (ssize_t)sizeof(mem)) {
            continue;
        }
        struct reader r = reader_make(slice_make(mem, sizeof(mem)));
        uint64_t acked = rd_u64(&r);
        uint64_t dropped = rd_u64(&r);
        if (rd_u32(&r) == crc32c(0, slice_make(mem, 16)) && acked >= q->acked && dropped >= q->dropped) {
            q->acked = acked;
            q->dropped = dropped;
            q->note_turn = turn;
        }
    }
}

// ---- Segments -------------------------------------------------------------------------------------------------------

static uint64_t segment_end(const struct segment *s)
{
    return s->first_seq + s->count;
}

static void close_fd(int *fd)
{
    if (*fd >= 0) {
        close(*fd);
    }
    *fd = -1;
}

static void segment_delete_first(struct queue *q)
{
    char name[NAME_BYTES];
    segment_name(q->segments[0].first_seq, name);
    if (unlinkat(q->dir_fd, name, 0) != 0) {
        log_warn("queue", "cannot delete a segment", LOGS("file", name), LOGS("error", strerror(errno)));
    }
    q->bytes -= q->segments[0].bytes;
    q->segments_len--;
    memmove(&q->segments[0], &q->segments[1], q->segments_len * sizeof(q->segments[0]));
    if (q->segments_len == 0) {
        close_fd(&q->append_fd);
    }
    if (q->read_at == 0) {
        close_fd(&q->read_fd);
    } else {
        q->read_at--;
    }
}

// Deletes what is acknowledged; the segment that is being written stays.
static void segments_trim(struct queue *q)
{
    while (q->segments_len > 1 && segment_end(&q->segments[0]) <= q->acked + 1) {
        segment_delete_first(q);
    }
}

// Everything up to `seq` is done.
static void acked_up_to(struct queue *q, uint64_t seq)
{
    if (seq <= q->acked) {
        return;
    }
    uint64_t step = seq - q->acked;
    q->acked = seq;
    q->acked_ahead = step < 64 ? q->acked_ahead >> step : 0;
    while ((q->acked_ahead & 1) != 0) {
        q->acked_ahead >>= 1;
        q->acked++;
    }
    if (q->cursor <= q->acked) {
        q->cursor = q->acked + 1;
    }
    if (q->handed < q->cursor) {
        q->handed = q->cursor;
    }
}

static unsigned bits(uint64_t v)
{
    unsigned n = 0;
    for (; v != 0; v &= v - 1) {
        n++;
    }
    return n;
}

static void segment_drop_first(struct queue *q)
{
    const struct segment *s = &q->segments[0];
    uint64_t last = segment_end(s) - 1;
    if (last > q->acked) {
        uint64_t lost = last - q->acked;
        q->dropped += lost - bits(lost < 64 ? q->acked_ahead & ((1ull << lost) - 1) : q->acked_ahead);
        acked_up_to(q, last);
    }
    segment_delete_first(q);
    note_write(q);
}

// Numbers that no segment holds are records that were damaged. Once all before them are done they are counted and passed over.
static void gaps_skip(struct queue *q)
{
    uint64_t next = q->next_seq; // where records go on
    for (size_t i = q->segments_len; i > 0; i--) {
        const struct segment *s = &q->segments[i - 1];
        if (segment_end(s) > q->acked + 1) {
            next = s->first_seq;
        }
    }
    if (next > q->acked + 1) {
        q->dropped += next - q->acked - 1;
        acked_up_to(q, next - 1);
        note_write(q);
    }
}

static enum status segment_start(struct queue *q, struct err *err)
{
    if (q->dirty) {
        enum status s = queue_sync(q, err);
        if (s != ST_OK) {
            return s;
        }
    }
    if (q->segments_len == QUEUE_SEGMENTS_MAX) {
        segment_drop_first(q);
    }
    if (q->segments_len > 0 && q->segments[q->segments_len - 1].first_seq == q->next_seq) {
        q->bytes -= q->segments[--q->segments_len].bytes; // empty, and could not be written: made anew
    }
    char name[NAME_BYTES];
    segment_name(q->next_seq, name);
    uint8_t mem[SEGMENT_HEADER];
    struct buf b = buf_fixed(mem, sizeof(mem));
    buf_u32(&b, SEGMENT_MAGIC);
    buf_u32(&b, SEGMENT_VERSION);
    buf_u64(&b, q->next_seq);
    int fd = openat(q->dir_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0) {
        return fail(err, "make a segment");
    }
    if (!write_all(fd, buf_view(&b)) || fdatasync(fd) != 0 || fsync(q->dir_fd) != 0) {
        enum status s = fail(err, "make a segment");
        unlinkat(q->dir_fd, name, 0);
        close(fd);
        return s;
    }
    close_fd(&q->append_fd);
    q->append_fd = fd;
    q->segments[q->segments_len++] = (struct segment){.first_seq = q->next_seq, .bytes = SEGMENT_HEADER};
    q->bytes += SEGMENT_HEADER;
    segments_trim(q);
    return ST_OK;
}

// ---- Opening --------------------------------------------------------------------------------------------------------

static bool segment_header_ok(int fd, uint64_t first_seq)
{
    uint8_t mem[SEGMENT_HEADER];
    if (pread_all(fd, mem, sizeof(mem), 0) != (ssize_t)sizeof(mem)) {
        return false;
    }
    struct reader r = reader_make(slice_make(mem, sizeof(mem)));
    return rd_u32(&r) == SEGMENT_MAGIC && rd_u32(&r) == SEGMENT_VERSION && rd_u64(&r) == first_seq;
}

// Counts the whole records; what is behind the last one is cut off, so that appending goes on from there.
static enum status segment_scan(struct queue *q, struct segment *s, struct buf *scratch, struct err *err)
{
    char name[NAME_BYTES];
    segment_name(s->first_seq, name);
    int fd = openat(q->dir_fd, name, O_RDWR | O_CLOEXEC);
    if (fd < 0) {
        return fail(err, "open a segment");
    }
    struct stat st;
    enum status status = fstat(fd, &st) == 0 ? ST_OK : fail(err, "look at a segment");
    s->count = 0;
    s->bytes = 0;
    if (status == ST_OK && segment_header_ok(fd, s->first_seq)) {
        s->bytes = SEGMENT_HEADER;
        for (;;) {
            uint64_t bytes = 0;
            buf_clear(scratch);
            status = record_read(fd, s->bytes, s->first_seq + s->count, scratch, &bytes, err);
            if (status != ST_OK) {
                break;
            }
            s->bytes += bytes;
            s->count++;
        }
        status = status == ST_NOT_FOUND || status == ST_CORRUPT ? ST_OK : status;
    }
    if (status == ST_OK && (uint64_t)st.st_size > s->bytes && s->bytes > 0) {
        log_warn("queue", "cut a torn record off", LOGS("file", name), LOGU("bytes", (uint64_t)st.st_size - s->bytes));
        status = ftruncate(fd, (off_t)s->bytes) == 0 && fdatasync(fd) == 0 ? ST_OK : fail(err, "cut a segment");
    }
    close(fd);
    return status;
}

static int segment_order(const void *a, const void *b)
{
    const struct segment *x = a;
    const struct segment *y = b;
    return x->first_seq < y->first_seq ? -1 : x->first_seq > y->first_seq;
}

static enum status segments_list(struct queue *q, struct err *err)
{
    int fd = openat(q->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    if (d == NULL) {
        enum status s = fail(err, "list the queue's directory");
        close_fd(&fd);
        return s;
    }
    enum status s = ST_OK;
    for (const struct dirent *e = readdir(d); e != NULL && s == ST_OK; e = readdir(d)) {
        uint64_t first;
        if (!segment_name_parse(e->d_name, &first)) {
            continue;
        }
        if (q->segments_len == QUEUE_SEGMENTS_MAX) {
            s = err_set(err, ST_CORRUPT, "the queue's directory holds more than %d segments", QUEUE_SEGMENTS_MAX);
        } else {
            q->segments[q->segments_len++] = (struct segment){.first_seq = first};
        }
    }
    closedir(d);
    qsort(q->segments, q->segments_len, sizeof(q->segments[0]), segment_order);
    return s;
}

// Takes segment i out of the list and deletes its file: it holds nothing that can be read.
static void segment_discard(struct queue *q, size_t i)
{
    char name[NAME_BYTES];
    segment_name(q->segments[i].first_seq, name);
    log_warn("queue", "deleted a segment without a single whole record", LOGS("file", name));
    unlinkat(q->dir_fd, name, 0);
    q->segments_len--;
    memmove(&q->segments[i], &q->segments[i + 1], (q->segments_len - i) * sizeof(q->segments[0]));
}

static enum status segments_load(struct queue *q, struct err *err)
{
    uint8_t *mem = malloc(QUEUE_RECORD_MAX);
    if (mem == NULL) {
        return err_set(err, ST_NOMEM, "no memory for the queue");
    }
    struct buf scratch = buf_fixed(mem, QUEUE_RECORD_MAX);
    enum status s = segments_list(q, err);
    uint64_t end = 0; // of the segment before: numbers must not overlap
    for (size_t i = 0; s == ST_OK && i < q->segments_len;) {
        s = segment_scan(q, &q->segments[i], &scratch, err);
        if (s != ST_OK) {
            break;
        }
        struct segment *seg = &q->segments[i];
        bool absurd = seg->first_seq == 0 || seg->first_seq > UINT64_MAX / 2 || seg->first_seq < end;
        if (seg->bytes == 0 || absurd || (seg->count == 0 && i + 1 < q->segments_len)) {
            segment_discard(q, i);
            continue;
        }
        end = segment_end(seg);
        q->bytes += seg->bytes;
        i++;
    }
    free(mem);
    return s;
}

static enum status queue_load(struct queue *q, struct err *err)
{
    q->note_fd = openat(q->dir_fd, "acked", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (q->note_fd < 0) {
        return fail(err, "open the note of acknowledgements");
    }
    note_read(q);
    enum status s = segments_load(q, err);
    if (s != ST_OK) {
        return s;
    }
    uint64_t end = q->segments_len > 0 ? segment_end(&q->segments[q->segments_len - 1]) : 1;
    q->next_seq = end > q->acked + 1 ? end : q->acked + 1;
    if (q->segments_len > 0 && q->acked == 0) {
        q->acked = q->segments[0].first_seq - 1; // perhaps the note is gone: not a gap
    }
    gaps_skip(q);
    q->cursor = q->acked + 1;
    q->handed = q->next_seq; // an earlier run may have sent all of them
    if (q->segments_len > 0 && end == q->next_seq) {
        char name[NAME_BYTES];
        segment_name(q->segments[q->segments_len - 1].first_seq, name);
        q->append_fd = openat(q->dir_fd, name, O_WRONLY | O_APPEND | O_CLOEXEC);
        if (q->append_fd < 0) {
            return fail(err, "open the last segment");
        }
    }
    segments_trim(q);
    return ST_OK;
}

enum status queue_open(const char *dir, uint64_t bytes_max, struct queue **ret, struct err *err)
{
    struct queue *q = calloc(1, sizeof(*q));
    if (q == NULL) {
        return err_set(err, ST_NOMEM, "no memory for the queue");
    }
    q->dir_fd = q->append_fd = q->read_fd = q->note_fd = -1;
    q->bytes_max = bytes_max < QUEUE_BYTES_MIN ? QUEUE_BYTES_MIN : bytes_max;
    q->segment_max = q->bytes_max / 64;
    enum status s = ST_OK;
    if (mkdir(dir, 0700) != 0 && errno != EEXIST) {
        s = fail(err, "make the queue's directory");
    } else {
        q->dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        s = q->dir_fd >= 0 ? queue_load(q, err) : fail(err, "open the queue's directory");
    }
    if (s != ST_OK) {
        queue_close(q);
        return s;
    }
    *ret = q;
    return ST_OK;
}

void queue_close(struct queue *q)
{
    if (q == NULL) {
        return;
    }
    close_fd(&q->append_fd);
    close_fd(&q->read_fd);
    close_fd(&q->note_fd);
    close_fd(&q->dir_fd);
    free(q);
}

// ---- In -------------------------------------------------------------------------------------------------------------

// A record that was written in part is cut off again; when even that fails, the next append starts a new segment, and the torn end is
// cut off at the next start.
static enum status append_undo(struct queue *q, const struct segment *s, enum status why)
{
    if (ftruncate(q->append_fd, (off_t)s->bytes) != 0) {
        close_fd(&q->append_fd);
    }
    return why;
}

enum status queue_append(struct queue *q, struct slice payload, struct err *err)
{
    if (payload.len > QUEUE_RECORD_MAX) {
        return err_set(err, ST_TOO_LARGE, "a record may have %u bytes, not %zu", QUEUE_RECORD_MAX, payload.len);
    }
    uint64_t bytes = RECORD_HEADER + payload.len;
    bool fits = q->append_fd >= 0 && q->segments[q->segments_len - 1].bytes + bytes <= q->segment_max;
    if (!fits && !(q->append_fd >= 0 && q->segments[q->segments_len - 1].count == 0)) {
        enum status s = segment_start(q, err);
        if (s != ST_OK) {
            return s;
        }
    }
    while (q->bytes + bytes > q->bytes_max && q->segments_len > 1) {
        segment_drop_first(q);
    }
    struct segment *seg = &q->segments[q->segments_len - 1];
    uint8_t mem[RECORD_HEADER];
    struct buf b = buf_fixed(mem, sizeof(mem));
    buf_u32(&b, (uint32_t)payload.len);
    buf_u32(&b, record_crc(q->next_seq, payload));
    if (!write_all(q->append_fd, buf_view(&b)) || !write_all(q->append_fd, payload)) {
        return append_undo(q, seg, fail(err, "append"));
    }
    seg->bytes += bytes;
    seg->count++;
    q->bytes += bytes;
    q->next_seq++;
    q->dirty = true;
    return ST_OK;
}

enum status queue_sync(struct queue *q, struct err *err)
{
    if (!q->dirty || q->append_fd < 0) {
        return ST_OK;
    }
    if (fdatasync(q->append_fd) != 0) {
        return fail(err, "sync");
    }
    q->dirty = false;
    return ST_OK;
}

bool queue_dirty(const struct queue *q)
{
    return q->dirty;
}

// ---- Out ------------------------------------------------------------------------------------------------------------

static bool acked_already(const struct queue *q, uint64_t seq)
{
    return seq <= q->acked || (seq - q->acked - 1 < 64 && (q->acked_ahead >> (seq - q->acked - 1) & 1) != 0);
}

// Points the read position at record q->cursor, or at the next one that exists. ST_NOT_FOUND: there is none.
static enum status read_seek(struct queue *q, struct err *err)
{
    size_t at = 0;
    while (at < q->segments_len && segment_end(&q->segments[at]) <= q->cursor) {
        at++;
    }
    if (at == q->segments_len) {
        return ST_NOT_FOUND;
    }
    const struct segment *s = &q->segments[at];
    if (q->cursor < s->first_seq) {
        q->cursor = s->first_seq; // a gap: gaps_skip counts it when its turn comes
    }
    if (q->read_fd < 0 || q->read_at != at || q->read_seq > q->cursor) {
        close_fd(&q->read_fd);
        char name[NAME_BYTES];
        segment_name(s->first_seq, name);
        q->read_fd = openat(q->dir_fd, name, O_RDONLY | O_CLOEXEC);
        if (q->read_fd < 0) {
            return fail(err, "open a segment");
        }
        q->read_at = at;
        q->read_off = SEGMENT_HEADER;
        q->read_seq = s->first_seq;
    }
    return ST_OK;
}

// Reads forward to record q->cursor.
static enum status read_cursor(struct queue *q, struct buf *out, struct err *err)
{
    size_t before = out->len;
    for (;;) {
        uint64_t bytes = 0;
        out->len = before;
        enum status s = record_read(q->read_fd, q->read_off, q->read_seq, out, &bytes, err);
        if (s != ST_OK) {
            close_fd(&q->read_fd);
            return s == ST_NOT_FOUND || s == ST_CORRUPT
                       ? err_set(err, ST_CORRUPT, "record %" PRIu64 " was damaged while the agent ran", q->cursor)
                       : s;
        }
        q->read_off += bytes;
        q->read_seq++;
        if (q->read_seq > q->cursor) {
            return ST_OK;
        }
    }
}

enum status queue_next(struct queue *q, struct buf *out, uint64_t *ret_seq, bool *ret_repeat, struct err *err)
{
    while (acked_already(q, q->cursor)) {
        q->cursor++;
    }
    if (q->cursor - q->acked > QUEUE_IN_FLIGHT) {
        return ST_BUSY;
    }
    enum status s = read_seek(q, err);
    if (s != ST_OK) {
        return s;
    }
    s = read_cursor(q, out, err);
    if (s == ST_CORRUPT) {
        // Its successors in this segment cannot be found without it: from here on there is a gap.
        q->segments[q->read_at].count = q->cursor - q->segments[q->read_at].first_seq;
        if (q->read_at + 1 == q->segments_len) {
            close_fd(&q->append_fd);
        }
        gaps_skip(q);
        return s;
    }
    if (s != ST_OK) {
        return s;
    }
    *ret_seq = q->cursor;
    *ret_repeat = q->cursor < q->handed;
    q->cursor++;
    if (q->handed < q->cursor) {
        q->handed = q->cursor;
    }
    return ST_OK;
}

void queue_put_back(struct queue *q, uint64_t seq)
{
    q->cursor = seq;
}

void queue_ack(struct queue *q, uint64_t seq)
{
    if (seq >= q->next_seq || acked_already(q, seq)) {
        return;
    }
    uint64_t ahead = seq - q->acked - 1;
    if (ahead >= 64) {
        return;
    }
    if (ahead > 0) {
        q->acked_ahead |= 1ull << ahead;
        return;
    }
    acked_up_to(q, seq);
    note_write(q);
    gaps_skip(q);
    segments_trim(q);
    if (q->acked + 1 == q->next_seq) {
        q->dirty = false; // what a power cut could take now is stored elsewhere
    }
}

void queue_rewind(struct queue *q)
{
    q->cursor = q->acked + 1;
}

uint64_t queue_len(const struct queue *q)
{
    return q->next_seq - q->acked - 1 - bits(q->acked_ahead);
}

uint64_t queue_dropped(const struct queue *q)
{
    return q->dropped;
}

void queue_count_dropped(struct queue *q)
{
    q->dropped++;
    note_write(q);
}
