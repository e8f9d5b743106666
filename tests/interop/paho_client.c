// A client made of Eclipse Paho's C library, told what to do on its standard input, for tests/system/client_paho.py.
//
//   paho_client sync|async URI CLIENT_ID USER PASSWORD CA_FILE PERSISTENCE_DIR
//
// sync is MQTTClient with MQTT 3.1.1, async is MQTTAsync with MQTT 5.0. Commands, one a line, and what is answered:
//
//   connect 0|1             clean or not; "connected SESSION_PRESENT"
//   subscribe FILTER QOS    "subscribed QOS"
//   publish TOPIC QOS TEXT  "published" once the handshake is complete (QoS 0: once it is sent)
//   send TOPIC QOS TEXT     "sent": the handshake goes on alone, now or after the next connection
//   receive MS              "message TOPIC QOS RETAINED TEXT", or "nothing"
//   disconnect              "disconnected"
//
// What fails answers "error WHAT CODE".
#include <MQTTAsync.h>
#include <MQTTClient.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { WAIT_MS = 20000, TEXT_MAX = 512, QUEUE_MAX = 256, WORDS_MAX = 4, EXPIRY_S = 600 };

struct note {
    char topic[TEXT_MAX], text[TEXT_MAX];
    int qos, retained;
};

struct client {
    const char *uri, *id, *user, *password, *ca, *dir;
    MQTTClient sync;
    MQTTAsync async;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    // Under the lock, filled by the library's threads:
    struct note queue[QUEUE_MAX];
    int queued, done, code, value; // done: the operation waited for has ended, with this code (0: well) and value
};

struct api {
    const char *name;
    int (*open)(struct client *c);
    int (*connect)(struct client *c, int clean, int *ret_present);
    int (*subscribe)(struct client *c, const char *filter, int qos, int *ret_qos);
    int (*publish)(struct client *c, const char *topic, int qos, const char *text, int wait);
    int (*receive)(struct client *c, int ms, struct note *ret_note); // 0: a message, 1: nothing
    int (*disconnect)(struct client *c);
};

static void note_fill(struct note *n, const char *topic, const void *payload, int length, int qos, int retained)
{
    (void)snprintf(n->topic, sizeof(n->topic), "%s", topic);
    (void)snprintf(n->text, sizeof(n->text), "%.*s", length, (const char *)payload);
    n->qos = qos;
    n->retained = retained;
}

// --- MQTTClient, 3.1.1 ---

static int sync_open(struct client *c)
{
    return MQTTClient_create(&c->sync, c->uri, c->id, MQTTCLIENT_PERSISTENCE_DEFAULT, (void *)(size_t)c->dir);
}

static int sync_connect(struct client *c, int clean, int *ret_present)
{
    MQTTClient_connectOptions o = MQTTClient_connectOptions_initializer;
    MQTTClient_SSLOptions tls = MQTTClient_SSLOptions_initializer;

    tls.trustStore = c->ca;
    tls.verify = 1;
    o.MQTTVersion = MQTTVERSION_3_1_1;
    o.cleansession = clean;
    o.username = c->user;
    o.password = c->password;
    o.ssl = &tls;
    o.keepAliveInterval = 20;
    int code = MQTTClient_connect(c->sync, &o);
    *ret_present = o.returned.sessionPresent;
    return code;
}

static int sync_subscribe(struct client *c, const char *filter, int qos, int *ret_qos)
{
    *ret_qos = qos; // the library reports a refusal as an error and keeps the granted one to itself
    return MQTTClient_subscribe(c->sync, filter, qos);
}

static int sync_publish(struct client *c, const char *topic, int qos, const char *text, int wait)
{
    MQTTClient_deliveryToken token = 0;
    int code = MQTTClient_publish(c->sync, topic, (int)strlen(text), text, qos, 0, &token);

    return code == MQTTCLIENT_SUCCESS && wait && qos > 0 ? MQTTClient_waitForCompletion(c->sync, token, WAIT_MS) : code;
}

static int sync_receive(struct client *c, int ms, struct note *ret_note)
{
    char *topic = NULL;
    int length = 0;
    MQTTClient_message *m = NULL;
    int code = MQTTClient_receive(c->sync, &topic, &length, &m, (unsigned long)ms);

    if (m == NULL) {
        return code == MQTTCLIENT_SUCCESS ? 1 : code;
    }
    note_fill(ret_note, topic, m->payload, m->payloadlen, m->qos, m->retained);
    MQTTClient_freeMessage(&m);
    MQTTClient_free(topic);
    return 0;
}

static int sync_disconnect(struct client *c)
{
    return MQTTClient_disconnect(c->sync, 1000);
}

// --- MQTTAsync, 5.0 ---

static void async_end(struct client *c, int code, int value)
{
    pthread_mutex_lock(&c->lock);
    c->done = 1;
    c->code = code;
    c->value = value;
    pthread_cond_broadcast(&c->changed);
    pthread_mutex_unlock(&c->lock);
}

static void async_connected(void *context, MQTTAsync_successData5 *data)
{
    async_end(context, 0, data != NULL ? data->alt.connect.sessionPresent : 0);
}

static void async_well(void *context, MQTTAsync_successData5 *data)
{
    async_end(context, data != NULL && data->reasonCode >= 0x80 ? (int)data->reasonCode : 0,
              data != NULL ? (int)data->reasonCode : 0);
}

static void async_badly(void *context, MQTTAsync_failureData5 *data)
{
    int code = data == NULL ? -1 : data->code != 0 ? data->code : (int)data->reasonCode;

    async_end(context, code != 0 ? code : -1, 0);
}

static int async_arrived(void *context, char *topic, int length, MQTTAsync_message *m)
{
    struct client *c = context;

    (void)length;
    pthread_mutex_lock(&c->lock);
    int room = c->queued < QUEUE_MAX;
    if (room) {
        note_fill(&c->queue[c->queued], topic, m->payload, m->payloadlen, m->qos, m->retained);
        c->queued++;
        pthread_cond_broadcast(&c->changed);
    }
    pthread_mutex_unlock(&c->lock);
    if (room) {
        MQTTAsync_freeMessage(&m);
        MQTTAsync_free(topic);
    }
    return room;
}

// Waits under the lock until *what is not 0, or the time is over; returns *what.
static int async_wait(struct client *c, const int *what, int ms)
{
    struct timespec end;

    (void)clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += ms / 1000;
    end.tv_nsec += (long)(ms % 1000) * 1000000;
    if (end.tv_nsec >= 1000000000) {
        end.tv_sec++;
        end.tv_nsec -= 1000000000;
    }
    while (*what == 0 && pthread_cond_timedwait(&c->changed, &c->lock, &end) == 0) {
    }
    return *what;
}

// The end of the operation that was begun with this code.
static int async_finish(struct client *c, int begun, int *ret_value)
{
    if (begun != MQTTASYNC_SUCCESS) {
        return begun;
    }
    pthread_mutex_lock(&c->lock);
    int code = async_wait(c, &c->done, WAIT_MS) ? c->code : -100;
    *ret_value = c->value;
    pthread_mutex_unlock(&c->lock);
    return code;
}

static int async_open(struct client *c)
{
    MQTTAsync_createOptions o = MQTTAsync_createOptions_initializer5;

    o.sendWhileDisconnected = 1;
    int code = MQTTAsync_createWithOptions(&c->async, c->uri, c->id, MQTTCLIENT_PERSISTENCE_DEFAULT,
                                           (void *)(size_t)c->dir, &o);
    return code != MQTTASYNC_SUCCESS ? code : MQTTAsync_setCallbacks(c->async, c, NULL, async_arrived, NULL);
}

static int async_connect(struct client *c, int clean, int *ret_present)
{
    MQTTAsync_connectOptions o = MQTTAsync_connectOptions_initializer5;
    MQTTAsync_SSLOptions tls = MQTTAsync_SSLOptions_initializer;
    MQTTProperties properties = MQTTProperties_initializer;
    MQTTProperty expiry = {.identifier = MQTTPROPERTY_CODE_SESSION_EXPIRY_INTERVAL, .value.integer4 = EXPIRY_S};

    tls.trustStore = c->ca;
    tls.verify = 1;
    (void)MQTTProperties_add(&properties, &expiry);
    o.cleanstart = clean;
    o.connectProperties = &properties;
    o.username = c->user;
    o.password = c->password;
    o.ssl = &tls;
    o.keepAliveInterval = 20;
    o.automaticReconnect = 1;
    o.minRetryInterval = 1;
    o.maxRetryInterval = 1;
    o.onSuccess5 = async_connected;
    o.onFailure5 = async_badly;
    o.context = c;
    c->done = 0;
    int code = async_finish(c, MQTTAsync_connect(c->async, &o), ret_present);
    MQTTProperties_free(&properties);
    return code;
}

static int async_subscribe(struct client *c, const char *filter, int qos, int *ret_qos)
{
    MQTTAsync_responseOptions o = MQTTAsync_responseOptions_initializer;

    o.onSuccess5 = async_well;
    o.onFailure5 = async_badly;
    o.context = c;
    c->done = 0;
    return async_finish(c, MQTTAsync_subscribe(c->async, filter, qos, &o), ret_qos);
}

static int async_publish(struct client *c, const char *topic, int qos, const char *text, int wait)
{
    MQTTAsync_responseOptions o = MQTTAsync_responseOptions_initializer;
    int value;

    if (!wait) {
        return MQTTAsync_send(c->async, topic, (int)strlen(text), text, qos, 0, NULL);
    }
    o.onSuccess5 = async_well;
    o.onFailure5 = async_badly;
    o.context = c;
    c->done = 0;
    return async_finish(c, MQTTAsync_send(c->async, topic, (int)strlen(text), text, qos, 0, &o), &value);
}

static int async_receive(struct client *c, int ms, struct note *ret_note)
{
    pthread_mutex_lock(&c->lock);
    int some = async_wait(c, &c->queued, ms);
    if (some) {
        *ret_note = c->queue[0];
        c->queued--;
        memmove(&c->queue[0], &c->queue[1], (size_t)c->queued * sizeof(c->queue[0]));
    }
    pthread_mutex_unlock(&c->lock);
    return some ? 0 : 1;
}

static int async_disconnect(struct client *c)
{
    MQTTAsync_disconnectOptions o = MQTTAsync_disconnectOptions_initializer5;
    int value;

    o.onSuccess5 = async_well;
    o.onFailure5 = async_badly;
    o.context = c;
    c->done = 0;
    return async_finish(c, MQTTAsync_disconnect(c->async, &o), &value);
}

static const struct api apis[] = {
    {"sync", sync_open, sync_connect, sync_subscribe, sync_publish, sync_receive, sync_disconnect},
    {"async", async_open, async_connect, async_subscribe, async_publish, async_receive, async_disconnect},
};

// --- commands ---

static void answer(const char *what, int code, const char *well, int value)
{
    if (code != 0) {
        (void)printf("error %s %d\n", what, code);
    } else if (value >= 0) {
        (void)printf("%s %d\n", well, value);
    } else {
        (void)printf("%s\n", well);
    }
}

static void obey(const struct api *api, struct client *c, char *words[WORDS_MAX])
{
    const char *what = words[0];
    int value = 0;
    struct note n;

    if (strcmp(what, "connect") == 0) {
        int code = api->connect(c, atoi(words[1]), &value);
        answer(what, code, "connected", value);
    } else if (strcmp(what, "subscribe") == 0) {
        int code = api->subscribe(c, words[1], atoi(words[2]), &value);
        answer(what, code, "subscribed", value);
    } else if (strcmp(what, "publish") == 0 || strcmp(what, "send") == 0) {
        int wait = what[0] == 'p';
        answer(what, api->publish(c, words[1], atoi(words[2]), words[3], wait), wait ? "published" : "sent", -1);
    } else if (strcmp(what, "receive") == 0) {
        int code = api->receive(c, atoi(words[1]), &n);
        if (code == 0) {
            (void)printf("message %s %d %d %s\n", n.topic, n.qos, n.retained, n.text);
        } else {
            answer(what, code == 1 ? 0 : code, "nothing", -1);
        }
    } else if (strcmp(what, "disconnect") == 0) {
        answer(what, api->disconnect(c), "disconnected", -1);
    } else {
        answer(what, -1, "", -1);
    }
    (void)fflush(stdout);
}

int main(int argc, char **argv)
{
    static char empty[] = "";
    char line[TEXT_MAX * 2];
    static struct client c;

    if (argc != 8 || (strcmp(argv[1], apis[0].name) != 0 && strcmp(argv[1], apis[1].name) != 0)) {
        (void)fprintf(stderr, "usage: paho_client sync|async URI CLIENT_ID USER PASSWORD CA_FILE PERSISTENCE_DIR\n");
        return 2;
    }
    const struct api *api = &apis[strcmp(argv[1], apis[0].name) != 0];
    c = (struct client){.uri = argv[2],
                        .id = argv[3],
                        .user = argv[4],
                        .password = argv[5],
                        .ca = argv[6],
                        .dir = argv[7],
                        .lock = PTHREAD_MUTEX_INITIALIZER,
                        .changed = PTHREAD_COND_INITIALIZER};
    int code = api->open(&c);
    answer("open", code, "open", -1);
    (void)fflush(stdout);
    while (code == 0 && fgets(line, sizeof(line), stdin) != NULL) {
        char *words[WORDS_MAX] = {empty, empty, empty, empty}, *save = NULL;
        int count = 0;

        line[strcspn(line, "\n")] = '\0';
        for (char *w = strtok_r(line, " ", &save); w != NULL && count < WORDS_MAX; w = strtok_r(NULL, " ", &save)) {
            words[count++] = w;
        }
        obey(api, &c, words);
    }
    return code != 0;
}
