// What the operator may change from afar: the member "agent" of the desired values.
//
//   {"agent": {"interval_s": 5..86400, "metrics": ["cpu.*", "mem.used"], "log_level": "debug|info|warn|error"}}
//
// Each setting stands alone: a good one is applied, a wrong one keeps its last value and is reported with an error text. A setting
// that is absent (or null) has its default.
#ifndef AGENT_SETTINGS_H
#define AGENT_SETTINGS_H

#include "base/json.h"
#include "base/log.h"
#include "muster/muster.h"

#define SETTINGS_PATTERNS_MAX 16
#define SETTINGS_PATTERN_MAX  64
#define SETTINGS_INTERVAL_MIN 5
#define SETTINGS_INTERVAL_MAX 86400
#define SETTINGS_ERRORS_MAX   8

struct settings_error {
    char key[32];
    char text[160];
};
struct settings {
    int64_t interval_s;
    char metrics[SETTINGS_PATTERNS_MAX][SETTINGS_PATTERN_MAX]; // '*' stands for any characters
    size_t metrics_len;
    enum log_level log_level;
    struct settings_error errors[SETTINGS_ERRORS_MAX];
    size_t errors_len;
};

// Defaults: every 10 s, all metrics, `level`.
void settings_init(struct settings *s, enum log_level level);
// Takes the desired document. `defaults` is what absent settings become.
void settings_apply(struct settings *s, const struct settings *defaults, struct muster_text desired);
// Members of an open object: the values in force, and "errors": [{"setting", "error"}] or null. (An array, because reported values
// are merged: members of an object would stay after the mistake was mended.)
void settings_write(const struct settings *s, struct jw *w);
bool settings_wants(const struct settings *s, const char *metric);

#endif
