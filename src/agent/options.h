// The command line, as a table: parsing, --help and the manual page come from it.
#ifndef AGENT_OPTIONS_H
#define AGENT_OPTIONS_H

#include "base/buf.h"
#include "base/log.h"
#include "base/status.h"

struct options {
    char host[256];
    uint16_t port;
    const char *ca_file;    // borrowed from argv, as all of these
    const char *claim_file; // NULL: none; "-": standard input
    const char *state_dir;
    const char *device; // NULL: the server chooses
    const char *model;  // NULL: what the hardware says
    uint64_t queue_bytes;
    enum log_level log_level;
    enum log_format log_format;
    bool once, no_keys, help, version, man;
};

// ST_INVALID: err names the option, what is wrong and what is allowed. With help, version or man nothing else is checked.
enum status options_parse(struct options *o, int argc, char **argv, struct err *err);
void options_help(struct buf *out);
void options_man(struct buf *out); // roff, docs/man/muster-agent.8

#endif
