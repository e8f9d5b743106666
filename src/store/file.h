// Small whole files: read within a limit, written so that a crash leaves the old or the new one, never half of either.
#ifndef STORE_FILE_H
#define STORE_FILE_H

#include <sys/types.h>

#include "base/buf.h"
#include "base/status.h"

// Appends the file to `out` (its max is the limit: ST_TOO_LARGE). ST_NOT_FOUND when there is none. secret: refused with
// ST_FORBIDDEN when it is no plain file, belongs to another user, or group or others may use it.
enum status file_read(const char *path, bool secret, struct buf *out, struct err *err);
// Writes path.tmp with `mode`, syncs it, renames it over `path`, syncs the folder. ST_FULL or ST_IO.
enum status file_write(const char *path, mode_t mode, struct slice content, struct err *err);

#endif
