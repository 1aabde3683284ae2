/* Memory in huge pages, where the system has them. A large table that is looked into at random spends as long on
 * finding the page as on fetching from it: the processor remembers few pages, and each is 4 KiB else.
 */
#ifndef FLEET_HUGE_PAGE_H
#define FLEET_HUGE_PAGE_H

#include <stddef.h>
#include <stdlib.h>
#include <sys/mman.h>

#define HUGE_PAGE_BYTES ((size_t)2 << 20)

/* A multiple of HUGE_PAGE_BYTES, not zeroed, to be freed by free(); NULL = there is none. */
static inline void *huge_alloc(size_t bytes)
{
    void *memory = aligned_alloc(HUGE_PAGE_BYTES, bytes);
    if (memory != NULL) {
        (void)madvise(memory, bytes, MADV_HUGEPAGE); /* a wish: without it all is as right, and slower */
    }
    return memory;
}

#endif
