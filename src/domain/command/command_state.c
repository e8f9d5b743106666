#include "domain/command/command.h"

#define NO_STEP COMMAND_STATE__COUNT

static const char *const state_text[COMMAND_STATE__COUNT] = {
    [COMMAND_PENDING] = "pending",
    [COMMAND_SENT] = "sent",
    [COMMAND_REPLIED] = "replied",
    [COMMAND_EXPIRED] = "expired",
};

// clang-format off
static const enum command_state steps[COMMAND_STATE__COUNT][COMMAND_INPUT__COUNT] = {
    //                    deliver         reply             expire
    [COMMAND_PENDING] = {COMMAND_SENT,    COMMAND_REPLIED,  COMMAND_EXPIRED},
    [COMMAND_SENT]    = {COMMAND_SENT,    COMMAND_REPLIED,  COMMAND_EXPIRED},
    [COMMAND_REPLIED] = {NO_STEP,         NO_STEP,          NO_STEP},
    [COMMAND_EXPIRED] = {NO_STEP,         COMMAND_REPLIED,  NO_STEP},
};
// clang-format on

const char *command_state_text(enum command_state s)
{
    return s < COMMAND_STATE__COUNT ? state_text[s] : "unknown";
}

bool command_state_parse(struct slice text, enum command_state *ret)
{
    for (int i = 0; i < COMMAND_STATE__COUNT; i++) {
        if (slice_eq_str(text, state_text[i])) {
            *ret = (enum command_state)i;
            return true;
        }
    }
    return false;
}

bool command_next(enum command_state s, enum command_input in, enum command_state *ret)
{
    if (s >= COMMAND_STATE__COUNT || in >= COMMAND_INPUT__COUNT || steps[s][in] == NO_STEP) {
        return false;
    }
    *ret = steps[s][in];
    return true;
}

bool command_id_parse(struct slice text, uint64_t *ret_id)
{
    uint64_t v = 0;
    for (size_t i = 0; i < text.len; i++) {
        if (text.p[i] < '0' || text.p[i] > '9' || i >= 19) {
            return false;
        }
        v = v * 10 + (uint64_t)(text.p[i] - '0');
    }
    *ret_id = v;
    return text.len > 0 && text.p[0] != '0' && v <= INT64_MAX;
}
