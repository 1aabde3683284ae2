#include "base/buf.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

void buf_init(struct buf *buf, size_t max)
{
    *buf = (struct buf){ .max = max };
}

void buf_close(struct buf *buf)
{
    free(buf->bytes);
    buf_init(buf, buf->max);
}

bool buf_add(struct buf *buf, const void *bytes, size_t n)
{
    if (n > buf->max - buf->used) {
        return false;
    }
    if (n == 0) {
        return true;
    }
    if (buf->used + n > buf->size) {
        size_t size = buf->size < 512 ? 512 : buf->size;
        while (size < buf->used + n) {
            size *= 2;
        }
        size = size < buf->max ? size : buf->max;
        char *grown = realloc(buf->bytes, size);
        if (grown == NULL) {
            return false;
        }
        buf->bytes = grown;
        buf->size = size;
    }
    memcpy(buf->bytes + buf->used, bytes, n);
    buf->used += n;
    return true;
}

void buf_consume(struct buf *buf, size_t n)
{
    assert(n <= buf->used);
    buf->used -= n;
    if (buf->used == 0) {
        buf_close(buf);
    } else {
        memmove(buf->bytes, buf->bytes + n, buf->used);
    }
}
