// Small files of /proc and /sys, read whole into the caller's memory. `root` is "" on a real machine and a folder of fixtures in
// tests.
#ifndef AGENT_TEXTFILE_H
#define AGENT_TEXTFILE_H

#include <dirent.h>

#include "base/slice.h"

// Reads at most size - 1 bytes of root + path; a longer file is cut. False when it cannot be read.
bool textfile_read(const char *root, const char *path, char *dst, size_t size, struct slice *ret_text);
// The first line without white space at its ends. False when the file cannot be read or the line is empty.
bool textfile_line(const char *root, const char *path, char *dst, size_t size);
bool textfile_number(const char *root, const char *path, double *ret);
DIR *textfile_dir(const char *root, const char *path); // NULL when there is none; closedir() it

// Cuts the next line (without its end) off `text`; false at the end.
bool text_line(struct slice *text, struct slice *ret_line);
// Cuts the next word (separated by blanks) off `line`; false when there is none.
bool text_word(struct slice *line, struct slice *ret_word);
bool text_u64(struct slice word, uint64_t *ret); // digits only
bool text_double(struct slice word, double *ret);
// Lower case [a-z0-9_] for metric names; others become '_', at most size - 1 bytes. "x" when nothing is left.
void text_metric(struct slice text, char *dst, size_t size);

#endif
