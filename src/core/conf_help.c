#include "core/conf_priv.h"

#include <stdio.h>

// What stands for the value in "--flag=VALUE".
static const char *conf_metavar(const struct conf_key *key)
{
    static const char *const words[] = {
        [CONF_STRING] = "TEXT", [CONF_INT] = "N",       [CONF_BOOL] = "BOOL",      [CONF_DURATION] = "DURATION",
        [CONF_SIZE] = "SIZE",   [CONF_ENUM] = "CHOICE", [CONF_ADDR] = "HOST:PORT", [CONF_LIST] = "A,B,...",
    };
    return words[key->type];
}

// Text broken into lines of at most 100 columns, each behind `indent` blanks.
static void conf_wrap(struct buf *out, const char *text, unsigned indent)
{
    size_t room = 100 - indent;
    while (*text != '\0') {
        size_t n = strlen(text);
        if (n > room) {
            n = room;
            while (n > 0 && text[n] != ' ') {
                n--;
            }
            n = n > 0 ? n : strcspn(text, " ");
        }
        buf_printf(out, "%*s", (int)indent, "");
        buf_put(out, text, n);
        buf_u8(out, '\n');
        text += n;
        text += *text == ' ' ? 1 : 0;
    }
}

// "`64KiB`", "none"; `quote` stands on both sides.
static void conf_default(const struct conf_key *key, const char *quote, struct buf *out)
{
    bool none = key->dflt == NULL || key->dflt[0] == '\0';
    buf_printf(out, "%s%s%s", none ? "" : quote, none ? "none" : key->dflt, none ? "" : quote);
}

static void conf_help_key(const struct conf_key *key, struct buf *out)
{
    char allowed[CONF_ALLOWED_MAX];
    conf_key_allowed(key, allowed);
    if (key->flag != NULL) {
        buf_printf(out, "  --%s, --%s=%s\n", key->flag, key->name, conf_metavar(key));
    } else {
        buf_printf(out, "  --%s=%s\n", key->name, conf_metavar(key));
    }
    conf_wrap(out, key->help, 6);
    struct buf facts = buf_heap(2048);
    buf_str(&facts, "Default: ");
    conf_default(key, "", &facts);
    buf_printf(&facts, ". Allowed: %s.%s", allowed, key->reload ? " SIGHUP applies a change." : "");
    buf_u8(&facts, 0);
    if (!facts.failed) {
        conf_wrap(out, (const char *)facts.p, 6);
    }
    buf_release(&facts);
}

void conf_write_help(const struct conf_module *mods, size_t mods_len, struct buf *out)
{
    for (size_t m = 0; m < mods_len; m++) {
        buf_printf(out, "%s%s:\n", m > 0 ? "\n" : "", mods[m].title);
        for (size_t k = 0; k < mods[m].len; k++) {
            conf_help_key(&mods[m].keys[k], out);
        }
    }
}

// A table cell: the bar would end it.
static void conf_cell(struct buf *out, const char *text)
{
    for (; *text != '\0'; text++) {
        buf_str(out, *text == '|' ? "\\" : "");
        buf_u8(out, (uint8_t)*text);
    }
}

static void conf_reference_key(const struct conf_key *key, struct buf *out)
{
    char allowed[CONF_ALLOWED_MAX];
    conf_key_allowed(key, allowed);
    buf_printf(out, "| `%s` | ", key->name);
    if (key->flag != NULL) {
        buf_printf(out, "`--%s`", key->flag);
    }
    buf_str(out, " | ");
    conf_default(key, "`", out);
    buf_str(out, " | ");
    conf_cell(out, allowed);
    buf_printf(out, " | %s | ", key->reload ? "reload" : "");
    conf_cell(out, key->help);
    buf_str(out, " |\n");
}

void conf_write_reference(const struct conf_module *mods, size_t mods_len, struct buf *out)
{
    buf_str(out,
            "# Configuration\n\n"
            "The file is YAML: `section:`, and indented below it `key: value`. The command line\n"
            "(`--section.key=VALUE` or the short flag) wins over the environment\n"
            "(`MUSTER_SECTION_KEY`), which wins over the file, which wins over the default.\n"
            "`muster serve --check-config` prints every problem with file and line, loads certificates, keys, CAs and\n"
            "lists to try them, and says what only a start can tell.\n"
            "Keys marked *reload* change with SIGHUP; the others need a restart.\n");
    for (size_t m = 0; m < mods_len; m++) {
        buf_printf(out, "\n## %s\n\n| key | flag | default | allowed | reload | meaning |\n|---|---|---|---|---|---|\n",
                   mods[m].title);
        for (size_t k = 0; k < mods[m].len; k++) {
            conf_reference_key(&mods[m].keys[k], out);
        }
    }
}
