// The configuration of `muster serve`: every module's keys in one list, read from file, environment and command line.
#ifndef SERVER_OPTIONS_H
#define SERVER_OPTIONS_H

#include "base/buf.h"
#include "core/conf.h"

// All modules with keys, for --help, the reference and conf_load. Returns how many.
#define SERVER_MODULES_MAX 16
size_t server_modules(struct conf_module out[SERVER_MODULES_MAX]);

struct options {
    const char *config_file;   // borrowed from argv
    const char *overrides[64]; // "key=value", NULL-terminated, owned
    size_t overrides_len;
    bool check_only, help, reference;
};
// Parses the arguments behind "serve". Problems go to `problems` as readable lines. False when there were any.
bool options_parse(struct options *o, int argc, char **argv, struct buf *problems);
void options_release(struct options *o);

#endif
