// Replies for people: tables that fit the terminal, key and value lines.
#ifndef CLI_PRINT_H
#define CLI_PRINT_H

#include <jansson.h>

// Rows of `items` with these columns (paths into an item, "twin.version"); cells are cut so that a line fits the terminal.
void print_table(const json_t *items, const char *const *columns);
// "id      d1" lines; nested objects as dotted keys. Iterative, bounded depth.
void print_record(const json_t *object);
// {"cpu.util": {"time", "value"}, ...} as a table: one row a metric.
void print_metrics(const json_t *metrics);
// [[ts, value], ...] as a table: time and value.
void print_points(const json_t *points);
// Makes one harmless line of a text: control characters become spaces, so that what a device sent cannot steer the terminal.
void print_clean(char *text);
int print_terminal_width(void);

#endif
