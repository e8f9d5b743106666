#include "base/crc.h"

// The reflected polynomial 0x82f63b78, four bits at a time: small enough for a device, used where the processor has no
// instruction of its own.
static const uint32_t crc32c_nibble[16] = {
    0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1, 0x417b1dbc, 0x5125dad3, 0x61c69362, 0x7198540d,
    0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9, 0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75,
};

uint32_t crc32c_portable(uint32_t seed, struct slice s)
{
    uint32_t crc = ~seed;
    for (size_t i = 0; i < s.len; i++) {
        crc ^= s.p[i];
        crc = crc >> 4 ^ crc32c_nibble[crc & 15];
        crc = crc >> 4 ^ crc32c_nibble[crc & 15];
    }
    return ~crc;
}

#if defined(__x86_64__) && defined(__GNUC__)
__attribute__((target("sse4.2"))) static uint32_t crc32c_sse42(uint32_t seed, struct slice s)
{
    uint64_t crc = ~seed;
    size_t i = 0;
    for (; s.len - i >= 8; i += 8) {
        uint64_t word;
        memcpy(&word, s.p + i, sizeof(word));
        crc = __builtin_ia32_crc32di(crc, word);
    }
    for (; i < s.len; i++) {
        crc = __builtin_ia32_crc32qi((uint32_t)crc, s.p[i]);
    }
    return ~(uint32_t)crc;
}

uint32_t crc32c(uint32_t seed, struct slice s)
{
    return __builtin_cpu_supports("sse4.2") ? crc32c_sse42(seed, s) : crc32c_portable(seed, s);
}
#else
uint32_t crc32c(uint32_t seed, struct slice s)
{
    return crc32c_portable(seed, s);
}
#endif
