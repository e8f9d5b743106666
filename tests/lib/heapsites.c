// Preloaded into a server: which of its lines hold how much of the heap. tests/bench/conn_mem.py uses it.
//
// Each block is noted with the place that asked for it. SIGUSR2 writes one line per place to the file named by HEAPSITES:
// "address bytes blocks", address relative to the program. Bytes are what the allocator uses, its own 8 per block included.
#include <dlfcn.h>
#include <fcntl.h>
#include <link.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SLOTS = 1 << 22, SITES = 1 << 12, BLOCK_OVERHEAD = 8 };

static struct block {
    void *p;
    uintptr_t site;
} blocks[SLOTS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uintptr_t base, end;

extern void *__libc_malloc(size_t n);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *p, size_t n);
extern void __libc_free(void *p);

static size_t slot_of(const void *p)
{
    return (size_t)(((uintptr_t)p >> 4) * 0x9e3779b97f4a7c15ULL >> 20) % SLOTS;
}

// Deleted places keep a mark, so that what was put behind them is found.
static void *const gone = (void *)1;

static void note(void *p, uintptr_t site)
{
    if (p == NULL) {
        return;
    }
    pthread_mutex_lock(&lock);
    size_t i = slot_of(p);
    while (blocks[i].p != NULL && blocks[i].p != gone) {
        i = (i + 1) % SLOTS;
    }
    blocks[i] = (struct block){p, site};
    pthread_mutex_unlock(&lock);
}

static void forget(void *p)
{
    if (p == NULL) {
        return;
    }
    pthread_mutex_lock(&lock);
    size_t i = slot_of(p);
    while (blocks[i].p != NULL && blocks[i].p != p) {
        i = (i + 1) % SLOTS;
    }
    if (blocks[i].p == p) {
        blocks[i].p = gone;
    }
    pthread_mutex_unlock(&lock);
}

// The caller, or 0 when it is a library.
#define SITE() site_of((uintptr_t)__builtin_return_address(0))
static uintptr_t site_of(uintptr_t at)
{
    return at >= base && at < end ? at - base : 0;
}

void *malloc(size_t n)
{
    void *p = __libc_malloc(n);
    note(p, SITE());
    return p;
}
void *calloc(size_t n, size_t size)
{
    void *p = __libc_calloc(n, size);
    note(p, SITE());
    return p;
}
void *realloc(void *old, size_t n)
{
    forget(old);
    void *p = __libc_realloc(old, n);
    note(p != NULL || n == 0 ? p : old, SITE());
    return p;
}
void free(void *p)
{
    forget(p);
    __libc_free(p);
}

static void write_sites(int signum)
{
    (void)signum;
    static struct {
        uintptr_t site;
        size_t bytes, count;
    } sites[SITES];
    memset(sites, 0, sizeof(sites));
    pthread_mutex_lock(&lock);
    for (size_t i = 0; i < SLOTS; i++) {
        if (blocks[i].p == NULL || blocks[i].p == gone) {
            continue;
        }
        size_t s = blocks[i].site * 31 % SITES;
        while (sites[s].count > 0 && sites[s].site != blocks[i].site) {
            s = (s + 1) % SITES;
        }
        sites[s].site = blocks[i].site;
        sites[s].bytes += malloc_usable_size(blocks[i].p) + BLOCK_OVERHEAD;
        sites[s].count++;
    }
    pthread_mutex_unlock(&lock);
    int fd = open(getenv("HEAPSITES"), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    for (size_t i = 0; fd >= 0 && i < SITES; i++) {
        if (sites[i].count > 0) {
            dprintf(fd, "%lx %zu %zu\n", (unsigned long)sites[i].site, sites[i].bytes, sites[i].count);
        }
    }
    close(fd);
}

static int find_program(struct dl_phdr_info *info, size_t size, void *arg)
{
    (void)size;
    (void)arg;
    base = info->dlpi_addr;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        uintptr_t to = base + info->dlpi_phdr[i].p_vaddr + info->dlpi_phdr[i].p_memsz;
        end = to > end ? to : end;
    }
    return 1; // the first is the program itself
}

__attribute__((constructor)) static void begin(void)
{
    dl_iterate_phdr(find_program, NULL);
    if (getenv("HEAPSITES") != NULL) {
        signal(SIGUSR2, write_sites);
    }
}
