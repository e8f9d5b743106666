#include "expr/suggest.h"

#include <stdio.h>

#define WORD_MAX 48

static uint8_t lower(uint8_t c)
{
    return c >= 'A' && c <= 'Z' ? (uint8_t)(c | 0x20) : c;
}

static unsigned min3(unsigned a, unsigned b, unsigned c)
{
    unsigned m = a < b ? a : b;
    return m < c ? m : c;
}

unsigned expr_distance(struct slice a, struct slice b, unsigned max)
{
    unsigned rows[3][WORD_MAX + 1];
    size_t gap = a.len > b.len ? a.len - b.len : b.len - a.len;
    if (a.len > WORD_MAX || b.len > WORD_MAX || gap > max) {
        return max + 1;
    }
    for (unsigned j = 0; j <= b.len; j++) {
        rows[0][j] = j;
    }
    for (unsigned i = 1; i <= a.len; i++) {
        unsigned *row = rows[i % 3];
        const unsigned *above = rows[(i + 2) % 3];
        const unsigned *two_above = rows[(i + 1) % 3];
        row[0] = i;
        for (unsigned j = 1; j <= b.len; j++) {
            unsigned change = lower(a.p[i - 1]) == lower(b.p[j - 1]) ? 0 : 1;
            row[j] = min3(above[j] + 1, row[j - 1] + 1, above[j - 1] + change);
            bool swap =
                i > 1 && j > 1 && lower(a.p[i - 1]) == lower(b.p[j - 2]) && lower(a.p[i - 2]) == lower(b.p[j - 1]);
            if (swap && two_above[j - 2] + 1 < row[j]) {
                row[j] = two_above[j - 2] + 1;
            }
        }
    }
    unsigned d = rows[a.len % 3][b.len];
    return d <= max ? d : max + 1;
}

void expr_suggest_init(struct expr_suggest *s, struct slice word)
{
    *s = (struct expr_suggest){.word = word, .best = 3};
}

void expr_suggest_offer(struct expr_suggest *s, const char *prefix, const char *name)
{
    unsigned d = expr_distance(s->word, slice_str(name), 2);
    if (d < s->best && (size_t)d * 2 < s->word.len) {
        s->best = d;
        snprintf(s->text, sizeof(s->text), "%s%s", prefix, name);
    }
}
