// 64-bit row ids without a node number: 42 bits of milliseconds since 2024, 21 bits of random start and sequence. They
// grow with time, so that rows of one time lie together, and two servers do not collide in practice; a unique key
// catches the rest.
#ifndef CORE_IDS_H
#define CORE_IDS_H

#include <stdint.h>

#include "base/slice.h"

uint64_t id_new(void); // never 0, fits a positive int64; thread-safe

// Row ids as public ids of claims, tokens, bans: 16 hex digits.
#define ROW_ID_LEN 16
void row_id_text(uint64_t row, char dst[ROW_ID_LEN + 1]);
bool row_id_parse(struct slice text, uint64_t *ret); // false, *ret untouched: not 16 hex digits, or beyond int64

#endif
