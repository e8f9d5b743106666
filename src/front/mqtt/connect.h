// Between CONNECT and the exchange of AUTH packets that may come before its operation. Private to this folder.
#ifndef FRONT_MQTT_CONNECT_H
#define FRONT_MQTT_CONNECT_H

#include "domain/identity/device_password.h"
#include "front/mqtt/mqtt_conn.h"

struct connect_op;
void connect_op_free(struct connect_op *co); // one that is not with the core; NULL is allowed
const struct credential *connect_op_credential(const struct connect_op *co);
// Hands it to the core; takes it. login: what came of the exchange, NULL without one. The user name is copied from it.
void connect_op_submit(struct mqtt_conn *mc, struct connect_op *co, const struct device_login *login,
                       struct slice username);
// CONNACK with a reason, then the end. log_text: what the stranger does not learn.
void mqtt_connect_refuse(struct mqtt_conn *mc, uint8_t reason, const char *text, const char *log_text);
// The same for an operation that has failed.
void mqtt_connect_failed(struct mqtt_conn *mc, enum status status, const struct err *err);

// auth.c: begins the exchange for a CONNECT; takes co. The method is one of ours.
void auth_begin(struct mqtt_conn *mc, struct connect_op *co, const struct mqtt_props *props);
bool auth_method_known(struct slice method);
// What the exchange adds to CONNACK. The slices are valid until auth_end.
void auth_connack(const struct mqtt_conn *mc, struct mqtt_props *ret);
// The exchange is over, or the connection is.
void auth_end(struct mqtt_conn *mc);

#endif
