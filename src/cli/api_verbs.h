// The plain verbs of the command line, generated from api/*.json: each is one call of the API.
#ifndef CLI_API_VERBS_H
#define CLI_API_VERBS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum cli_where { CLI_PATH, CLI_QUERY, CLI_BODY, CLI_WHOLE }; // CLI_WHOLE: the request itself, an object of any members
enum cli_type {
    CLI_STRING,
    CLI_INTEGER,
    CLI_NUMBER,
    CLI_BOOLEAN,
    CLI_TIME,
    CLI_DURATION,
    CLI_OBJECT,
    CLI_ARRAY,
    CLI_ANY
};

struct cli_flag {
    const char *name; // in the API: "display_name"; the flag is --display-name
    enum cli_where where;
    enum cli_type type;
    bool required;
    bool strings;               // CLI_OBJECT and CLI_ARRAY: members are strings (--tags site=berlin)
    const char *const *choices; // NULL-terminated, or NULL
    const char *dflt;           // the API's default, for the help; NULL: none
    const char *help;
};

struct cli_verb {
    const char *words;  // "device show"
    const char *op;     // "device.get"
    const char *method; // "GET"
    const char *path;   // "/api/v1/devices/{device}"
    const char *summary, *description, *since, *permission;
    const char *const *args;      // positional: names of flags; NULL-terminated
    const struct cli_flag *flags; // parameters and members of the request, positional ones included
    size_t flags_len;
    const char *const *columns; // paths into an item; NULL-terminated; NULL: key and value lines
    const char *content;        // request body that is not JSON: "application/x-ndjson"; NULL: JSON or none
    const char *reply_content;  // reply that is not JSON; NULL: JSON
    bool has_body;              // the request has a JSON body
    bool list;                  // the reply has "items" and "next"
    bool idempotent, if_match, stream, interactive, secret_reply;
};
extern const struct cli_verb cli_verbs[];
extern const size_t cli_verbs_len;

#endif
