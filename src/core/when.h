// How times look in JSON: epoch milliseconds with up to three decimals (exact microseconds), or RFC 3339 text.
#ifndef CORE_WHEN_H
#define CORE_WHEN_H

#include "base/clock.h"
#include "base/json.h"

// 1700000000000.001; no more decimals than needed.
void jw_time_ms(struct jw *w, int64_t us);
// "2026-11-23T18:11:00.000001Z"
void jw_time_text(struct jw *w, int64_t us);

#endif
