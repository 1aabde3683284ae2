/* The loop's side: it counts tickets and keeps who waits for them. The other, the thread that writes, is store_writer;
 * they meet in two mailboxes.
 *
 * What waits is bounded by counting, not by the mailbox: a change counts until its batch is written, wherever it is. */
#include "fleet/store_queue.h"

#include "base/pool.h"
#include "fleet/store_writer.h"

#include <assert.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EVENTS_MAX 200 /* of one reading */
#define LOOKS      10  /* within STORE_HANG_MS: counted, as a process that was stopped has not waited meanwhile */

struct waiter {
    uint64_t ticket, due_ms;
    store_done_fn done;
    void *owner;
    struct waiter *next;
};

struct reading {
    store_events_fn on_events; /* this or that; neither = answered */
    store_members_fn on_members;
    void *owner;
    struct reading *next;
};

struct store_queue {
    uv_loop_t *loop;
    struct store_queue_events events;
    struct store_writer writer;
    uv_thread_t thread;
    uv_timer_t timer;     /* of the waiters */
    uv_timer_t watch;     /* whether the store hangs */
    unsigned call, looks; /* of the writer's calls, and how often that was seen under way */
    bool hangs;
    enum store_health heard; /* from the writer */
    char heard_why[STORE_WHY_SIZE];
    char place[200]; /* for people */
    struct pool spare[STORE_KINDS];
    struct store_view view;
    uint64_t ticket, written;
    struct waiter *waiters, **waiters_end;
    struct reading *readings;
    bool closing;
    unsigned handles;
    void (*on_closed)(void *owner);
    void *closed_owner;
};

/* --- changes --------------------------------------------------------------------------------------------------------
 */

/* A change as it travels: with the letter that it is sent in. */
struct parcel {
    struct letter letter; /* first */
    struct store_change change;
};

/* Only as much as its kind needs: a rollout is several times a device, and thousands of devices may wait. What devices
 * bring forth all the time is kept for the next, `spare_max` of it. */
static const struct {
    size_t row_bytes, spare_max;
} kinds[STORE_KINDS] = {
    [STORE_DEVICE] = { sizeof(struct store_device), 1024 }, [STORE_POLICY] = { sizeof(struct store_policy), 0 },
    [STORE_ROLLOUT] = { sizeof(struct store_rollout), 0 },  [STORE_MEMBER] = { sizeof(struct store_member), 1024 },
    [STORE_EVENT] = { sizeof(struct store_event), 1024 },   [STORE_SEEN] = { sizeof(struct store_seen), 64 },
};

static size_t parcel_bytes(enum store_kind kind)
{
    return offsetof(struct parcel, change.row) + kinds[kind].row_bytes;
}

static struct parcel *parcel_of(struct store_change *change)
{
    return (struct parcel *)(void *)((char *)change - offsetof(struct parcel, change));
}

static struct store_change *change_in(struct parcel *parcel, enum store_kind kind)
{
    assert(parcel != NULL);
    parcel->letter.kind = LETTER_CHANGE;
    parcel->letter.change = &parcel->change;
    parcel->change.kind = kind;
    return &parcel->change;
}

struct store_change *store_change_new(enum store_kind kind)
{
    return change_in(calloc(1, parcel_bytes(kind)), kind);
}

struct store_change *store_queue_change(struct store_queue *queue, enum store_kind kind)
{
    return change_in(pool_take(&queue->spare[kind]), kind);
}

static void free_row(struct store_change *change)
{
    if (change->kind == STORE_ROLLOUT) {
        free(change->row.rollout.rollout.order.devices);
    }
}

void store_change_free(struct store_change *change)
{
    if (change != NULL) {
        free_row(change);
        free(parcel_of(change));
    }
}

/* Those written, for the next. */
static void keep_spare(struct store_queue *queue, struct letter *letter)
{
    while (letter != NULL) {
        struct letter *next = (struct letter *)letter->mail.next;
        struct store_change *change = letter->change;
        free_row(change);
        pool_give(&queue->spare[change->kind], parcel_of(change));
        letter = next;
    }
}

/* --- answers --------------------------------------------------------------------------------------------------------
 */

/* Takes out the first that is written or late; NULL = none. */
static struct waiter *next_answered(struct store_queue *queue, bool ends)
{
    uint64_t now_ms = uv_now(queue->loop);
    for (struct waiter **link = &queue->waiters; *link != NULL; link = &(*link)->next) {
        struct waiter *waiter = *link;
        if (waiter->ticket <= queue->written || now_ms >= waiter->due_ms || ends) {
            *link = waiter->next;
            queue->waiters_end = *link == NULL ? link : queue->waiters_end;
            return waiter;
        }
    }
    return NULL;
}

static void answer_waiters(struct store_queue *queue, bool ends)
{
    struct waiter *waiter;
    while ((waiter = next_answered(queue, ends)) != NULL) { /* from the first: who was answered may have asked again */
        const char *why = queue->view.why[0] != '\0' ? queue->view.why : "the store is slow";
        bool written = waiter->ticket <= queue->written;
        waiter->done(waiter->owner, written ? STATUS_OK : STATUS_TIMEOUT, written ? "" : why);
        free(waiter);
    }
}

static void on_timer(uv_timer_t *timer)
{
    struct store_queue *queue = timer->data;
    answer_waiters(queue, false);
    if (queue->waiters == NULL) {
        (void)uv_timer_stop(timer);
    }
}

static void set_health(struct store_queue *queue, enum store_health health, const char *why)
{
    bool changed = queue->view.health != health || strcmp(queue->view.why, why) != 0;
    queue->view.health = health;
    snprintf(queue->view.why, sizeof queue->view.why, "%s", why);
    if (changed && queue->events.on_health != NULL) {
        queue->events.on_health(queue->events.owner, &queue->view);
    }
}

static void answer_reading(struct reading *reading, enum status status, const struct report *report, const char *why)
{
    struct reading asked = *reading;
    size_t count = report != NULL ? report->count : 0;
    reading->on_events = NULL;
    reading->on_members = NULL;
    if (asked.on_events != NULL) {
        asked.on_events(asked.owner, status, report != NULL ? report->events : NULL, count, why);
    } else if (asked.on_members != NULL) {
        asked.on_members(asked.owner, status, report != NULL ? report->members : NULL, count, why);
    }
}

/* --- a store that hangs ---------------------------------------------------------------------------------------------
 */

static void begin_hanging(struct store_queue *queue)
{
    char why[STORE_WHY_SIZE];
    snprintf(
        why, sizeof why,
        "the disk of %s hangs: it has not answered for %d s; see what the system says of it (dmesg), and whether a "
        "network drive is there",
        queue->place, STORE_HANG_MS / 1000);
    queue->hangs = true;
    set_health(queue, STORE_FAILING, why);
}

static void on_watch(uv_timer_t *timer)
{
    struct store_queue *queue = timer->data;
    unsigned call = atomic_load(&queue->writer.calls);
    queue->looks = call % 2 == 1 && call == queue->call ? queue->looks + 1 : 0;
    queue->call = call;
    bool hangs = queue->looks >= LOOKS;
    if (hangs && !queue->hangs) {
        begin_hanging(queue);
    } else if (!hangs && queue->hangs) { /* perhaps it has nothing to tell of that call */
        queue->hangs = false;
        set_health(queue, queue->heard, queue->heard_why);
    }
    for (struct reading *reading = queue->readings; hangs && reading != NULL; reading = reading->next) {
        answer_reading(reading, STATUS_TIMEOUT, NULL, queue->view.why);
    }
}

void store_queue_hangs_after(struct store_queue *queue, uint64_t ms)
{
    (void)uv_timer_start(&queue->watch, on_watch, ms / LOOKS, ms / LOOKS);
}

/* --- what the writer says -------------------------------------------------------------------------------------------
 */

static void hear_health(struct store_queue *queue, enum store_health health, const char *why)
{
    queue->hangs = false;
    queue->heard = health;
    snprintf(queue->heard_why, sizeof queue->heard_why, "%s", why);
    set_health(queue, health, why);
}

static void hear_rows(struct store_queue *queue, const struct report *report)
{
    struct reading **link = &queue->readings;
    answer_reading(report->reading, report->status, report, report->why);
    while (*link != report->reading) {
        link = &(*link)->next;
    }
    *link = report->reading->next;
    free(report->reading);
}

static void hear_written(struct store_queue *queue, const struct letter *letter)
{
    struct store_view *view = &queue->view;
    const struct report *report = letter->report;
    queue->written = letter->ticket > queue->written ? letter->ticket : queue->written; /* a probe has none */
    view->backlog -= report->count;
    view->written += report->count;
    view->batches++;
    view->last_ms = report->took_ms;
    view->worst_ms = report->took_ms > view->worst_ms ? report->took_ms : view->worst_ms;
    hear_health(queue, report->why[0] != '\0' ? STORE_AILING : STORE_GOOD, report->why);
    if (queue->events.on_written != NULL && !queue->closing) {
        queue->events.on_written(queue->events.owner, queue->written);
    }
    answer_waiters(queue, false);
}

static void on_handle_closed(uv_handle_t *handle)
{
    struct store_queue *queue = handle->data;
    if (--queue->handles == 0) {
        void (*on_closed)(void *owner) = queue->on_closed;
        void *owner = queue->closed_owner;
        for (size_t kind = 0; kind < STORE_KINDS; kind++) {
            pool_close(&queue->spare[kind]);
        }
        free(queue);
        on_closed(owner);
    }
}

static void on_box_closed(void *owner)
{
    struct store_queue *queue = owner;
    uv_close((uv_handle_t *)&queue->timer, on_handle_closed);
    uv_close((uv_handle_t *)&queue->watch, on_handle_closed);
}

static void end(struct store_queue *queue)
{
    answer_waiters(queue, true);
    (void)uv_thread_join(&queue->thread);
    mailbox_close(&queue->writer.to_writer, NULL);
    mailbox_shut(&queue->writer.to_loop);
    mailbox_close(&queue->writer.to_loop, on_box_closed);
}

static void on_mail(struct mailbox *box, void *owner)
{
    struct store_queue *queue = owner;
    bool ended = false;
    for (struct mail *mail = mailbox_take(box); mail != NULL;) {
        struct letter *letter = (struct letter *)mail;
        const struct report *report = letter->report;
        mail = mail->next;
        switch (letter->kind) {
        case LETTER_WRITTEN:
            keep_spare(queue, letter->report->written);
            hear_written(queue, letter);
            break;
        case LETTER_FAILED:
            queue->view.failures++;
            hear_health(queue, STORE_FAILING, report->why);
            break;
        case LETTER_ROWS:
            hear_rows(queue, report);
            break;
        default:
            ended = true;
        }
        store_letter_free(letter);
    }
    if (ended) {
        end(queue);
    }
}

struct store_queue *store_queue_open(uv_loop_t *loop, const struct store_ops *ops, const char *state_dir,
                                     const struct store_queue_events *events, store_row_fn on_row, void *owner,
                                     char *message, size_t size)
{
    void *store;
    char why[STORE_WHY_SIZE] = "";
    enum status status = ops->open(state_dir, &store, message, size);
    if (status != STATUS_OK) {
        snprintf(why, sizeof why, "%s", message);
        bool goes_on =
            ops->open_failing != NULL && ops->open_failing(state_dir, status, &store, message, size) == STATUS_OK;
        if (!goes_on) {
            return NULL;
        }
    }
    if (ops->load(store, on_row, owner, message, size) != STATUS_OK) {
        ops->close(store);
        return NULL;
    }
    struct store_queue *queue = calloc(1, sizeof *queue);
    assert(queue != NULL);
    queue->writer.ops = ops;
    queue->writer.store = store;
    queue->writer.is_failing = why[0] != '\0';
    queue->loop = loop;
    queue->events = *events;
    queue->waiters_end = &queue->waiters;
    for (size_t kind = 0; kind < STORE_KINDS; kind++) {
        pool_init(&queue->spare[kind], parcel_bytes(kind), kinds[kind].spare_max);
    }
    mailbox_open_thread(&queue->writer.to_writer, SIZE_MAX);
    mailbox_open_loop(&queue->writer.to_loop, SIZE_MAX, loop, on_mail, queue);
    (void)uv_timer_init(loop, &queue->timer);
    queue->timer.data = queue;
    (void)uv_timer_init(loop, &queue->watch);
    queue->watch.data = queue;
    queue->handles = 2;
    snprintf(queue->place, sizeof queue->place, "%s", state_dir);
    store_queue_hangs_after(queue, STORE_HANG_MS);
    int failed = uv_thread_create(&queue->thread, store_writer_run, &queue->writer);
    assert(failed == 0);
    (void)failed;
    if (why[0] != '\0') {
        hear_health(queue, STORE_FAILING, why);
    }
    return queue;
}

uint64_t store_queue_put(struct store_queue *queue, struct store_change *change, enum store_hurry hurry)
{
    if (queue->closing || queue->view.backlog >= STORE_BACKLOG_MAX) {
        store_change_free(change);
        return 0;
    }
    struct letter *letter = &parcel_of(change)->letter;
    letter->ticket = ++queue->ticket;
    letter->hurry = hurry;
    queue->view.backlog++;
    bool posted = hurry == STORE_BEHIND ? mailbox_post(&queue->writer.to_writer, &letter->mail)
                                        : mailbox_post_hurried(&queue->writer.to_writer, &letter->mail);
    assert(posted); /* unbounded; shut only after `closing` */
    (void)posted;
    return queue->ticket;
}

size_t store_queue_room(const struct store_queue *queue)
{
    return queue->closing ? 0 : STORE_BACKLOG_MAX - queue->view.backlog;
}

void store_queue_when(struct store_queue *queue, uint64_t ticket, uint64_t timeout_ms, store_done_fn done, void *owner)
{
    struct waiter *waiter = calloc(1, sizeof *waiter);
    assert(waiter != NULL);
    *waiter =
        (struct waiter){ .ticket = ticket, .due_ms = uv_now(queue->loop) + timeout_ms, .done = done, .owner = owner };
    *queue->waiters_end = waiter;
    queue->waiters_end = &waiter->next;
    (void)uv_timer_start(&queue->timer, on_timer, 0,
                         100); /* at once: what is written already is not told from within */
}

static void post_reading(struct store_queue *queue, struct letter *letter, struct reading asked)
{
    struct reading *reading = malloc(sizeof *reading);
    assert(reading != NULL);
    *reading = asked;
    reading->next = queue->readings;
    queue->readings = reading;
    letter->report->reading = reading;
    bool posted = !queue->closing && mailbox_post_hurried(&queue->writer.to_writer, &letter->mail);
    assert(posted); /* not asked for after the close has begun */
    (void)posted;
}

void store_queue_events_of(struct store_queue *queue, const struct mac *mac, size_t max, store_events_fn done,
                           void *owner)
{
    struct letter *letter = store_letter_new(LETTER_READ);
    letter->report->mac = *mac;
    letter->report->max = max < EVENTS_MAX ? max : EVENTS_MAX;
    post_reading(queue, letter, (struct reading){ .on_events = done, .owner = owner });
}

void store_queue_members_of(struct store_queue *queue, const struct store_members_asked *asked, store_members_fn done,
                            void *owner)
{
    struct letter *letter = store_letter_new(LETTER_READ);
    snprintf(letter->report->rollout, sizeof letter->report->rollout, "%s", asked->rollout);
    letter->report->of_members = true;
    letter->report->state = asked->state;
    letter->report->first = asked->first;
    letter->report->max = asked->max < STORE_MEMBERS_MAX ? asked->max : STORE_MEMBERS_MAX;
    post_reading(queue, letter, (struct reading){ .on_members = done, .owner = owner });
}

const struct store_view *store_queue_view(const struct store_queue *queue)
{
    return &queue->view;
}

void store_queue_close(struct store_queue *queue, uint64_t timeout_ms, void (*on_closed)(void *owner), void *owner)
{
    assert(!queue->closing);
    queue->closing = true;
    queue->on_closed = on_closed;
    queue->closed_owner = owner;
    queue->writer.close_by_ns = uv_hrtime() + timeout_ms * 1000000;
    mailbox_shut(&queue->writer.to_writer);
}
