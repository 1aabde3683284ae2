/* Between the loop and the store: one writer thread, batches, a bounded backlog. The loop never waits for a disk.
 *
 * Changes are written in the order they were given, merged into transactions: a batch with a durable change in it is
 * durable whole. What makes it hard is the disk that fails: a batch that could not be written is kept and tried again
 * (after 1 s, doubling to 8 s, or when an operator says something new), behind it the backlog grows to its bound, and
 * then new changes are refused: the caller knows, keeps its own mark (a device stays dirty), and an operator is told
 * that nothing can be promised now. And the disk that hangs, whose answer never comes: the loop sees that the thread
 * has not left the store for STORE_HANG_MS, and says the same; what is asked meanwhile is answered without it.
 */
#ifndef FLEET_STORE_QUEUE_H
#define FLEET_STORE_QUEUE_H

#include "fleet/store.h"

#include <uv.h>

#define STORE_BACKLOG_MAX 16384 /* changes that wait */
#define STORE_BATCH_MAX   2048  /* in one transaction */
#define STORE_HANG_MS     10000 /* no call of the store takes so long, but on a disk that hangs */

/* The last write. AILING: all is written, but something must be mended. FAILING until one succeeds; and while the store
 * has not answered for STORE_HANG_MS. */
enum store_health { STORE_GOOD, STORE_AILING, STORE_FAILING };

struct store_view {
    enum store_health health;
    char why[STORE_WHY_SIZE]; /* where it is not GOOD: what, why, what to do */
    size_t backlog;
    uint64_t written, batches, failures;
    uint64_t last_ms, worst_ms; /* a batch took */
};

struct store_queue_events {
    void (*on_health)(void *owner, const struct store_view *view); /* it changed */
    /* All up to and including this ticket is written. */
    void (*on_written)(void *owner, uint64_t ticket);
    void *owner;
};

struct store_queue;

/* Opens the store and reads it, on the caller's thread: at the start nothing is served yet. The writer's thread has it
 * from then on. A disk that is full or read-only is no failure where what is on it could be read: FAILING from the
 * start, told before this returns, until it can be written. On failure NULL with the message. */
struct store_queue *store_queue_open(uv_loop_t *loop, const struct store_ops *ops, const char *state_dir,
                                     const struct store_queue_events *events, store_row_fn on_row, void *owner,
                                     char *message, size_t size);

/* A change to fill, zeroed but for its kind. The queue's own is made of what was written before, where it can be: for
 * what devices bring forth, a warm server asks the allocator for nothing. */
struct store_change *store_change_new(enum store_kind kind);
struct store_change *store_queue_change(struct store_queue *queue, enum store_kind kind);
void store_change_free(struct store_change *change); /* of either, that was not put */

/* Takes the change, owned from here on. Returns its ticket, counting up from 1; 0 where the backlog is full: the change
 * is freed. An urgent one ends the gathering of a batch at once; others wait up to 100 ms for company. */
enum store_hurry { STORE_BEHIND, STORE_SOON, STORE_DURABLE };
uint64_t store_queue_put(struct store_queue *queue, struct store_change *change, enum store_hurry hurry);

/* Room for so many more. */
size_t store_queue_room(const struct store_queue *queue);

/* The answer, once everything up to the ticket is written: STATUS_OK. Gives up after timeout_ms, or when the queue is
 * closed first: STATUS_TIMEOUT with the queue's `why`; it is still tried. Never called from within; who asked first is
 * answered first. */
typedef void (*store_done_fn)(void *owner, enum status status, const char *why);
void store_queue_when(struct store_queue *queue, uint64_t ticket, uint64_t timeout_ms, store_done_fn done, void *owner);

/* Reads the time-line of a device, behind all changes given before (where these cannot be written: past them). Always
 * answered, STATUS_TIMEOUT where the store hangs or the close came first. */
typedef void (*store_events_fn)(void *owner, enum status status, const struct store_event *events, size_t count,
                                const char *why);
void store_queue_events_of(struct store_queue *queue, const struct mac *mac, size_t max, store_events_fn done,
                           void *owner);

/* For tests: instead of STORE_HANG_MS. */
void store_queue_hangs_after(struct store_queue *queue, uint64_t ms);
/* Likewise, the members of a rollout that is over (store_ops.members). */
#define STORE_MEMBERS_MAX 1000 /* at a time */
typedef void (*store_members_fn)(void *owner, enum status status, const struct store_member *members, size_t count,
                                 const char *why);
struct store_members_asked {
    char rollout[ANNOUNCE_ID_SIZE];
    enum rollout_device_state state;
    size_t first, max;
};
void store_queue_members_of(struct store_queue *queue, const struct store_members_asked *asked, store_members_fn done,
                            void *owner);

const struct store_view *store_queue_view(const struct store_queue *queue);

/* Writes what is left, closes; on_closed follows on the loop, after all answers. What a failing store has not taken
 * after timeout_ms is given up; one write that hangs in the system cannot be cut short. */
void store_queue_close(struct store_queue *queue, uint64_t timeout_ms, void (*on_closed)(void *owner), void *owner);

#endif
