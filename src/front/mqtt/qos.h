// What happens to one packet id, in each direction: two tables, and nothing else decides it (MQTT 5.0 section 4.3).
//
// To the client (`flight`):
//
//            PUBACK, PUBREC that refuses
//   SENT1 ----------------------------------------> (none)
//   SENT2 --PUBREC--> RECEIVING --stored--> RELEASED --PUBCOMP--> (none)
//                                              ^ PUBREC again: PUBREL again
// From the client (`inbound`, QoS 2):
//
//   (none) --PUBLISH--> PENDING --kept--> RECEIVED --PUBREL--> RELEASING --stored--> (none)
//                          \--refused--> (none)  ^ PUBLISH again: PUBREC again
//
// "Stored" follows at once in a session that ends with its connection.
#ifndef FRONT_MQTT_QOS_H
#define FRONT_MQTT_QOS_H

#include <stdint.h>

enum flight_state { FLIGHT_NONE, FLIGHT_SENT1, FLIGHT_SENT2, FLIGHT_RECEIVING, FLIGHT_RELEASED, FLIGHT__COUNT };
enum flight_event {
    FLIGHT_ON_PUBACK,
    FLIGHT_ON_PUBREC,
    FLIGHT_ON_REFUSAL, // a PUBREC with a reason from 0x80 on
    FLIGHT_ON_PUBCOMP,
    FLIGHT_ON_STORED,
    FLIGHT_EVENT__COUNT
};
enum flight_act {
    FLIGHT_IGNORE,
    FLIGHT_VIOLATION,
    FLIGHT_STRAY,   // an acknowledgement of nothing: a violation, unless the session is older than the connection
    FLIGHT_UNKNOWN, // PUBREL with 0x92
    FLIGHT_KEEP,    // store that it was received
    FLIGHT_RELEASE, // PUBREL
    FLIGHT_DONE     // the message is the client's; its id is free
};
struct flight_step {
    uint8_t next; // enum flight_state
    uint8_t act;  // enum flight_act
};
struct flight_step flight_next(enum flight_state s, enum flight_event e);

enum inbound_state { INBOUND_NONE, INBOUND_PENDING, INBOUND_RECEIVED, INBOUND_RELEASING, INBOUND__COUNT };
enum inbound_event {
    INBOUND_ON_PUBLISH,
    INBOUND_ON_KEPT,
    INBOUND_ON_REFUSED,
    INBOUND_ON_PUBREL,
    INBOUND_ON_STORED,
    INBOUND_EVENT__COUNT
};
enum inbound_act {
    INBOUND_IGNORE,
    INBOUND_VIOLATION,
    INBOUND_TAKE,    // a new message
    INBOUND_AGAIN,   // PUBREC once more; the message is not taken twice
    INBOUND_IN_USE,  // PUBREC with 0x91
    INBOUND_UNKNOWN, // PUBCOMP with 0x92
    INBOUND_FORGET,  // store that the id is free
    INBOUND_DONE     // PUBCOMP
};
struct inbound_step {
    uint8_t next; // enum inbound_state
    uint8_t act;  // enum inbound_act
};
struct inbound_step inbound_next(enum inbound_state s, enum inbound_event e);

#endif
