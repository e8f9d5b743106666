// What a verb of the command line gets, and the hand-written ones.
#ifndef CLI_VERB_H
#define CLI_VERB_H

#include <jansson.h>
#include <stdbool.h>

#include "cli/api_verbs.h"
#include "cli/client.h"

// Exit codes (docs/man/muster.1).
enum { CLI_OK = 0, CLI_FAILED = 1, CLI_USAGE = 2, CLI_UNREACHABLE = 3 };

struct cli {
    struct client_conf conf;
    struct client *client; // opened on first use: cli_client
    bool json;             // --json: the API's reply unchanged
    bool quiet;
};

// Opens the connection; NULL after telling why.
struct client *cli_client(struct cli *cli);
// "muster: ..." on standard error.
void cli_say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
// Tells about a refused call (problem+json: what, where, what is allowed). Returns the exit code.
int cli_refused(const struct client_reply *reply);
// One call: ST_OK and 2xx fill *ret_reply; otherwise tells why and returns false with *ret_code.
bool cli_call(struct cli *cli, const struct client_request *req, struct client_reply *ret_reply, int *ret_code);

// Calls the operation of a generated verb with these arguments.
int verb_call(struct cli *cli, const struct cli_verb *v, int argc, char **argv);
void verb_help(const struct cli_verb *v);

struct hand_verb {
    const char *words;
    const char *usage; // behind the words
    const char *summary;
    const char *help; // options and prose; NULL: none
    int (*run)(struct cli *cli, int argc, char **argv);
};
extern const struct hand_verb hand_verbs[];
extern const size_t hand_verbs_len;

// The hand-written verbs: the arguments behind the verb's words, as typed. They tell what is wrong themselves and return
// the exit code (above). Main thread; they block until done, watchers until Ctrl-C.
int verb_import(struct cli *cli, int argc, char **argv);
int verb_twin_watch(struct cli *cli, int argc, char **argv);
int verb_telemetry_watch(struct cli *cli, int argc, char **argv);
int verb_telemetry_export(struct cli *cli, int argc, char **argv);
int verb_events(struct cli *cli, int argc, char **argv);
int verb_trace(struct cli *cli, int argc, char **argv);
int verb_top(struct cli *cli, int argc, char **argv);
int verb_completion(struct cli *cli, int argc, char **argv);

// "--name value" or "--name=value" out of argv; the rest moves up. NULL: not there.
const char *cli_option(int *argc, char **argv, const char *name);
// Are only arguments left, min to max of them? Otherwise says what is wrong.
bool cli_arguments(const char *verb, int argc, char **argv, int min, int max);

// How many letters must be changed, added or dropped to make b of a, for advice; 99 for long words.
unsigned cli_distance(const char *a, const char *b);
// Percent-encodes a path segment or query value.
void cli_encode(struct buf *out, const char *text);
// "-1h", "now", RFC 3339, epoch milliseconds -> RFC 3339 or milliseconds text for the API. False: not a time.
bool cli_time(const char *text, struct buf *out);

#endif
