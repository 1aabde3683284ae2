/* The life of the session, told in order: probe, connect, greet, serve, lose, pause. What makes it hard: messages must
 * come back once and in order whatever breaks when, so they stand in one list from the moment they are handed to the
 * library until they are answered, and a loss is dealt with only when the library itself has reported it: by then all
 * acknowledgements that came before it have been read. */
#include "mqtt/session_worker.h"

#include "base/log.h"
#include "mqtt/session_link.h"
#include "mqtt/session_probe.h"

#include <assert.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define STABLE_NS         10000000000u /* a connection that stood so long was a good one */
#define PAUSE_MS_MIN      50           /* Paho's thread must have ended before the next connect (session_link.c) */
#define FAREWELL_NS       500000000u
#define LOSS_NS_MAX       10000000000u
#define FOREVER_MS        3600000u
#define TOPIC_ROOM_MAX    65536 /* a topic's length has two bytes */
#define REASON_REFUSED    0x80  /* MQTT 5, 2.4: from here on they say no */
#define REASON_TAKEN_OVER 0x8e
#define REASON_TOO_LARGE  0x95

struct job_list {
    struct mail *first, **end;
    size_t count;
};

struct worker {
    struct session_settings settings;
    uv_thread_t thread;
    struct mailbox box;
    atomic_bool stopping;
    atomic_uint_fast64_t dropped;
    atomic_size_t waiting; /* messages that the loop has not taken */
    /* The way to the loop; closed when the worker is abandoned. */
    uv_mutex_t gate;
    struct mailbox *to_loop;
    bool abandoned;
    /* the thread's own */
    void *library;
    struct link link;
    bool link_open;
    bool broken; /* publish found the link broken: the report is on its way */
    bool lost;   /* the report has come */
    int lost_reason;
    struct job_list sent; /* handed to the library and not answered, oldest first */
    uint64_t connections; /* opened in all; the last one's number */
    bool serving;         /* the loop may use it */
    bool returned;        /* all that was handed over for it has been given back, and what comes late is at once */
    enum session_version version; /* to be tried first */
    enum session_version agreed;
    unsigned keep_alive_s;
    uint64_t failures; /* in a row */
    struct worker *left_behind;
};

/* Workers that were abandoned and have not come back: what they hold is not lost but held. */
static struct worker *left_behind;
static uv_once_t left_behind_once = UV_ONCE_INIT;
static uv_mutex_t left_behind_mutex;

/* --- letters ----------------------------------------------------------------------------------------------------- */

/* `size` bytes of zeros, and behind them `room` bytes. */
static void *letter_new(enum letter_kind kind, size_t size, size_t room)
{
    struct letter *letter = malloc(size + room);
    assert(letter != NULL);
    memset(letter, 0, size);
    letter->kind = kind;
    return letter;
}

struct job *job_new(const char *topic, const void *payload, size_t payload_bytes)
{
    struct job *job = letter_new(LETTER_JOB, sizeof *job, payload_bytes);
    size_t topic_bytes = strnlen(topic, SESSION_TOPIC_MAX);
    memcpy(job->topic, topic, topic_bytes);
    if (payload_bytes > 0) {
        memcpy(job->bytes, payload, payload_bytes);
    }
    job->payload = job->bytes;
    job->payload_bytes = payload_bytes;
    return job;
}

static bool tell(struct worker *worker, struct letter *letter)
{
    uv_mutex_lock(&worker->gate);
    bool posted = worker->to_loop != NULL && mailbox_post(worker->to_loop, &letter->mail);
    uv_mutex_unlock(&worker->gate);
    if (!posted) {
        free(letter);
    }
    return posted;
}

static void announce(struct worker *worker, enum session_state state, bool was_connected, const char *error)
{
    struct state_letter *letter = letter_new(LETTER_STATE, sizeof *letter, 0);
    letter->state = state;
    letter->was_connected = was_connected;
    snprintf(letter->error, sizeof letter->error, "%s", error);
    if (state == SESSION_CONNECTED) {
        letter->version = worker->agreed;
        letter->connection = worker->connections;
        letter->receive_maximum = worker->link.receive_maximum;
        letter->packet_bytes_max = worker->link.packet_bytes_max;
    }
    tell(worker, &letter->letter);
}

/* --- the library's threads --------------------------------------------------------------------------------------- */

struct ack_letter {
    struct letter letter; /* first */
    uint64_t connection;
    int token, code;
    char text[80];
};

struct lost_letter {
    struct letter letter; /* first */
    uint64_t connection;
    int reason;
};

static void post_own(struct worker *worker, struct letter *letter)
{
    if (!mailbox_post(&worker->box, &letter->mail)) {
        free(letter);
    }
}

static void on_acked(void *owner, int token, int code, const char *text, size_t text_bytes)
{
    struct worker *worker = owner;
    struct ack_letter *ack = letter_new(LETTER_ACK, sizeof *ack, 0);
    ack->connection = worker->connections; /* changes only while no link is open */
    ack->token = token;
    ack->code = code;
    if (text != NULL) {
        text_escape((struct slice){ text, text_bytes }, ack->text, sizeof ack->text);
    }
    post_own(worker, &ack->letter);
}

static void on_lost(void *owner, int reason)
{
    struct worker *worker = owner;
    struct lost_letter *lost = letter_new(LETTER_LOST, sizeof *lost, 0);
    lost->connection = worker->connections;
    lost->reason = reason;
    post_own(worker, &lost->letter);
}

static void on_message(void *owner, const char *topic, const void *payload, size_t payload_bytes, bool retained)
{
    struct worker *worker = owner;
    size_t topic_bytes = strnlen(topic, TOPIC_ROOM_MAX);
    bool fits = payload_bytes <= SESSION_INBOUND_BYTES_MAX && topic_bytes <= SESSION_TOPIC_MAX;
    if (!fits || atomic_fetch_add(&worker->waiting, 1) >= SESSION_INBOUND_MAX) {
        if (fits) {
            atomic_fetch_sub(&worker->waiting, 1);
        }
        atomic_fetch_add(&worker->dropped, 1);
        return;
    }
    struct message_letter *letter = letter_new(LETTER_MESSAGE, sizeof *letter, topic_bytes + 1 + payload_bytes);
    memcpy(letter->topic, topic, topic_bytes);
    letter->topic[topic_bytes] = '\0';
    letter->payload = (unsigned char *)letter->topic + topic_bytes + 1;
    letter->payload_bytes = payload_bytes;
    letter->retained = retained;
    if (payload_bytes > 0) {
        memcpy(letter->payload, payload, payload_bytes);
    }
    if (!tell(worker, &letter->letter)) {
        atomic_fetch_sub(&worker->waiting, 1);
    }
}

static const struct link_callbacks link_callbacks = { on_acked, on_message, on_lost };

/* --- messages ---------------------------------------------------------------------------------------------------- */

static void list_clear(struct job_list *list)
{
    list->first = NULL;
    list->end = &list->first;
    list->count = 0;
}

static void list_append(struct job_list *list, struct job *job)
{
    struct mail *mail = &job->letter.mail;
    mail->next = NULL;
    *list->end = mail;
    list->end = &mail->next;
    list->count++;
}

/* Takes the job with this token out. Brokers acknowledge in order, so it is nearly always the first. */
static struct job *list_take(struct job_list *list, int token)
{
    struct mail **at = &list->first;
    while (*at != NULL && ((struct job *)*at)->token != token) {
        at = &(*at)->next;
    }
    struct mail *mail = *at;
    if (mail != NULL) {
        *at = mail->next;
        list->end = mail->next == NULL ? at : list->end;
        list->count--;
    }
    return (struct job *)mail;
}

static void answer(struct worker *worker, struct job *job, enum status status)
{
    job->status = status;
    if (job->entry == NULL) {
        free(job);
    } else {
        tell(worker, &job->letter);
    }
}

static void give_back(struct worker *worker)
{
    struct mail *mail = worker->sent.first;
    list_clear(&worker->sent);
    while (mail != NULL) {
        struct mail *next = mail->next;
        answer(worker, (struct job *)mail, STATUS_IO);
        mail = next;
    }
}

static void publish(struct worker *worker, struct job *job)
{
    enum status status = STATUS_IO;
    job->token = 0; /* names no message */
    if (worker->link_open && !worker->broken && !worker->lost) {
        struct link_publication publication = { job->topic, job->payload, job->payload_bytes, job->retain,
                                                job->expiry_s };
        status = link_publish(&worker->link, &publication, &job->token);
        worker->broken = status == STATUS_IO;
    }
    if (status == STATUS_OK || status == STATUS_IO) {
        list_append(&worker->sent, job); /* also the latter: it comes back behind those before it */
        return;
    }
    if (status == STATUS_DENIED) {
        snprintf(job->why, sizeof job->why, "its topic is not valid UTF-8");
    }
    answer(worker, job, status);
}

static void publish_online(struct worker *worker, const char *payload)
{
    if (worker->settings.online_topic[0] == '\0') {
        return;
    }
    struct job *job = job_new(worker->settings.online_topic, payload, strlen(payload));
    job->retain = true;
    publish(worker, job);
}

/* --- reading letters --------------------------------------------------------------------------------------------- */

static void read_job(struct worker *worker, struct letter *letter)
{
    struct job *job = (struct job *)letter;
    if (job->connection != worker->connections || worker->returned) {
        answer(worker, job, STATUS_IO);
    } else if (worker->serving) {
        publish(worker, job);
    } else {
        job->token = 0;
        list_append(&worker->sent, job); /* too late; it comes back behind those before it */
    }
}

static void say_refused(struct worker *worker, struct job *job, const struct ack_letter *ack)
{
    snprintf(job->why, sizeof job->why, "the broker refused it: %s%s%s", link_reason_text(ack->code),
             ack->text[0] != '\0' ? ", " : "", ack->text);
    if (job->entry == NULL) {
        LOG_EVENT(LOG_WARN, "mqtt_online_refused", "topic", job->topic, "why", job->why, "remedy",
                  "let this user publish to it in the broker's ACL");
    }
    answer(worker, job, ack->code == REASON_TOO_LARGE ? STATUS_TOO_LONG : STATUS_DENIED);
}

static void read_ack(struct worker *worker, struct letter *letter)
{
    struct ack_letter *ack = (struct ack_letter *)letter;
    struct job *job = ack->connection == worker->connections ? list_take(&worker->sent, ack->token) : NULL;
    if (job != NULL && ack->code >= REASON_REFUSED) {
        say_refused(worker, job, ack);
    } else if (job != NULL) {
        answer(worker, job, STATUS_OK);
    }
    free(ack);
}

static void read_lost(struct worker *worker, struct letter *letter)
{
    struct lost_letter *lost = (struct lost_letter *)letter;
    if (lost->connection == worker->connections) {
        worker->lost = true;
        worker->lost_reason = lost->reason;
    }
    free(lost);
}

static void read_stop(struct worker *worker, struct letter *letter)
{
    (void)worker; /* `stopping` says it; the letter only wakes */
    free(letter);
}

static void read_letters(struct worker *worker, struct mail *mail)
{
    static void (*const readers[LETTER_KINDS])(struct worker *, struct letter *) = {
        [LETTER_JOB] = read_job,
        [LETTER_STOP] = read_stop,
        [LETTER_ACK] = read_ack,
        [LETTER_LOST] = read_lost,
    };
    while (mail != NULL) {
        struct letter *letter = (struct letter *)mail;
        mail = mail->next;
        assert(letter->kind < LETTER_KINDS && readers[letter->kind] != NULL);
        readers[letter->kind](worker, letter);
    }
}

static bool is_stopping(const struct worker *worker)
{
    return atomic_load(&worker->stopping);
}

/* Until all that was sent is answered, the link is lost, or the time is up. Returns whether all is answered. */
static bool settle(struct worker *worker, uint64_t timeout_ns, bool ends_on_stop)
{
    uint64_t start_ns = uv_hrtime();
    while (worker->sent.first != NULL && !worker->lost && !(ends_on_stop && is_stopping(worker))) {
        uint64_t waited_ns = uv_hrtime() - start_ns;
        if (waited_ns >= timeout_ns) {
            break;
        }
        read_letters(worker, mailbox_wait(&worker->box, (timeout_ns - waited_ns) / 1000000 + 1));
    }
    return worker->sent.first == NULL;
}

/* --- the life of a connection ------------------------------------------------------------------------------------ */

/* Afterwards no acknowledgement comes any more, and all that came have been read. */
static void close_link(struct worker *worker, bool will)
{
    worker->serving = false;
    if (!worker->link_open) {
        return;
    }
    worker->link_open = false;
    uint64_t start_ns = uv_hrtime();
    bool ends = link_ends(&worker->link);
    while (ends && !worker->lost && uv_hrtime() - start_ns < LOSS_NS_MAX) {
        read_letters(worker, mailbox_wait(&worker->box, 100));
    }
    assert(!ends || worker->lost); /* Paho has always said so; without it nobody knows whether its threads still run */
    link_close(&worker->link, will);
    read_letters(worker, mailbox_take(&worker->box));
}

static bool open_link(struct worker *worker, char error[SESSION_ERROR_MAX])
{
    const struct session_settings *settings = &worker->settings;
    for (int attempt = 0; attempt < 2; attempt++) {
        worker->connections++;
        worker->broken = worker->lost = false;
        worker->lost_reason = LINK_REASON_LOST;
        worker->link_open =
            link_open(&worker->link, settings, worker->agreed, worker->keep_alive_s, &link_callbacks, worker, error);
        unsigned wanted_s = worker->link.keep_alive_s;
        if (!worker->link_open || wanted_s == 0 || wanted_s >= worker->keep_alive_s) {
            break;
        }
        /* Paho does not obey a broker that wants to be pinged more often, so it is told from the start. */
        worker->keep_alive_s = wanted_s;
        close_link(worker, false);
        uv_sleep(PAUSE_MS_MIN);
    }
    return worker->link_open;
}

/* Which version to speak, if any. A refusal of version 5 is remembered; that the broker hung up may have been chance.
 */
static bool agree(struct worker *worker, char error[SESSION_ERROR_MAX])
{
    bool automatic = worker->settings.version == SESSION_VERSION_AUTO;
    worker->agreed = worker->version;
    enum probe_result result = session_probe(&worker->settings, worker->agreed, &worker->stopping, error);
    bool fall_back = result == PROBE_OTHER_VERSION || result == PROBE_CLOSED;
    if (automatic && worker->agreed == SESSION_VERSION_5 && fall_back && !is_stopping(worker)) {
        worker->agreed = SESSION_VERSION_3_1_1;
        worker->version = result == PROBE_OTHER_VERSION ? SESSION_VERSION_3_1_1 : SESSION_VERSION_5;
        result = session_probe(&worker->settings, worker->agreed, &worker->stopping, error);
    }
    return result == PROBE_ACCEPTED;
}

static bool greet(struct worker *worker, char error[SESSION_ERROR_MAX])
{
    publish_online(worker, "1");
    if (!worker->broken && link_subscribe(&worker->link) &&
        settle(worker, worker->settings.connect_timeout_ms * 1000000, true)) {
        return true;
    }
    snprintf(error, SESSION_ERROR_MAX, "%s took the connection, but %s: look at its log", worker->settings.address,
             worker->lost || worker->broken ? "closed it at the first message" : "acknowledges nothing");
    return false;
}

static void say_lost(struct worker *worker, char error[SESSION_ERROR_MAX])
{
    const char *address = worker->settings.address;
    if (worker->lost_reason == REASON_TAKEN_OVER) {
        snprintf(error, SESSION_ERROR_MAX, "%s gave our session to another client with the id %.60s: give each its own",
                 address, worker->settings.client_id);
    } else if (worker->lost_reason == LINK_REASON_LOST) {
        snprintf(error, SESSION_ERROR_MAX, "the connection to %s broke: is the broker running, and the network well?",
                 address);
    } else {
        snprintf(error, SESSION_ERROR_MAX, "%s ended the connection (%s): look at its log", address,
                 link_reason_text(worker->lost_reason));
    }
}

/* Until the link breaks or the session ends. */
static void serve(struct worker *worker)
{
    uint64_t start_ns = uv_hrtime();
    read_letters(worker, mailbox_take(&worker->box)); /* handed over for a connection that is gone */
    worker->serving = true;
    worker->returned = false;
    announce(worker, SESSION_CONNECTED, false, "");
    while (!worker->broken && !worker->lost && !is_stopping(worker)) {
        read_letters(worker, mailbox_wait(&worker->box, FOREVER_MS));
    }
    if (uv_hrtime() - start_ns >= STABLE_NS) {
        worker->failures = 0;
    }
}

/* Where the window is full, "0" would have to wait for the broker: the last will says it instead. */
static bool take_leave(struct worker *worker)
{
    worker->serving = false;
    bool room = worker->sent.count < worker->link.receive_maximum || settle(worker, FAREWELL_NS, false);
    if (room && !worker->lost) {
        publish_online(worker, "0");
        settle(worker, FAREWELL_NS, false);
    }
    return room;
}

static bool connect_once(struct worker *worker, char error[SESSION_ERROR_MAX])
{
    announce(worker, SESSION_CONNECTING, false, "");
    if (!agree(worker, error) || is_stopping(worker) || !open_link(worker, error)) {
        return false;
    }
    return greet(worker, error);
}

static uint64_t random_below(uint64_t limit)
{
    uint64_t value = 0;
    if (getrandom(&value, sizeof value, GRND_NONBLOCK) != (ssize_t)sizeof value) {
        value = uv_hrtime();
    }
    return value % limit;
}

/* backoff_ms, doubled with each failure in a row; from half of that up to all of it, so that a fleet of servers does
 * not come back at once. */
static uint64_t pause_ms(struct worker *worker)
{
    uint64_t max_ms = worker->settings.backoff_max_ms;
    uint64_t ms = worker->settings.backoff_ms;
    for (uint64_t i = 1; i < worker->failures && ms < max_ms; i++) {
        ms *= 2;
    }
    ms = ms < max_ms ? ms : max_ms;
    ms = ms / 2 + random_below(ms - ms / 2 + 1);
    return ms > PAUSE_MS_MIN ? ms : PAUSE_MS_MIN;
}

static void rest(struct worker *worker)
{
    worker->failures++;
    uint64_t end_ns = uv_hrtime() + pause_ms(worker) * 1000000;
    for (uint64_t now_ns; !is_stopping(worker) && (now_ns = uv_hrtime()) < end_ns;) {
        read_letters(worker, mailbox_wait(&worker->box, (end_ns - now_ns) / 1000000 + 1));
    }
}

static void worker_free(struct worker *worker)
{
    mailbox_shut(&worker->box);
    for (struct mail *mail = mailbox_take(&worker->box); mail != NULL;) {
        struct mail *next = mail->next;
        free(mail);
        mail = next;
    }
    mailbox_close(&worker->box, NULL);
    uv_mutex_destroy(&worker->gate);
    session_settings_close(&worker->settings);
    free(worker);
}

static void init_left_behind(void)
{
    int error = uv_mutex_init(&left_behind_mutex);
    assert(error == 0);
}

/* An abandoned worker that came back after all. */
static void come_back(struct worker *worker)
{
    uv_mutex_lock(&left_behind_mutex);
    struct worker **at = &left_behind;
    while (*at != worker) {
        at = &(*at)->left_behind;
    }
    *at = worker->left_behind;
    uv_mutex_unlock(&left_behind_mutex);
    worker_free(worker);
}

static void live(struct worker *worker)
{
    char error[SESSION_ERROR_MAX] = "";
    bool connected = connect_once(worker, error);
    if (connected) {
        serve(worker);
    }
    /* Also where the greeting failed: "1" may have arrived. */
    bool will = worker->link_open && !worker->broken && !worker->lost && !take_leave(worker);
    close_link(worker, will);
    if (connected) {
        say_lost(worker, error);
    }
    if (!is_stopping(worker)) {
        announce(worker, SESSION_WAITING, connected, error);
    }
    worker->returned = true;
    give_back(worker); /* after the state is told: who gets them back does not send them at once */
    rest(worker);
}

static void worker_main(void *arg)
{
    struct worker *worker = arg;
    worker->library = link_library_open();
    while (!is_stopping(worker)) {
        live(worker);
    }
    link_library_close(worker->library);
    read_letters(worker, mailbox_take(&worker->box));
    struct letter *ended = letter_new(LETTER_ENDED, sizeof *ended, 0);
    uv_mutex_lock(&worker->gate);
    bool abandoned = worker->abandoned;
    bool posted = !abandoned && mailbox_post(worker->to_loop, &ended->mail);
    uv_mutex_unlock(&worker->gate);
    if (!posted) {
        free(ended);
    }
    if (abandoned) {
        come_back(worker);
    }
}

/* --- from the loop ----------------------------------------------------------------------------------------------- */

struct worker *worker_start(struct session_settings *settings, struct mailbox *to_loop)
{
    struct worker *worker = calloc(1, sizeof *worker);
    assert(worker != NULL);
    worker->settings = *settings;
    memset(settings, 0, sizeof *settings);
    worker->to_loop = to_loop;
    worker->version = worker->settings.version == SESSION_VERSION_AUTO ? SESSION_VERSION_5 : worker->settings.version;
    worker->keep_alive_s = worker->settings.keep_alive_s;
    worker->returned = true;
    list_clear(&worker->sent);
    uv_once(&left_behind_once, init_left_behind);
    mailbox_open_thread(&worker->box, SIZE_MAX);
    int error = uv_mutex_init(&worker->gate);
    assert(error == 0);
    error = uv_thread_create(&worker->thread, worker_main, worker);
    assert(error == 0);
    return worker;
}

void worker_publish(struct worker *worker, struct job *job)
{
    bool posted = mailbox_post(&worker->box, &job->letter.mail);
    assert(posted);
}

void worker_message_taken(struct worker *worker)
{
    atomic_fetch_sub(&worker->waiting, 1);
}

uint64_t worker_dropped(const struct worker *worker)
{
    return atomic_load(&worker->dropped);
}

void worker_stop(struct worker *worker)
{
    atomic_store(&worker->stopping, true);
    struct letter *stop = letter_new(LETTER_STOP, sizeof *stop, 0);
    post_own(worker, stop);
}

void worker_join(struct worker *worker)
{
    uv_thread_join(&worker->thread);
    worker_free(worker);
}

void worker_abandon(struct worker *worker)
{
    uv_mutex_lock(&left_behind_mutex);
    worker->left_behind = left_behind;
    left_behind = worker;
    uv_mutex_unlock(&left_behind_mutex);
    pthread_detach(worker->thread);
    uv_mutex_lock(&worker->gate);
    worker->to_loop = NULL;
    worker->abandoned = true;
    uv_mutex_unlock(&worker->gate);
}
