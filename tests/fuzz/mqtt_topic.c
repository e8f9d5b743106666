// Topic matching against a naive matcher that follows the text of section 4.7 character by character.
// Input: filter, a zero byte, topic.
#include <stdlib.h>

#include "proto/mqtt.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

// The naive one: splits both into levels first, then compares level by level.
#define LEVELS 64
struct levels {
    struct slice at[LEVELS];
    size_t n;
};

static bool split(struct slice s, struct levels *ret)
{
    ret->n = 0;
    size_t from = 0;
    for (size_t i = 0; i <= s.len; i++) {
        if (i == s.len || s.p[i] == '/') {
            if (ret->n == LEVELS) {
                return false;
            }
            ret->at[ret->n++] = slice_head(slice_from(s, from), i - from);
            from = i + 1;
        }
    }
    return true;
}

static bool naive(const struct levels *f, const struct levels *t)
{
    bool dollar = t->at[0].len > 0 && t->at[0].p[0] == '$';
    bool wild_first = slice_eq_str(f->at[0], "+") || slice_eq_str(f->at[0], "#");
    if (dollar && wild_first) {
        return false;
    }
    bool rest = slice_eq_str(f->at[f->n - 1], "#");
    size_t fixed = rest ? f->n - 1 : f->n;
    if (rest ? t->n < fixed : t->n != fixed) {
        return false;
    }
    for (size_t i = 0; i < fixed; i++) {
        if (!slice_eq_str(f->at[i], "+") && !slice_eq(f->at[i], t->at[i])) {
            return false;
        }
    }
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *zero = size > 0 ? memchr(data, 0, size) : NULL;
    if (zero == NULL) {
        return 0;
    }
    struct slice filter = slice_make(data, (size_t)(zero - data));
    struct slice topic = slice_from(slice_make(data, size), filter.len + 1);
    bool both = mqtt_filter_valid(filter, &mqtt_limits_default) && mqtt_topic_valid(topic, &mqtt_limits_default);
    bool match = mqtt_topic_matches(filter, topic);
    struct levels f;
    struct levels t;
    if (both && split(filter, &f) && split(topic, &t) && match != naive(&f, &t)) {
        abort();
    }
    return 0;
}
