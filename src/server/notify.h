// Tells the service manager how the server stands (sd_notify protocol: one datagram to $NOTIFY_SOCKET).
#ifndef SERVER_NOTIFY_H
#define SERVER_NOTIFY_H

// "READY=1", "STOPPING=1", "RELOADING=1", "STATUS=...". No effect when nobody asked to be told.
void notify_service(const char *state);

#endif
