/* The loop's side of the session: a ledger of what was handed to the thread, and the view of what the thread told. What
 * makes it hard: the thread may never come back. So it gets copies, and the ledger alone knows whose messages they are:
 * they can be given back to their owner whether the thread lives or not. */
#include "mqtt/session.h"

#include "base/log.h"
#include "mqtt/session_worker.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <utlist.h>

#define STOP_MS_MAX  2000
#define REPEAT_MS    600000 /* a failure that stays the same is logged again after so long */
#define ID_BYTES     6
#define SECOND_MS    1000
#define KEEP_ALIVE_S 65535

/* One message that the thread has a copy of. Not part of the job: a thread that is left behind frees its jobs when it
 * likes. */
struct ledger_entry {
    struct ledger_entry *prev, *next;
    struct session_message *message;
};

struct session {
    uv_loop_t *loop;
    struct session_callbacks callbacks;
    void *owner;
    struct worker *worker; /* NULL once it has ended or is left behind */
    struct mailbox box;
    uv_timer_t stop_timer;
    unsigned open_handles;
    struct session_view view;
    uint64_t connection;
    struct ledger_entry *ledger;  /* oldest first */
    struct mail_list handed_over; /* jobs for the thread, together: those that one batch of letters led to */
    bool reading;
    uint64_t dropped; /* by a worker that is gone */
    bool stopping;
    void (*on_stopped)(void *owner);
    char *address;
    char logged[sizeof((struct session_view *)0)->error]; /* the last failure of this run; "" = none */
    uint64_t logged_ms;
};

const char *session_state_word(enum session_state state)
{
    static const char *const words[] = {
#define X(name, word) [SESSION_##name] = (word),
        SESSION_STATE_LIST(X)
#undef X
    };
    assert((size_t)state < sizeof words / sizeof words[0]);
    return words[state];
}

/* --- settings ---------------------------------------------------------------------------------------------------- */

static char *copy(const char *text)
{
    char *made = strdup(text != NULL ? text : "");
    assert(made != NULL);
    return made;
}

/* One id a process: a broker that still holds the old connection then closes it in favour of the new one. */
static const char *own_client_id(void)
{
    static char id[sizeof "updraft-" + 2 * ID_BYTES];
    if (id[0] == '\0') {
        uint8_t bytes[ID_BYTES];
        ssize_t n = getrandom(bytes, sizeof bytes, 0);
        assert(n == (ssize_t)sizeof bytes);
        size_t used = (size_t)snprintf(id, sizeof id, "updraft-");
        hex_encode(bytes, sizeof bytes, id + used);
    }
    return id;
}

void session_settings_init(struct session_settings *settings, const struct session_config *config)
{
    memset(settings, 0, sizeof *settings);
    settings->host = copy(config->host);
    settings->user = copy(config->user);
    settings->password = copy(config->password);
    settings->client_id =
        copy(config->client_id != NULL && config->client_id[0] != '\0' ? config->client_id : own_client_id());
    settings->ca_file = copy(config->ca_file);
    settings->cert_file = copy(config->cert_file);
    settings->key_file = copy(config->key_file);
    settings->online_topic = copy(config->online_topic);
    size_t size = strlen(settings->host) + 16;
    settings->address = malloc(size);
    assert(settings->address != NULL);
    bool ipv6 = strchr(settings->host, ':') != NULL;
    snprintf(settings->address, size, "%s%s%s:%u", ipv6 ? "[" : "", settings->host, ipv6 ? "]" : "",
             (unsigned)config->port);
    settings->port = config->port;
    settings->tls = config->tls;
    settings->version = config->version;
    uint64_t keep_alive_s = (config->keep_alive_ms + SECOND_MS - 1) / SECOND_MS;
    settings->keep_alive_s = (unsigned)(keep_alive_s < 1              ? 1
                                        : keep_alive_s < KEEP_ALIVE_S ? keep_alive_s
                                                                      : KEEP_ALIVE_S);
    settings->connect_timeout_ms = config->connect_timeout_ms;
    assert(config->loss_timeout_ms > 0);
    settings->loss_timeout_ms = config->loss_timeout_ms;
    settings->backoff_ms = config->backoff_ms;
    settings->backoff_max_ms = config->backoff_max_ms;
    assert(config->subscription_count <= SESSION_SUBSCRIPTIONS_MAX);
    settings->subscription_count = config->subscription_count;
    for (size_t i = 0; i < config->subscription_count; i++) {
        settings->subscriptions[i] = copy(config->subscriptions[i]);
    }
}

void session_settings_close(struct session_settings *settings)
{
    if (settings->password != NULL) {
        explicit_bzero(settings->password, strlen(settings->password));
    }
    free(settings->host);
    free(settings->user);
    free(settings->password);
    free(settings->client_id);
    free(settings->ca_file);
    free(settings->cert_file);
    free(settings->key_file);
    free(settings->online_topic);
    free(settings->address);
    for (size_t i = 0; i < settings->subscription_count; i++) {
        free(settings->subscriptions[i]);
    }
}

/* --- the view ---------------------------------------------------------------------------------------------------- */

static void log_connected(const struct session *session)
{
    struct log_line line;
    log_begin(&line, LOG_INFO, "mqtt_connected");
    log_text(&line, "broker", session->address);
    log_text(&line, "version", session->view.version == SESSION_VERSION_5 ? "5" : "3.1.1");
    log_number(&line, "receive_maximum", session->view.receive_maximum);
    log_number(&line, "attempts", (int64_t)session->view.attempts);
    log_end(&line);
}

static void log_failed(struct session *session)
{
    uint64_t now_ms = uv_now(session->loop);
    const char *error = session->view.error;
    if (strcmp(session->logged, error) == 0 && now_ms - session->logged_ms < REPEAT_MS) {
        return;
    }
    snprintf(session->logged, sizeof session->logged, "%s", error);
    session->logged_ms = now_ms;
    struct log_line line;
    log_begin(&line, LOG_WARN, "mqtt_failed");
    log_text(&line, "broker", session->address);
    log_number(&line, "attempts", (int64_t)session->view.attempts);
    log_text(&line, "why", error);
    log_end(&line);
}

static void enter(struct session *session, enum session_state state)
{
    session->view.state = state;
    session->view.since_ms = uv_now(session->loop);
    if (session->callbacks.on_state != NULL) {
        session->callbacks.on_state(session->owner, &session->view);
    }
}

static void read_state(struct session *session, struct letter *letter)
{
    const struct state_letter *told = (const struct state_letter *)letter;
    struct session_view *view = &session->view;
    if (session->stopping) {
        free(letter);
        return;
    }
    view->left_behind = told->left_behind;
    if (told->state == SESSION_CONNECTING) {
        view->attempts++;
    } else if (told->state == SESSION_CONNECTED) {
        session->connection = told->connection;
        view->version = told->version;
        view->receive_maximum = told->receive_maximum;
        view->packet_bytes_max = told->packet_bytes_max;
        view->connects++;
        log_connected(session);
        view->attempts = 0;
        view->error[0] = session->logged[0] = '\0';
    } else {
        snprintf(view->error, sizeof view->error, "%s", told->error);
        if (told->was_connected) {
            LOG_EVENT(LOG_WARN, "mqtt_lost", "broker", session->address, "why", view->error);
        } else {
            log_failed(session);
        }
    }
    enter(session, told->state);
    free(letter);
}

/* --- messages ---------------------------------------------------------------------------------------------------- */

static void return_message(struct session *session, struct ledger_entry *entry, enum status status, const char *why)
{
    struct session_message *message = entry->message;
    DL_DELETE(session->ledger, entry);
    free(entry);
    message->status = status;
    snprintf(message->why, sizeof message->why, "%s", why);
    session->callbacks.on_published(session->owner, message);
}

static void read_job(struct session *session, struct letter *letter)
{
    struct job *job = (struct job *)letter;
    return_message(session, job->entry, job->status, job->why);
    free(job);
}

static void read_message(struct session *session, struct letter *letter)
{
    const struct message_letter *message = (const struct message_letter *)letter;
    if (session->worker != NULL) {
        worker_message_taken(session->worker);
    }
    if (!session->stopping && session->callbacks.on_message != NULL) {
        session->callbacks.on_message(session->owner, message->topic, message->payload, message->payload_bytes,
                                      message->retained);
    }
    free(letter);
}

/* What nobody is there for comes back by the ledger. */
static void hand_over(struct session *session)
{
    if (session->worker != NULL) {
        worker_publish(session->worker, &session->handed_over);
    } else {
        letters_free(&session->handed_over);
    }
}

void session_publish(struct session *session, struct session_message *message)
{
    struct job *job = job_new(message->topic, message->payload, message->payload_bytes);
    struct ledger_entry *entry = calloc(1, sizeof *entry);
    assert(entry != NULL);
    entry->message = message;
    job->entry = entry;
    job->connection = session->connection;
    job->retain = message->retain;
    job->expiry_s = message->expiry_s;
    DL_APPEND(session->ledger, entry);
    assert(session->worker != NULL); /* it ends only after session_stop, and then the view says STOPPED */
    mail_list_append(&session->handed_over, &job->letter.mail);
    if (!session->reading) {
        hand_over(session);
    }
}

/* --- the end ----------------------------------------------------------------------------------------------------- */

static void on_handle_closed(struct session *session)
{
    if (--session->open_handles > 0) {
        return;
    }
    void (*on_stopped)(void *owner) = session->on_stopped;
    void *owner = session->owner;
    free(session->address);
    free(session);
    on_stopped(owner);
}

static void on_timer_closed(uv_handle_t *handle)
{
    on_handle_closed(handle->data);
}

static void on_box_closed(void *owner)
{
    on_handle_closed(owner);
}

/* The thread has ended or is left behind: what it still holds comes back, oldest first. */
static void finish(struct session *session)
{
    while (session->ledger != NULL) {
        return_message(session, session->ledger, STATUS_IO, "");
    }
    mailbox_shut(&session->box);
    for (struct mail *mail = mailbox_take(&session->box); mail != NULL;) {
        struct mail *after = mail->next;
        free(mail);
        mail = after;
    }
    mailbox_close(&session->box, on_box_closed);
    uv_close((uv_handle_t *)&session->stop_timer, on_timer_closed);
}

static void read_ended(struct session *session, struct letter *letter)
{
    free(letter);
    if (session->worker != NULL) { /* not left behind in the very moment of its end */
        session->dropped = worker_dropped(session->worker);
        worker_join(session->worker);
        session->worker = NULL;
    }
}

static void read_letters(struct session *session)
{
    static void (*const readers[LETTER_KINDS])(struct session *, struct letter *) = {
        [LETTER_JOB] = read_job,
        [LETTER_STATE] = read_state,
        [LETTER_MESSAGE] = read_message,
        [LETTER_ENDED] = read_ended,
    };
    session->reading = true;
    for (struct mail *mail = mailbox_take(&session->box); mail != NULL;) {
        struct letter *letter = (struct letter *)mail;
        mail = mail->next;
        assert(letter->kind < LETTER_KINDS && readers[letter->kind] != NULL);
        readers[letter->kind](session, letter);
    }
    session->reading = false;
    hand_over(session);
}

static void on_mail(struct mailbox *box, void *owner)
{
    (void)box;
    struct session *session = owner;
    read_letters(session);
    if (session->worker == NULL) {
        finish(session);
    }
}

static void on_stop_timer(uv_timer_t *timer)
{
    struct session *session = timer->data;
    read_letters(session);
    if (session->worker != NULL) {
        LOG_EVENT(LOG_WARN, "mqtt_left_behind", "broker", session->address, "why",
                  "its thread hangs in a call to the network; the end of the process ends it");
        session->dropped = worker_dropped(session->worker);
        worker_abandon(session->worker);
        session->worker = NULL;
        read_letters(session);
    }
    finish(session);
}

void session_stop(struct session *session, void (*on_stopped)(void *owner))
{
    assert(!session->stopping);
    session->stopping = true;
    session->on_stopped = on_stopped;
    enter(session, SESSION_STOPPED); /* at once: who gets messages back must not send them again */
    uv_timer_start(&session->stop_timer, on_stop_timer, STOP_MS_MAX, 0);
    worker_stop(session->worker);
}

/* --- the beginning ----------------------------------------------------------------------------------------------- */

struct session *session_start(uv_loop_t *loop, const struct session_config *config,
                              const struct session_callbacks *callbacks, void *owner)
{
    struct session *session = calloc(1, sizeof *session);
    assert(session != NULL);
    session->loop = loop;
    session->callbacks = *callbacks;
    session->owner = owner;
    mail_list_clear(&session->handed_over);
    session->view.state = SESSION_CONNECTING;
    session->view.since_ms = uv_now(loop);
    session->view.version = config->version;
    session->view.receive_maximum = UINT16_MAX;
    session->view.packet_bytes_max = UINT64_MAX;
    /* Paho would send MQTT through these, to whichever host (MQTTProtocolOut.c, MQTTProtocol_connect); containers are
     * often given them. Nothing else in the server asks for them. */
    unsetenv("http_proxy");
    unsetenv("https_proxy");
    mailbox_open_loop(&session->box, SIZE_MAX, loop, on_mail, session);
    uv_timer_init(loop, &session->stop_timer);
    session->stop_timer.data = session;
    session->open_handles = 2;
    struct session_settings settings;
    session_settings_init(&settings, config);
    session->address = copy(settings.address);
    session->worker = worker_start(&settings, &session->box);
    return session;
}

const struct session_view *session_view(const struct session *session)
{
    return &session->view;
}

uint64_t session_dropped(const struct session *session)
{
    return session->worker != NULL ? worker_dropped(session->worker) : session->dropped;
}
