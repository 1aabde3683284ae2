/* From the fleet's memory to the store's queue: what changed, as rows. And back, at the start.
 *
 * What makes it hard is a store that is slow or full. A device that changed is marked and written within a second, once
 * however often it changed; where the queue has no room it stays marked, so nothing grows. One that came and is as it
 * was is not marked, see fleet/seen. A rollout whose changes
 * found no room is written again whole, when there is; an operator's word that found none is owed, and written first.
 * Time-lines are the one thing that is dropped then, and counted.
 *
 * A kill may come between any two rows: the row of a device always goes before what is said of it, in its time-line and
 * in rollouts. So the record is changed and marked first, then journal_event and the rollouts are told.
 */
#ifndef FLEET_JOURNAL_H
#define FLEET_JOURNAL_H

#include "fleet/device.h"
#include "fleet/loop_guard.h"
#include "fleet/never_again.h"
#include "fleet/policy.h"
#include "fleet/rollout.h"
#include "fleet/store_queue.h"

struct journal;

/* The rooms whose records are written. The queue may be NULL: then all of this does nothing. */
struct journal *journal_new(struct devices *devices, const struct policies *policies, struct never_again *never_again,
                            struct store_queue *queue);
void journal_free(struct journal *journal);

/* Each returns the ticket to wait for; 0 = nothing is written down (no store). JOURNAL_REFUSED: no room now. */
#define JOURNAL_REFUSED UINT64_MAX
/* What is said of the device, or that nothing is any more. Where it is refused it is owed: written by journal_flush as
 * it stands then. So many devices can be owed; of more nothing should be changed. */
#define JOURNAL_OWED_MAX 16384
bool journal_takes_words(const struct journal *journal, size_t count);
uint64_t journal_policy(struct journal *journal, const struct mac *mac);
/* Devices are written by journal_flush; these two at once, durable, for an operator's word. One that is gone is owed,
 * too, unless it comes back. */
uint64_t journal_device(struct journal *journal, const struct device *device);
uint64_t journal_device_gone(struct journal *journal, const struct mac *mac);
uint64_t journal_rollout(struct journal *journal, const struct rollout *rollout, bool durable);
uint64_t journal_member(struct journal *journal, const struct rollout *rollout, const struct rollout_member *member);
uint64_t journal_rollout_gone(struct journal *journal, const char *id);
void journal_event(struct journal *journal, const struct mac *mac, const struct moment *now, const char *word,
                   const char *format, ...) __attribute__((format(printf, 5, 6)));

/* What is owed; devices that changed, as far as there is room; rollouts that are to be written again. Twice a second;
 * and when something was written (store_queue_events.on_written) and a batch waits, so that a busy fleet goes as fast
 * as the disk does. */
void journal_flush(struct journal *journal, struct rollouts *rollouts);
/* When devices were last seen, within SEEN_WRITTEN_S: who came, or is about to be forgotten; once a second; and, before
 * the queue is closed, all that is left. */
void journal_saw(struct journal *journal, const struct device *device);
void journal_tick(struct journal *journal);
void journal_end(struct journal *journal);
/* In anything else that its row says, but what it was sent. */
bool journal_device_differs(const struct device *before, const struct device *device);
uint64_t journal_events_dropped(const struct journal *journal);
struct store_queue *journal_queue(const struct journal *journal);

/* Reads what was written down into empty rooms. */
struct recall {
    struct words *words;
    struct devices *devices;
    struct policies *policies;
    struct never_again *never_again;
    struct rollouts *rollouts;
    struct image_failures *failures; /* NULL = nobody counts */
    struct loop_guard *guard;        /* NULL = nobody guards */
    unsigned loop_guard_max;
    const struct moment *now;
    uint64_t (*site_of)(const uint8_t address[16]); /* fleet_site */
    size_t rows;
};
bool recall_row(void *recall, const struct store_change *row); /* a store_row_fn */

#endif
