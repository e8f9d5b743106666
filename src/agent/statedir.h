// The agent's directory: every file is either the old one or the new one, whatever happens in between.
//
// Files are written beside their place, synced, renamed, and the directory is synced. One agent at a time (flock).
#ifndef AGENT_STATEDIR_H
#define AGENT_STATEDIR_H

#include <sys/types.h>

#include "base/buf.h"
#include "base/status.h"

#define STATEDIR_PATH_MAX 512

struct statedir {
    char path[STATEDIR_PATH_MAX - 64]; // leaves room for file names
    int fd;
    int lock_fd;
};

// Makes the directory (0700) when it is not there and locks it. ST_CONFLICT: another agent uses it.
enum status statedir_open(struct statedir *d, const char *path, struct err *err);
void statedir_close(struct statedir *d);
// "<path>/<name>" into dst.
void statedir_path(const struct statedir *d, const char *name, char dst[STATEDIR_PATH_MAX]);
bool statedir_has(const struct statedir *d, const char *name);
// When the file's contents were written, wall clock; 0 when there is no such file.
int64_t statedir_written_us(const struct statedir *d, const char *name);
// Replaces the file's contents at once.
enum status statedir_write(const struct statedir *d, const char *name, struct slice data, mode_t mode, struct err *err);
// Appends the contents to `out`; ST_NOT_FOUND when there is no such file, ST_TOO_LARGE over out's maximum.
enum status statedir_read(const struct statedir *d, const char *name, struct buf *out, struct err *err);
enum status statedir_rename(const struct statedir *d, const char *from, const char *to, struct err *err);
// No error when it is not there.
enum status statedir_remove(const struct statedir *d, const char *name, struct err *err);

#endif
