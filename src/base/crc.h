// CRC-32C (Castagnoli), for records on disk.
#ifndef BASE_CRC_H
#define BASE_CRC_H

#include "base/slice.h"

// The checksum of `s` behind what `seed` is the checksum of: start with 0; crc32c(crc32c(0, a), b) is that of a and b
// together. RFC 3720 appendix B.4 has test values. Any thread.
uint32_t crc32c(uint32_t seed, struct slice s);
// The same without the processor's instruction: what crc32c falls back to.
uint32_t crc32c_portable(uint32_t seed, struct slice s);

#endif
