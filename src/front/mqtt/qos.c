#include "front/mqtt/qos.h"

static const struct flight_step flight_steps[FLIGHT__COUNT][FLIGHT_EVENT__COUNT] =
    {
        [FLIGHT_NONE] =
            {
                [FLIGHT_ON_PUBACK] = {FLIGHT_NONE, FLIGHT_STRAY},
                [FLIGHT_ON_PUBREC] = {FLIGHT_NONE, FLIGHT_UNKNOWN},
                [FLIGHT_ON_REFUSAL] = {FLIGHT_NONE, FLIGHT_STRAY},
                [FLIGHT_ON_PUBCOMP] = {FLIGHT_NONE, FLIGHT_IGNORE}, // the answer to a PUBREL with 0x92
                [FLIGHT_ON_STORED] = {FLIGHT_NONE, FLIGHT_IGNORE},
            },
        [FLIGHT_SENT1] =
            {
                [FLIGHT_ON_PUBACK] = {FLIGHT_NONE, FLIGHT_DONE},
                [FLIGHT_ON_PUBREC] = {FLIGHT_SENT1, FLIGHT_VIOLATION},
                [FLIGHT_ON_REFUSAL] = {FLIGHT_SENT1, FLIGHT_VIOLATION},
                [FLIGHT_ON_PUBCOMP] = {FLIGHT_SENT1, FLIGHT_VIOLATION},
                [FLIGHT_ON_STORED] = {FLIGHT_SENT1, FLIGHT_IGNORE},
            },
        [FLIGHT_SENT2] =
            {
                [FLIGHT_ON_PUBACK] = {FLIGHT_SENT2, FLIGHT_VIOLATION},
                [FLIGHT_ON_PUBREC] = {FLIGHT_RECEIVING, FLIGHT_KEEP},
                [FLIGHT_ON_REFUSAL] = {FLIGHT_NONE, FLIGHT_DONE},
                [FLIGHT_ON_PUBCOMP] = {FLIGHT_SENT2, FLIGHT_VIOLATION},
                [FLIGHT_ON_STORED] = {FLIGHT_SENT2, FLIGHT_IGNORE},
            },
        [FLIGHT_RECEIVING] =
            {
                [FLIGHT_ON_PUBACK] = {FLIGHT_RECEIVING, FLIGHT_VIOLATION},
                [FLIGHT_ON_PUBREC] = {FLIGHT_RECEIVING, FLIGHT_IGNORE},
                [FLIGHT_ON_REFUSAL] = {FLIGHT_RECEIVING, FLIGHT_VIOLATION},
                [FLIGHT_ON_PUBCOMP] = {FLIGHT_RECEIVING, FLIGHT_VIOLATION},
                [FLIGHT_ON_STORED] = {FLIGHT_RELEASED, FLIGHT_RELEASE},
            },
        [FLIGHT_RELEASED] =
            {
                [FLIGHT_ON_PUBACK] = {FLIGHT_RELEASED, FLIGHT_VIOLATION},
                [FLIGHT_ON_PUBREC] = {FLIGHT_RELEASED, FLIGHT_RELEASE},
                [FLIGHT_ON_REFUSAL] = {FLIGHT_NONE, FLIGHT_DONE}, // it knows nothing of the message any more
                [FLIGHT_ON_PUBCOMP] = {FLIGHT_NONE, FLIGHT_DONE},
                [FLIGHT_ON_STORED] = {FLIGHT_RELEASED, FLIGHT_IGNORE},
            },
};

struct flight_step flight_next(enum flight_state s, enum flight_event e)
{
    return flight_steps[s][e];
}

static const struct inbound_step inbound_steps[INBOUND__COUNT][INBOUND_EVENT__COUNT] = {
    [INBOUND_NONE] =
        {
            [INBOUND_ON_PUBLISH] = {INBOUND_PENDING, INBOUND_TAKE},
            [INBOUND_ON_KEPT] = {INBOUND_NONE, INBOUND_IGNORE},
            [INBOUND_ON_REFUSED] = {INBOUND_NONE, INBOUND_IGNORE},
            [INBOUND_ON_PUBREL] = {INBOUND_NONE, INBOUND_UNKNOWN},
            [INBOUND_ON_STORED] = {INBOUND_NONE, INBOUND_IGNORE},
        },
    [INBOUND_PENDING] =
        {
            [INBOUND_ON_PUBLISH] = {INBOUND_PENDING, INBOUND_IGNORE}, // its PUBREC is on the way
            [INBOUND_ON_KEPT] = {INBOUND_RECEIVED, INBOUND_IGNORE},
            [INBOUND_ON_REFUSED] = {INBOUND_NONE, INBOUND_IGNORE},
            [INBOUND_ON_PUBREL] = {INBOUND_PENDING, INBOUND_VIOLATION},
            [INBOUND_ON_STORED] = {INBOUND_PENDING, INBOUND_IGNORE},
        },
    [INBOUND_RECEIVED] =
        {
            [INBOUND_ON_PUBLISH] = {INBOUND_RECEIVED, INBOUND_AGAIN},
            [INBOUND_ON_KEPT] = {INBOUND_RECEIVED, INBOUND_IGNORE},
            [INBOUND_ON_REFUSED] = {INBOUND_RECEIVED, INBOUND_IGNORE},
            [INBOUND_ON_PUBREL] = {INBOUND_RELEASING, INBOUND_FORGET},
            [INBOUND_ON_STORED] = {INBOUND_RECEIVED, INBOUND_IGNORE},
        },
    [INBOUND_RELEASING] =
        {
            [INBOUND_ON_PUBLISH] = {INBOUND_RELEASING, INBOUND_IN_USE},
            [INBOUND_ON_KEPT] = {INBOUND_RELEASING, INBOUND_IGNORE},
            [INBOUND_ON_REFUSED] = {INBOUND_RELEASING, INBOUND_IGNORE},
            [INBOUND_ON_PUBREL] = {INBOUND_RELEASING, INBOUND_IGNORE}, // its PUBCOMP is on the way
            [INBOUND_ON_STORED] = {INBOUND_NONE, INBOUND_DONE},
        },
};

struct inbound_step inbound_next(enum inbound_state s, enum inbound_event e)
{
    return inbound_steps[s][e];
}
