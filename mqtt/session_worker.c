/* The life of the session, told in order: probe, connect, greet, serve, lose, pause. What makes it hard: it may hang in
 * any of these, and is left behind then; so it owns all that it uses, and reaches the loop through a gate that can be
 * closed. */
#include "mqtt/session_worker.h"

#include "mqtt/session_limbo.h"
#include "mqtt/session_link.h"
#include "mqtt/session_probe.h"
#include "mqtt/session_traffic.h"

#include <assert.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define STABLE_NS         10000000000u /* a connection that stood so long was a good one */
#define FAREWELL_NS       500000000u
#define REASON_TAKEN_OVER 0x8e

struct worker {
    struct session_settings settings;
    uv_thread_t thread;
    atomic_bool stopping;
    struct traffic traffic;
    /* The way to the loop; closed when the worker is abandoned. */
    uv_mutex_t gate;
    struct mailbox *to_loop;
    bool abandoned;
    /* the thread's own */
    void *library;
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

/* --- to the loop ------------------------------------------------------------------------------------------------- */

/* From any thread of the session's or the library's. */
static bool tell(void *owner, struct mail_list *letters)
{
    struct worker *worker = owner;
    uv_mutex_lock(&worker->gate);
    bool posted = worker->to_loop != NULL && mailbox_post_list(worker->to_loop, letters);
    uv_mutex_unlock(&worker->gate);
    if (!posted) {
        letters_free(letters);
    }
    return posted;
}

static void announce(struct worker *worker, enum session_state state, bool was_connected, const char *error)
{
    struct state_letter *letter = letter_new(LETTER_STATE, sizeof *letter, 0);
    letter->state = state;
    letter->was_connected = was_connected;
    letter->left_behind = worker->traffic.left_behind;
    snprintf(letter->error, sizeof letter->error, "%s", error);
    if (state == SESSION_CONNECTED) {
        letter->version = worker->agreed;
        letter->connection = worker->traffic.connections;
        letter->receive_maximum = worker->traffic.link->receive_maximum;
        letter->packet_bytes_max = worker->traffic.link->packet_bytes_max;
    }
    struct mail_list one;
    mail_list_clear(&one);
    mail_list_append(&one, &letter->letter.mail);
    tell(worker, &one);
}

static bool is_stopping(const struct worker *worker)
{
    return atomic_load(&worker->stopping);
}

/* --- the life of a connection ------------------------------------------------------------------------------------ */

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
    traffic_publish_online(&worker->traffic, "1");
    if (!worker->traffic.broken && link_subscribe(worker->traffic.link) &&
        traffic_settle(&worker->traffic, worker->settings.connect_timeout_ms * 1000000, &worker->stopping)) {
        return true;
    }
    snprintf(error, SESSION_ERROR_MAX, "%s took the connection, but %s: look at its log", worker->settings.address,
             worker->traffic.lost || worker->traffic.broken ? "closed it at the first message"
                                                            : "acknowledges nothing");
    return false;
}

static void say_lost(struct worker *worker, char error[SESSION_ERROR_MAX])
{
    const char *address = worker->settings.address;
    if (worker->traffic.lost_reason == REASON_TAKEN_OVER) {
        snprintf(error, SESSION_ERROR_MAX, "%s gave our session to another client with the id %.60s: give each its own",
                 address, worker->settings.client_id);
    } else if (worker->traffic.lost_reason == LINK_REASON_LOST) {
        snprintf(error, SESSION_ERROR_MAX, "the connection to %s broke: is the broker running, and the network well?",
                 address);
    } else {
        snprintf(error, SESSION_ERROR_MAX, "%s ended the connection (%s): look at its log", address,
                 link_reason_text(worker->traffic.lost_reason));
    }
}

/* Until the link breaks or the session ends. */
static void serve(struct worker *worker)
{
    uint64_t start_ns = uv_hrtime();
    traffic_read(&worker->traffic, 0); /* handed over for a connection that is gone */
    worker->traffic.serving = true;
    worker->traffic.returned = false;
    announce(worker, SESSION_CONNECTED, false, "");
    while (!worker->traffic.broken && !worker->traffic.lost && !is_stopping(worker)) {
        if (!traffic_read(&worker->traffic, worker->settings.loss_timeout_ms)) {
            traffic_look(&worker->traffic);
        }
    }
    if (uv_hrtime() - start_ns >= STABLE_NS) {
        worker->failures = 0;
    }
}

/* Where the window is full, "0" would have to wait for the broker: the last will says it instead. */
static bool take_leave(struct worker *worker)
{
    worker->traffic.serving = false;
    bool room = worker->traffic.sent.count < worker->traffic.link->receive_maximum ||
                traffic_settle(&worker->traffic, FAREWELL_NS, NULL);
    if (room && !worker->traffic.lost) {
        traffic_publish_online(&worker->traffic, "0");
        traffic_settle(&worker->traffic, FAREWELL_NS, NULL);
    }
    return room;
}

static bool connect_once(struct worker *worker, char error[SESSION_ERROR_MAX])
{
    announce(worker, SESSION_CONNECTING, false, "");
    if (!agree(worker, error) || is_stopping(worker) ||
        !traffic_open(&worker->traffic, worker->agreed, &worker->keep_alive_s, error)) {
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
    return ms > TRAFFIC_PAUSE_MS ? ms : TRAFFIC_PAUSE_MS;
}

static void rest(struct worker *worker)
{
    worker->failures++;
    uint64_t end_ns = uv_hrtime() + pause_ms(worker) * 1000000;
    for (uint64_t now_ns; !is_stopping(worker) && (now_ns = uv_hrtime()) < end_ns;) {
        traffic_read(&worker->traffic, (end_ns - now_ns) / 1000000 + 1);
    }
}

static void worker_free(struct worker *worker)
{
    traffic_close(&worker->traffic);
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
    bool will = worker->traffic.link != NULL && !worker->traffic.broken && !worker->traffic.lost && !take_leave(worker);
    traffic_shut(&worker->traffic, will);
    if (connected) {
        say_lost(worker, error);
    }
    if (!is_stopping(worker)) {
        announce(worker, SESSION_WAITING, connected, error);
    }
    worker->traffic.returned = true;
    traffic_give_back(&worker->traffic); /* after the state is told: who gets them back does not send them at once */
    rest(worker);
}

static void worker_main(void *arg)
{
    struct worker *worker = arg;
    worker->library = link_library_open();
    while (!is_stopping(worker)) {
        live(worker);
    }
    (void)limbo_sweep(); /* while the library still stands */
    link_library_close(worker->library);
    traffic_read(&worker->traffic, 0);
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
    traffic_init(&worker->traffic, &worker->settings, tell, worker);
    uv_once(&left_behind_once, init_left_behind);
    int error = uv_mutex_init(&worker->gate);
    assert(error == 0);
    error = uv_thread_create(&worker->thread, worker_main, worker);
    assert(error == 0);
    return worker;
}

void worker_publish(struct worker *worker, struct mail_list *jobs)
{
    bool posted = mailbox_post_list(&worker->traffic.box, jobs);
    assert(posted);
}

void worker_message_taken(struct worker *worker)
{
    atomic_fetch_sub(&worker->traffic.waiting, 1);
}

uint64_t worker_dropped(const struct worker *worker)
{
    return atomic_load(&worker->traffic.dropped);
}

void worker_stop(struct worker *worker)
{
    atomic_store(&worker->stopping, true);
    struct letter *stop = letter_new(LETTER_STOP, sizeof *stop, 0);
    traffic_post(&worker->traffic, stop);
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
