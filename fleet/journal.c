/* Rows from records. A device is written from its record at the moment of flushing, so whatever happened meanwhile is
 * in it; a member or a rollout at once, because triggers wait for them, and the row of the member's device before it.
 * Back from rows: journal_recall.c. */
#include "fleet/journal.h"

#include "base/text.h"
#include "fleet/journal_rows.h"
#include "fleet/seen.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RESERVE   (STORE_BACKLOG_MAX / 4) /* room that devices and what is written again leave to what is urgent */
#define FLUSH_MAX STORE_BATCH_MAX         /* in one go: the loop has other things to do */
#define PIECE     64                      /* members looked at together */

/* All rollouts, the oldest first, as far as there is room each time. */
struct rewriting {
    bool wanted; /* something was refused since it began, or it has not begun */
    bool under_way;
    char id[ANNOUNCE_ID_SIZE]; /* of the rollout it is at; "" = before the oldest */
    size_t passed;             /* members of it that were looked at */
};

/* An operator's word that found no room. */
struct owed {
    struct mac mac;
    bool gone; /* the device; else what is said of it */
};

struct journal {
    struct devices *devices;
    const struct policies *policies;
    struct never_again *never_again;
    struct store_queue *queue;
    struct seen *seen; /* NULL where the queue is */
    uint64_t events_dropped;
    struct rewriting rewriting;
    struct owed owed[JOURNAL_OWED_MAX];
    size_t owed_count;
    char gone[ROLLOUTS_MAX][ANNOUNCE_ID_SIZE]; /* rollouts whose end found no room */
    size_t gone_count;
};

struct journal *journal_new(struct devices *devices, const struct policies *policies, struct never_again *never_again,
                            struct store_queue *queue)
{
    struct journal *journal = calloc(1, sizeof *journal);
    assert(journal != NULL);
    journal->devices = devices;
    journal->policies = policies;
    journal->never_again = never_again;
    journal->queue = queue;
    journal->seen = queue != NULL ? seen_new(devices, queue) : NULL;
    return journal;
}

void journal_free(struct journal *journal)
{
    if (journal != NULL) {
        seen_free(journal->seen);
        free(journal);
    }
}

struct store_queue *journal_queue(const struct journal *journal)
{
    return journal != NULL ? journal->queue : NULL;
}

uint64_t journal_events_dropped(const struct journal *journal)
{
    return journal != NULL ? journal->events_dropped : 0;
}

static bool is_off(const struct journal *journal)
{
    return journal == NULL || journal->queue == NULL;
}

static uint64_t put(struct journal *journal, struct store_change *change, enum store_hurry hurry)
{
    uint64_t ticket = store_queue_put(journal->queue, change, hurry);
    return ticket > 0 ? ticket : JOURNAL_REFUSED;
}

/* --- an operator's words ---------------------------------------------------------------------------------------------
 */

bool journal_takes_words(const struct journal *journal, size_t count)
{
    return is_off(journal) || store_queue_room(journal->queue) + (JOURNAL_OWED_MAX - journal->owed_count) >= count;
}

static uint64_t put_owed(struct journal *journal, const struct mac *mac, bool gone, struct store_change *change)
{
    uint64_t ticket = put(journal, change, STORE_DURABLE);
    size_t i = 0;
    if (ticket != JOURNAL_REFUSED) {
        return ticket;
    }
    while (i < journal->owed_count && (journal->owed[i].gone != gone || !mac_equal(&journal->owed[i].mac, mac))) {
        i++;
    }
    if (i == journal->owed_count && i < JOURNAL_OWED_MAX) {
        journal->owed[journal->owed_count++] = (struct owed){ *mac, gone };
    }
    return ticket;
}

static void fill_policy(struct store_policy *row, const struct words *words, const struct policy_entry *entry)
{
    row->blocked = entry->blocked;
    row->approved = entry->approved;
    row->unix_s = entry->unix_s;
    row->group_count = entry->group_count;
    text_copy(entry->note, row->note, sizeof row->note);
    text_copy(words_text(words, entry->type), row->type, sizeof row->type);
    text_copy(words_text(words, entry->label), row->label, sizeof row->label);
    text_copy(words_text(words, entry->pin), row->pin, sizeof row->pin);
    for (size_t i = 0; i < entry->group_count; i++) {
        text_copy(words_text(words, entry->groups[i]), row->groups[i], sizeof row->groups[i]);
    }
}

uint64_t journal_policy(struct journal *journal, const struct mac *mac)
{
    if (is_off(journal)) {
        return 0;
    }
    const struct policy_entry *entry = policies_find(journal->policies, mac);
    struct store_change *change = store_queue_change(journal->queue, STORE_POLICY);
    change->row.policy.mac = *mac;
    change->row.policy.gone = entry == NULL;
    if (entry != NULL) {
        fill_policy(&change->row.policy, devices_words(journal->devices), entry);
    }
    return put_owed(journal, mac, false, change);
}

uint64_t journal_device_gone(struct journal *journal, const struct mac *mac)
{
    if (is_off(journal)) {
        return 0;
    }
    struct store_change *change = store_queue_change(journal->queue, STORE_DEVICE);
    change->row.device.mac = *mac;
    change->row.device.gone = true;
    return put_owed(journal, mac, true, change);
}

/* Not only as far as the reserve: for these it is kept. */
static void write_owed(struct journal *journal)
{
    for (size_t i = 0; i < FLUSH_MAX && journal->owed_count > 0 && store_queue_room(journal->queue) > 0; i++) {
        struct owed owed = journal->owed[--journal->owed_count];
        if (!owed.gone) {
            (void)journal_policy(journal, &owed.mac);
        } else if (devices_find(journal->devices, &owed.mac) == NULL) {
            (void)journal_device_gone(journal, &owed.mac);
        }
    }
}

/* --- a device's row --------------------------------------------------------------------------------------------------
 */

#define NUMBER(name) row->name = from->name;
#define BYTES(name)  memcpy(row->name, from->name, sizeof row->name);
#define WORD(name)   text_copy(words_text(words, from->name), row->name, sizeof row->name);

static void fill_transfer(struct store_transfer *row, const struct words *words, const struct device_transfer *from)
{
    TRANSFER_NUMBERS(NUMBER)
    TRANSFER_BYTES(BYTES)
    TRANSFER_WORDS(WORD)
}

static void fill_device(struct store_device *row, const struct words *words, const struct device *from)
{
    DEVICE_NUMBERS(NUMBER)
    DEVICE_BYTES(BYTES)
    DEVICE_WORDS(WORD)
    row->mac = from->mac;
    row->seen_s = from->seen_s;
    text_copy(words_text(words, from->type->name), row->type, sizeof row->type);
    fill_transfer(&row->transfer, words, &from->transfer);
    fill_transfer(&row->fs_transfer, words, device_sent(from, true));
}

static struct store_change *device_change(const struct journal *journal, const struct device *device)
{
    const struct never_again_entry *failed = never_again_find(journal->never_again, &device->mac);
    struct store_change *change = store_queue_change(journal->queue, STORE_DEVICE);
    fill_device(&change->row.device, devices_words(journal->devices), device);
    if (failed != NULL) {
        change->row.device.never_again = *failed;
    }
    return change;
}

#define NUMBER_DIFFERS(name) || before->name != device->name
#define BYTES_DIFFER(name)   || memcmp(before->name, device->name, sizeof before->name) != 0

bool journal_device_differs(const struct device *before, const struct device *device)
{
    return false DEVICE_NUMBERS(NUMBER_DIFFERS) DEVICE_BYTES(BYTES_DIFFER) DEVICE_WORDS(NUMBER_DIFFERS);
}

void journal_saw(struct journal *journal, const struct device *device)
{
    if (!is_off(journal)) {
        seen_note(journal->seen, device);
    }
}

void journal_tick(struct journal *journal)
{
    if (!is_off(journal)) {
        seen_tick(journal->seen);
    }
}

void journal_end(struct journal *journal)
{
    if (!is_off(journal)) {
        seen_write(journal->seen);
    }
}

/* What is said of a device goes behind its row: whatever part of it a kill lets through, the row knows as much. Returns
 * false where there is no room for both. */
static bool put_row_before(struct journal *journal, const struct mac *mac)
{
    struct device *device = devices_find(journal->devices, mac);
    if (device == NULL || !device->dirty) {
        return true;
    }
    if (store_queue_room(journal->queue) < 2) {
        return false;
    }
    devices_unmark(journal->devices, device);
    (void)put(journal, device_change(journal, device), STORE_BEHIND);
    return true;
}

/* --- rollouts --------------------------------------------------------------------------------------------------------
 */

uint64_t journal_rollout(struct journal *journal, const struct rollout *rollout, bool durable)
{
    if (is_off(journal)) {
        return 0;
    }
    struct store_change *change = store_queue_change(journal->queue, STORE_ROLLOUT);
    struct rollout *copy = &change->row.rollout.rollout;
    *copy = *rollout;
    copy->table = NULL;
    copy->order.devices = NULL;
    if (rollout->order.device_count > 0) {
        copy->order.devices = malloc(rollout->order.device_count * sizeof(struct mac));
        assert(copy->order.devices != NULL);
        memcpy(copy->order.devices, rollout->order.devices, rollout->order.device_count * sizeof(struct mac));
    }
    uint64_t ticket = put(journal, change, durable ? STORE_DURABLE : STORE_SOON);
    journal->rewriting.wanted = journal->rewriting.wanted || ticket == JOURNAL_REFUSED;
    return ticket;
}

static uint64_t put_gone(struct journal *journal, const char *id)
{
    struct store_change *change = store_queue_change(journal->queue, STORE_ROLLOUT);
    change->row.rollout.gone = true;
    text_copy(id, change->row.rollout.rollout.id, sizeof change->row.rollout.rollout.id);
    return put(journal, change, STORE_SOON);
}

uint64_t journal_rollout_gone(struct journal *journal, const char *id)
{
    if (is_off(journal)) {
        return 0;
    }
    uint64_t ticket = put_gone(journal, id);
    if (ticket == JOURNAL_REFUSED && journal->gone_count < ROLLOUTS_MAX) {
        snprintf(journal->gone[journal->gone_count++], ANNOUNCE_ID_SIZE, "%s", id);
    }
    return ticket;
}

static void fill_member(struct store_member *row, const struct rollout *rollout, const struct rollout_member *from)
{
    MEMBER_NUMBERS(NUMBER)
    row->state = (uint8_t)from->state;
    row->mark = (uint8_t)from->mark;
    text_copy(rollout->id, row->rollout, sizeof row->rollout);
    text_copy(from->why, row->why, sizeof row->why);
}

uint64_t journal_member(struct journal *journal, const struct rollout *rollout, const struct rollout_member *member)
{
    if (is_off(journal)) {
        return 0;
    }
    struct store_change *change = store_queue_change(journal->queue, STORE_MEMBER);
    fill_member(&change->row.member, rollout, member);
    uint64_t ticket = JOURNAL_REFUSED;
    if (put_row_before(journal, &member->mac)) {
        ticket = put(journal, change, STORE_SOON);
    } else {
        store_change_free(change);
    }
    journal->rewriting.wanted = journal->rewriting.wanted || ticket == JOURNAL_REFUSED;
    return ticket;
}

/* --- what was refused, again -----------------------------------------------------------------------------------------
 */

/* Its state follows from the order: who is known joins again, QUEUED. */
static bool follows(const struct rollout_member *member)
{
    return member->state == ROLLOUT_DEVICE_QUEUED && member->attempts == 0 && member->armed == 0 && !member->canary;
}

/* Returns false where room ran out before its last member. */
static bool rewrite_members(struct journal *journal, struct rollout *rollout)
{
    struct rewriting *rewriting = &journal->rewriting;
    struct rollout_member members[PIECE];
    while (store_queue_room(journal->queue) > RESERVE + PIECE) {
        size_t n = rollout_members(rollout, ROLLOUT_DEVICE_STATES, rewriting->passed, members, PIECE);
        for (size_t i = 0; i < n; i++) {
            if (!follows(&members[i])) {
                (void)journal_member(journal, rollout, &members[i]);
            }
        }
        rewriting->passed += n;
        if (n < PIECE) {
            rollout_write_armed(rollout);
            return true;
        }
    }
    return false;
}

/* The rollout it is at, or the next newer one; NULL = that was the newest. Where the one it is at was forgotten
 * meanwhile, the oldest again. */
static struct rollout *rewriting_at(const struct rewriting *rewriting, const struct rollouts *rollouts, bool next)
{
    size_t i = 0;
    while (i < rollouts_count(rollouts) && strcmp(rollouts_at(rollouts, i)->id, rewriting->id) != 0) {
        i++;
    }
    if (i < rollouts_count(rollouts) && !next) {
        return rollouts_at(rollouts, i);
    }
    return i > 0 ? rollouts_at(rollouts, i - 1) : NULL;
}

/* Each row says what is true when it is given, so what changes meanwhile may come before or behind it. */
static void rewrite(struct journal *journal, const struct rollouts *rollouts)
{
    struct rewriting *rewriting = &journal->rewriting;
    if (!rewriting->under_way) {
        *rewriting = (struct rewriting){ .under_way = true };
    }
    struct rollout *rollout = rewriting_at(rewriting, rollouts, false);
    while (rollout != NULL && store_queue_room(journal->queue) > RESERVE) {
        if (strcmp(rewriting->id, rollout->id) != 0) {
            text_copy(rollout->id, rewriting->id, sizeof rewriting->id);
            rewriting->passed = 0;
            (void)journal_rollout(journal, rollout, false);
        }
        if (!rewrite_members(journal, rollout)) {
            return;
        }
        rollout = rewriting_at(rewriting, rollouts, true);
    }
    rewriting->under_way = rollout != NULL;
}

static void write_gone(struct journal *journal)
{
    while (journal->gone_count > 0 && store_queue_room(journal->queue) > RESERVE) {
        (void)put_gone(journal, journal->gone[--journal->gone_count]);
    }
}

/* --- devices ---------------------------------------------------------------------------------------------------------
 */

uint64_t journal_device(struct journal *journal, const struct device *device)
{
    return is_off(journal) ? 0 : put(journal, device_change(journal, device), STORE_DURABLE);
}

static void write_devices(struct journal *journal)
{
    size_t room = store_queue_room(journal->queue);
    size_t max = room > RESERVE ? (room - RESERVE < FLUSH_MAX ? room - RESERVE : FLUSH_MAX) : 0;
    for (size_t i = 0; i < max && devices_dirty_count(journal->devices) > 0; i++) {
        const struct device *device = devices_next_dirty(journal->devices);
        uint64_t ticket = put(journal, device_change(journal, device), STORE_BEHIND);
        assert(ticket != JOURNAL_REFUSED); /* there is room for `max` */
        (void)ticket;
    }
}

void journal_event(struct journal *journal, const struct mac *mac, const struct moment *now, const char *word,
                   const char *format, ...)
{
    va_list args;
    if (is_off(journal)) {
        return;
    }
    if (store_queue_room(journal->queue) < STORE_BACKLOG_MAX / 2) { /* the rest is kept for what must not be lost */
        journal->events_dropped++;
        return;
    }
    struct store_change *change = store_queue_change(journal->queue, STORE_EVENT);
    struct store_event *row = &change->row.event;
    row->mac = *mac;
    row->unix_s = now->unix_s;
    text_copy(word, row->word, sizeof row->word);
    va_start(args, format);
    vsnprintf(row->text, sizeof row->text, format, args);
    va_end(args);
    (void)put_row_before(journal, mac); /* there is room */
    (void)put(journal, change, STORE_BEHIND);
}

void journal_flush(struct journal *journal, struct rollouts *rollouts)
{
    if (is_off(journal)) {
        return;
    }
    write_owed(journal);
    write_gone(journal);
    const struct rewriting *rewriting = &journal->rewriting;
    if ((rewriting->wanted || rewriting->under_way) && store_queue_room(journal->queue) > STORE_BACKLOG_MAX / 2) {
        rewrite(journal, rollouts);
    }
    write_devices(journal);
}
