// The lifecycle of a device as a table.
#include "domain/registry/registry.h"

static const char *const state_texts[DEVICE_STATE__COUNT] = {
    [DEVICE_REGISTERED] = "registered",
    [DEVICE_ACTIVE] = "active",
    [DEVICE_SUSPENDED] = "suspended",
    [DEVICE_RETIRED] = "retired",
};

// steps[from][to]: the same state again is no step.
static const bool steps[DEVICE_STATE__COUNT][DEVICE_STATE__COUNT] = {
    [DEVICE_REGISTERED] = {[DEVICE_ACTIVE] = true, [DEVICE_SUSPENDED] = true, [DEVICE_RETIRED] = true},
    [DEVICE_ACTIVE] = {[DEVICE_SUSPENDED] = true, [DEVICE_RETIRED] = true},
    [DEVICE_SUSPENDED] = {[DEVICE_ACTIVE] = true, [DEVICE_RETIRED] = true},
    [DEVICE_RETIRED] = {false},
};

const char *device_state_text(enum device_state s)
{
    return (unsigned)s < DEVICE_STATE__COUNT ? state_texts[s] : "unknown";
}

bool device_state_parse(struct slice text, enum device_state *ret)
{
    for (unsigned i = 0; i < DEVICE_STATE__COUNT; i++) {
        if (slice_eq_str(text, state_texts[i])) {
            *ret = (enum device_state)i;
            return true;
        }
    }
    return false;
}

bool device_state_may(enum device_state from, enum device_state to)
{
    return (unsigned)from < DEVICE_STATE__COUNT && (unsigned)to < DEVICE_STATE__COUNT && steps[from][to];
}
