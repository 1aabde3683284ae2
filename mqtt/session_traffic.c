/* The messages of one connection after the other. What makes it hard: they must come back once and in order whatever
 * breaks when, so they stand in one list from the moment they are handed to the library until they are answered, and a
 * loss is dealt with only when the library itself has reported it: by then all acknowledgements that came before it
 * have been read. */
#include "mqtt/session_traffic.h"

#include "base/log.h"
#include "mqtt/session_limbo.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LEFT_BEHIND_MAX       8     /* each holds what was on its way, at most a window of messages */
#define TOPIC_ROOM_MAX        65536 /* a topic's length has two bytes */
#define REASON_REFUSED        0x80  /* MQTT 5, 2.4: from here on they say no */
#define REASON_NOT_AUTHORIZED 0x87
#define REASON_TOO_LARGE      0x95

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

void traffic_post(struct traffic *traffic, struct letter *letter)
{
    if (!mailbox_post(&traffic->box, &letter->mail)) {
        free(letter);
    }
}

static void on_acked(void *owner, int token, int code, const char *text, size_t text_bytes)
{
    struct traffic *traffic = owner;
    struct ack_letter *ack = letter_new(LETTER_ACK, sizeof *ack, 0);
    ack->connection = traffic->connections; /* changes only while no link is open */
    ack->token = token;
    ack->code = code;
    if (text != NULL) {
        text_escape((struct slice){ text, text_bytes }, ack->text, sizeof ack->text);
    }
    traffic_post(traffic, &ack->letter);
}

static void on_lost(void *owner, int reason)
{
    struct traffic *traffic = owner;
    struct lost_letter *lost = letter_new(LETTER_LOST, sizeof *lost, 0);
    lost->connection = traffic->connections;
    lost->reason = reason;
    traffic_post(traffic, &lost->letter);
}

static void on_message(void *owner, const char *topic, const void *payload, size_t payload_bytes, bool retained)
{
    struct traffic *traffic = owner;
    size_t topic_bytes = strnlen(topic, TOPIC_ROOM_MAX);
    bool fits = payload_bytes <= SESSION_INBOUND_BYTES_MAX && topic_bytes <= SESSION_TOPIC_MAX;
    if (!fits || atomic_fetch_add(&traffic->waiting, 1) >= SESSION_INBOUND_MAX) {
        if (fits) {
            atomic_fetch_sub(&traffic->waiting, 1);
        }
        atomic_fetch_add(&traffic->dropped, 1);
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
    struct mail_list one;
    mail_list_clear(&one);
    mail_list_append(&one, &letter->letter.mail);
    if (!traffic->tell(traffic->owner, &one)) {
        atomic_fetch_sub(&traffic->waiting, 1);
    }
}

static const struct link_callbacks link_callbacks = { on_acked, on_message, on_lost };

/* --- its life ---------------------------------------------------------------------------------------------------- */

void traffic_init(struct traffic *traffic, const struct session_settings *settings,
                  bool (*tell)(void *owner, struct mail_list *letters), void *owner)
{
    traffic->settings = settings;
    traffic->tell = tell;
    traffic->owner = owner;
    traffic->returned = true;
    mail_list_clear(&traffic->sent);
    mail_list_clear(&traffic->answered);
    mailbox_open_thread(&traffic->box, SIZE_MAX);
}

void traffic_close(struct traffic *traffic)
{
    mailbox_shut(&traffic->box);
    for (struct mail *mail = mailbox_take(&traffic->box); mail != NULL;) {
        struct mail *next = mail->next;
        free(mail);
        mail = next;
    }
    mailbox_close(&traffic->box, NULL);
}

/* --- messages ---------------------------------------------------------------------------------------------------- */

/* Together where they can be: each wake-up of the loop costs as much as a message. */
static void tell_answered(struct traffic *traffic)
{
    if (traffic->answered.count > 0) {
        (void)traffic->tell(traffic->owner, &traffic->answered);
    }
}

static void answer(struct traffic *traffic, struct job *job, enum status status)
{
    job->status = status;
    if (job->entry == NULL) {
        free(job);
    } else {
        mail_list_append(&traffic->answered, &job->letter.mail);
    }
}

void traffic_give_back(struct traffic *traffic)
{
    struct mail *mail = traffic->sent.first;
    mail_list_clear(&traffic->sent);
    while (mail != NULL) {
        struct mail *next = mail->next;
        answer(traffic, (struct job *)mail, STATUS_IO);
        mail = next;
    }
    tell_answered(traffic);
}

static void publish(struct traffic *traffic, struct job *job)
{
    enum status status = STATUS_IO;
    job->token = 0; /* names no message */
    if (traffic->link != NULL && !traffic->broken && !traffic->lost) {
        struct link_publication publication = { job->topic, job->payload, job->payload_bytes, job->retain,
                                                job->expiry_s };
        status = link_publish(traffic->link, &publication, &job->token);
        traffic->broken = status == STATUS_IO;
    }
    if (status == STATUS_OK || status == STATUS_IO) {
        mail_list_append(&traffic->sent, &job->letter.mail); /* also the latter: it comes back behind those before it */
        return;
    }
    if (status == STATUS_DENIED) {
        snprintf(job->why, sizeof job->why, "its topic is not valid UTF-8");
    }
    answer(traffic, job, status);
}

void traffic_publish_online(struct traffic *traffic, const char *payload)
{
    if (traffic->settings->online_topic[0] == '\0') {
        return;
    }
    struct job *job = job_new(traffic->settings->online_topic, payload, strlen(payload));
    job->retain = true;
    publish(traffic, job);
}

/* --- reading letters --------------------------------------------------------------------------------------------- */

static void read_job(struct traffic *traffic, struct letter *letter)
{
    struct job *job = (struct job *)letter;
    if (job->connection != traffic->connections || traffic->returned) {
        answer(traffic, job, STATUS_IO);
    } else if (traffic->serving) {
        tell_answered(traffic); /* a broker that takes nothing may hold up what follows */
        publish(traffic, job);
    } else {
        job->token = 0;
        mail_list_append(&traffic->sent, &job->letter.mail); /* too late; it comes back behind those before it */
    }
}

/* Cause and remedy, where we know one. The topic is ours, so it can be long. */
static void say_why(const struct traffic *traffic, struct job *job, const struct ack_letter *ack)
{
    const char *user = traffic->settings->user;
    if (ack->code == REASON_NOT_AUTHORIZED) {
        snprintf(job->why, sizeof job->why, "the broker's ACL denies publishing to %s: grant %s%.100s write on it",
                 job->topic, user[0] != '\0' ? "the user " : "clients without a user name", user);
    } else {
        snprintf(job->why, sizeof job->why, "the broker refused it for %s (%s%s%s): look at its log", job->topic,
                 link_reason_text(ack->code), ack->text[0] != '\0' ? ", " : "", ack->text);
    }
}

static void refuse(struct traffic *traffic, struct job *job, const struct ack_letter *ack)
{
    say_why(traffic, job, ack);
    if (job->entry == NULL) {
        LOG_EVENT(LOG_WARN, "mqtt_online_refused", "topic", job->topic, "why", job->why);
    }
    answer(traffic, job, ack->code == REASON_TOO_LARGE ? STATUS_TOO_LONG : STATUS_DENIED);
}

static void read_ack(struct traffic *traffic, struct letter *letter)
{
    struct ack_letter *ack = (struct ack_letter *)letter;
    struct job *job = ack->connection == traffic->connections ? job_take(&traffic->sent, ack->token) : NULL;
    if (job != NULL && ack->code >= REASON_REFUSED) {
        refuse(traffic, job, ack);
    } else if (job != NULL) {
        answer(traffic, job, STATUS_OK);
    }
    free(ack);
}

static void read_lost(struct traffic *traffic, struct letter *letter)
{
    struct lost_letter *lost = (struct lost_letter *)letter;
    if (lost->connection == traffic->connections) {
        traffic->lost = true;
        traffic->lost_reason = lost->reason;
    }
    free(lost);
}

static void read_stop(struct traffic *traffic, struct letter *letter)
{
    (void)traffic; /* the worker knows; the letter only wakes */
    free(letter);
}

static void read_letters(struct traffic *traffic, struct mail *mail)
{
    static void (*const readers[LETTER_KINDS])(struct traffic *, struct letter *) = {
        [LETTER_JOB] = read_job,
        [LETTER_STOP] = read_stop,
        [LETTER_ACK] = read_ack,
        [LETTER_LOST] = read_lost,
    };
    while (mail != NULL) {
        struct letter *letter = (struct letter *)mail;
        mail = mail->next;
        assert(letter->kind < LETTER_KINDS && readers[letter->kind] != NULL);
        readers[letter->kind](traffic, letter);
    }
    tell_answered(traffic);
}

bool traffic_read(struct traffic *traffic, uint64_t timeout_ms)
{
    struct mail *mail = timeout_ms > 0 ? mailbox_wait(&traffic->box, timeout_ms) : mailbox_take(&traffic->box);
    read_letters(traffic, mail);
    return mail != NULL;
}

void traffic_look(struct traffic *traffic)
{
    traffic->broken = traffic->broken || !link_is_up(traffic->link);
}

bool traffic_settle(struct traffic *traffic, uint64_t timeout_ns, const atomic_bool *stops)
{
    uint64_t start_ns = uv_hrtime();
    while (traffic->sent.first != NULL && !traffic->lost && !(stops != NULL && atomic_load(stops))) {
        uint64_t waited_ns = uv_hrtime() - start_ns;
        if (waited_ns >= timeout_ns) {
            break;
        }
        traffic_read(traffic, (timeout_ns - waited_ns) / 1000000 + 1);
    }
    return traffic->sent.first == NULL;
}

/* --- the connection ---------------------------------------------------------------------------------------------- */

/* Paho tells of a loss on a thread that it makes for it: where the system grants none, it never does. */
static void leave_behind(struct traffic *traffic)
{
    link_abandon(traffic->link);
    limbo_keep(traffic->link);
    traffic->left_behind++;
    struct log_line line;
    log_begin(&line, LOG_WARN, "mqtt_loss_unreported");
    log_text(&line, "broker", traffic->settings->address);
    log_number(&line, "waited_ms", (int64_t)traffic->settings->loss_timeout_ms);
    log_number(&line, "left_behind", (int64_t)traffic->left_behind);
    log_text(&line, "why", "the connection has ended, but the MQTT library does not say so");
    log_text(&line, "remedy",
             "nothing is lost, a new connection is made; if it comes again, see whether threads are scarce (ulimit -u, "
             "pids.max)");
    log_end(&line);
}

void traffic_shut(struct traffic *traffic, bool will)
{
    traffic->serving = false;
    if (traffic->link == NULL) {
        return;
    }
    uint64_t timeout_ns = traffic->settings->loss_timeout_ms * 1000000;
    uint64_t start_ns = uv_hrtime();
    bool ends = link_ends(traffic->link);
    while (ends && !traffic->lost && uv_hrtime() - start_ns < timeout_ns) {
        traffic_read(traffic, 100);
    }
    if (ends && !traffic->lost) {
        leave_behind(traffic);
    } else {
        link_close(traffic->link, will);
    }
    traffic->link = NULL;
    traffic_read(traffic, 0);
}

static bool open_one(struct traffic *traffic, enum session_version version, unsigned keep_alive_s,
                     char error[SESSION_ERROR_MAX])
{
    traffic->left_behind = limbo_sweep();
    if (traffic->left_behind >= LEFT_BEHIND_MAX) {
        snprintf(error, SESSION_ERROR_MAX,
                 "the MQTT library holds %zu connections whose end it never reported: restart "
                 "updraftd, and see whether threads are scarce (ulimit -u, pids.max)",
                 traffic->left_behind);
        return false;
    }
    traffic->connections++;
    traffic->broken = traffic->lost = false;
    traffic->lost_reason = LINK_REASON_LOST;
    traffic->link = link_open(traffic->settings, version, keep_alive_s, &link_callbacks, traffic, error);
    return traffic->link != NULL;
}

bool traffic_open(struct traffic *traffic, enum session_version version, unsigned *keep_alive_s,
                  char error[SESSION_ERROR_MAX])
{
    if (!open_one(traffic, version, *keep_alive_s, error)) {
        return false;
    }
    unsigned wanted_s = traffic->link->keep_alive_s;
    if (wanted_s == 0 || wanted_s >= *keep_alive_s) {
        return true;
    }
    /* Paho does not obey a broker that wants to be pinged more often, so it is told from the start. */
    *keep_alive_s = wanted_s;
    traffic_shut(traffic, false);
    uv_sleep(TRAFFIC_PAUSE_MS);
    return open_one(traffic, version, *keep_alive_s, error);
}
