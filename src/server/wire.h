// Where the modules meet: builds them in order, opens the listeners, takes them down in order. The only place that knows all.
#ifndef SERVER_WIRE_H
#define SERVER_WIRE_H

#include "base/buf.h"
#include "base/status.h"
#include "core/conf.h"

struct server;

// Opens stores, keys, threads and listeners. The data directory is locked: a second server on it is refused (ST_BUSY).
enum status server_new(const struct conf *conf, struct server **ret, struct err *err);
// "mqtts=HOST:PORT https=HOST:PORT mqtt=… http=…"
void server_addresses(const struct server *s, struct buf *out);
// Certificates anew and the reloadable keys of `conf`, which the server then keeps reading from. On an error the old ones stay.
enum status server_reload(struct server *s, const struct conf *conf, struct err *err);
// Whether certificates, CAs or lists have changed on disk since they were loaded or this was asked. Same thread as server_reload.
bool server_files_changed(struct server *s);
// Stops accepting, lets connections end (drain), commits what is queued, closes the stores.
void server_stop(struct server *s);
void server_free(struct server *s);

#endif
