// Configuration keys as tables. A module exports its keys; flags, file (YAML), --help, manual and reload rules come from
// them. Values are read from one immutable `conf`; a reload makes a new one.
//
// Precedence: command line, then MUSTER_* environment (mqtt.packet_max -> MUSTER_MQTT_PACKET_MAX), then file, then default.
#ifndef CORE_CONF_H
#define CORE_CONF_H

#include "base/buf.h"
#include "base/slice.h"
#include "base/status.h"

enum conf_type {
    CONF_STRING,
    CONF_INT, // min..max
    CONF_BOOL,
    CONF_DURATION, // "90s", "5m": microseconds; min..max in microseconds
    CONF_SIZE,     // "64KiB", "1GiB", plain bytes; min..max in bytes
    CONF_ENUM,     // one of `choices`, space-separated; the value is its index
    CONF_ADDR,     // "host:port", ":port" or "off"
    CONF_LIST,     // list of strings (YAML list; comma-separated on the command line)
};
struct conf_key {
    const char
        *name; // "mqtt.packet_max": section.key in the file; dotted on the command line too (--mqtt.packet_max=...)
    const char *flag; // short form on the command line ("mqtts" for --mqtts), or NULL
    enum conf_type type;
    const char *dflt; // as a user would write it
    int64_t min, max;
    const char *choices;
    bool reload;      // SIGHUP applies it; otherwise a restart is needed (and said so)
    const char *help; // one sentence; what it limits and when to change it
};
struct conf_module {
    const char *title;
    const struct conf_key *keys;
    size_t len;
};

struct conf;
// Parses the file (NULL: none) and overrides ("key=value", from flags; NULL-terminated). Every problem is appended to
// `problems` as "file:line: key: what is wrong, what is allowed\n"; ST_INVALID when there was any.
enum status conf_load(const struct conf_module *mods, size_t mods_len, const char *file, const char *const *overrides,
                      struct conf **ret, struct buf *problems);
void conf_free(struct conf *c);
const char *conf_str(const struct conf *c, const char *key); // unknown key: a programmer's mistake, asserts
int64_t conf_int(const struct conf *c, const char *key);     // INT, DURATION (us), SIZE (bytes), ENUM (index)
bool conf_bool(const struct conf *c, const char *key);
size_t conf_list(const struct conf *c, const char *key, const char *const **ret);
unsigned conf_file_line(const struct conf *c,
                        const char *key); // where the file sets the value; 0: it comes from elsewhere
// Keys that differ and are not reloadable, one name a line: for the log at SIGHUP.
void conf_diff_fixed(const struct conf *a, const struct conf *b, struct buf *out);
void conf_write_help(const struct conf_module *mods, size_t mods_len, struct buf *out); // for --help
void conf_write_reference(const struct conf_module *mods, size_t mods_len,
                          struct buf *out); // Markdown for docs/configuration.md

#endif
