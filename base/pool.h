/* Memory for objects of one size that come and go with every request: what one gives back, the next takes. So a warm
 * server asks the allocator for nothing, and after a rush all but `kept_max` objects are the system's again. Not shared
 * between threads.
 */
#ifndef BASE_POOL_H
#define BASE_POOL_H

#include <stddef.h>

struct pool {
    size_t bytes; /* of an object */
    size_t kept, kept_max;
    void *free; /* a list; each holds the next in its first bytes */
};

void pool_init(struct pool *pool, size_t bytes, size_t kept_max);

/* Zeroed. NULL: no memory. */
void *pool_take(struct pool *pool);

/* NULL is nothing. */
void pool_give(struct pool *pool, void *object);

/* Frees what is kept. What is still out may be given back afterwards, and is freed then. */
void pool_close(struct pool *pool);

#endif
