#include "expr/schema.h"

int expr_schema_find(const struct expr_schema *s, struct slice name)
{
    for (unsigned i = 0; i < s->count; i++) {
        if (slice_eq_str(name, s->roots[i].name)) {
            return (int)i;
        }
    }
    return -1;
}

bool expr_schema_reference(const struct expr_schema *s, struct buf *out)
{
    buf_str(out, "\n| name | holds | |\n|---|---|---|\n");
    for (unsigned i = 0; i < s->count; i++) {
        const struct expr_root *root = &s->roots[i];
        char types[80];
        expr_types_text(root->types, types, sizeof(types));
        const char *holds = root->shape == EXPR_SHAPE_DOCUMENT  ? "anything, by key"
                            : root->shape == EXPR_SHAPE_SAMPLES ? "samples, by key"
                                                                : types;
        buf_printf(out, "| `%s` | %s | %s |\n", root->name, holds, root->doc);
    }
    return !out->failed;
}

#define VALUE EXPR_SHAPE_VALUE
#define TEXT  EXPR_OF(EXPR_TEXT)
#define TIME  EXPR_OF(EXPR_TIME)
#define LIST  EXPR_OF(EXPR_LIST)

static const struct expr_root device_roots[EXPR_DEVICE__COUNT] = {
    [EXPR_DEVICE_ID] = {"id", VALUE, TEXT, "the device's id"},
    [EXPR_DEVICE_NAME] = {"name", VALUE, TEXT, "the name people gave it"},
    [EXPR_DEVICE_MODEL] = {"model", VALUE, TEXT, "its model"},
    [EXPR_DEVICE_STATE] = {"state", VALUE, TEXT, "where it stands in its life: active, suspended, ..."},
    [EXPR_DEVICE_VERSION] = {"version", VALUE, EXPR_OF(EXPR_INT), "how often its record has changed"},
    [EXPR_DEVICE_CREATED] = {"created", VALUE, TIME, "when it was registered"},
    [EXPR_DEVICE_UPDATED] = {"updated", VALUE, TIME, "when its record last changed"},
    [EXPR_DEVICE_ONLINE] = {"online", VALUE, EXPR_OF(EXPR_BOOL), "is it connected?"},
    [EXPR_DEVICE_CONNECTED_AT] = {"connected_at", VALUE, TIME, "when it last connected"},
    [EXPR_DEVICE_DISCONNECTED_AT] = {"disconnected_at", VALUE, TIME, "when its last connection ended"},
    [EXPR_DEVICE_LAST_SEEN] = {"last_seen", VALUE, TIME, "when it was last heard of"},
    [EXPR_DEVICE_TAGS] = {"tags", EXPR_SHAPE_DOCUMENT, EXPR_OF_ANY, "labels given by operators"},
    [EXPR_DEVICE_ATTRIBUTES] = {"attributes", EXPR_SHAPE_DOCUMENT, EXPR_OF_ANY, "facts the device was made with"},
    [EXPR_DEVICE_KEYS] = {"keys", EXPR_SHAPE_DOCUMENT, EXPR_OF_ANY, "public keys and their names"},
    [EXPR_DEVICE_DESIRED] = {"desired", EXPR_SHAPE_DOCUMENT, EXPR_OF_ANY, "the twin as operators want it"},
    [EXPR_DEVICE_REPORTED] = {"reported", EXPR_SHAPE_DOCUMENT, EXPR_OF_ANY, "the twin as the device says it is"},
    [EXPR_DEVICE_TELEMETRY] = {"telemetry", EXPR_SHAPE_SAMPLES, EXPR_OF_ANY,
                               "the last value of each series, and its time"},
    [EXPR_DEVICE_GROUPS] = {"groups", VALUE, LIST, "ids of the groups it is in"},
    [EXPR_DEVICE_CREDENTIALS] = {"credentials", VALUE, LIST, "objects with kind, id, expires, state"},
    [EXPR_DEVICE_LOCATION] = {"location", VALUE, EXPR_OF(EXPR_POINT), "where it is: reported, or else as an attribute"},
};

const struct expr_schema *expr_schema_device(void)
{
    static const struct expr_schema device = {
        .name = "device",
        .roots = device_roots,
        .count = EXPR_DEVICE__COUNT,
    };
    return &device;
}

static const struct expr_root message_roots[] = {
    {"$payload", EXPR_SHAPE_DOCUMENT, EXPR_OF_ANY, "what was sent"},
    {"$topic", VALUE, TEXT, "where it was sent to"},
    {"$clientid", VALUE, TEXT, "who sent it"},
    {"$timestamp", VALUE, EXPR_OF(EXPR_INT), "when it arrived, in milliseconds since 1970"},
    {"$qos", VALUE, EXPR_OF(EXPR_INT), "its quality of service"},
};

const struct expr_schema *expr_schema_message(void)
{
    static const struct expr_schema message = {
        .name = "message",
        .roots = message_roots,
        .count = sizeof(message_roots) / sizeof(message_roots[0]),
        .fallback = "$payload",
    };
    return &message;
}
