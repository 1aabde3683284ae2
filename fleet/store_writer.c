/* The writer's thread gathers batches, writes them, and keeps one that failed until it can be written. It shares
 * nothing with the loop but the two mailboxes.
 *
 * What makes it hard is to stay reachable while the store fails: what is only read does not wait for it, an operator's
 * word ends the pause, and the end of the server does too.
 */
#include "fleet/store_writer.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#define COMPANY_MS   100  /* an unhurried change waits so long for others */
#define RETRY_MS     1000 /* after a failure, doubling... */
#define RETRY_MAX_MS 8000 /* ...up to this: an operator who made room does not wait long */
#define LOOK_MS      5000 /* with nothing to write, it looks so often whether it could */
#define TIDY_MS      100  /* between two pieces of what is left to do: the disk is others', too */
#define SLEEP_MS     50   /* while it waits for a retry, the writer looks up so often */

struct letter *store_letter_new(enum letter_kind kind)
{
    struct letter *letter = calloc(1, sizeof *letter);
    assert(letter != NULL && kind != LETTER_CHANGE);
    letter->kind = kind;
    letter->report = calloc(1, sizeof *letter->report);
    assert(letter->report != NULL);
    return letter;
}

void store_letter_free(struct letter *letter)
{
    if (letter->kind == LETTER_CHANGE) {
        store_change_free(letter->change);
        return;
    }
    free(letter->report->events);
    free(letter->report->members);
    free(letter->report);
    free(letter);
}

struct writer {
    struct store_writer *with;
    struct letter *first, **end; /* in order: changes and readings not done yet */
    size_t count;
    bool shut;    /* the box is: no more will come */
    bool failing; /* the last write */
};

static void post(struct writer *writer, struct letter *letter)
{
    bool posted = mailbox_post(&writer->with->to_loop, &letter->mail);
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

/* The first `count`, of which `last` is the last: they are the caller's. */
static void take_off(struct writer *writer, struct letter *last, size_t count)
{
    writer->first = next_of(last);
    writer->end = writer->first != NULL ? writer->end : &writer->first;
    writer->count -= count;
    last->mail.next = NULL;
}

static void drop_first(struct writer *writer, size_t n)
{
    for (; n > 0; n--) {
        struct letter *letter = writer->first;
        take_off(writer, letter, 1);
        store_letter_free(letter);
    }
}

static struct letter *answer_to(const struct letter *reading)
{
    struct letter *answer = store_letter_new(LETTER_ROWS);
    answer->report->reading = reading->report->reading;
    return answer;
}

static void read_rows(struct writer *writer, const struct letter *letter)
{
    struct store_writer *with = writer->with;
    struct letter *answer = answer_to(letter);
    struct report *report = answer->report;
    size_t max = letter->report->max;
    const struct report *wanted = letter->report;
    atomic_fetch_add(&with->calls, 1);
    if (wanted->of_members) {
        report->members = calloc(max > 0 ? max : 1, sizeof *report->members);
        assert(report->members != NULL);
        report->status = with->ops->members(with->store, wanted->rollout, wanted->state, wanted->first, report->members,
                                            max, &report->count, report->why, sizeof report->why);
    } else {
        report->events = calloc(max > 0 ? max : 1, sizeof *report->events);
        assert(report->events != NULL);
        report->status = with->ops->events(with->store, &wanted->mac, report->events, max, &report->count, report->why,
                                           sizeof report->why);
    }
    atomic_fetch_add(&with->calls, 1);
    post(writer, answer);
}

static enum status write_store(struct store_writer *with, const struct store_change *const *changes, size_t count,
                               bool durable, struct report *report)
{
    atomic_fetch_add(&with->calls, 1);
    report->status = with->ops->write(with->store, changes, count, durable, report->why, sizeof report->why);
    atomic_fetch_add(&with->calls, 1);
    return report->status;
}

/* What could not be done before the end. */
static void give_up(struct writer *writer)
{
    for (const struct letter *letter = writer->first; letter != NULL; letter = next_of(letter)) {
        if (letter->kind == LETTER_READ) {
            struct letter *answer = answer_to(letter);
            answer->report->status = STATUS_TIMEOUT;
            snprintf(answer->report->why, sizeof answer->report->why, "the server ends");
            post(writer, answer);
        }
    }
    drop_first(writer, writer->count);
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

/* One batch; a probe, where there is none. Returns false where it could not be written; then it is still in front. */
static bool write_batch(struct writer *writer)
{
    static _Thread_local const struct store_change *changes[STORE_BATCH_MAX];
    struct store_writer *with = writer->with;
    bool durable;
    size_t count = gather(writer, changes, &durable);
    struct letter *answer = store_letter_new(LETTER_WRITTEN);
    struct report *report = answer->report;
    uint64_t began_ns = uv_hrtime();
    bool failed = write_store(with, changes, count, durable, report) != STATUS_OK;
    report->took_ms = (uv_hrtime() - began_ns) / 1000000;
    report->count = count;
    writer->failing = failed;
    if (failed) {
        answer->kind = LETTER_FAILED;
    } else if (count > 0) {
        struct letter *last = writer->first;
        for (size_t i = 1; i < count; i++) {
            last = next_of(last);
        }
        answer->ticket = last->ticket;
        report->written = writer->first;
        take_off(writer, last, count);
    }
    post(writer, answer);
    return !failed;
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
    struct store_writer *with = writer->with;
    if (!writer->shut) {
        take_in(writer, mailbox_wait(&with->to_writer, ms));
    }
    if (!writer->shut && mailbox_is_shut(&with->to_writer)) {
        writer->shut = true;
        take_in(writer, mailbox_take(&with->to_writer)); /* posted between the two looks */
    }
}

/* What is read does not wait for a store that cannot be written. */
static void read_past_failure(struct writer *writer)
{
    struct letter **link = &writer->first;
    while (*link != NULL) {
        struct letter *letter = *link;
        if (letter->kind == LETTER_READ) {
            read_rows(writer, letter);
            *link = next_of(letter);
            writer->count--;
            store_letter_free(letter);
        } else {
            link = (struct letter **)(void *)&letter->mail.next;
        }
    }
    writer->end = link;
}

static bool out_of_time(const struct writer *writer)
{
    return writer->shut && uv_hrtime() >= writer->with->close_by_ns;
}

static bool is_durable_behind(const struct writer *writer, uint64_t ticket)
{
    for (const struct letter *letter = writer->first; letter != NULL; letter = next_of(letter)) {
        if (letter->kind == LETTER_CHANGE && letter->hurry == STORE_DURABLE && letter->ticket > ticket) {
            return true;
        }
    }
    return false;
}

/* Until it is time to try again: at once, though not more often than once a second, when an operator has come. */
static void wait_for_retry(struct writer *writer, uint64_t ms)
{
    uint64_t last = 0;
    for (const struct letter *letter = writer->first; letter != NULL; letter = next_of(letter)) {
        last = letter->ticket;
    }
    for (uint64_t slept_ms = 0; slept_ms < ms && !out_of_time(writer); slept_ms += SLEEP_MS) {
        if (slept_ms >= RETRY_MS && is_durable_behind(writer, last)) {
            return;
        }
        if (writer->shut && writer->first == NULL) {
            return;
        }
        uv_sleep(SLEEP_MS);
        wait_for_mail(writer, 0);
        read_past_failure(writer);
    }
}

/* So unhurried changes make ten batches a second at most, or full ones. */
static void wait_for_company(struct writer *writer)
{
    if (writer->first != NULL && !writer->shut && !is_hurried(writer)) {
        mailbox_rest(&writer->with->to_writer, STORE_BATCH_MAX - writer->count, COMPANY_MS);
        wait_for_mail(writer, 0);
    }
}

static void work(struct writer *writer)
{
    uint64_t retry_ms = RETRY_MS;
    while ((writer->first != NULL || (writer->failing && !writer->shut)) && !out_of_time(writer)) {
        if (writer->first != NULL && writer->first->kind == LETTER_READ) {
            read_rows(writer, writer->first);
            drop_first(writer, 1);
        } else if (write_batch(writer)) {
            retry_ms = RETRY_MS;
            wait_for_mail(writer, 0);
            wait_for_company(writer);
        } else {
            read_past_failure(writer);
            wait_for_retry(writer, retry_ms);
            retry_ms = retry_ms * 2 < RETRY_MAX_MS ? retry_ms * 2 : RETRY_MAX_MS;
        }
    }
}

/* A file that was removed would be noticed with the next change alone, and till then be called good. */
static void look(struct writer *writer)
{
    struct letter *answer = store_letter_new(LETTER_FAILED);
    writer->failing = write_store(writer->with, NULL, 0, false, answer->report) != STATUS_OK;
    if (writer->failing) {
        post(writer, answer);
    } else {
        store_letter_free(answer);
    }
}

static bool tidy(const struct writer *writer)
{
    struct store_writer *with = writer->with;
    if (with->ops->tidy == NULL) {
        return false;
    }
    atomic_fetch_add(&with->calls, 1);
    bool goes_on = with->ops->tidy(with->store);
    atomic_fetch_add(&with->calls, 1);
    return goes_on;
}

void store_writer_run(void *store_writer)
{
    struct store_writer *with = store_writer;
    struct writer writer = { .with = with };
    writer.end = &writer.first;
    writer.failing = with->is_failing;
    while (!writer.shut || writer.first != NULL) {
        if (!writer.failing) {
            wait_for_mail(&writer, tidy(&writer) ? TIDY_MS : LOOK_MS);
        }
        if (writer.first != NULL) {
            wait_for_company(&writer);
        } else if (!writer.shut && !writer.failing) {
            look(&writer);
        }
        work(&writer);
        if (out_of_time(&writer)) {
            break;
        }
    }
    give_up(&writer);
    with->ops->close(with->store);
    post(&writer, store_letter_new(LETTER_ENDED));
}
