// The tree of topics: many brothers, removal, order of walks. What matches what is checked by the fuzz target broker_tree.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "domain/broker/tree.h"

#define MANY 20000

static void many_come_and_go(void **state)
{
    (void)state;
    struct tree t;
    static struct tree_node *nodes[MANY];
    static struct tree_walk w;
    tree_walk_init(&w);
    assert_true(tree_init(&t));
    for (unsigned i = 0; i < MANY; i++) {
        char path[32];
        snprintf(path, sizeof(path), "d/%u/x", i);
        nodes[i] = tree_need(&t, slice_str(path));
        assert_non_null(nodes[i]);
        nodes[i]->value = &nodes[i];
    }
    assert_int_equal(t.len, 1 + 2 * MANY);
    assert_true(tree_match_filter(&t, SLICE("d/+/x"), &w));
    assert_int_equal(w.found_len, MANY);
    w.found_max = 10;
    assert_true(tree_match_filter(&t, SLICE("#"), &w));
    assert_int_equal(w.found_len, 10);
    w.found_max = 0;
    for (unsigned i = 0; i < MANY; i += 2) {
        nodes[i]->value = NULL;
        tree_drop(&t, nodes[i]);
    }
    assert_int_equal(t.len, 1 + MANY);
    for (unsigned i = 0; i < MANY; i++) {
        char path[32];
        snprintf(path, sizeof(path), "d/%u/x", i);
        assert_ptr_equal(tree_find(&t, slice_str(path)), i % 2 == 0 ? NULL : nodes[i]);
    }
    for (unsigned i = 1; i < MANY; i += 2) {
        nodes[i]->value = NULL;
        tree_drop(&t, nodes[i]);
    }
    assert_int_equal(t.len, 0);
    tree_walk_release(&w);
    tree_release(&t, NULL);
}

static void too_many_levels_are_refused(void **state)
{
    (void)state;
    struct tree t;
    static struct tree_walk w;
    static char path[2 * TREE_LEVELS_MAX + 3];
    tree_walk_init(&w);
    assert_true(tree_init(&t));
    for (size_t i = 0; i < TREE_LEVELS_MAX; i++) {
        path[2 * i] = 'a';
        path[2 * i + 1] = '/';
    }
    struct slice most = slice_make(path, 2 * TREE_LEVELS_MAX - 1);
    struct slice more = slice_make(path, 2 * TREE_LEVELS_MAX);
    struct tree_node *n = tree_need(&t, most);
    assert_non_null(n);
    n->value = n;
    assert_null(tree_need(&t, more));
    assert_true(tree_match_topic(&t, most, &w));
    assert_int_equal(w.found_len, 1);
    assert_true(tree_match_topic(&t, more, &w));
    assert_int_equal(w.found_len, 0);
    char text[16];
    assert_int_equal(tree_path(n, text, sizeof(text)), most.len); // does not fit: the length only
    n->value = NULL;
    tree_drop(&t, n);
    assert_int_equal(t.len, 0);
    tree_walk_release(&w);
    tree_release(&t, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(many_come_and_go),
                                       cmocka_unit_test(too_many_levels_are_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
