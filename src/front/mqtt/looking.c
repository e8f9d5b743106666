#include "front/mqtt/looking.h"

#include <stdio.h>

#include "domain/trace/trace.h"

#define NOTE_BYTES 200

static void set_traces(struct mqtt_conn *mc, const struct trace_who *who)
{
    uint32_t traces = trace_match(mc->home->traces, who);
    if ((traces != 0) != (mc->traces != 0)) {
        conn_tap(mc->net, traces != 0);
    }
    mc->traces = traces;
}

static void record(struct mqtt_conn *mc, enum trace_what what, struct slice data, const char *note)
{
    const struct trace_piece p = {.what = what,
                                  .conn = conn_id(mc->net),
                                  .peer = conn_peer_addr(mc->net),
                                  .version = (enum mqtt_version)mc->version,
                                  .data = data,
                                  .note = note};
    trace_record(mc->home->traces, mc->traces, &p);
}

void looking_accepted(struct mqtt_conn *mc)
{
    if (mc->home->looking) {
        set_traces(mc, &(struct trace_who){.peer = conn_peer_addr(mc->net)});
    }
}

// A device is looked for by what it calls itself: that it fails to get in may be the very question.
void looking_connect(struct mqtt_conn *mc, const struct mqtt_connect *c)
{
    if (mc->home->looking) {
        set_traces(mc, &(struct trace_who){.device = c->has_username ? c->username : c->client_id,
                                           .client = c->client_id,
                                           .peer = conn_peer_addr(mc->net)});
    }
}

void looking_known(struct mqtt_conn *mc)
{
    if (!mc->home->looking) {
        return;
    }
    const struct principal *who = &mc->link->who;
    bool device = who->kind == WHO_DEVICE;
    set_traces(
        mc, &(struct trace_who){.tenant = who->tenant,
                                .device = device ? slice_str(who->name) : (struct slice){NULL, 0},
                                .client = mc->permit != NULL ? permit_client_id(mc->permit) : (struct slice){NULL, 0},
                                .peer = conn_peer_addr(mc->net)});
}

void looking_changed(void *arg)
{
    struct mqtt_loop *home = arg;
    home->looking = trace_running(home->traces);
    for (struct mqtt_conn *mc = home->conns; mc != NULL; mc = mc->next) {
        if (mc->state == MS_OPEN) {
            looking_known(mc);
        } else {
            looking_accepted(mc);
        }
        if (!home->looking && mc->traces != 0) {
            mc->traces = 0;
            conn_tap(mc->net, false);
        }
    }
}

void looking_in(struct mqtt_conn *mc, struct slice packet)
{
    if (mc->traces != 0) {
        record(mc, TRACE_IN, packet, NULL);
    }
}

void looking_bad(struct mqtt_conn *mc, struct slice bytes, const char *why)
{
    if (mc->traces != 0) {
        record(mc, TRACE_IN, bytes, NULL);
        looking_note(mc, "not understood", why);
    }
}

void looking_out(struct mqtt_conn *mc, struct slice packets)
{
    if (mc->traces != 0) {
        record(mc, TRACE_OUT, packets, NULL);
    }
}

void looking_note(struct mqtt_conn *mc, const char *what, const char *why)
{
    char text[NOTE_BYTES];
    if (mc->traces != 0) {
        snprintf(text, sizeof(text), "%s%s%s", what, why[0] != '\0' ? ": " : "", why);
        record(mc, TRACE_NOTE, (struct slice){NULL, 0}, text);
    }
}

void looking_closed(struct mqtt_conn *mc)
{
    char text[NOTE_BYTES];
    if (mc->traces != 0) {
        snprintf(text, sizeof(text), "%s%s%s", mc->why, mc->detail != NULL ? ", " : "",
                 mc->detail != NULL ? mc->detail : "");
        looking_note(mc, "closed", text);
    }
}

void looking_tls_failure(struct mqtt_loop *home, const char *peer, const char *why)
{
    char text[NOTE_BYTES];
    if (!home->looking) {
        return;
    }
    const struct trace_who who = {.peer = peer};
    snprintf(text, sizeof(text), "TLS handshake failed: %s", why);
    const struct trace_piece p = {.what = TRACE_NOTE, .peer = peer, .note = text};
    trace_record(home->traces, trace_match(home->traces, &who), &p);
}
