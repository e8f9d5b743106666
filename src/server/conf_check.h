// What can be wrong with a configuration though each value is allowed: settings that need each other, and texts and files of which
// only a part of the program knows what they must be. The same for the start, for SIGHUP and for --check-config.
#ifndef SERVER_CONF_CHECK_H
#define SERVER_CONF_CHECK_H

#include "base/buf.h"
#include "core/conf.h"

// Each problem is appended as "FILE:LINE: key: what is wrong, what is allowed\n", without the place when `file` (NULL: none) does not
// set the key. False when there was any.
bool conf_check(const struct conf *c, const char *file, struct buf *problems);
// Files as well: certificates, keys, CAs, lists, and the suites. The start and SIGHUP load them anyway.
bool conf_check_files(const struct conf *c, const char *file, struct buf *problems);
// What only the start can tell of these settings, a line each.
void conf_check_unknown(const struct conf *c, struct buf *out);

#endif
