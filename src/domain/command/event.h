// Named events of devices; private to the command module (the public functions stand in command.h).
#ifndef DOMAIN_COMMAND_EVENT_H
#define DOMAIN_COMMAND_EVENT_H

#include "core/core.h"

// A name and a JSON payload within the limits that commands and events share.
enum status command_check_message(struct slice name, struct slice payload, struct err *err);
// Deletes events received before; at most `rows` of them.
enum status device_event_forget(struct tx *tx, int64_t before_us, int rows, struct err *err);

#endif
