#include "base/pool.h"

#include <stdlib.h>
#include <string.h>

void pool_init(struct pool *pool, size_t bytes, size_t kept_max)
{
    *pool = (struct pool){ .bytes = bytes < sizeof(void *) ? sizeof(void *) : bytes, .kept_max = kept_max };
}

void *pool_take(struct pool *pool)
{
    void *object = pool->free;
    if (object == NULL) {
        return calloc(1, pool->bytes);
    }
    memcpy(&pool->free, object, sizeof pool->free);
    pool->kept--;
    return memset(object, 0, pool->bytes);
}

void pool_give(struct pool *pool, void *object)
{
    if (object == NULL) {
        return;
    }
    if (pool->kept >= pool->kept_max) {
        free(object);
        return;
    }
    memcpy(object, &pool->free, sizeof pool->free);
    pool->free = object;
    pool->kept++;
}

void pool_close(struct pool *pool)
{
    while (pool->free != NULL) {
        void *object = pool->free;
        memcpy(&pool->free, object, sizeof pool->free);
        free(object);
    }
    pool->kept = pool->kept_max = 0;
}
