#include <stdio.h>

#include "agent/health.h"
#include "agent/textfile.h"

#define ZONES_MAX 16

// /sys/class/thermal/thermal_zoneN: "type" names it, "temp" is in thousandths of a degree. A name that comes twice gets the zone's
// number behind it.
void health_temp(struct health *h)
{
    char names[ZONES_MAX][40];
    size_t names_len = 0;
    for (unsigned zone = 0; zone < ZONES_MAX; zone++) {
        char path[64];
        char type[40];
        double milli;
        snprintf(path, sizeof(path), "/sys/class/thermal/thermal_zone%u/temp", zone);
        if (!textfile_number(h->root, path, &milli)) {
            continue;
        }
        snprintf(path, sizeof(path), "/sys/class/thermal/thermal_zone%u/type", zone);
        if (!textfile_line(h->root, path, type, sizeof(type))) {
            snprintf(type, sizeof(type), "zone%u", zone);
        }
        char *name = names[names_len];
        text_metric(slice_str(type), name, sizeof(names[0]));
        bool twice = false;
        for (size_t i = 0; i < names_len; i++) {
            twice = twice || strcmp(names[i], name) == 0;
        }
        names_len++;
        char metric[64];
        if (twice) {
            snprintf(metric, sizeof(metric), "temp.%s_%u", name, zone);
        } else {
            snprintf(metric, sizeof(metric), "temp.%s", name);
        }
        health_double(h, metric, milli / 1000);
    }
}
