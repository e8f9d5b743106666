// 64-bit row ids without a node number: 42 bits of milliseconds since 2024, 21 bits of random start and sequence. They
// grow with time, so that rows of one time lie together, and two servers do not collide in practice; a unique key
// catches the rest.
#ifndef CORE_IDS_H
#define CORE_IDS_H

#include <stdint.h>

uint64_t id_new(void); // never 0, fits a positive int64; thread-safe

#endif
