/* Long work on the loop, a little at each turn: between two slices devices are served. First come, first served, one
 * job at a time, so that what was ordered first is also done first.
 */
#ifndef SERVER_TURNS_H
#define SERVER_TURNS_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

/* How long a slice may still be. */
struct turn_budget {
    uint64_t end_ns; /* uv_hrtime */
    unsigned asked;
};

/* To be asked after each step of a few microseconds at most. */
bool turn_is_spent(struct turn_budget *budget);

/* Works until its budget is spent. Returns whether there is more to do; where there is not, it may be gone on return.
 */
typedef bool (*turn_fn)(void *owner, struct turn_budget *budget);

struct turn_job {
    turn_fn step;
    void *owner;
    struct turn_job *next;
    bool queued;
};

/* Zeroed, but for the loop. */
struct turns {
    uv_loop_t *loop;
    struct turn_job *first, *last;
    struct turn_job *running; /* taken out of the queue; NULL = none */
    uv_idle_t *idle;          /* made when first needed; frees itself when closed */
    uint64_t cut_ms;          /* loop time of the last slice at once that was not enough */
};

/* Behind the others; nothing where it waits already, or is at work. */
void turns_add(struct turns *turns, struct turn_job *job);

/* A slice at once, for work that is small as a rule: then it is done on return. Nothing from within a step, nor where
 * such a slice was not enough in this turn of the loop already. */
void turns_run(struct turns *turns);

void turns_finish(struct turns *turns); /* everything, however long it takes */
void turns_close(struct turns *turns);  /* once nothing waits */

#endif
