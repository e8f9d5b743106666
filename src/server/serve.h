// `muster serve`: options, the life of the process, signals.
#ifndef SERVER_SERVE_H
#define SERVER_SERVE_H

// `argv`: the arguments behind "serve". Returns the exit code: 0 ended in order, 1 could not start, 2 bad usage or configuration.
int serve_main(int argc, char **argv);

#endif
