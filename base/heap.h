/* Memory that was freed, back to the system. What makes it needed: glibc keeps pages that lie free between blocks still
 * held, and those of each thread's own heap, so that what one long answer took would be ours for ever, in each thread.
 */
#ifndef BASE_HEAP_H
#define BASE_HEAP_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#define HEAP_TRIM_EVERY_MS 60000

struct heap_trim {
    uv_work_t work;
    uint64_t last_ms; /* loop time */
    bool under_way;
};

/* At once; a millisecond or two, in which other threads may wait for memory. */
void heap_give_back(void);

/* Called often, by the loop: every HEAP_TRIM_EVERY_MS a worker thread gives it back. Zeroed at first; it must outlive
 * the work, for which the loop waits. */
void heap_trim_tick(struct heap_trim *trim, uv_loop_t *loop);

#endif
