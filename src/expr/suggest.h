// "Did you mean": the nearest of some names.
#ifndef EXPR_SUGGEST_H
#define EXPR_SUGGEST_H

#include "base/slice.h"

// Letters to add, drop, change or swap to get from a to b, capitals ignored (Damerau, restricted); more than `max` is max + 1.
unsigned expr_distance(struct slice a, struct slice b, unsigned max);

struct expr_suggest {
    struct slice word; // what was written
    unsigned best;     // distance of what is in `text`; 3: nothing yet
    char text[64];
};
void expr_suggest_init(struct expr_suggest *s, struct slice word);
// Offers a name, to be written as `prefix` + name. Kept when it is nearer than what was offered before, and near enough:
// at most 2 letters, and fewer than half of the word.
void expr_suggest_offer(struct expr_suggest *s, const char *prefix, const char *name);

#endif
