#include "agent/facts.h"

#include <stdio.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <openssl/evp.h>

#include "agent/textfile.h"

#define INTERFACES_MAX 64

static void fact_line(const char *root, const char *path, const char *key, struct jw *w)
{
    char line[128];
    if (textfile_line(root, path, line, sizeof(line))) {
        jw_key(w, key);
        jw_str(w, line);
    }
}

// os-release(5): PRETTY_NAME="..."
static void fact_os(const char *root, struct jw *w)
{
    char mem[4096];
    struct slice text;
    struct slice line;
    if (!textfile_read(root, "/etc/os-release", mem, sizeof(mem), &text)) {
        return;
    }
    struct slice prefix = SLICE("PRETTY_NAME=");
    while (text_line(&text, &line)) {
        if (!slice_starts(line, prefix)) {
            continue;
        }
        struct slice value = slice_from(line, prefix.len);
        if (value.len >= 2 && (value.p[0] == '"' || value.p[0] == '\'')) {
            value = slice_head(slice_from(value, 1), value.len - 2);
        }
        jw_key(w, "os");
        jw_slice(w, value);
        return;
    }
}

// x86 has "model name", ARM boards "Model" or "Hardware".
static void fact_cpu(const char *root, struct jw *w)
{
    static const char *const keys[] = {"model name", "Model", "Hardware", "cpu model"};
    char mem[4096];
    struct slice text;
    struct slice line;
    jw_key(w, "cpu");
    jw_object(w);
    bool found = false;
    if (!textfile_read(root, "/proc/cpuinfo", mem, sizeof(mem), &text)) {
        text = SLICE("");
    }
    while (!found && text_line(&text, &line)) {
        const uint8_t *colon = line.len > 0 ? memchr(line.p, ':', line.len) : NULL;
        for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]) && colon != NULL && !found; i++) {
            struct slice value = slice_from(line, (size_t)(colon - line.p) + 1);
            if (slice_starts(line, slice_str(keys[i])) && value.len > 1) {
                jw_key(w, "model");
                jw_slice(w, slice_from(value, 1));
                found = true;
            }
        }
    }
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    if (cores > 0) {
        jw_key(w, "cores");
        jw_int(w, cores);
    }
    jw_object_end(w);
}

void facts_write(const char *root, struct jw *w)
{
    struct utsname u;
    fact_os(root, w);
    if (uname(&u) == 0) {
        jw_key(w, "arch");
        jw_str(w, u.machine);
    }
    fact_line(root, "/proc/sys/kernel/osrelease", "kernel", w);
    fact_line(root, "/proc/sys/kernel/random/boot_id", "boot_id", w);
    fact_line(root, "/proc/sys/kernel/hostname", "hostname", w);
    fact_cpu(root, w);
}

// ---- Hardware -------------------------------------------------------------------------------------------------------

static void key_machine_id(const char *root, struct jw *w)
{
    static const char purpose[] = "muster-agent machine-id v1:";
    char id[128];
    uint8_t digest[32];
    unsigned len = 0;
    if (!textfile_line(root, "/etc/machine-id", id, sizeof(id))) {
        return;
    }
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    bool ok = md != NULL && EVP_DigestInit_ex(md, EVP_sha256(), NULL) == 1 &&
              EVP_DigestUpdate(md, purpose, sizeof(purpose) - 1) == 1 && EVP_DigestUpdate(md, id, strlen(id)) == 1 &&
              EVP_DigestFinal_ex(md, digest, &len) == 1;
    EVP_MD_CTX_free(md);
    if (!ok) {
        return;
    }
    char hex[33];
    for (size_t i = 0; i < 16; i++) {
        snprintf(hex + 2 * i, 3, "%02x", digest[i]);
    }
    jw_key(w, "machine_id");
    jw_str(w, hex);
}

// The lowest address among real network hardware: it does not change with the order in which the kernel finds the cards.
static void key_mac(const char *root, struct jw *w)
{
    char best[32] = "";
    DIR *d = textfile_dir(root, "/sys/class/net");
    if (d == NULL) {
        return;
    }
    unsigned seen = 0;
    for (const struct dirent *e = readdir(d); e != NULL && seen < INTERFACES_MAX; e = readdir(d)) {
        char path[320];
        char mac[32];
        snprintf(path, sizeof(path), "/sys/class/net/%s/device/uevent", e->d_name);
        bool real = e->d_name[0] != '.' && textfile_line(root, path, mac, sizeof(mac));
        snprintf(path, sizeof(path), "/sys/class/net/%s/address", e->d_name);
        if (real && textfile_line(root, path, mac, sizeof(mac)) && strcmp(mac, "00:00:00:00:00:00") != 0) {
            seen++;
            if (best[0] == '\0' || strcmp(mac, best) < 0) {
                snprintf(best, sizeof(best), "%s", mac);
            }
        }
    }
    closedir(d);
    if (best[0] != '\0') {
        jw_key(w, "mac");
        jw_str(w, best);
    }
}

// Firmware makers leave texts like these where a number should be.
static bool placeholder(const char *text)
{
    static const char *const texts[] = {"To Be Filled By O.E.M.", "Default string",     "None", "Not Specified", "0",
                                        "System Serial Number",   "System Product Name"};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        if (strcmp(text, texts[i]) == 0) {
            return true;
        }
    }
    return false;
}

static bool first_line_of(const char *root, const char *const *paths, size_t n, char *dst, size_t size)
{
    for (size_t i = 0; i < n; i++) {
        if (textfile_line(root, paths[i], dst, size) && !placeholder(dst)) {
            return true;
        }
    }
    return false;
}

void facts_write_hardware(const char *root, const char *model, bool with_keys, struct jw *w)
{
    static const char *const models[] = {"/proc/device-tree/model", "/sys/class/dmi/id/product_name"};
    static const char *const serials[] = {"/proc/device-tree/serial-number", "/sys/class/dmi/id/product_serial"};
    char text[65];
    jw_object(w);
    if (model != NULL || first_line_of(root, models, 2, text, sizeof(text))) {
        jw_key(w, "model");
        jw_str(w, model != NULL ? model : text);
    }
    if (with_keys) {
        jw_key(w, "keys");
        jw_object(w);
        key_machine_id(root, w);
        key_mac(root, w);
        // A hardware key is one printable word.
        if (first_line_of(root, serials, 2, text, sizeof(text)) && text[strcspn(text, " \t")] == '\0') {
            jw_key(w, "serial");
            jw_str(w, text);
        }
        jw_object_end(w);
    }
    jw_object_end(w);
}
