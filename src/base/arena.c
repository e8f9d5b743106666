#include "base/arena.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define ARENA_FIRST_BYTES 2048
#define ARENA_BLOCK_MAX   65536
#define ARENA_ALIGN       _Alignof(max_align_t)

// Blocks hang newest first; the first block ever made is the last of the list and survives a reset.
struct arena_block {
    struct arena_block *older;
    size_t cap;
    size_t used;
    _Alignas(max_align_t) uint8_t mem[];
};

void arena_init(struct arena *a, size_t max)
{
    *a = (struct arena){.max = max};
}

// Frees all blocks down to (not including) `keep`.
static void arena_free_to(struct arena *a, const struct arena_block *keep)
{
    while (a->head != keep) {
        struct arena_block *older = a->head->older;
        a->used -= a->head->cap;
        free(a->head);
        a->head = older;
    }
}

void arena_reset(struct arena *a)
{
    const struct arena_block *first = a->head;
    while (first != NULL && first->older != NULL) {
        first = first->older;
    }
    arena_free_to(a, first);
    if (a->head != NULL) {
        a->head->used = 0;
    }
}

void arena_release(struct arena *a)
{
    arena_free_to(a, NULL);
}

// A new block with room for at least `size` bytes.
static bool arena_grow(struct arena *a, size_t size)
{
    size_t cap = a->head == NULL ? ARENA_FIRST_BYTES : a->head->cap * 2;
    if (cap > ARENA_BLOCK_MAX) {
        cap = ARENA_BLOCK_MAX;
    }
    if (cap > a->max - a->used) {
        cap = a->max - a->used;
    }
    if (cap < size) {
        cap = size;
    }
    if (cap > a->max - a->used) {
        return false;
    }
    struct arena_block *b = malloc(sizeof(*b) + cap);
    if (b == NULL) {
        return false;
    }
    *b = (struct arena_block){.older = a->head, .cap = cap};
    a->head = b;
    a->used += cap;
    return true;
}

void *arena_alloc(struct arena *a, size_t size)
{
    if (size > a->max) {
        return NULL;
    }
    size = (size + ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN;
    if (size == 0) {
        size = ARENA_ALIGN;
    }
    if ((a->head == NULL || size > a->head->cap - a->head->used) && !arena_grow(a, size)) {
        return NULL;
    }
    void *p = a->head->mem + a->head->used;
    a->head->used += size;
    memset(p, 0, size);
    return p;
}

void *arena_array(struct arena *a, size_t count, size_t size)
{
    size_t total;
    if (__builtin_mul_overflow(count, size, &total)) {
        return NULL;
    }
    return arena_alloc(a, total);
}

struct slice arena_copy(struct arena *a, struct slice s)
{
    uint8_t *p = s.len < a->max ? arena_alloc(a, s.len + 1) : NULL;
    if (p == NULL) {
        return slice_make(NULL, 0);
    }
    if (s.len > 0) {
        memcpy(p, s.p, s.len);
    }
    return slice_make(p, s.len);
}

char *arena_cstr(struct arena *a, struct slice s)
{
    uint8_t *p = s.len < a->max ? arena_alloc(a, s.len + 1) : NULL;
    if (p != NULL && s.len > 0) {
        memcpy(p, s.p, s.len);
    }
    return (char *)p;
}

char *arena_printf(struct arena *a, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    char *p = n >= 0 ? arena_alloc(a, (size_t)n + 1) : NULL;
    if (p != NULL) {
        va_start(ap, fmt);
        vsnprintf(p, (size_t)n + 1, fmt, ap);
        va_end(ap);
    }
    return p;
}
