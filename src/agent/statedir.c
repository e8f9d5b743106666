#include "agent/statedir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static enum status fail(struct err *err, const char *what, const char *name)
{
    int e = errno;
    enum status s = e == ENOSPC || e == EDQUOT ? ST_FULL : e == ENOENT ? ST_NOT_FOUND : ST_IO;
    return err_at(err, s, name, "cannot %s %s: %s", what, name, strerror(e));
}

enum status statedir_open(struct statedir *d, const char *path, struct err *err)
{
    *d = (struct statedir){.fd = -1, .lock_fd = -1};
    if (!slice_to_cstr(slice_str(path), d->path, sizeof(d->path))) {
        return err_at(err, ST_INVALID, "--state", "the path is longer than %zu bytes", sizeof(d->path) - 1);
    }
    if (mkdir(path, 0700) != 0 && errno != EEXIST) {
        return fail(err, "make directory", path);
    }
    d->fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (d->fd < 0) {
        return fail(err, "open directory", path);
    }
    d->lock_fd = openat(d->fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (d->lock_fd < 0) {
        enum status s = fail(err, "open", "lock");
        statedir_close(d);
        return s;
    }
    if (flock(d->lock_fd, LOCK_EX | LOCK_NB) != 0) {
        statedir_close(d);
        return err_at(err, ST_CONFLICT, path, "another muster-agent uses %s; give each its own --state", path);
    }
    return ST_OK;
}

void statedir_close(struct statedir *d)
{
    if (d->lock_fd >= 0) {
        close(d->lock_fd);
    }
    if (d->fd >= 0) {
        close(d->fd);
    }
    d->fd = d->lock_fd = -1;
}

void statedir_path(const struct statedir *d, const char *name, char dst[STATEDIR_PATH_MAX])
{
    snprintf(dst, STATEDIR_PATH_MAX, "%s/%s", d->path, name);
}

bool statedir_has(const struct statedir *d, const char *name)
{
    return faccessat(d->fd, name, F_OK, 0) == 0;
}

int64_t statedir_written_us(const struct statedir *d, const char *name)
{
    struct stat st;
    return fstatat(d->fd, name, &st, 0) == 0 ? (int64_t)st.st_mtim.tv_sec * 1000000 + st.st_mtim.tv_nsec / 1000 : 0;
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

enum status statedir_write(const struct statedir *d, const char *name, struct slice data, mode_t mode, struct err *err)
{
    char tmp[80];
    snprintf(tmp, sizeof(tmp), "%s.tmp", name);
    if (unlinkat(d->fd, tmp, 0) != 0 && errno != ENOENT) {
        return fail(err, "replace", tmp);
    }
    int fd = openat(d->fd, tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode);
    if (fd < 0) {
        return fail(err, "write", tmp);
    }
    enum status s = ST_OK;
    if (!write_all(fd, data) || fsync(fd) != 0) {
        s = fail(err, "write", tmp);
    }
    if (close(fd) != 0 && s == ST_OK) {
        s = fail(err, "write", tmp);
    }
    return s == ST_OK ? statedir_rename(d, tmp, name, err) : s;
}

enum status statedir_read(const struct statedir *d, const char *name, struct buf *out, struct err *err)
{
    int fd = openat(d->fd, name, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return fail(err, "read", name);
    }
    enum status s = ST_OK;
    for (;;) {
        uint8_t chunk[1024];
        ssize_t n = read(fd, chunk, sizeof(chunk));
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            s = fail(err, "read", name);
        } else if (n > 0 && !buf_put(out, chunk, (size_t)n)) {
            s = err_at(err, ST_TOO_LARGE, name, "%s is larger than %zu bytes", name, out->max);
        } else if (n > 0) {
            continue;
        }
        break;
    }
    close(fd);
    return s;
}

enum status statedir_rename(const struct statedir *d, const char *from, const char *to, struct err *err)
{
    if (renameat(d->fd, from, d->fd, to) != 0) {
        return fail(err, "rename", from);
    }
    return fsync(d->fd) == 0 ? ST_OK : fail(err, "sync directory of", to);
}

enum status statedir_remove(const struct statedir *d, const char *name, struct err *err)
{
    if (unlinkat(d->fd, name, 0) != 0 && errno != ENOENT) {
        return fail(err, "remove", name);
    }
    return fsync(d->fd) == 0 ? ST_OK : fail(err, "sync directory of", name);
}
