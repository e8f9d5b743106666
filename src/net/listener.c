#include "net/loop_priv.h"

void acceptors_close(struct loop *l)
{
    l->acceptors = NULL;
}
