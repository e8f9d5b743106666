// The command line: verbs generated from api/ where they are plain calls, hand-written where they help a person.
#ifndef CLI_CLI_H
#define CLI_CLI_H

// Exit codes: 0 done, 1 the server refused or something failed, 2 wrong usage, 3 the server cannot be reached.
int cli_main(int argc, char **argv);

#endif
