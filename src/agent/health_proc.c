#include "agent/health.h"
#include "agent/textfile.h"

// Every process is a numbered folder of /proc.
void health_proc(struct health *h)
{
    DIR *d = textfile_dir(h->root, "/proc");
    if (d == NULL) {
        return;
    }
    uint64_t count = 0;
    for (const struct dirent *e = readdir(d); e != NULL; e = readdir(d)) {
        uint64_t pid;
        count += text_u64(slice_str(e->d_name), &pid) ? 1 : 0;
    }
    closedir(d);
    health_u64(h, "proc.count", count);
}
