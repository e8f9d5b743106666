#include <stdio.h>

#include "agent/health.h"
#include "agent/textfile.h"

// The first battery in /sys/class/power_supply (Documentation/ABI/testing/sysfs-class-power of the kernel).
static bool battery_find(const char *root, char *dst, size_t size)
{
    DIR *d = textfile_dir(root, "/sys/class/power_supply");
    if (d == NULL) {
        return false;
    }
    bool found = false;
    for (const struct dirent *e = readdir(d); e != NULL && !found; e = readdir(d)) {
        char path[320];
        char line[32];
        snprintf(path, sizeof(path), "/sys/class/power_supply/%s/type", e->d_name);
        bool is_battery =
            e->d_name[0] != '.' && textfile_line(root, path, line, sizeof(line)) && strcmp(line, "Battery") == 0;
        // "Device": the battery of a mouse or headset, not of this machine.
        snprintf(path, sizeof(path), "/sys/class/power_supply/%s/scope", e->d_name);
        if (is_battery && !(textfile_line(root, path, line, sizeof(line)) && strcmp(line, "Device") == 0)) {
            found = snprintf(dst, size, "/sys/class/power_supply/%s", e->d_name) < (int)size;
        }
    }
    closedir(d);
    return found;
}

void health_battery(struct health *h)
{
    char dir[300];
    char path[320];
    char line[32];
    double level;
    if (!battery_find(h->root, dir, sizeof(dir))) {
        return;
    }
    snprintf(path, sizeof(path), "%s/capacity", dir);
    if (textfile_number(h->root, path, &level)) {
        health_double(h, "battery.level", level);
    }
    snprintf(path, sizeof(path), "%s/status", dir);
    if (textfile_line(h->root, path, line, sizeof(line))) {
        health_bool(h, "battery.charging", strcmp(line, "Charging") == 0);
    }
}
