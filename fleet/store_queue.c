/* Two sides: the loop's, which counts tickets and keeps who waits for them, and the writer's thread, which gathers
 * batches. They meet in two mailboxes and share nothing else; a batch that failed stays with the writer.
 *
 * What waits is bounded by counting, not by the mailbox: a change counts until its batch is written, wherever it is. */
#include "fleet/store_queue.h"

#include "base/mailbox.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COMPANY_MS   100   /* an unhurried change waits so long for others */
#define RETRY_MS     1000  /* after a failure, doubling... */
#define RETRY_MAX_MS 30000 /* ...up to this */
#define EVENTS_MAX   200   /* of one reading */

enum letter_kind { LETTER_CHANGE, LETTER_READ, LETTER_WRITTEN, LETTER_FAILED, LETTER_EVENTS, LETTER_ENDED };

/* What goes between the two sides; to the writer the first two, to the loop the rest. */
struct letter {
    struct mail mail; /* first */
    enum letter_kind kind;
    uint64_t ticket;
    enum store_hurry hurry;
    struct store_change *change;
    uint64_t took_ms;
    size_t count;
    enum status status;
    char why[300];
    struct mac mac; /* of a reading */
    size_t max;
    struct store_event *events;
    store_events_fn on_events;
    void *owner;
};

struct waiter {
    uint64_t ticket, due_ms;
    store_done_fn done;
    void *owner;
    struct waiter *next;
};

struct store_queue {
    const struct store_ops *ops;
    void *store;
    uv_loop_t *loop;
    struct store_queue_events events;
    struct mailbox to_writer, to_loop;
    uv_thread_t thread;
    uv_timer_t timer; /* of the waiters */
    struct store_view view;
    uint64_t ticket, written;
    struct waiter *waiters;
    uint64_t close_by_ns; /* the writer gives up then; set before its box is shut */
    bool closing;
    unsigned handles;
    void (*on_closed)(void *owner);
    void *closed_owner;
};

struct store_change *store_change_new(enum store_kind kind)
{
    struct store_change *change = calloc(1, sizeof *change);
    assert(change != NULL);
    change->kind = kind;
    return change;
}

void store_change_free(struct store_change *change)
{
    if (change != NULL && change->kind == STORE_ROLLOUT) {
        free(change->row.rollout.rollout.order.devices);
    }
    free(change);
}

static struct letter *letter_new(enum letter_kind kind)
{
    struct letter *letter = calloc(1, sizeof *letter);
    assert(letter != NULL);
    letter->kind = kind;
    return letter;
}

static void letter_free(struct letter *letter)
{
    store_change_free(letter->change);
    free(letter->events);
    free(letter);
}

/* --- the writer's thread ---------------------------------------------------------------------------------------------
 */

struct writer {
    struct store_queue *queue;
    struct letter *first, **end; /* in order: changes and readings not done yet */
    size_t count;
    bool failing;
    bool shut; /* the box is: no more will come */
};

static void post(struct writer *writer, struct letter *letter)
{
    bool posted = mailbox_post(&writer->queue->to_loop, &letter->mail);
    assert(posted); /* unbounded, and shut only when this thread has ended */
    (void)posted;
}

static void take_in(struct writer *writer, struct mail *mail)
{
    while (mail != NULL) {
        struct letter *letter = (struct letter *)mail;
        mail = mail->next;
        letter->mail.next = NULL;
        *writer->end = letter;
        writer->end = (struct letter **)(void *)&letter->mail.next;
        writer->count++;
    }
}

static struct letter *next_of(const struct letter *letter)
{
    return (struct letter *)letter->mail.next;
}

static void drop_first(struct writer *writer, size_t n)
{
    for (; n > 0; n--) {
        struct letter *letter = writer->first;
        writer->first = next_of(letter);
        writer->end = writer->first != NULL ? writer->end : &writer->first;
        writer->count--;
        letter_free(letter);
    }
}

static void read_events(struct writer *writer, struct letter *letter)
{
    struct store_queue *queue = writer->queue;
    struct letter *answer = letter_new(LETTER_EVENTS);
    answer->events = calloc(letter->max > 0 ? letter->max : 1, sizeof *answer->events);
    assert(answer->events != NULL);
    answer->on_events = letter->on_events;
    answer->owner = letter->owner;
    answer->status = queue->ops->events(queue->store, &letter->mac, answer->events, letter->max, &answer->count,
                                        answer->why, sizeof answer->why);
    post(writer, answer);
}

/* As many changes as lie in front, up to a batch. */
static size_t gather(const struct writer *writer, const struct store_change *changes[STORE_BATCH_MAX], bool *durable)
{
    size_t count = 0;
    *durable = false;
    for (const struct letter *letter = writer->first;
         letter != NULL && letter->kind == LETTER_CHANGE && count < STORE_BATCH_MAX; letter = next_of(letter)) {
        changes[count++] = letter->change;
        *durable = *durable || letter->hurry == STORE_DURABLE;
    }
    return count;
}

/* One batch. Returns false where it could not be written; then it is still in front. */
static bool write_batch(struct writer *writer)
{
    static _Thread_local const struct store_change *changes[STORE_BATCH_MAX];
    struct store_queue *queue = writer->queue;
    bool durable;
    size_t count = gather(writer, changes, &durable);
    struct letter *answer = letter_new(LETTER_WRITTEN);
    uint64_t began_ns = uv_hrtime();
    answer->status = queue->ops->write(queue->store, changes, count, durable, answer->why, sizeof answer->why);
    answer->took_ms = (uv_hrtime() - began_ns) / 1000000;
    answer->count = count;
    writer->failing = answer->status != STATUS_OK;
    if (writer->failing) {
        answer->kind = LETTER_FAILED;
    } else {
        struct letter *last = writer->first;
        for (size_t i = 1; i < count; i++) {
            last = next_of(last);
        }
        answer->ticket = last->ticket;
        drop_first(writer, count);
    }
    post(writer, answer);
    return !writer->failing;
}

static bool is_hurried(const struct writer *writer)
{
    for (const struct letter *letter = writer->first; letter != NULL; letter = next_of(letter)) {
        if (letter->kind != LETTER_CHANGE || letter->hurry != STORE_BEHIND) {
            return true;
        }
    }
    return writer->count >= STORE_BATCH_MAX;
}

static void wait_for_mail(struct writer *writer, uint64_t ms)
{
    struct store_queue *queue = writer->queue;
    if (!writer->shut) {
        take_in(writer, mailbox_wait(&queue->to_writer, ms));
    }
    if (!writer->shut && mailbox_is_shut(&queue->to_writer)) {
        writer->shut = true;
        take_in(writer, mailbox_take(&queue->to_writer)); /* posted between the two looks */
    }
}

/* What is read does not wait for a store that cannot be written. */
static void read_past_failure(struct writer *writer)
{
    struct letter **link = &writer->first;
    while (*link != NULL) {
        struct letter *letter = *link;
        if (letter->kind == LETTER_READ) {
            read_events(writer, letter);
            *link = next_of(letter);
            writer->count--;
            letter_free(letter);
        } else {
            link = (struct letter **)(void *)&letter->mail.next;
        }
    }
    writer->end = link;
}

static bool out_of_time(const struct writer *writer)
{
    return writer->shut && uv_hrtime() >= writer->queue->close_by_ns;
}

static void work(struct writer *writer)
{
    uint64_t retry_ms = RETRY_MS;
    while (writer->first != NULL && !out_of_time(writer)) {
        if (writer->first->kind == LETTER_READ) {
            read_events(writer, writer->first);
            drop_first(writer, 1);
        } else if (write_batch(writer)) {
            retry_ms = RETRY_MS;
            wait_for_mail(writer, 0);
        } else {
            read_past_failure(writer);
            for (uint64_t slept_ms = 0; slept_ms < retry_ms && !out_of_time(writer); slept_ms += 50) {
                uv_sleep(50);
                wait_for_mail(writer, 0);
                read_past_failure(writer);
            }
            retry_ms = retry_ms * 2 < RETRY_MAX_MS ? retry_ms * 2 : RETRY_MAX_MS;
        }
    }
}

static void run_writer(void *arg)
{
    struct writer writer = { .queue = arg };
    struct store_queue *queue = arg;
    writer.end = &writer.first;
    while (!writer.shut || writer.first != NULL) {
        wait_for_mail(&writer, UINT32_MAX);
        if (writer.first != NULL && !is_hurried(&writer) && !writer.shut) {
            wait_for_mail(&writer, COMPANY_MS);
        }
        work(&writer);
        if (out_of_time(&writer)) {
            break;
        }
    }
    drop_first(&writer, writer.count); /* what could not be written in time */
    queue->ops->close(queue->store);
    post(&writer, letter_new(LETTER_ENDED));
}

/* --- the loop's side
 * -------------------------------------------------------------------------------------------------- */

static void answer_waiters(struct store_queue *queue, enum status late)
{
    struct waiter **link = &queue->waiters;
    uint64_t now_ms = uv_now(queue->loop);
    while (*link != NULL) {
        struct waiter *waiter = *link;
        bool written = waiter->ticket <= queue->written;
        if (!written && late == STATUS_OK && now_ms < waiter->due_ms) {
            link = &waiter->next;
            continue;
        }
        *link = waiter->next;
        const char *why = queue->view.why[0] != '\0' ? queue->view.why : "the store is slow";
        waiter->done(waiter->owner,
                     written             ? STATUS_OK
                     : late == STATUS_OK ? STATUS_TIMEOUT
                                         : late,
                     written ? "" : why);
        free(waiter);
        link = &queue->waiters; /* who was answered may have asked again */
    }
}

static void on_timer(uv_timer_t *timer)
{
    struct store_queue *queue = timer->data;
    answer_waiters(queue, STATUS_OK);
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

static void hear_written(struct store_queue *queue, const struct letter *letter)
{
    struct store_view *view = &queue->view;
    queue->written = letter->ticket;
    view->backlog -= letter->count;
    view->written += letter->count;
    view->batches++;
    view->last_ms = letter->took_ms;
    view->worst_ms = letter->took_ms > view->worst_ms ? letter->took_ms : view->worst_ms;
    set_health(queue, STORE_GOOD, "");
    if (queue->events.on_written != NULL && !queue->closing) {
        queue->events.on_written(queue->events.owner, queue->written);
    }
    answer_waiters(queue, STATUS_OK);
}

static void on_handle_closed(uv_handle_t *handle)
{
    struct store_queue *queue = handle->data;
    if (--queue->handles == 0) {
        void (*on_closed)(void *owner) = queue->on_closed;
        void *owner = queue->closed_owner;
        free(queue);
        on_closed(owner);
    }
}

static void on_box_closed(void *owner)
{
    struct store_queue *queue = owner;
    uv_close((uv_handle_t *)&queue->timer, on_handle_closed);
}

static void end(struct store_queue *queue)
{
    answer_waiters(queue, STATUS_TIMEOUT);
    (void)uv_thread_join(&queue->thread);
    mailbox_close(&queue->to_writer, NULL);
    mailbox_shut(&queue->to_loop);
    mailbox_close(&queue->to_loop, on_box_closed);
}

static void on_mail(struct mailbox *box, void *owner)
{
    struct store_queue *queue = owner;
    bool ended = false;
    for (struct mail *mail = mailbox_take(box); mail != NULL;) {
        struct letter *letter = (struct letter *)mail;
        mail = mail->next;
        switch (letter->kind) {
        case LETTER_WRITTEN:
            hear_written(queue, letter);
            break;
        case LETTER_FAILED:
            queue->view.failures++;
            set_health(queue, STORE_FAILING, letter->why);
            break;
        case LETTER_EVENTS:
            letter->on_events(letter->owner, letter->status, letter->events, letter->count, letter->why);
            break;
        default:
            ended = true;
        }
        letter_free(letter);
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
    if (ops->open(state_dir, &store, message, size) != STATUS_OK) {
        return NULL;
    }
    if (ops->load(store, on_row, owner, message, size) != STATUS_OK) {
        ops->close(store);
        return NULL;
    }
    struct store_queue *queue = calloc(1, sizeof *queue);
    assert(queue != NULL);
    queue->ops = ops;
    queue->store = store;
    queue->loop = loop;
    queue->events = *events;
    mailbox_open_thread(&queue->to_writer, SIZE_MAX);
    mailbox_open_loop(&queue->to_loop, SIZE_MAX, loop, on_mail, queue);
    (void)uv_timer_init(loop, &queue->timer);
    queue->timer.data = queue;
    queue->handles = 1;
    int failed = uv_thread_create(&queue->thread, run_writer, queue);
    assert(failed == 0);
    (void)failed;
    return queue;
}

uint64_t store_queue_put(struct store_queue *queue, struct store_change *change, enum store_hurry hurry)
{
    if (queue->closing || queue->view.backlog >= STORE_BACKLOG_MAX) {
        store_change_free(change);
        return 0;
    }
    struct letter *letter = letter_new(LETTER_CHANGE);
    letter->ticket = ++queue->ticket;
    letter->hurry = hurry;
    letter->change = change;
    queue->view.backlog++;
    bool posted = mailbox_post(&queue->to_writer, &letter->mail);
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
    *waiter = (struct waiter){ .ticket = ticket,
                               .due_ms = uv_now(queue->loop) + timeout_ms,
                               .done = done,
                               .owner = owner,
                               .next = queue->waiters };
    queue->waiters = waiter;
    if (!uv_is_active((uv_handle_t *)&queue->timer)) { /* also answers what is written already, and not from within */
        (void)uv_timer_start(&queue->timer, on_timer, 0, 100);
    }
}

void store_queue_events_of(struct store_queue *queue, const struct mac *mac, size_t max, store_events_fn done,
                           void *owner)
{
    struct letter *letter = letter_new(LETTER_READ);
    letter->mac = *mac;
    letter->max = max < EVENTS_MAX ? max : EVENTS_MAX;
    letter->on_events = done;
    letter->owner = owner;
    bool posted = !queue->closing && mailbox_post(&queue->to_writer, &letter->mail);
    assert(posted); /* not asked for after the close has begun */
    (void)posted;
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
    queue->close_by_ns = uv_hrtime() + timeout_ms * 1000000;
    mailbox_shut(&queue->to_writer);
}
