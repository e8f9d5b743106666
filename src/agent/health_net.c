#include "agent/health.h"
#include "agent/textfile.h"

// proc(5), /proc/net/dev: "  eth0: rx-bytes packets errs drop fifo frame compressed multicast tx-bytes ..."
enum { NET_RX = 0, NET_TX = 8 };

void health_net(struct health *h)
{
    char mem[8192];
    struct slice text;
    struct slice line;
    if (!textfile_read(h->root, "/proc/net/dev", mem, sizeof(mem), &text)) {
        return;
    }
    uint64_t rx = 0;
    uint64_t tx = 0;
    while (text_line(&text, &line)) {
        const uint8_t *colon = line.len > 0 ? memchr(line.p, ':', line.len) : NULL;
        if (colon == NULL) {
            continue;
        }
        size_t at = (size_t)(colon - line.p);
        struct slice head = slice_head(line, at);
        struct slice name;
        if (!text_word(&head, &name) || slice_eq_str(name, "lo")) {
            continue;
        }
        struct slice rest = slice_from(line, at + 1);
        struct slice word;
        for (int i = 0; i <= NET_TX && text_word(&rest, &word); i++) {
            uint64_t v;
            if (text_u64(word, &v)) {
                rx += i == NET_RX ? v : 0;
                tx += i == NET_TX ? v : 0;
            }
        }
    }
    health_u64(h, "net.rx_bytes", rx);
    health_u64(h, "net.tx_bytes", tx);
}
