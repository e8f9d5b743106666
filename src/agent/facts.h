// What this machine is: facts that change seldom, for the twin, and the keys that name the hardware, for enrolment.
#ifndef AGENT_FACTS_H
#define AGENT_FACTS_H

#include "base/json.h"

// Members of an open object: "os", "kernel", "arch", "boot_id", "hostname", "cpu": {"model", "cores"}. What cannot be found out is
// left out.
void facts_write(const char *root, struct jw *w);
// {"model": ..., "keys": {"machine_id", "mac", "serial"}}: what is known; `model` overrides what the hardware says (NULL: not).
// machine_id is a hash: the file itself is confidential (machine-id(5)).
void facts_write_hardware(const char *root, const char *model, bool with_keys, struct jw *w);

#endif
