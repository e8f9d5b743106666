// Opaque cursors of keyset paging: where a list stopped, as base64url text a client hands back unchanged.
//
// A cursor says which order it belongs to (`kind`, a small number of the list's own) and the last key that was delivered:
// up to two numbers and one text. It grants nothing: the list still filters by tenant, so a forged cursor only starts
// elsewhere in one's own rows.
#ifndef CORE_CURSOR_H
#define CORE_CURSOR_H

#include "base/buf.h"
#include "base/json.h"
#include "base/slice.h"
#include "base/status.h"

#define CURSOR_TEXT_MAX 256                                                 // longest text key
#define CURSOR_MAX      ((size_t)(1 + 8 + 8 + CURSOR_TEXT_MAX + 2) / 3 * 4) // longest encoded form

struct cursor {
    uint8_t kind;
    int64_t a, b;
    struct slice text; // at most CURSOR_TEXT_MAX bytes
};

// Appends the encoded form; false when it does not fit (text too long, out full).
bool cursor_encode(const struct cursor *c, struct buf *out);
// Decodes into *ret; the text points into `mem`, which must hold CURSOR_MAX bytes. ST_INVALID when it is none of ours.
enum status cursor_decode(struct slice encoded, uint8_t mem[CURSOR_MAX], struct cursor *ret, struct err *err);

// For lists: absent text leaves *ret as it is (the start); a cursor of another kind is ST_INVALID.
enum status cursor_read(struct slice encoded, uint8_t kind, uint8_t mem[CURSOR_MAX], struct cursor *ret,
                        struct err *err);
// Writes the cursor as a JSON string, or null for c == NULL (the end). ST_INTERNAL when its text is too long.
enum status cursor_write(const struct cursor *c, struct jw *out, struct err *err);

#endif
