// A bump allocator for the life of one request: allocate freely, free everything at once.
//
// Grows in blocks up to `max` bytes in all; over it, or without memory, allocation returns NULL. Memory is zeroed and
// aligned for any type. Not thread-safe: an arena belongs to whoever holds the request.
#ifndef BASE_ARENA_H
#define BASE_ARENA_H

#include "base/slice.h"

struct arena_block;
struct arena {
    struct arena_block *head;
    size_t used;
    size_t max;
};

// An empty arena that will hold at most `max` bytes; allocates nothing yet. End it with arena_release.
void arena_init(struct arena *a, size_t max);
void arena_reset(struct arena *a);   // forgets everything, keeps the first block
void arena_release(struct arena *a); // frees everything; the arena may be used again
// The allocators return NULL (or a slice with p == NULL) when there is no room; what they return lives until the arena is reset
// or released.
void *arena_alloc(struct arena *a, size_t size);
void *arena_array(struct arena *a, size_t count, size_t size); // overflow-checked
struct slice arena_copy(struct arena *a,
                        struct slice s);           // p == NULL when there is no room; NUL-terminated behind the end
char *arena_cstr(struct arena *a, struct slice s); // NUL-terminated copy
char *arena_printf(struct arena *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
