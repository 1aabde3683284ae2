/* A byte buffer that grows up to a limit of its own, so that no input decides how much memory is taken. */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include <stdbool.h>
#include <stddef.h>

struct buf {
    char *bytes;
    size_t used;
    size_t size;
    size_t max;
};

/* Takes no memory until something is added. `max` is the most bytes it will ever hold. */
void buf_init(struct buf *buf, size_t max);
void buf_close(struct buf *buf);

/* Appends n bytes. Returns false, changing nothing, beyond `max` or without memory. */
bool buf_add(struct buf *buf, const void *bytes, size_t n);

/* Removes n bytes from the front; frees the memory when nothing is left. */
void buf_consume(struct buf *buf, size_t n);

#endif
