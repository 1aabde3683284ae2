/* The queue's other side: the thread that writes, and what goes between the two. Shared by the queue's rooms; nobody
 * else's.
 */
#ifndef FLEET_STORE_WRITER_H
#define FLEET_STORE_WRITER_H

#include "base/mailbox.h"
#include "fleet/store_queue.h"

#include <stdatomic.h>

enum letter_kind { LETTER_CHANGE, LETTER_READ, LETTER_WRITTEN, LETTER_FAILED, LETTER_ROWS, LETTER_ENDED };

/* What goes between the two sides; to the writer the first two kinds, to the loop the rest. */
struct letter {
    struct mail mail; /* first */
    uint64_t ticket;
    enum letter_kind kind;
    enum store_hurry hurry;
    struct store_change *change; /* of LETTER_CHANGE, which lies before it in one piece of memory */
    struct report *report;       /* of all kinds but LETTER_CHANGE, of which there are thousands */
};

struct report {
    uint64_t took_ms;
    size_t count;
    struct letter *written; /* of LETTER_WRITTEN: these, in order */
    enum status status;
    char why[STORE_WHY_SIZE];
    struct mac mac; /* of a reading */
    size_t max;
    struct store_event *events;
    bool of_members; /* else of events */
    char rollout[ANNOUNCE_ID_SIZE];
    enum rollout_device_state state;
    size_t first;
    struct store_member *members;
    struct reading *reading; /* whose answer it is; the queue's, here only carried */
};

struct letter *store_letter_new(enum letter_kind kind); /* not LETTER_CHANGE, which store_change_new makes */
void store_letter_free(struct letter *letter);

/* What the thread works with; both boxes are opened and closed by the queue. */
struct store_writer {
    const struct store_ops *ops;
    void *store;              /* the thread's own from its start on; closed at its end */
    bool is_failing;          /* from the start: it is tried until it succeeds, also where there is nothing to write */
    struct mailbox to_writer; /* shut: it ends, and says LETTER_ENDED */
    struct mailbox to_loop;
    uint64_t close_by_ns; /* it gives up then; set before its box is shut */
    atomic_uint calls;    /* entered and left: odd while it is in the store, which may never come back */
};
void store_writer_run(void *store_writer); /* the thread's function */

#endif
