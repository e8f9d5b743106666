// One program: `muster serve` is the server, every other verb is the command line that talks to one.
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "server/serve.h"

int main(int argc, char **argv)
{
    if (argc >= 2 && strcmp(argv[1], "serve") == 0) {
        return serve_main(argc - 2, argv + 2);
    }
    return cli_main(argc, argv);
}
