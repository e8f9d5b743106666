#include <stdio.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "agent/health.h"
#include "agent/textfile.h"

#define MOUNTS_MAX 16 // of real file systems; a machine with more reports the first ones

static bool disk_usage(const char *path, uint64_t *ret_used, uint64_t *ret_total)
{
    struct statvfs v;
    if (statvfs(path, &v) != 0 || v.f_blocks == 0) {
        return false;
    }
    *ret_used = (uint64_t)(v.f_blocks - v.f_bfree) * v.f_frsize;
    *ret_total = (uint64_t)v.f_blocks * v.f_frsize;
    return true;
}

static void disk_root(struct health *h)
{
    uint64_t used;
    uint64_t total;
    if (disk_usage(h->root[0] != '\0' ? h->root : "/", &used, &total)) {
        health_u64(h, "disk.used", used);
        health_u64(h, "disk.total", total);
    }
}

// "/boot/efi" -> disk.boot_efi.used
static void disk_mount(struct health *h, const char *mount)
{
    char full[512];
    uint64_t used;
    uint64_t total;
    snprintf(full, sizeof(full), "%s%s", h->root, mount);
    if (!disk_usage(full, &used, &total)) {
        return;
    }
    char name[64];
    char metric[96];
    text_metric(slice_str(mount), name, sizeof(name));
    snprintf(metric, sizeof(metric), "disk.%s.used", name);
    health_u64(h, metric, used);
    snprintf(metric, sizeof(metric), "disk.%s.total", name);
    health_u64(h, metric, total);
}

// Device files only: what is not on a disk or flash of its own (proc, tmpfs, overlays) says nothing here. A device mounted twice
// counts once, and a bind mount of a single file not at all.
void health_disk(struct health *h)
{
    disk_root(h);
    char mem[8192];
    struct slice text;
    struct slice line;
    struct slice seen[MOUNTS_MAX];
    size_t seen_len = 0;
    if (!textfile_read(h->root, "/proc/self/mounts", mem, sizeof(mem), &text)) {
        return;
    }
    while (seen_len < MOUNTS_MAX && text_line(&text, &line)) {
        struct slice device;
        struct slice mount;
        char path[256];
        if (!text_word(&line, &device) || !text_word(&line, &mount) ||
            (!slice_starts(device, SLICE("/dev/")) && !slice_starts(device, SLICE("ubi")))) {
            continue;
        }
        bool known = false;
        for (size_t i = 0; i < seen_len; i++) {
            known = known || slice_eq(seen[i], device);
        }
        if (known) {
            continue;
        }
        seen[seen_len++] = device;
        struct stat st;
        char full[512];
        if (slice_eq_str(mount, "/") || !slice_to_cstr(mount, path, sizeof(path))) {
            continue;
        }
        snprintf(full, sizeof(full), "%s%s", h->root, path);
        if (stat(full, &st) == 0 && S_ISDIR(st.st_mode)) {
            disk_mount(h, path);
        }
    }
}
