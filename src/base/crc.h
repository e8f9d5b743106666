// CRC-32C (Castagnoli), for records on disk.
#ifndef BASE_CRC_H
#define BASE_CRC_H

#include "base/slice.h"

uint32_t crc32c(uint32_t seed, struct slice s); // start with seed 0; chainable

#endif
