// Structured log: one line per event on stderr, logfmt or JSON, key=value after the message. Values are escaped, so a
// stranger's bytes cannot forge a line. Secrets are never passed to it.
//
//   log_info("mqtt", "connected", LOGS("device", id), LOGU("conn", conn));
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include "base/slice.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };
enum log_format { LOG_LOGFMT, LOG_JSON };

struct log_val {
    enum { LOGV_END, LOGV_STR, LOGV_I64, LOGV_U64, LOGV_F64 } type;
    struct slice s;
    int64_t i;
    uint64_t u;
    double f;
};
struct log_field {
    const char *key;
    struct log_val val;
};

// Lines from level `min` on go to `fd` (borrowed); before it is called: info, logfmt, standard error. Any thread.
void log_setup(enum log_level min, enum log_format format, int fd);
void log_set_level(enum log_level min);
// "debug", "info", "warn", "error"; false for anything else.
bool log_parse_level(const char *text, enum log_level *ret);
// Would a line of this level be written?
bool log_on(enum log_level level);
// `component` names the module ("mqtt", "store"). At most 16 fields; a line is cut at 4 KiB. Thread-safe: one write(2) a line.
void log_write(enum log_level level, const char *component, const char *msg, const struct log_field *fields, size_t n);

#define LOGS(k, v)  ((struct log_field){(k), {.type = LOGV_STR, .s = slice_str(v)}})
#define LOGSL(k, v) ((struct log_field){(k), {.type = LOGV_STR, .s = (v)}})
#define LOGI(k, v)  ((struct log_field){(k), {.type = LOGV_I64, .i = (v)}})
#define LOGU(k, v)  ((struct log_field){(k), {.type = LOGV_U64, .u = (v)}})
#define LOGF(k, v)  ((struct log_field){(k), {.type = LOGV_F64, .f = (v)}})
#define LOG_AT(level, comp, msg, ...)                                                                                  \
    do {                                                                                                               \
        if (log_on(level)) {                                                                                           \
            const struct log_field log_fields_[] = {{NULL, {.type = LOGV_END}}, ##__VA_ARGS__};                        \
            log_write((level), (comp), (msg), log_fields_ + 1, sizeof(log_fields_) / sizeof(log_fields_[0]) - 1);      \
        }                                                                                                              \
    } while (0)
#define log_debug(comp, msg, ...) LOG_AT(LOG_DEBUG, comp, msg, ##__VA_ARGS__)
#define log_info(comp, msg, ...)  LOG_AT(LOG_INFO, comp, msg, ##__VA_ARGS__)
#define log_warn(comp, msg, ...)  LOG_AT(LOG_WARN, comp, msg, ##__VA_ARGS__)
#define log_error(comp, msg, ...) LOG_AT(LOG_ERROR, comp, msg, ##__VA_ARGS__)

#endif
