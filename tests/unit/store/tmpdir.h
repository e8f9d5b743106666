// A folder of its own for one test, removed with everything in it; in memory where there is such a place, because unit tests
// sync often and need no disk to be true. Include after cmocka.h.
#ifndef TESTS_UNIT_STORE_TMPDIR_H
#define TESTS_UNIT_STORE_TMPDIR_H

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static inline void tmpdir_make(char *dst, size_t size)
{
    const char *base = getenv("TMPDIR");
    base = base != NULL ? base : access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    snprintf(dst, size, "%s/muster-test-XXXXXX", base);
    assert_non_null(mkdtemp(dst));
}

static inline int tmpdir_remove_one(const char *path, const struct stat *st, int type, struct FTW *walk)
{
    (void)st;
    (void)type;
    (void)walk;
    return remove(path);
}

static inline void tmpdir_remove(const char *dir)
{
    (void)nftw(dir, tmpdir_remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

#endif
