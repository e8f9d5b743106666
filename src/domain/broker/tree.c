#include "domain/broker/tree.h"

#include <stdlib.h>

#include "base/buf.h"
#include "base/map.h"

#define FIRST_SLOTS 16

// Cuts the next level off *rest; *more says whether there is one. An empty last level ("a/") counts.
static struct slice cut_level(struct slice *rest, bool *more)
{
    const uint8_t *slash = rest->len > 0 ? memchr(rest->p, '/', rest->len) : NULL;
    struct slice level = slash != NULL ? slice_head(*rest, (size_t)(slash - rest->p)) : *rest;
    *more = slash != NULL;
    *rest = slice_from(*rest, level.len + (slash != NULL ? 1 : 0));
    return level;
}

static bool is_char(struct slice s, char c)
{
    return s.len == 1 && s.p[0] == (uint8_t)c;
}

static struct slice node_level(const struct tree_node *n)
{
    return slice_make(n->level, n->len);
}

// --- the table of children ---------------------------------------------------------------------------------------

static size_t slot_of(const struct tree *t, const struct tree_node *parent, uint64_t level_hash)
{
    uint64_t h = level_hash + (uint64_t)(uintptr_t)parent * UINT64_C(0x9e3779b97f4a7c15);
    h ^= h >> 32;
    h *= UINT64_C(0xd6e8feb86659fd93);
    return (size_t)(h ^ h >> 32) & (t->cap - 1);
}

static struct tree_node *child(const struct tree *t, const struct tree_node *parent, struct slice level, uint64_t hash)
{
    for (size_t i = slot_of(t, parent, hash); t->slots[i] != NULL; i = (i + 1) & (t->cap - 1)) {
        struct tree_node *n = t->slots[i];
        if (n->parent == parent && slice_eq(node_level(n), level)) {
            return n;
        }
    }
    return NULL;
}

static size_t home_of(const struct tree *t, const struct tree_node *n)
{
    return slot_of(t, n->parent, hash_bytes(node_level(n)));
}

static void table_put(struct tree *t, struct tree_node *n)
{
    size_t i = home_of(t, n);
    while (t->slots[i] != NULL) {
        i = (i + 1) & (t->cap - 1);
    }
    t->slots[i] = n;
}

// At most two thirds are used, so probing ends.
static bool table_room(struct tree *t)
{
    if ((t->len + 1) * 3 <= t->cap * 2) {
        return true;
    }
    struct tree grown = *t;
    grown.cap = t->cap * 2;
    grown.slots = calloc(grown.cap, sizeof(struct tree_node *));
    if (grown.slots == NULL) {
        return false;
    }
    for (size_t i = 0; i < t->cap; i++) {
        if (t->slots[i] != NULL) {
            table_put(&grown, t->slots[i]);
        }
    }
    free(t->slots);
    *t = grown;
    return true;
}

// Takes a node out and moves up those that were pushed behind it.
static void table_del(struct tree *t, const struct tree_node *n)
{
    size_t mask = t->cap - 1;
    size_t hole = home_of(t, n);
    while (t->slots[hole] != n) {
        hole = (hole + 1) & mask;
    }
    for (size_t i = (hole + 1) & mask; t->slots[i] != NULL; i = (i + 1) & mask) {
        size_t home = home_of(t, t->slots[i]);
        if (((i - home) & mask) >= ((i - hole) & mask)) {
            t->slots[hole] = t->slots[i];
            hole = i;
        }
    }
    t->slots[hole] = NULL;
    t->len--;
}

// --- nodes -------------------------------------------------------------------------------------------------------

static struct tree_node *node_new(struct tree_node *parent, struct slice level)
{
    struct tree_node *n = malloc(sizeof(*n) + level.len);
    if (n == NULL) {
        return NULL;
    }
    *n = (struct tree_node){.parent = parent, .len = (uint16_t)level.len};
    struct buf b = buf_fixed(n->level, level.len);
    buf_slice(&b, level);
    return n;
}

bool tree_init(struct tree *t)
{
    *t = (struct tree){.cap = FIRST_SLOTS};
    t->root = node_new(NULL, SLICE(""));
    t->slots = calloc(t->cap, sizeof(struct tree_node *));
    if (t->root == NULL || t->slots == NULL) {
        free(t->root);
        free(t->slots);
        *t = (struct tree){0};
        return false;
    }
    return true;
}

void tree_release(struct tree *t, void (*drop)(void *value))
{
    for (size_t i = 0; i < t->cap; i++) {
        struct tree_node *n = t->slots[i];
        if (n != NULL && n->value != NULL && drop != NULL) {
            drop(n->value);
        }
        free(n);
    }
    free(t->slots);
    free(t->root);
    *t = (struct tree){0};
}

static void mark_wildcard(struct tree_node *parent, struct slice level, bool there)
{
    if (is_char(level, '+')) {
        parent->has_plus = there;
    } else if (is_char(level, '#')) {
        parent->has_hash = there;
    }
}

static struct tree_node *child_new(struct tree *t, struct tree_node *parent, struct slice level)
{
    struct tree_node *n = table_room(t) ? node_new(parent, level) : NULL;
    if (n == NULL) {
        return NULL;
    }
    n->next = parent->first;
    if (n->next != NULL) {
        n->next->prev = n;
    }
    parent->first = n;
    mark_wildcard(parent, level, true);
    table_put(t, n);
    t->len++;
    return n;
}

void tree_drop(struct tree *t, struct tree_node *n)
{
    while (n->parent != NULL && n->first == NULL && n->value == NULL) {
        struct tree_node *parent = n->parent;
        table_del(t, n);
        if (n->prev != NULL) {
            n->prev->next = n->next;
        } else {
            parent->first = n->next;
        }
        if (n->next != NULL) {
            n->next->prev = n->prev;
        }
        mark_wildcard(parent, node_level(n), false);
        free(n);
        n = parent;
    }
}

struct tree_node *tree_need(struct tree *t, struct slice path)
{
    struct tree_node *n = t->root;
    bool more = true;
    for (unsigned depth = 0; more; depth++) {
        struct slice level = cut_level(&path, &more);
        struct tree_node *next = child(t, n, level, hash_bytes(level));
        if (next == NULL && depth < TREE_LEVELS_MAX) {
            next = child_new(t, n, level);
        }
        if (next == NULL) {
            tree_drop(t, n);
            return NULL;
        }
        n = next;
    }
    return n;
}

struct tree_node *tree_find(const struct tree *t, struct slice path)
{
    struct tree_node *n = t->root;
    bool more = true;
    while (more && n != NULL) {
        struct slice level = cut_level(&path, &more);
        n = child(t, n, level, hash_bytes(level));
    }
    return n;
}

size_t tree_path(const struct tree_node *n, char *dst, size_t size)
{
    size_t len = 0;
    for (const struct tree_node *i = n; i->parent != NULL; i = i->parent) {
        len += i->len + (i->parent->parent != NULL ? 1U : 0U);
    }
    if (len > size) {
        return len;
    }
    size_t end = len;
    for (const struct tree_node *i = n; i->parent != NULL; i = i->parent) {
        end -= i->len;
        struct buf at = buf_fixed(dst + end, i->len);
        buf_slice(&at, node_level(i));
        if (i->parent->parent != NULL) {
            dst[--end] = '/';
        }
    }
    return len;
}

// --- walks -------------------------------------------------------------------------------------------------------

void tree_walk_init(struct tree_walk *w)
{
    w->found = NULL;
    w->found_len = 0;
    w->found_cap = 0;
    w->found_max = 0;
    w->levels_len = 0;
}

void tree_walk_release(struct tree_walk *w)
{
    free(w->found);
    tree_walk_init(w);
}

static bool found(struct tree_walk *w, struct tree_node *n)
{
    if (w->found_len == w->found_cap) {
        size_t cap = w->found_cap > 0 ? w->found_cap * 2 : 64;
        struct tree_node **more = reallocarray(w->found, cap, sizeof(struct tree_node *));
        if (more == NULL) {
            return false;
        }
        w->found = more;
        w->found_cap = cap;
    }
    w->found[w->found_len++] = n;
    return true;
}

static bool full(const struct tree_walk *w)
{
    return w->found_max > 0 && w->found_len >= w->found_max;
}

// False: more levels than there may be, so that nothing matches.
static bool split(struct tree_walk *w, struct slice path)
{
    w->found_len = 0;
    w->levels_len = 0;
    bool more = true;
    while (more) {
        if (w->levels_len == TREE_LEVELS_MAX) {
            return false;
        }
        struct slice level = cut_level(&path, &more);
        w->levels[w->levels_len++] = (struct tree_level){level, hash_bytes(level)};
    }
    return true;
}

static struct tree_node *child_of(const struct tree *t, const struct tree_node *n, struct slice level)
{
    return child(t, n, level, hash_bytes(level));
}

// One step of the walk: what ends at this node is found, what goes on is pushed. Of each depth at most one node waits on the
// stack beside the one being looked at, so it cannot overflow.
static bool step_topic(const struct tree *t, struct tree_walk *w, struct tree_step at, unsigned *top)
{
    bool dollar = at.depth == 0 && w->levels[0].text.len > 0 && w->levels[0].text.p[0] == '$'; // 4.7.2-1
    if (at.node->has_hash && !dollar) {
        struct tree_node *n = child_of(t, at.node, SLICE("#"));
        if (n->value != NULL && !found(w, n)) {
            return false;
        }
    }
    if (at.depth == w->levels_len) {
        return at.node->value == NULL || at.node->parent == NULL || found(w, at.node);
    }
    const struct tree_level *level = &w->levels[at.depth];
    struct tree_node *same = child(t, at.node, level->text, level->hash);
    if (at.node->has_plus && !dollar) {
        w->stack[(*top)++] = (struct tree_step){child_of(t, at.node, SLICE("+")), at.depth + 1};
    }
    if (same != NULL) {
        w->stack[(*top)++] = (struct tree_step){same, at.depth + 1};
    }
    return true;
}

bool tree_match_topic(const struct tree *t, struct slice topic, struct tree_walk *w)
{
    if (topic.len == 0 || !split(w, topic)) {
        w->found_len = 0;
        return true;
    }
    unsigned top = 0;
    w->stack[top++] = (struct tree_step){t->root, 0};
    while (top > 0) {
        struct tree_step at = w->stack[--top];
        if (!step_topic(t, w, at, &top)) {
            return false;
        }
    }
    return true;
}

// The next node of a subtree in order, NULL at its end.
static struct tree_node *subtree_next(struct tree_node *n, const struct tree_node *top)
{
    if (n->first != NULL) {
        return n->first;
    }
    while (n != top && n->next == NULL) {
        n = n->parent;
    }
    return n != top ? n->next : NULL;
}

static bool starts_dollar(const struct tree_node *n)
{
    return n->len > 0 && n->level[0] == '$';
}

// Everything from `top` on; at the root without what starts with $ (4.7.2-1).
static bool found_subtree(struct tree_walk *w, struct tree_node *top)
{
    struct tree_node *n = top;
    while (n != NULL && !full(w)) {
        bool hidden = top->parent == NULL && n->parent == top && starts_dollar(n);
        if (!hidden && n->value != NULL && n->parent != NULL && !found(w, n)) {
            return false;
        }
        if (!hidden) {
            n = subtree_next(n, top);
            continue;
        }
        n = n->next; // a child of the root: without its own
    }
    return true;
}

// Brothers of n, itself included, that '+' at this depth may be.
static struct tree_node *visible(struct tree_node *n, unsigned depth)
{
    while (depth == 0 && n != NULL && starts_dollar(n)) {
        n = n->next;
    }
    return n;
}

// Down by one level of the filter: the first child it may be; NULL: none.
static struct tree_node *descend(const struct tree *t, const struct tree_walk *w, const struct tree_node *n,
                                 unsigned depth)
{
    const struct tree_level *level = &w->levels[depth];
    return is_char(level->text, '+') ? visible(n->first, depth) : child(t, n, level->text, level->hash);
}

bool tree_match_filter(const struct tree *t, struct slice filter, struct tree_walk *w)
{
    if (filter.len == 0 || !split(w, filter)) {
        w->found_len = 0;
        return true;
    }
    struct tree_node *n = t->root;
    unsigned depth = 0; // levels of the filter that the path to n has used up
    while (n != NULL && !full(w)) {
        struct tree_node *down = NULL;
        if (depth == w->levels_len) {
            if (n->value != NULL && !found(w, n)) {
                return false;
            }
        } else if (is_char(w->levels[depth].text, '#')) {
            if (!found_subtree(w, n)) {
                return false;
            }
        } else {
            down = descend(t, w, n, depth);
        }
        if (down != NULL) {
            n = down;
            depth++;
            continue;
        }
        // Back to where '+' has another brother to look at.
        struct tree_node *other = NULL;
        while (depth > 0 && other == NULL) {
            depth--;
            other = is_char(w->levels[depth].text, '+') ? visible(n->next, depth) : NULL;
            n = other != NULL ? other : n->parent;
        }
        if (other == NULL) {
            return true;
        }
        depth++;
    }
    return true;
}
