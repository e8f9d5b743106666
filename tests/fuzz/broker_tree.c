// The tree of topics against the rule itself: what a walk finds is what mqtt_topic_matches says of every entry alone.
//
// Input: lines. "-X" takes entry X out, "?X" asks, anything else puts X in. Entries are filters and topic names alike: the
// walks are checked for each kind against those entries that are valid as such.
#include <stdio.h>
#include <stdlib.h>

#include "domain/broker/tree.h"
#include "proto/mqtt.h"

#define ENTRIES_MAX 64

struct entry {
    struct slice text;
    struct tree_node *node;
};

struct check {
    struct tree filters, names;
    struct entry f[ENTRIES_MAX], n[ENTRIES_MAX];
    unsigned f_len, n_len;
    struct tree_walk *walk;
};

static void fail(const char *what, struct slice a)
{
    fprintf(stderr, "%s: %.*s\n", what, SLICE_ARG(a));
    abort();
}

static unsigned find(const struct entry *e, unsigned len, struct slice text)
{
    unsigned i = 0;
    while (i < len && !slice_eq(e[i].text, text)) {
        i++;
    }
    return i;
}

static void put(struct tree *t, struct entry *e, unsigned *len, struct slice text)
{
    if (*len == ENTRIES_MAX || find(e, *len, text) < *len) {
        return;
    }
    struct tree_node *n = tree_need(t, text);
    char path[2048];
    if (n == NULL) {
        fail("no node", text);
        return;
    }
    n->value = n;
    size_t path_len = tree_path(n, path, sizeof(path));
    if (path_len <= sizeof(path) && !slice_eq(slice_make(path, path_len), text)) {
        fail("another path", text);
    }
    e[(*len)++] = (struct entry){text, n};
}

static void take(struct tree *t, struct entry *e, unsigned *len, struct slice text)
{
    unsigned i = find(e, *len, text);
    if (i == *len) {
        return;
    }
    if (tree_find(t, text) != e[i].node) {
        fail("not found", text);
    }
    e[i].node->value = NULL;
    tree_drop(t, e[i].node);
    e[i] = e[--*len];
}

static bool was_found(const struct tree_walk *w, const struct tree_node *n)
{
    unsigned times = 0;
    for (size_t i = 0; i < w->found_len; i++) {
        times += w->found[i] == n;
    }
    if (times > 1) {
        abort();
    }
    return times == 1;
}

static void ask(struct check *c, struct slice text, const struct mqtt_limits *limits)
{
    size_t expected = 0;
    if (mqtt_topic_valid(text, limits)) {
        if (!tree_match_topic(&c->filters, text, c->walk)) {
            return;
        }
        for (unsigned i = 0; i < c->f_len; i++) {
            bool matches = mqtt_topic_matches(c->f[i].text, text);
            expected += matches;
            if (was_found(c->walk, c->f[i].node) != matches) {
                fail("a topic and a filter disagree", text);
            }
        }
        if (expected != c->walk->found_len) {
            fail("too many filters", text);
        }
    }
    expected = 0;
    if (mqtt_filter_valid(text, limits) && tree_match_filter(&c->names, text, c->walk)) {
        for (unsigned i = 0; i < c->n_len; i++) {
            bool matches = mqtt_topic_matches(text, c->n[i].text);
            expected += matches;
            if (was_found(c->walk, c->n[i].node) != matches) {
                fail("a filter and a topic disagree", text);
            }
        }
        if (expected != c->walk->found_len) {
            fail("too many topics", text);
        }
    }
}

static void line(struct check *c, struct slice text)
{
    struct mqtt_limits limits = mqtt_limits_default;
    struct slice rest = slice_from(text, 1);
    if (slice_starts(text, SLICE("-"))) {
        take(&c->filters, c->f, &c->f_len, rest);
        take(&c->names, c->n, &c->n_len, rest);
    } else if (slice_starts(text, SLICE("?"))) {
        ask(c, rest, &limits);
    } else {
        if (mqtt_filter_valid(text, &limits)) {
            put(&c->filters, c->f, &c->f_len, text);
        }
        if (mqtt_topic_valid(text, &limits)) {
            put(&c->names, c->n, &c->n_len, text);
        }
        ask(c, text, &limits);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct tree_walk walk;
    struct check c = {.walk = &walk};
    tree_walk_init(&walk);
    if (!tree_init(&c.filters) || !tree_init(&c.names)) {
        abort();
    }
    struct slice rest = slice_make(data, size);
    while (rest.len > 0) {
        const uint8_t *end = memchr(rest.p, '\n', rest.len);
        struct slice text = end != NULL ? slice_head(rest, (size_t)(end - rest.p)) : rest;
        line(&c, text);
        rest = slice_from(rest, text.len + 1);
    }
    while (c.f_len > 0) {
        take(&c.filters, c.f, &c.f_len, c.f[0].text);
    }
    while (c.n_len > 0) {
        take(&c.names, c.n, &c.n_len, c.n[0].text);
    }
    if (c.filters.len != 0 || c.names.len != 0) {
        fail("nodes were left", SLICE(""));
    }
    tree_walk_release(&walk);
    tree_release(&c.filters, NULL);
    tree_release(&c.names, NULL);
    return 0;
}
