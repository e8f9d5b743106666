#include "agent/agent.h"

#include <link.h>
#include <malloc.h>
#include <sys/mman.h>
#include <unistd.h>

// Drops a module's read-only pages from our page tables. They stay in the page cache, and what is used again comes back by a
// minor fault; nothing that was written is touched, since writable parts are segments of their own.
static int drop_read_only(struct dl_phdr_info *info, size_t size, void *arg)
{
    (void)size;
    (void)arg;
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    for (size_t i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *p = &info->dlpi_phdr[i];
        if (p->p_type != PT_LOAD || (p->p_flags & PF_W) != 0 || p->p_filesz == 0) {
            continue;
        }
        uintptr_t from = (info->dlpi_addr + p->p_vaddr + page - 1) / page * page;
        uintptr_t to = (info->dlpi_addr + p->p_vaddr + p->p_memsz) / page * page;
        if (to > from) {
            madvise((void *)from, to - from, MADV_DONTNEED); // best effort
        }
    }
    return 0;
}

void agent_trim_memory(void)
{
    malloc_trim(0);
    dl_iterate_phdr(drop_read_only, NULL);
}
