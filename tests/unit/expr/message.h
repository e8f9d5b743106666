// A message for the tests of statements: the payload is the test's, the rest is always the same.
#ifndef UNIT_EXPR_MESSAGE_H
#define UNIT_EXPR_MESSAGE_H

#include "expr/eval.h"

#define MESSAGE_MEM_BYTES 65536

struct message {
    _Alignas(8) uint8_t mem[MESSAGE_MEM_BYTES];
    struct expr_value roots[5];
    struct expr_view view;
};

// plant/7/temp from dev-1 at 2026-01-20T12:00:00Z. False when the payload is no JSON; it must live as long as the message.
static inline bool message_init(struct message *m, struct slice payload)
{
    const struct expr_schema *s = expr_schema_message();
    bool ok = s->count == 5 && expr_doc_build(payload, m->mem, sizeof(m->mem), &m->roots[0]) == ST_OK;
    m->roots[1] = expr_text(SLICE("plant/7/temp"));
    m->roots[2] = expr_text(SLICE("dev-1"));
    m->roots[3] = expr_int(1768910400000);
    m->roots[4] = expr_int(1);
    m->view = (struct expr_view){.roots = m->roots, .count = 5, .now_us = 1768910400000000};
    return ok;
}

#endif
