// The only way to the time. Wall time is microseconds since the epoch; monotonic time never jumps and has no meaning of its own.
// Tests replace both with clock_fake.
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include "base/buf.h"
#include "base/slice.h"

// Any thread.
int64_t clock_wall_us(void);
int64_t clock_mono_us(void);
// From now on both clocks stand at these values (test and simulation builds); clock_fake_off returns to the real ones.
void clock_fake(int64_t wall_us, int64_t mono_us);
void clock_fake_off(void);

#define CLOCK_RFC3339_MAX 32
// "2026-11-23T18:11:00.000001Z", always six digits of fraction. `dst` holds CLOCK_RFC3339_MAX bytes. Times outside the
// years 0 to 9999 become the nearest that can be written.
void clock_rfc3339(int64_t wall_us, char *dst);
// Accepts RFC 3339 with any offset and fraction, or epoch milliseconds with optional fraction ("1700000000000.001");
// digits beyond microseconds are cut. False, and nothing set, for anything else and for years outside 0 to 9999.
bool clock_parse(struct slice text, int64_t *ret_wall_us);
// "90s", "5m", "1h30m", "7d", "2w", "250ms", "50us", longer units before shorter ones; plain numbers are refused.
bool clock_parse_duration(struct slice text, int64_t *ret_us);

#endif
