// One configuration value: from text to what the program reads. Private to core/conf*.c.
#ifndef CORE_CONF_PRIV_H
#define CORE_CONF_PRIV_H

#include "core/conf.h"

#define CONF_LIST_MAX    64  // items of a list
#define CONF_TEXT_MAX    512 // bytes of a value
#define CONF_WHY_MAX     512
#define CONF_ALLOWED_MAX 256

struct conf_value {
    const struct conf_key *key;
    char *text;  // as the user wrote it; ours
    int64_t num; // INT, BOOL, DURATION (us), SIZE (bytes), ENUM (index)
    char **list; // LIST: items, ours, NULL behind the last
    size_t list_len;
    unsigned file_line; // where the file set it; 0: it did not
};

// Reads `text` for v->key. False: v is unchanged and `why` says what is wrong and what is allowed.
bool conf_value_set(struct conf_value *v, struct slice text, char why[CONF_WHY_MAX]);
// The same for the items of a list.
bool conf_value_set_list(struct conf_value *v, const struct slice *items, size_t n, char why[CONF_WHY_MAX]);
void conf_value_release(struct conf_value *v);
bool conf_value_same(const struct conf_value *a, const struct conf_value *b);
// "a whole number from 1 to 64": for messages, help and manual.
void conf_key_allowed(const struct conf_key *key, char dst[CONF_ALLOWED_MAX]);
// "MUSTER_MQTT_PACKET_MAX" for "mqtt.packet_max"; cut to fit.
void conf_key_env(const struct conf_key *key, char *dst, size_t dst_size);

#endif
