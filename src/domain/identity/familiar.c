#include "domain/identity/familiar.h"

#include <stdlib.h>

#define PLACES 4096
#define WAYS   4
#define DAY_US 86400000000LL

struct seen {
    uint64_t key; // 0: empty
    int64_t at_us;
};

struct familiar {
    struct seen slots[PLACES][WAYS];
};

struct familiar *familiar_new(void)
{
    return calloc(1, sizeof(struct familiar));
}

void familiar_free(struct familiar *f)
{
    free(f);
}

void familiar_add(struct familiar *f, uint64_t key, int64_t now_us)
{
    struct seen *place = f->slots[key % PLACES];
    struct seen *oldest = &place[0];
    for (int i = 0; i < WAYS; i++) {
        if (place[i].key == key || place[i].key == 0) {
            place[i] = (struct seen){key, now_us};
            return;
        }
        oldest = place[i].at_us < oldest->at_us ? &place[i] : oldest;
    }
    *oldest = (struct seen){key, now_us};
}

bool familiar_has(const struct familiar *f, uint64_t key, int64_t now_us)
{
    const struct seen *place = f->slots[key % PLACES];
    for (int i = 0; i < WAYS; i++) {
        if (place[i].key == key) {
            return now_us - place[i].at_us < DAY_US;
        }
    }
    return false;
}
