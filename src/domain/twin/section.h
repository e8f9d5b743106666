// One section of a twin as documents: merge patches with a time per leaf, and the difference of two documents.
//
// `meta` has the shape of `doc`: where the document has an object, so has meta; at every other value meta has the epoch
// millisecond of its last write. An array is one value. Nothing here recurses; depth is at most TWIN_DEPTH_MAX.
#ifndef DOMAIN_TWIN_SECTION_H
#define DOMAIN_TWIN_SECTION_H

#include <jansson.h>

#include "base/status.h"

#define TWIN_DEPTH_MAX 16

// Refuses keys that begin with '$' (reserved), at any depth; ST_INVALID with a JSON pointer.
enum status section_check(const json_t *patch, struct err *err);
// Applies a merge patch (RFC 7396) to doc and meta. ST_NOMEM leaves both half changed: drop them.
enum status section_merge(json_t *doc, json_t *meta, const json_t *patch, int64_t now_ms, struct err *err);
// What must be merged into `from` to have everything `to` says; with `removals`, also nulls for what `to` has not, so that
// merge(from, diff(from, to, true)) equals `to`. Without: the delta of a twin (from = reported, to = desired).
// Numbers compare by value: 1 and 1.0 are the same. The result (an object, to be released) shares values with `to`.
// NULL: no memory.
json_t *section_diff(const json_t *from, const json_t *to, bool removals);
bool section_equal(const json_t *a, const json_t *b);

#endif
