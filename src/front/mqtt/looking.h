// Traces of connections, seen from the front: which connections somebody looks at, and what goes by. Private to this folder.
//
// All of it costs one test of mc->home->looking while nobody looks at anything.
#ifndef FRONT_MQTT_LOOKING_H
#define FRONT_MQTT_LOOKING_H

#include "front/mqtt/mqtt_conn.h"

// The traces have changed: every connection is matched anew. arg: struct mqtt_loop.
void looking_changed(void *arg);
// A connection is there: all that is known is its address.
void looking_accepted(struct mqtt_conn *mc);
// Its CONNECT says who it wants to be.
void looking_connect(struct mqtt_conn *mc, const struct mqtt_connect *c);
// It is known who it is.
void looking_known(struct mqtt_conn *mc);
// A packet has come: whole, or what cannot be decoded and why.
void looking_in(struct mqtt_conn *mc, struct slice packet);
void looking_bad(struct mqtt_conn *mc, struct slice bytes, const char *why);
void looking_out(struct mqtt_conn *mc, struct slice packets);
// Something happened: "refused", and why.
void looking_note(struct mqtt_conn *mc, const char *what, const char *why);
// It is over: mc->why and mc->detail say why.
void looking_closed(struct mqtt_conn *mc);
// A TLS handshake from this address failed: there is no connection for it.
void looking_tls_failure(struct mqtt_loop *home, const char *peer, const char *why);

#endif
