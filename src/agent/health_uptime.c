#include "agent/health.h"
#include "agent/textfile.h"

void health_uptime(struct health *h)
{
    char mem[64];
    struct slice text;
    struct slice word;
    double seconds;
    if (textfile_read(h->root, "/proc/uptime", mem, sizeof(mem), &text) && text_word(&text, &word) &&
        text_double(word, &seconds)) {
        health_double(h, "uptime", seconds);
    }
}
