// AUTH: enhanced authentication (MQTT 5.0 section 4.12).
#include "front/mqtt/mqtt_conn.h"

bool mqtt_on_auth(struct mqtt_conn *mc, const struct mqtt_packet *p)
{
    (void)p;
    mqtt_conn_violation(mc, MQTT_RC_PROTOCOL_ERROR, "AUTH without an authentication method in CONNECT (4.12-1)");
    return true;
}

bool mqtt_on_reauth(struct mqtt_conn *mc, const struct mqtt_packet *p)
{
    return mqtt_on_auth(mc, p);
}
