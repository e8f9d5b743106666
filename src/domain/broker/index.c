#include "domain/broker/index.h"

#include <stdlib.h>

#include "base/buf.h"

bool share_split(struct slice text, struct slice *ret_name, struct slice *ret_filter)
{
    static const char prefix[] = "$share/";
    *ret_name = (struct slice){NULL, 0};
    *ret_filter = text;
    if (!slice_starts(text, slice_str(prefix))) {
        return false;
    }
    struct slice rest = slice_from(text, sizeof(prefix) - 1);
    const uint8_t *slash = rest.len > 0 ? memchr(rest.p, '/', rest.len) : NULL;
    if (slash == NULL) {
        return false;
    }
    *ret_name = slice_head(rest, (size_t)(slash - rest.p));
    *ret_filter = slice_from(rest, ret_name->len + 1);
    return true;
}

// --- lists -------------------------------------------------------------------------------------------------------

static void list_put(struct sub_list *l, uint32_t i, struct sub *s)
{
    if (l->cap == 0) {
        l->one = s;
    } else {
        l->many[i] = s;
    }
    s->at = i;
}

static bool list_add(struct sub_list *l, struct sub *s)
{
    if (l->len >= 1 && l->len >= l->cap) {
        uint32_t cap = l->cap == 0 ? 4 : l->cap * 2;
        struct sub **many = reallocarray(l->cap == 0 ? NULL : l->many, cap, sizeof(struct sub *));
        if (many == NULL) {
            return false;
        }
        if (l->cap == 0) {
            many[0] = l->one;
        }
        l->many = many;
        l->cap = cap;
    }
    list_put(l, l->len++, s);
    return true;
}

static void list_del(struct sub_list *l, const struct sub *s)
{
    struct sub *last = sub_list_at(l, l->len - 1);
    l->len--;
    if (last != s) {
        list_put(l, s->at, last);
    }
    if (l->len == 0 && l->cap > 0) {
        free(l->many);
        *l = (struct sub_list){0};
    }
}

static void list_release(struct sub_list *l)
{
    if (l->cap == 0) {
        if (l->len > 0) {
            free(l->one);
        }
        return;
    }
    for (uint32_t i = 0; i < l->len; i++) {
        free(l->many[i]);
    }
    free(l->many);
}

// --- life --------------------------------------------------------------------------------------------------------

bool index_init(struct index *ix)
{
    pthread_rwlockattr_t attr;
    pthread_rwlockattr_init(&attr);
    // A writer is the core thread with a commit behind it: readers, who come all the time, must not keep it out.
    pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    bool ok = pthread_rwlock_init(&ix->lock, &attr) == 0;
    pthread_rwlockattr_destroy(&attr);
    atomic_init(&ix->generation, 1);
    atomic_init(&ix->subs, 0);
    map_init(&ix->tenants);
    map_init(&ix->groups);
    ix->next_group = 1;
    return ok;
}

static void leaf_free(void *value)
{
    struct leaf *l = value;
    list_release(&l->subs);
    while (l->groups != NULL) {
        struct group *g = l->groups;
        l->groups = g->next;
        list_release(&g->members);
        free(g);
    }
    free(l);
}

void index_release(struct index *ix)
{
    size_t pos = 0;
    struct tenant_index *t;
    while ((t = map_next(&ix->tenants, &pos, NULL, NULL)) != NULL) {
        tree_release(&t->tree, leaf_free);
        free(t);
    }
    map_release(&ix->tenants);
    map_release(&ix->groups);
    pthread_rwlock_destroy(&ix->lock);
}

void index_lock(struct index *ix)
{
    pthread_rwlock_wrlock(&ix->lock);
}

void index_unlock(struct index *ix, bool changed)
{
    if (changed) {
        atomic_fetch_add_explicit(&ix->generation, 1, memory_order_release);
    }
    pthread_rwlock_unlock(&ix->lock);
}

static struct tenant_index *tenant_need(struct index *ix, uint32_t tenant)
{
    struct tenant_index *t = map_get_u64(&ix->tenants, tenant);
    if (t != NULL) {
        return t;
    }
    t = calloc(1, sizeof(*t));
    if (t == NULL || !tree_init(&t->tree)) {
        free(t);
        return NULL;
    }
    if (!map_set_u64(&ix->tenants, tenant, t)) {
        tree_release(&t->tree, NULL);
        free(t);
        return NULL;
    }
    return t;
}

// --- leaves and groups -------------------------------------------------------------------------------------------

static struct leaf *leaf_need(struct tenant_index *t, struct slice filter)
{
    struct tree_node *n = tree_need(&t->tree, filter);
    if (n == NULL || n->value != NULL) {
        return n != NULL ? n->value : NULL;
    }
    struct leaf *l = calloc(1, sizeof(*l));
    if (l == NULL) {
        tree_drop(&t->tree, n);
        return NULL;
    }
    l->node = n;
    l->home = t;
    n->value = l;
    return l;
}

static void leaf_drop_if_empty(struct leaf *l)
{
    if (l->subs.len == 0 && l->groups == NULL) {
        l->node->value = NULL;
        tree_drop(&l->home->tree, l->node);
        free(l);
    }
}

static struct group *group_find(const struct leaf *l, struct slice name)
{
    struct group *g = l->groups;
    while (g != NULL && !slice_eq(slice_make(g->name, g->name_len), name)) {
        g = g->next;
    }
    return g;
}

static struct group *group_need(struct index *ix, struct leaf *l, struct slice name)
{
    struct group *g = group_find(l, name);
    if (g != NULL) {
        return g;
    }
    g = calloc(1, sizeof(*g) + name.len);
    if (g == NULL || !map_set_u64(&ix->groups, ix->next_group, g)) {
        free(g);
        return NULL;
    }
    g->id = ix->next_group++;
    g->leaf = l;
    g->name_len = (uint16_t)name.len;
    struct buf b = buf_fixed(g->name, name.len);
    buf_slice(&b, name);
    g->next = l->groups;
    l->groups = g;
    return g;
}

static void group_drop_if_empty(struct index *ix, struct group *g)
{
    if (g->members.len > 0) {
        return;
    }
    struct group **at = &g->leaf->groups;
    while (*at != g) {
        at = &(*at)->next;
    }
    *at = g->next;
    map_del_u64(&ix->groups, g->id);
    free(g);
}

// --- subscriptions -----------------------------------------------------------------------------------------------

static struct sub *add(struct index *ix, struct tenant_index *t, struct broker_session *session, struct slice filter)
{
    struct slice name;
    struct slice body;
    bool shared = share_split(filter, &name, &body);
    struct sub *s = calloc(1, sizeof(*s));
    struct leaf *l = s != NULL ? leaf_need(t, body) : NULL;
    if (l == NULL) {
        free(s);
        return NULL;
    }
    struct group *g = shared ? group_need(ix, l, name) : NULL;
    struct sub_list *list = g != NULL ? &g->members : &l->subs;
    if ((shared && g == NULL) || !list_add(list, s)) {
        if (g != NULL) {
            group_drop_if_empty(ix, g);
        }
        leaf_drop_if_empty(l);
        free(s);
        return NULL;
    }
    s->session = session;
    s->node = l->node;
    s->group = g;
    return s;
}

struct sub *index_add(struct index *ix, struct broker_session *s, uint32_t tenant, struct slice filter)
{
    index_lock(ix);
    struct tenant_index *t = tenant_need(ix, tenant);
    struct sub *sub = t != NULL ? add(ix, t, s, filter) : NULL;
    index_unlock(ix, false);
    return sub;
}

struct sub *index_find(const struct index *ix, struct sub *first, uint32_t tenant, struct slice filter)
{
    struct slice name;
    struct slice body;
    bool shared = share_split(filter, &name, &body);
    const struct tenant_index *t = map_get_u64(&ix->tenants, tenant);
    const struct tree_node *n = t != NULL ? tree_find(&t->tree, body) : NULL;
    if (n == NULL || n->value == NULL) {
        return NULL;
    }
    const struct group *g = shared ? group_find(n->value, name) : NULL;
    if (shared && g == NULL) {
        return NULL;
    }
    struct sub *s = first;
    while (s != NULL && (s->node != n || s->group != g)) {
        s = s->next;
    }
    return s;
}

// Can it match a topic under devices/?
static bool sees_mirrors(const struct sub *s)
{
    const struct tree_node *n = s->node;
    while (n->parent->parent != NULL) {
        n = n->parent;
    }
    struct slice first = slice_make(n->level, n->len);
    return slice_eq_str(first, "devices") || slice_eq_str(first, "+") || slice_eq_str(first, "#");
}

uint32_t index_mirrors(const struct index *ix, uint32_t tenant)
{
    const struct tenant_index *t = map_get_u64(&ix->tenants, tenant);
    return t != NULL ? t->mirrors : 0;
}

void index_set_active(struct index *ix, struct sub *s, bool active)
{
    if (s->active == active) {
        return;
    }
    if (sees_mirrors(s)) {
        ((struct leaf *)s->node->value)->home->mirrors += active ? 1U : UINT32_MAX;
    }
    s->active = active;
    uint64_t one = active ? 1 : UINT64_MAX;
    atomic_fetch_add_explicit(&ix->subs, one, memory_order_relaxed);
    if (s->group != NULL) {
        s->group->active += (uint32_t)one;
    }
}

void index_remove(struct index *ix, struct sub *s)
{
    struct leaf *l = s->node->value;
    index_set_active(ix, s, false);
    list_del(s->group != NULL ? &s->group->members : &l->subs, s);
    if (s->group != NULL) {
        group_drop_if_empty(ix, s->group);
    }
    leaf_drop_if_empty(l);
    free(s);
}

struct group *index_group(const struct index *ix, uint32_t tenant, struct slice name, struct slice filter)
{
    const struct tenant_index *t = map_get_u64(&ix->tenants, tenant);
    const struct tree_node *n = t != NULL ? tree_find(&t->tree, filter) : NULL;
    return n != NULL && n->value != NULL ? group_find(n->value, name) : NULL;
}

size_t group_filter(const struct group *g, char *dst, size_t size)
{
    struct buf b = buf_fixed(dst, size);
    size_t prefix = sizeof("$share/") - 1 + g->name_len + 1;
    buf_str(&b, "$share/");
    buf_slice(&b, slice_make(g->name, g->name_len));
    buf_str(&b, "/");
    return prefix + tree_path(g->leaf->node, prefix <= size ? dst + prefix : dst, prefix <= size ? size - prefix : 0);
}

size_t sub_filter(const struct sub *s, char *dst, size_t size)
{
    return s->group != NULL ? group_filter(s->group, dst, size) : tree_path(s->node, dst, size);
}
