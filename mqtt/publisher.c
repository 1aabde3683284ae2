/* Commands from acceptance to answer.
 *
 * What makes it hard: a link that breaks. Messages come back late, in any mixture with acknowledgements, while newer
 * commands of the same topic queue up. The queue knows whose turn it is, and is ordered by acceptance: what comes back
 * stands in front by itself.
 */
#include "mqtt/publisher.h"

#include "base/log.h"
#include "mqtt/publisher_answers.h"
#include "mqtt/publisher_outgoing.h"
#include "mqtt/publisher_queue.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

#define AT_ONCE_MAX 1000 /* expiries in one turn of the loop, which has devices to serve */
#define HOLD_MS     1000

struct publisher {
    uv_loop_t *loop;
    struct publisher_config config;
    struct publisher_counts counts;
    struct publisher_link link;
    struct queue queue;
    struct command *tickets; /* by order: callers' that are not decided */
    uint64_t last_order;
    size_t undecided, upkeeps, to_keep; /* to_keep: of the undecided */
    size_t bytes_in_flight;
    struct outgoing_pool pool;

    bool connected;
    unsigned window;
    uint64_t connects;
    uint64_t hold_until_ms; /* the link is known to be broken, its state not yet; 0 = no */

    struct answers answers;
    uv_timer_t clock;
    uint64_t clock_ms; /* when it rings; UINT64_MAX = not */
    unsigned open_handles;
    bool closing;
    void (*on_closed)(void *owner);
    void *closed_owner;
};

/* --- the end of a command ----------------------------------------------------------------------------------------- */

static void decide(struct publisher *publisher, struct command *command, enum publish_result result, const char *why);

/* What the broker now keeps, or no longer does, of this topic. */
static void note_retained(struct publisher *publisher, const struct command *command, enum publish_result result,
                          const char *why)
{
    struct lane *lane = command->lane;
    if (command->content->retain && result == PUBLISH_ACKNOWLEDGED && command->upkeep == UPKEEP_NONE) {
        lane_retain(&publisher->queue, lane, command->content, command->order);
        if (lane->upkeep != NULL && lane->upkeep->upkeep == UPKEEP_RESEND) {
            decide(publisher, lane->upkeep, PUBLISH_REPLACED, ""); /* it would put the old one back */
        }
    } else if (command->upkeep == UPKEEP_RESEND && result == PUBLISH_EXPIRED) {
        lane_retain(&publisher->queue, lane, NULL, 0);
    }
    if (command->upkeep != UPKEEP_NONE && result == PUBLISH_REFUSED) {
        LOG_EVENT(LOG_WARN, "retained_refused", "topic", lane->key, "why", why, "remedy",
                  "let Updraft's user publish retained messages on this topic");
        lane_retain(&publisher->queue, lane, NULL, 0);
    }
}

/* The end of a command, in whatever state: it leaves everything, and its caller is told in a later turn. */
static void decide(struct publisher *publisher, struct command *command, enum publish_result result, const char *why)
{
    note_retained(publisher, command, result, why);
    command_leave(&publisher->queue, command);
    content_unref(command->content);
    command->content = NULL;
    if (command->upkeep != UPKEEP_NONE) {
        publisher->upkeeps--;
        free(command);
        return;
    }
    HASH_DEL(publisher->tickets, command);
    publisher->undecided--;
    publisher->to_keep -= command->keeps;
    publisher->counts.waiting -= !command->in_flight;
    publisher->counts.results[result]++;
    answers_add(&publisher->answers, command, result, why);
}

static void on_handle_closed(uv_handle_t *handle)
{
    struct publisher *publisher = handle->data;
    if (--publisher->open_handles > 0) {
        return;
    }
    outgoing_pool_close(&publisher->pool);
    queue_close(&publisher->queue);
    if (publisher->on_closed != NULL) {
        publisher->on_closed(publisher->closed_owner);
    }
    free(publisher);
}

/* --- sending ------------------------------------------------------------------------------------------------------ */

static void hand_out(struct publisher *publisher, struct command *command)
{
    struct session_message *message =
        &outgoing_new(&publisher->pool, command, publisher->connects, uv_now(publisher->loop))->message;
    command_start(&publisher->queue, command);
    if (command->upkeep == UPKEEP_CLEAR) { /* one may have been acknowledged since it was forgotten */
        lane_retain(&publisher->queue, command->lane, NULL, 0);
    }
    publisher->counts.in_flight++;
    publisher->counts.retried += command->again;
    publisher->counts.waiting -= command->upkeep == UPKEEP_NONE;
    publisher->bytes_in_flight += message->payload_bytes;
    publisher->link.publish(publisher->link.link, message);
}

static bool has_room(const struct publisher *publisher, const struct command *command)
{
    size_t bytes = command->content->parts[command->part].payload_bytes;
    bool bytes_fit =
        publisher->bytes_in_flight == 0 ||
        (bytes <= publisher->config.bytes_max && publisher->bytes_in_flight <= publisher->config.bytes_max - bytes);
    return publisher->counts.in_flight < publisher->window && bytes_fit;
}

/* Hands out what may go. Timers run once in a turn, so some of it may have expired since. */
static void pump(struct publisher *publisher)
{
    while (publisher->connected && publisher->hold_until_ms == 0 && !publisher->closing) {
        struct command *command = (struct command *)heap_first(&publisher->queue.ready);
        if (command == NULL || !has_room(publisher, command)) {
            break;
        }
        if (command->content->deadline_ms <= uv_now(publisher->loop)) {
            decide(publisher, command, PUBLISH_EXPIRED, "");
        } else {
            hand_out(publisher, command);
        }
    }
}

/* --- time --------------------------------------------------------------------------------------------------------- */

static void on_clock(uv_timer_t *clock);

static void set_clock(struct publisher *publisher)
{
    const struct heap_entry *first = heap_first(&publisher->queue.expiry);
    uint64_t due_ms = first != NULL ? first->rank[HEAP_EXPIRY] : UINT64_MAX;
    uint64_t now_ms = uv_now(publisher->loop);
    if (publisher->hold_until_ms != 0 && publisher->hold_until_ms < due_ms) {
        due_ms = publisher->hold_until_ms;
    }
    if (publisher->closing || due_ms == UINT64_MAX) {
        uv_timer_stop(&publisher->clock);
        due_ms = UINT64_MAX;
    } else if (due_ms != publisher->clock_ms) {
        /* Not 0: libuv would run it again in the same turn, for ever. */
        uv_timer_start(&publisher->clock, on_clock, due_ms > now_ms ? due_ms - now_ms : 1, 0);
    }
    publisher->clock_ms = due_ms;
}

static void on_clock(uv_timer_t *clock)
{
    struct publisher *publisher = clock->data;
    uint64_t now_ms = uv_now(publisher->loop);
    publisher->clock_ms = UINT64_MAX;
    for (size_t i = 0; i < AT_ONCE_MAX; i++) {
        struct heap_entry *first = heap_first(&publisher->queue.expiry);
        if (first == NULL || first->rank[HEAP_EXPIRY] > now_ms) {
            break;
        }
        struct command *command = (struct command *)first;
        if (command->in_flight) {
            heap_remove(&publisher->queue.expiry, first); /* asked again when its message comes back */
        } else {
            decide(publisher, command, PUBLISH_EXPIRED, "");
        }
    }
    if (publisher->hold_until_ms <= now_ms) {
        publisher->hold_until_ms = 0;
    }
    pump(publisher);
    set_clock(publisher);
}

/* --- the caller's side -------------------------------------------------------------------------------------------- */

struct publisher *publisher_new(uv_loop_t *loop, const struct publisher_config *config)
{
    assert(config->in_flight_max > 0);
    assert(config->commands_max > 0 && config->commands_max <= PUBLISHER_COMMANDS_MAX);
    struct publisher *publisher = calloc(1, sizeof *publisher);
    assert(publisher != NULL);
    publisher->loop = loop;
    publisher->config = *config;
    publisher->clock_ms = UINT64_MAX;
    queue_init(&publisher->queue);
    answers_init(&publisher->answers, loop, publisher);
    uv_timer_init(loop, &publisher->clock);
    publisher->clock.data = publisher;
    publisher->open_handles = 2;
    return publisher;
}

void publisher_connect(struct publisher *publisher, const struct publisher_link *link)
{
    assert(link->publish != NULL && publisher->link.publish == NULL);
    publisher->link = *link;
}

static bool topics_fit(const struct publisher_command *command)
{
    assert(command->part_count > 0 && command->part_count <= ANNOUNCE_PARTS_MAX);
    for (size_t i = 0; i < command->part_count; i++) {
        assert(command->parts[i].topic[0] != '\0');
        if (strlen(command->parts[i].topic) > SESSION_TOPIC_MAX) {
            return false;
        }
    }
    return true;
}

static bool keeps_more(const struct publisher *publisher, const struct publisher_command *command)
{
    const struct lane *lane = lane_find(&publisher->queue, command->parts[0].topic);
    return command->retain && (lane == NULL || lane->retained == NULL);
}

/* Whether there is room: STATUS_OK, BUSY or LIMIT. Answers that wait for their turn take memory too. */
static enum status find_room(const struct publisher *publisher, const struct publisher_command *command)
{
    size_t max = publisher->config.commands_max;
    bool replaces = queue_find(&publisher->queue, content_about(command)) != NULL;
    bool full = keeps_more(publisher, command) && publisher->queue.retained + publisher->to_keep >= max;
    if (publisher->closing || (full && !replaces)) {
        return STATUS_LIMIT;
    }
    return (publisher->undecided >= max && !replaces) || publisher->answers.count >= max ? STATUS_BUSY : STATUS_OK;
}

/* One that waits gives way to a newer one about the same. */
static void replace(struct publisher *publisher, const char *about)
{
    char why[SESSION_WHY_SIZE];
    struct command *replaced = queue_find(&publisher->queue, about);
    if (replaced == NULL) {
        return;
    }
    snprintf(why, sizeof why, "a newer command for %s came %s; that one is sent %s", about,
             publisher->connected ? "before this one was sent" : "while the broker was away",
             publisher->connected ? "in its place" : "when it is back");
    decide(publisher, replaced, PUBLISH_REPLACED, why);
}

enum status publisher_send(struct publisher *publisher, const struct publisher_command *command, published_fn on_done,
                           void *owner, uint64_t *ticket)
{
    if (!topics_fit(command)) {
        return STATUS_TOO_LONG;
    }
    enum status room = find_room(publisher, command);
    if (room != STATUS_OK) {
        return room;
    }
    assert(on_done != NULL);
    replace(publisher, content_about(command));
    struct lane *lane = lane_get(&publisher->queue, command->parts[0].topic);
    struct content *content = content_new(command, false, uv_now(publisher->loop));
    struct command *taken = command_new(&publisher->queue, lane, content, ++publisher->last_order);
    taken->keeps = keeps_more(publisher, command);
    publisher->to_keep += taken->keeps;
    taken->on_done = on_done;
    taken->owner = owner;
    HASH_ADD(hh, publisher->tickets, order, sizeof taken->order, taken);
    publisher->undecided++;
    publisher->counts.waiting++;
    command_wait(&publisher->queue, taken);
    *ticket = taken->order;
    pump(publisher);
    set_clock(publisher);
    return STATUS_OK;
}

bool publisher_withdraw(struct publisher *publisher, uint64_t ticket)
{
    struct command *command;
    HASH_FIND(hh, publisher->tickets, &ticket, sizeof ticket, command);
    if (command == NULL || command->started) {
        return false;
    }
    decide(publisher, command, PUBLISH_WITHDRAWN, "");
    pump(publisher); /* a smaller one may fit now */
    set_clock(publisher);
    return true;
}

bool publisher_abandon(struct publisher *publisher, uint64_t ticket)
{
    struct command *command;
    HASH_FIND(hh, publisher->tickets, &ticket, sizeof ticket, command);
    if (command == NULL) {
        return true; /* it has ended */
    }
    if (command->in_flight) {
        command->abandoned = true;
        return false;
    }
    decide(publisher, command, PUBLISH_WITHDRAWN, "");
    pump(publisher); /* a smaller one may fit now */
    set_clock(publisher);
    return true;
}

static void add_upkeep(struct publisher *publisher, struct lane *lane, enum upkeep upkeep, struct content *content,
                       uint64_t order)
{
    assert(lane->upkeep == NULL);
    lane->upkeep = command_new(&publisher->queue, lane, content, order);
    lane->upkeep->upkeep = upkeep;
    publisher->upkeeps++;
    lane_refresh(&publisher->queue, lane);
}

/* The broker keeps what a later command about something else says, and none about this can come any more. */
static bool is_overwritten(const struct publisher *publisher, const struct lane *lane, const char *about)
{
    const struct command *waiting = queue_find(&publisher->queue, about);
    bool waits = waiting != NULL && waiting->lane == lane;
    bool goes = lane->current != NULL && strcmp(lane->current->content->about, about) == 0;
    return lane->retained != NULL && strcmp(lane->retained->about, about) != 0 && !waits && !goes;
}

void publisher_forget(struct publisher *publisher, const struct publisher_command *command)
{
    bool fits = topics_fit(command);
    assert(fits); /* it was sent once */
    if (publisher->closing) {
        return;
    }
    if (publisher->upkeeps >= 2 * publisher->config.commands_max) { /* what is kept, and what was before */
        LOG_EVENT(LOG_WARN, "retained_not_cleared", "topic", command->parts[0].topic, "why",
                  "too much is waiting for the broker", "remedy", "clear it by hand: mosquitto_pub -r -n -t TOPIC");
        return;
    }
    struct lane *lane = lane_get(&publisher->queue, command->parts[0].topic);
    if (is_overwritten(publisher, lane, content_about(command))) {
        return;
    }
    struct content *content = content_new(command, true, 0);
    lane_retain(&publisher->queue, lane, NULL, 0);
    struct command *obsolete = lane->upkeep;
    lane->upkeep = NULL;
    add_upkeep(publisher, lane, UPKEEP_CLEAR, content, ++publisher->last_order);
    if (obsolete != NULL) {
        decide(publisher, obsolete, PUBLISH_REPLACED, "");
    }
    pump(publisher);
    set_clock(publisher);
}

/* --- the session's side ------------------------------------------------------------------------------------------- */

/* A broker may have lost what it kept: a killed mosquitto loses all since its last autosave. In the queue the old
 * stands before the new of its topic. */
static void resend_retained(struct publisher *publisher)
{
    struct lane *lane;
    struct lane *tmp;
    HASH_ITER(hh, publisher->queue.lanes, lane, tmp)
    {
        bool on_its_way = lane->current != NULL && lane->current->content == lane->retained;
        if (lane->retained != NULL && lane->upkeep == NULL && !on_its_way) {
            add_upkeep(publisher, lane, UPKEEP_RESEND, content_ref(lane->retained), lane->retained_order);
        }
    }
}

void publisher_on_state(struct publisher *publisher, const struct session_view *view)
{
    bool was_connected = publisher->connected;
    bool is_new = view->state == SESSION_CONNECTED && (!was_connected || view->connects != publisher->connects);
    publisher->connected = view->state == SESSION_CONNECTED;
    if (publisher->connected) {
        unsigned broker_max = view->receive_maximum > 0 ? view->receive_maximum : 1;
        unsigned own_max = publisher->config.in_flight_max;
        publisher->window = own_max < broker_max ? own_max : broker_max;
    }
    if (is_new || !publisher->connected) {
        publisher->hold_until_ms = 0;
    }
    if (is_new) {
        publisher->connects = view->connects;
        resend_retained(publisher);
    }
    pump(publisher);
    set_clock(publisher);
}

/* Whether the command ends with this answer of the session's; if not, it waits for its next sending. */
static bool ends_with(struct command *command, enum status status, enum publish_result *result)
{
    switch (status) {
    case STATUS_OK:
        command->again = false;
        command->part++;
        *result = command->part == command->content->part_count ? PUBLISH_ACKNOWLEDGED : PUBLISH_WITHDRAWN;
        return command->part == command->content->part_count || command->abandoned;
    case STATUS_IO:
        command->again = true;
        *result = PUBLISH_WITHDRAWN;
        return command->abandoned;
    default:
        *result = PUBLISH_REFUSED;
        return true;
    }
}

void publisher_on_published(struct publisher *publisher, struct session_message *message)
{
    struct outgoing *outgoing = message->owner;
    assert(&outgoing->message == message && outgoing->command != NULL);
    struct command *command = outgoing->command;
    assert(command->in_flight && command->lane->current == command && publisher->counts.in_flight > 0);
    enum publish_result result = PUBLISH_STOPPED;
    command->in_flight = false;
    publisher->counts.in_flight--;
    publisher->counts.waiting += command->upkeep == UPKEEP_NONE;
    publisher->bytes_in_flight -= message->payload_bytes;

    /* The link is gone, and its state not yet heard of: sending on would only bring back more. Not for long: the
     * state is sure to follow, but nothing shall hang on that. */
    if (message->status == STATUS_IO && publisher->connected && outgoing->connects == publisher->connects) {
        publisher->hold_until_ms = uv_now(publisher->loop) + HOLD_MS;
    }
    if (ends_with(command, message->status, &result)) {
        const char *why = message->why[0] != '\0' ? message->why : status_text(message->status);
        decide(publisher, command, result, result == PUBLISH_REFUSED ? why : "");
    } else {
        if (command->content->deadline_ms != UINT64_MAX && command->heaps.place[HEAP_EXPIRY] == 0) {
            heap_push(&publisher->queue.expiry, &command->heaps,
                      command->content->deadline_ms); /* it passed meanwhile */
        }
        lane_refresh(&publisher->queue, command->lane);
    }
    outgoing_free(&publisher->pool, outgoing);
    pump(publisher);
    set_clock(publisher);
}

const struct publisher_counts *publisher_counts(const struct publisher *publisher)
{
    return &publisher->counts;
}

/* The last decision frees it. */
static void stop_lane(struct publisher *publisher, struct lane *lane)
{
    struct command *const members[] = { lane->current, lane->upkeep };
    struct command *waiting = lane->waiting;
    if (lane->current == NULL && lane->upkeep == NULL && waiting == NULL) {
        lane_refresh(&publisher->queue, lane);
    }
    for (size_t i = 0; i < sizeof members / sizeof members[0]; i++) {
        if (members[i] != NULL) {
            decide(publisher, members[i], PUBLISH_STOPPED, "");
        }
    }
    while (waiting != NULL) {
        struct command *next = waiting->next;
        decide(publisher, waiting, PUBLISH_STOPPED, "");
        waiting = next;
    }
}

void publisher_close(struct publisher *publisher, void (*on_closed)(void *owner), void *owner)
{
    assert(!publisher->closing);
    publisher->closing = true;
    publisher->on_closed = on_closed;
    publisher->closed_owner = owner;
    struct lane *lane;
    struct lane *tmp;
    HASH_ITER(hh, publisher->queue.lanes, lane, tmp)
    {
        lane_retain(&publisher->queue, lane, NULL, 0);
        stop_lane(publisher, lane);
    }
    set_clock(publisher);
    answers_close(&publisher->answers, on_handle_closed);
    uv_close((uv_handle_t *)&publisher->clock, on_handle_closed);
}
