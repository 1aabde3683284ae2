/* Commands from acceptance to answer.
 *
 * What makes it hard: a link that breaks. Messages come back late, in any mixture with acknowledgements, while newer
 * commands of the same topic queue up. So each topic has a lane: one command that is on its way, one that waits behind
 * it, and one of upkeep (a retained one to be sent again, or to be cleared). Of a lane only the command whose turn it
 * is stands in the queue, and the queue is ordered by acceptance: what comes back stands in front by itself.
 */
#include "mqtt/publisher.h"

#include "base/log.h"
#include "mqtt/publisher_heap.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

#define AT_ONCE_MAX 1000 /* answers, or expiries, in one turn of the loop, which has devices to serve */
#define HOLD_MS     1000

/* What a command says: shared by the command, its message on the way, and the retained copy. */
struct content {
    unsigned refs;
    bool retain;
    uint64_t deadline_ms; /* loop time; UINT64_MAX = none */
    size_t part_count;
    struct {
        const char *topic; /* in texts */
        const void *payload;
        size_t payload_bytes;
        struct shared_bytes *image; /* counted; NULL where the payload is in texts */
    } parts[ANNOUNCE_PARTS_MAX];
    char texts[];
};

enum upkeep { UPKEEP_NONE, UPKEEP_RESEND, UPKEEP_CLEAR };

struct command {
    struct heap_entry heaps; /* first */
    uint64_t order;          /* of acceptance; a caller's command has it as ticket */
    enum upkeep upkeep;      /* NONE: a caller's */
    struct lane *lane;
    struct content *content;
    size_t part; /* the next to go, or on its way */
    bool started;
    bool in_flight;
    bool again;     /* this part was sent before */
    bool abandoned; /* what is on its way is the last of it */
    published_fn on_done;
    void *owner;
    enum publish_result result;
    char *why; /* NULL = "" */
    struct command *next_answer;
    UT_hash_handle hh; /* by order: callers' that are not decided */
};

_Static_assert(offsetof(struct command, heaps) == 0, "an entry of a heap is its command");

/* Everything of one key. */
struct lane {
    struct command *current; /* started */
    struct command *upkeep;  /* not started */
    struct command *waiting; /* not started */
    struct content *retained;
    uint64_t retained_order;
    UT_hash_handle hh;
    char key[];
};

/* A message and what it belongs to. It counts its content itself: a session that is left behind keeps both. */
struct outgoing {
    struct session_message message; /* first */
    struct command *command;
    struct content *content;
    uint64_t connects; /* the link that it was handed to */
    struct outgoing *next_free;
};

struct publisher {
    uv_loop_t *loop;
    struct publisher_config config;
    struct publisher_counts counts;
    struct publisher_link link;
    struct lane *lanes;
    struct command *tickets;
    struct heap ready;  /* the next command of each lane, by order */
    struct heap expiry; /* by deadline */
    uint64_t last_order;
    size_t undecided, upkeeps, retained, undelivered;
    size_t bytes_in_flight;
    struct outgoing *free_messages;

    bool connected;
    unsigned window;
    uint64_t connects;
    uint64_t hold_until_ms; /* the link is known to be broken, its state not yet; 0 = no */

    struct command *first_answer, **answers_end;
    uv_idle_t answering; /* runs while answers are undelivered */
    uv_timer_t clock;
    uint64_t clock_ms; /* when it rings; UINT64_MAX = not */
    unsigned open_handles;
    bool closing;
    void (*on_closed)(void *owner);
    void *closed_owner;
};

static void *need(void *memory)
{
    assert(memory != NULL);
    return memory;
}

const char *publish_result_word(enum publish_result result)
{
    static const char *const words[] = {
#define X(name, word) word,
        PUBLISH_RESULT_LIST(X)
#undef X
    };
    assert((size_t)result < PUBLISH_RESULT_COUNT);
    return words[result];
}

/* --- what is said ------------------------------------------------------------------------------------------------- */

struct shared_bytes *shared_bytes_new(size_t size)
{
    struct shared_bytes *shared = size <= SIZE_MAX - sizeof *shared ? malloc(sizeof *shared + size) : NULL;
    if (shared != NULL) {
        shared->refs = 1;
        shared->size = size;
    }
    return shared;
}

void shared_bytes_ref(struct shared_bytes *shared)
{
    assert(shared->refs > 0);
    shared->refs++;
}

void shared_bytes_unref(struct shared_bytes *shared)
{
    assert(shared->refs > 0);
    if (--shared->refs == 0) {
        free(shared);
    }
}

static const char *copy_text(char **to, const char *text)
{
    size_t n = strlen(text) + 1;
    char *at = *to;
    memcpy(at, text, n);
    *to += n;
    return at;
}

/* `clear`: the same topics, with nothing in them. */
static struct content *content_new(const struct publisher_command *command, bool clear, uint64_t now_ms)
{
    size_t bytes = sizeof(struct content);
    for (size_t i = 0; i < command->part_count; i++) {
        const char *payload = command->parts[i].payload;
        bytes += strlen(command->parts[i].topic) + 1 + (clear || payload == NULL ? 1 : strlen(payload) + 1);
    }
    struct content *content = need(calloc(1, bytes));
    bool endless = clear || command->expires_ms == 0 || command->expires_ms > UINT64_MAX - now_ms;
    char *texts = content->texts;
    content->refs = 1;
    content->retain = clear || command->retain;
    content->deadline_ms = endless ? UINT64_MAX : now_ms + command->expires_ms;
    content->part_count = command->part_count;
    for (size_t i = 0; i < command->part_count; i++) {
        const struct publisher_part *part = &command->parts[i];
        content->parts[i].topic = copy_text(&texts, part->topic);
        if (clear || part->payload != NULL) {
            content->parts[i].payload = copy_text(&texts, clear ? "" : part->payload);
            content->parts[i].payload_bytes = clear ? 0 : strlen(part->payload);
        } else {
            assert(part->image != NULL);
            shared_bytes_ref(part->image);
            content->parts[i].image = part->image;
            content->parts[i].payload = part->image->bytes;
            content->parts[i].payload_bytes = part->image->size;
        }
    }
    return content;
}

static struct content *content_ref(struct content *content)
{
    content->refs++;
    return content;
}

static void content_unref(struct content *content)
{
    assert(content->refs > 0);
    if (--content->refs > 0) {
        return;
    }
    for (size_t i = 0; i < content->part_count; i++) {
        if (content->parts[i].image != NULL) {
            shared_bytes_unref(content->parts[i].image);
        }
    }
    free(content);
}

/* --- lanes -------------------------------------------------------------------------------------------------------- */

static struct lane *lane_find(const struct publisher *publisher, const char *key)
{
    struct lane *lane;
    HASH_FIND_STR(publisher->lanes, key, lane);
    return lane;
}

static struct lane *lane_get(struct publisher *publisher, const char *key)
{
    struct lane *lane = lane_find(publisher, key);
    if (lane == NULL) {
        size_t n = strlen(key) + 1;
        lane = need(calloc(1, sizeof *lane + n));
        memcpy(lane->key, key, n);
        HASH_ADD_KEYPTR(hh, publisher->lanes, lane->key, n - 1, lane);
    }
    return lane;
}

/* Whose turn it is; NULL while a message is on its way. A started command goes on before anything else: two of several
 * parts must not mix (the address of one, the trigger of the other). */
static struct command *lane_next(const struct lane *lane)
{
    if (lane->current != NULL) {
        return lane->current->in_flight ? NULL : lane->current;
    }
    if (lane->upkeep == NULL || lane->waiting == NULL) {
        return lane->upkeep != NULL ? lane->upkeep : lane->waiting;
    }
    return lane->upkeep->order < lane->waiting->order ? lane->upkeep : lane->waiting;
}

/* After any change of a lane: the one whose turn it is stands in the queue, alone. Frees a lane that holds nothing. */
static void lane_refresh(struct publisher *publisher, struct lane *lane)
{
    struct command *const members[] = { lane->current, lane->upkeep, lane->waiting };
    struct command *next = lane_next(lane);
    bool empty = lane->retained == NULL;
    for (size_t i = 0; i < sizeof members / sizeof members[0]; i++) {
        if (members[i] != NULL && members[i] != next) {
            heap_remove(&publisher->ready, &members[i]->heaps);
        }
        empty = empty && members[i] == NULL;
    }
    if (next != NULL && next->heaps.place[HEAP_READY] == 0) {
        heap_push(&publisher->ready, &next->heaps, next->order);
    }
    if (empty) {
        HASH_DEL(publisher->lanes, lane);
        free(lane);
    }
}

static void lane_retain(struct publisher *publisher, struct lane *lane, struct content *content, uint64_t order)
{
    if (content != NULL) {
        content_ref(content);
        publisher->retained++;
    }
    if (lane->retained != NULL) {
        content_unref(lane->retained);
        publisher->retained--;
    }
    lane->retained = content;
    lane->retained_order = order;
}

static void decide(struct publisher *publisher, struct command *command, enum publish_result result, const char *why);

/* What the broker now keeps, or no longer does, of this topic. */
static void note_retained(struct publisher *publisher, const struct command *command, enum publish_result result,
                          const char *why)
{
    struct lane *lane = command->lane;
    if (command->content->retain && result == PUBLISH_ACKNOWLEDGED && command->upkeep == UPKEEP_NONE) {
        lane_retain(publisher, lane, command->content, command->order);
        if (lane->upkeep != NULL && lane->upkeep->upkeep == UPKEEP_RESEND) {
            decide(publisher, lane->upkeep, PUBLISH_REPLACED, ""); /* it would put the old one back */
        }
    } else if (command->upkeep == UPKEEP_RESEND && result == PUBLISH_EXPIRED) {
        lane_retain(publisher, lane, NULL, 0);
    }
    if (command->upkeep != UPKEEP_NONE && result == PUBLISH_REFUSED) {
        LOG_EVENT(LOG_WARN, "retained_refused", "topic", lane->key, "why", why, "remedy",
                  "let Updraft's user publish retained messages on this topic");
        lane_retain(publisher, lane, NULL, 0);
    }
}

/* --- answers ------------------------------------------------------------------------------------------------------ */

static struct command *command_new(struct publisher *publisher, struct lane *lane, struct content *content,
                                   uint64_t order)
{
    struct command *command = need(calloc(1, sizeof *command));
    command->order = order;
    command->lane = lane;
    command->content = content;
    if (content->deadline_ms != UINT64_MAX) {
        heap_push(&publisher->expiry, &command->heaps, content->deadline_ms);
    }
    return command;
}

static void on_answering(uv_idle_t *idle);

static void queue_answer(struct publisher *publisher, struct command *command, enum publish_result result,
                         const char *why)
{
    command->result = result;
    command->why = why[0] != '\0' ? need(strdup(why)) : NULL;
    command->next_answer = NULL;
    *publisher->answers_end = command;
    publisher->answers_end = &command->next_answer;
    publisher->undelivered++;
    uv_idle_start(&publisher->answering, on_answering);
}

static void leave_lane(struct publisher *publisher, struct command *command)
{
    struct lane *lane = command->lane;
    struct command **const members[] = { &lane->current, &lane->upkeep, &lane->waiting };
    for (size_t i = 0; i < sizeof members / sizeof members[0]; i++) {
        if (*members[i] == command) {
            *members[i] = NULL;
        }
    }
    heap_remove(&publisher->ready, &command->heaps);
    heap_remove(&publisher->expiry, &command->heaps);
    command->lane = NULL;
    lane_refresh(publisher, lane);
}

/* The end of a command, in whatever state: it leaves everything, and its caller is told in a later turn. */
static void decide(struct publisher *publisher, struct command *command, enum publish_result result, const char *why)
{
    note_retained(publisher, command, result, why);
    leave_lane(publisher, command);
    content_unref(command->content);
    command->content = NULL;
    if (command->upkeep != UPKEEP_NONE) {
        publisher->upkeeps--;
        free(command);
        return;
    }
    HASH_DEL(publisher->tickets, command);
    publisher->undecided--;
    publisher->counts.waiting -= !command->in_flight;
    publisher->counts.results[result]++;
    queue_answer(publisher, command, result, why);
}

static void on_handle_closed(uv_handle_t *handle)
{
    struct publisher *publisher = handle->data;
    if (--publisher->open_handles > 0) {
        return;
    }
    while (publisher->free_messages != NULL) {
        struct outgoing *outgoing = publisher->free_messages;
        publisher->free_messages = outgoing->next_free;
        free(outgoing);
    }
    heap_close(&publisher->ready);
    heap_close(&publisher->expiry);
    if (publisher->on_closed != NULL) {
        publisher->on_closed(publisher->closed_owner);
    }
    free(publisher);
}

static void on_answering(uv_idle_t *idle)
{
    struct publisher *publisher = idle->data;
    for (size_t i = 0; i < AT_ONCE_MAX && publisher->first_answer != NULL; i++) {
        struct command *command = publisher->first_answer;
        publisher->first_answer = command->next_answer;
        if (publisher->first_answer == NULL) {
            publisher->answers_end = &publisher->first_answer;
        }
        publisher->undelivered--;
        command->on_done(command->owner, command->order, command->result, command->why != NULL ? command->why : "");
        free(command->why);
        free(command);
    }
    if (publisher->first_answer == NULL) {
        uv_idle_stop(idle);
        if (publisher->closing) {
            uv_close((uv_handle_t *)&publisher->answering, on_handle_closed);
            uv_close((uv_handle_t *)&publisher->clock, on_handle_closed);
        }
    }
}

/* --- sending ------------------------------------------------------------------------------------------------------ */

static struct outgoing *outgoing_new(struct publisher *publisher, struct command *command)
{
    struct outgoing *outgoing = publisher->free_messages;
    if (outgoing != NULL) {
        publisher->free_messages = outgoing->next_free;
    } else {
        outgoing = need(malloc(sizeof *outgoing));
    }
    memset(outgoing, 0, sizeof *outgoing);
    outgoing->message.owner = outgoing;
    outgoing->command = command;
    outgoing->content = content_ref(command->content);
    outgoing->connects = publisher->connects;
    return outgoing;
}

static void outgoing_free(struct publisher *publisher, struct outgoing *outgoing)
{
    content_unref(outgoing->content);
    outgoing->content = NULL;
    outgoing->next_free = publisher->free_messages;
    publisher->free_messages = outgoing;
}

/* What is left of the time that the command is good for, in seconds, rounded up. */
static uint32_t seconds_left(const struct content *content, uint64_t now_ms)
{
    if (content->deadline_ms == UINT64_MAX) {
        return 0;
    }
    uint64_t left_ms = content->deadline_ms - now_ms;
    uint64_t seconds = left_ms / 1000 + (left_ms % 1000 != 0);
    return seconds < UINT32_MAX ? (uint32_t)seconds : UINT32_MAX;
}

static void hand_out(struct publisher *publisher, struct command *command)
{
    struct outgoing *outgoing = outgoing_new(publisher, command);
    struct content *content = command->content;
    struct session_message *message = &outgoing->message;
    struct lane *lane = command->lane;
    bool fits = slice_copy(slice_of(content->parts[command->part].topic), message->topic, sizeof message->topic);
    assert(fits); /* publisher_send */
    message->payload = content->parts[command->part].payload;
    message->payload_bytes = content->parts[command->part].payload_bytes;
    message->retain = content->retain;
    message->expiry_s = seconds_left(content, uv_now(publisher->loop));

    lane->upkeep = lane->upkeep == command ? NULL : lane->upkeep;
    lane->waiting = lane->waiting == command ? NULL : lane->waiting;
    lane->current = command;
    command->started = true;
    command->in_flight = true;
    if (command->upkeep == UPKEEP_CLEAR) {
        lane_retain(publisher, lane, NULL, 0); /* one may have been acknowledged since it was forgotten */
    }
    lane_refresh(publisher, lane);
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
        struct command *command = (struct command *)heap_first(&publisher->ready);
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
    const struct heap_entry *first = heap_first(&publisher->expiry);
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
        struct heap_entry *first = heap_first(&publisher->expiry);
        if (first == NULL || first->rank[HEAP_EXPIRY] > now_ms) {
            break;
        }
        struct command *command = (struct command *)first;
        if (command->in_flight) {
            heap_remove(&publisher->expiry, first); /* asked again when its message comes back */
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
    struct publisher *publisher = need(calloc(1, sizeof *publisher));
    publisher->loop = loop;
    publisher->config = *config;
    publisher->clock_ms = UINT64_MAX;
    publisher->answers_end = &publisher->first_answer;
    heap_init(&publisher->ready, HEAP_READY);
    heap_init(&publisher->expiry, HEAP_EXPIRY);
    uv_idle_init(loop, &publisher->answering);
    uv_timer_init(loop, &publisher->clock);
    publisher->answering.data = publisher;
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

/* Answers that wait for their turn take memory too. */
static bool is_full(const struct publisher *publisher, const struct lane *lane, bool retain)
{
    size_t max = publisher->config.commands_max;
    bool replaces = lane != NULL && lane->waiting != NULL;
    bool keeps_more = retain && (lane == NULL || lane->retained == NULL);
    return publisher->closing || (publisher->undecided >= max && !replaces) || publisher->undelivered >= max ||
           (keeps_more && publisher->retained >= max);
}

enum status publisher_send(struct publisher *publisher, const struct publisher_command *command, published_fn on_done,
                           void *owner, uint64_t *ticket)
{
    if (!topics_fit(command)) {
        return STATUS_TOO_LONG;
    }
    struct lane *lane = lane_find(publisher, command->parts[0].topic);
    if (is_full(publisher, lane, command->retain)) {
        return STATUS_LIMIT;
    }
    assert(on_done != NULL);
    lane = lane_get(publisher, command->parts[0].topic);
    struct content *content = content_new(command, false, uv_now(publisher->loop));
    struct command *taken = command_new(publisher, lane, content, ++publisher->last_order);
    struct command *replaced = lane->waiting;
    taken->on_done = on_done;
    taken->owner = owner;
    HASH_ADD(hh, publisher->tickets, order, sizeof taken->order, taken);
    publisher->undecided++;
    publisher->counts.waiting++;
    lane->waiting = taken;
    *ticket = taken->order;
    if (replaced != NULL) {
        decide(publisher, replaced, PUBLISH_REPLACED, "");
    } else {
        lane_refresh(publisher, lane);
    }
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
    lane->upkeep = command_new(publisher, lane, content, order);
    lane->upkeep->upkeep = upkeep;
    publisher->upkeeps++;
    lane_refresh(publisher, lane);
}

void publisher_forget(struct publisher *publisher, const struct publisher_command *command)
{
    bool fits = topics_fit(command);
    assert(fits); /* it was sent once */
    if (publisher->closing) {
        return;
    }
    if (publisher->upkeeps >= publisher->config.commands_max) {
        LOG_EVENT(LOG_WARN, "retained_not_cleared", "topic", command->parts[0].topic, "why",
                  "too much is waiting for the broker", "remedy", "clear it by hand: mosquitto_pub -r -n -t TOPIC");
        return;
    }
    struct lane *lane = lane_get(publisher, command->parts[0].topic);
    struct content *content = content_new(command, true, 0);
    lane_retain(publisher, lane, NULL, 0);
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
    HASH_ITER(hh, publisher->lanes, lane, tmp)
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
            heap_push(&publisher->expiry, &command->heaps, command->content->deadline_ms); /* it passed meanwhile */
        }
        lane_refresh(publisher, command->lane);
    }
    outgoing_free(publisher, outgoing);
    pump(publisher);
    set_clock(publisher);
}

const struct publisher_counts *publisher_counts(const struct publisher *publisher)
{
    return &publisher->counts;
}

void publisher_close(struct publisher *publisher, void (*on_closed)(void *owner), void *owner)
{
    assert(!publisher->closing);
    publisher->closing = true;
    publisher->on_closed = on_closed;
    publisher->closed_owner = owner;
    struct lane *lane;
    struct lane *tmp;
    HASH_ITER(hh, publisher->lanes, lane, tmp)
    {
        struct command *const members[] = { lane->current, lane->upkeep, lane->waiting };
        bool empty = members[0] == NULL && members[1] == NULL && members[2] == NULL;
        lane_retain(publisher, lane, NULL, 0);
        for (size_t i = 0; i < sizeof members / sizeof members[0]; i++) {
            if (members[i] != NULL) {
                decide(publisher, members[i], PUBLISH_STOPPED, "");
            }
        }
        if (empty) {
            lane_refresh(publisher, lane);
        }
    }
    set_clock(publisher);
    uv_idle_start(&publisher->answering, on_answering);
}
