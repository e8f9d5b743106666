// Preloaded into a server under test: no file is ever synced, and the program is told that it was. The negative control of
// the power cuts: a harness that finds nothing wrong with this server finds nothing at all.
#include <fcntl.h>
#include <sys/types.h>
#include <unistd.h>

int fsync(int fd)
{
    (void)fd;
    return 0;
}

int fdatasync(int fd)
{
    (void)fd;
    return 0;
}

int sync_file_range(int fd, off64_t offset, off64_t bytes, unsigned flags)
{
    (void)fd;
    (void)offset;
    (void)bytes;
    (void)flags;
    return 0;
}
