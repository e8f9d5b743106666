#include "agent/textfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static bool full_path(const char *root, const char *path, char *dst, size_t size)
{
    int n = snprintf(dst, size, "%s%s", root, path);
    return n > 0 && (size_t)n < size;
}

bool textfile_read(const char *root, const char *path, char *dst, size_t size, struct slice *ret_text)
{
    char full[512];
    if (!full_path(root, path, full, sizeof(full))) {
        return false;
    }
    int fd = open(full, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        return false;
    }
    size_t len = 0;
    while (len < size - 1) {
        ssize_t n = read(fd, dst + len, size - 1 - len);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            close(fd);
            return false;
        }
        if (n == 0) {
            break;
        }
        len += (size_t)n;
    }
    close(fd);
    dst[len] = '\0';
    *ret_text = slice_make(dst, len);
    return true;
}

static bool blank(uint8_t c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n' || c == '\0';
}

static struct slice trim(struct slice s)
{
    while (s.len > 0 && blank(s.p[0])) {
        s = slice_from(s, 1);
    }
    while (s.len > 0 && blank(s.p[s.len - 1])) {
        s = slice_head(s, s.len - 1);
    }
    return s;
}

bool textfile_line(const char *root, const char *path, char *dst, size_t size)
{
    char mem[512];
    struct slice text;
    struct slice line;
    dst[0] = '\0';
    if (!textfile_read(root, path, mem, sizeof(mem), &text) || !text_line(&text, &line)) {
        return false;
    }
    line = slice_head(trim(line), size - 1);
    return line.len > 0 && slice_to_cstr(line, dst, size);
}

bool textfile_number(const char *root, const char *path, double *ret)
{
    char line[64];
    return textfile_line(root, path, line, sizeof(line)) && text_double(slice_str(line), ret);
}

DIR *textfile_dir(const char *root, const char *path)
{
    char full[512];
    return full_path(root, path, full, sizeof(full)) ? opendir(full) : NULL;
}

bool text_line(struct slice *text, struct slice *ret_line)
{
    if (text->len == 0) {
        return false;
    }
    const uint8_t *end = memchr(text->p, '\n', text->len);
    size_t len = end != NULL ? (size_t)(end - text->p) : text->len;
    *ret_line = slice_head(*text, len);
    *text = slice_from(*text, len + 1);
    return true;
}

bool text_word(struct slice *line, struct slice *ret_word)
{
    size_t at = 0;
    while (at < line->len && blank(line->p[at])) {
        at++;
    }
    size_t end = at;
    while (end < line->len && !blank(line->p[end])) {
        end++;
    }
    *ret_word = slice_head(slice_from(*line, at), end - at);
    *line = slice_from(*line, end);
    return ret_word->len > 0;
}

bool text_u64(struct slice word, uint64_t *ret)
{
    char digits[24];
    if (word.len == 0 || word.p[0] < '0' || word.p[0] > '9' || !slice_to_cstr(word, digits, sizeof(digits))) {
        return false;
    }
    char *end = NULL;
    errno = 0;
    unsigned long long v = strtoull(digits, &end, 10);
    if (errno != 0 || *end != '\0') {
        return false;
    }
    *ret = v;
    return true;
}

bool text_double(struct slice word, double *ret)
{
    char digits[64];
    if (word.len == 0 || !slice_to_cstr(word, digits, sizeof(digits))) {
        return false;
    }
    char *end = NULL;
    double v = strtod(digits, &end);
    if (end == digits || *end != '\0' || v - v != 0) {
        return false;
    }
    *ret = v;
    return true;
}

void text_metric(struct slice text, char *dst, size_t size)
{
    size_t n = 0;
    for (size_t i = 0; i < text.len && n < size - 1; i++) {
        uint8_t c = text.p[i];
        c = c >= 'A' && c <= 'Z' ? (uint8_t)(c - 'A' + 'a') : c;
        bool keep = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
        if (keep || (n > 0 && dst[n - 1] != '_')) {
            dst[n++] = keep ? (char)c : '_';
        }
    }
    while (n > 0 && dst[n - 1] == '_') {
        n--;
    }
    if (n == 0) {
        dst[n++] = 'x';
    }
    dst[n] = '\0';
}
