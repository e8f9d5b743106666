// Randomness: the kernel's for secrets, a seeded generator where only spread is needed (jitter) or tests must repeat.
#ifndef BASE_RAND_H
#define BASE_RAND_H

#include <stddef.h>
#include <stdint.h>

void rand_secret(void *dst, size_t len); // getrandom(2); ends the process when the kernel has none
uint64_t rand_u64(void);                 // per-thread generator, seeded from the kernel
void rand_seed(uint64_t seed);           // this thread's generator, for tests

#endif
