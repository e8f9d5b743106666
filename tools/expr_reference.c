// expr_reference names|functions: prints that part of docs/expressions.md from the tables of src/expr.
#include <stdio.h>
#include <string.h>

#include "expr/fn.h"
#include "expr/schema.h"

#define REFERENCE_BYTES_MAX 262144

int main(int argc, char **argv)
{
    struct buf out = buf_heap(REFERENCE_BYTES_MAX);
    bool names = argc == 2 && strcmp(argv[1], "names") == 0;
    bool functions = argc == 2 && strcmp(argv[1], "functions") == 0;
    if (!names && !functions) {
        fprintf(stderr, "usage: expr_reference names|functions\n");
        return 2;
    }
    bool ok = names ? expr_schema_reference(expr_schema_device(), &out) : expr_fn_reference(&out);
    ok = ok && fwrite(out.p, 1, out.len, stdout) == out.len;
    buf_release(&out);
    return ok ? 0 : 1;
}
