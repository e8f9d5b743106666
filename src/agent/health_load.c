#include "agent/health.h"
#include "agent/textfile.h"

void health_load(struct health *h)
{
    static const char *const metrics[] = {"load.1", "load.5", "load.15"};
    char mem[128];
    struct slice text;
    struct slice word;
    if (!textfile_read(h->root, "/proc/loadavg", mem, sizeof(mem), &text)) {
        return;
    }
    for (size_t i = 0; i < 3; i++) {
        double v;
        if (text_word(&text, &word) && text_double(word, &v)) {
            health_double(h, metrics[i], v);
        }
    }
}
