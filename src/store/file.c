#include "store/file.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define READ_STEP 4096

static void fd_cleanup(const int *fd)
{
    if (*fd >= 0) {
        (void)close(*fd);
    }
}
#define FD __attribute__((cleanup(fd_cleanup))) int

static enum status failed(struct err *err, const char *path, const char *doing)
{
    enum status st = errno == ENOENT ? ST_NOT_FOUND : errno == ENOSPC || errno == EDQUOT ? ST_FULL : ST_IO;
    return err_set(err, st, "%s: cannot be %s: %s", path, doing, strerror(errno));
}

static enum status check_secret(const char *path, const struct stat *info, struct err *err)
{
    if (!S_ISREG(info->st_mode)) {
        return err_set(err, ST_FORBIDDEN, "%s: a secret must be a plain file", path);
    }
    if (info->st_uid != geteuid()) {
        return err_set(err, ST_FORBIDDEN, "%s: a secret must belong to the user this program runs as", path);
    }
    if ((info->st_mode & 077) != 0) {
        return err_set(err, ST_FORBIDDEN, "%s: others may read this secret (mode %04o): allowed is 0600", path,
                       (unsigned)(info->st_mode & 07777));
    }
    return ST_OK;
}

enum status file_read(const char *path, bool secret, struct buf *out, struct err *err)
{
    FD fd = open(path, O_RDONLY | O_CLOEXEC | (secret ? O_NOFOLLOW : 0));
    if (fd < 0) {
        return failed(err, path, "opened");
    }
    struct stat info;
    if (fstat(fd, &info) != 0) {
        return failed(err, path, "read");
    }
    enum status st = secret ? check_secret(path, &info, err) : ST_OK;
    while (st == ST_OK) {
        uint8_t step[READ_STEP];
        ssize_t n = read(fd, step, sizeof(step));
        if (n < 0) {
            return failed(err, path, "read");
        }
        if (n == 0) {
            break;
        }
        if (!buf_put(out, step, (size_t)n)) {
            return err_set(err, ST_TOO_LARGE, "%s: larger than %zu bytes", path, out->max);
        }
    }
    return st;
}

static bool write_all(int fd, struct slice content)
{
    while (content.len > 0) {
        ssize_t n = write(fd, content.p, content.len);
        if (n < 0 && errno != EINTR) {
            return false;
        }
        content = slice_from(content, n > 0 ? (size_t)n : 0);
    }
    return true;
}

static enum status sync_folder_of(const char *path, struct err *err)
{
    char copy[PATH_MAX];
    (void)snprintf(copy, sizeof(copy), "%s", path);
    FD fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd >= 0 && fsync(fd) == 0 ? ST_OK : failed(err, path, "written (folder)");
}

static enum status write_tmp(const char *tmp, mode_t mode, struct slice content, struct err *err)
{
    (void)unlink(tmp); // what a crash left
    FD fd = open(tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode);
    if (fd < 0) {
        return failed(err, tmp, "created");
    }
    if (fchmod(fd, mode) != 0 || !write_all(fd, content) || fsync(fd) != 0) {
        return failed(err, tmp, "written");
    }
    return ST_OK;
}

enum status file_write(const char *path, mode_t mode, struct slice content, struct err *err)
{
    char tmp[PATH_MAX];
    int n = snprintf(tmp, sizeof(tmp), "%s.tmp", path);
    if (n < 0 || (size_t)n >= sizeof(tmp)) {
        return err_set(err, ST_INVALID, "%s: the path is too long", path);
    }
    enum status st = write_tmp(tmp, mode, content, err);
    if (st == ST_OK && rename(tmp, path) != 0) {
        st = failed(err, path, "put in place");
    }
    if (st != ST_OK) {
        (void)unlink(tmp);
        return st;
    }
    return sync_folder_of(path, err);
}
