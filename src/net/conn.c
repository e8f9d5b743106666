#include "net/conn.h"

#include "net/loop_priv.h"

void conns_init(struct loop *l)
{
    map_init(&l->conns.by_id);
}

bool conns_resume(struct loop *l)
{
    return l->conns.resume != NULL;
}

void conns_flush(struct loop *l)
{
    l->conns.flush = NULL;
}

void conns_reap(struct loop *l)
{
    l->conns.dead = NULL;
}

bool conns_left(const struct loop *l)
{
    return l->conns.flush != NULL;
}

void conns_shutdown(struct loop *l)
{
    l->conns.resume = NULL;
}

void conns_release(struct loop *l)
{
    map_release(&l->conns.by_id);
}
