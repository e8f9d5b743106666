// Addresses and networks as people and proxies write them: any text is read or refused, and what is read comes back from the
// text it is written as.
#include <stdio.h>
#include <stdlib.h>

#include "net/addr.h"

#define TEXT_MAX 256

static void must(bool ok)
{
    if (!ok) {
        abort();
    }
}

static bool addr_eq(const struct addr *a, const struct addr *b)
{
    return memcmp(a->ip, b->ip, sizeof(a->ip)) == 0 && a->port == b->port;
}

static void check_addr(struct slice text)
{
    char written[ADDR_TEXT_MAX];
    struct addr a, back;
    if (!addr_parse(text, &a)) {
        return;
    }
    must(addr_parse(slice_str(addr_text(&a, written)), &back));
    must(addr_eq(&a, &back));
    must(!addr_is_ipv4(&a) || written[0] != '[');
    // It lies in the network of itself, and in every wider one.
    for (unsigned bits = 0; bits <= 32; bits++) {
        struct addr_net n = addr_net_of(&a, (uint8_t)bits, (uint8_t)(bits * 4));
        must(addr_net_has(&n, &a));
    }
}

static void check_net(const char *text)
{
    char written[ADDR_TEXT_MAX];
    char again[ADDR_TEXT_MAX];
    struct addr_net n, back;
    struct err err = {.code = ST_OK};
    if (addr_net_parse(text, &n, &err) != ST_OK) {
        must(err.code == ST_INVALID && err.text[0] != '\0');
        return;
    }
    must(n.bits <= 128);
    must(addr_net_parse(addr_net_text(&n, written), &back, &err) == ST_OK);
    must(back.bits == n.bits && memcmp(back.ip, n.ip, sizeof(n.ip)) == 0);
    must(strcmp(addr_net_text(&back, again), written) == 0); // one way to write it
    struct addr own = {.port = 0};
    memcpy(own.ip, n.ip, sizeof(own.ip));
    must(addr_net_has(&n, &own));
    for (unsigned bit = 0; bit < 128;
         bit++) { // an address that differs in one bit is in it when that bit is not the network's
        struct addr other = own;
        other.ip[bit / 8] ^= (uint8_t)(0x80U >> (bit % 8));
        must(addr_net_has(&n, &other) == (bit >= n.bits));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char text[TEXT_MAX];
    struct slice all = slice_make(data, size);
    check_addr(all);
    if (slice_to_cstr(all, text, sizeof(text))) {
        check_net(text);
    }
    return 0;
}
