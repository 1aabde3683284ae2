#include "base/heap.h"

#include <stdlib.h> /* says whose library this is */
#ifdef __GLIBC__
#include <malloc.h>
#endif

void heap_give_back(void)
{
#ifdef __GLIBC__
    malloc_trim(0);
#endif
}

static void on_work(uv_work_t *work)
{
    (void)work;
    heap_give_back();
}

static void on_done(uv_work_t *work, int error)
{
    struct heap_trim *trim = work->data;
    (void)error;
    trim->under_way = false;
}

void heap_trim_tick(struct heap_trim *trim, uv_loop_t *loop)
{
    uint64_t now_ms = uv_now(loop);
    if (trim->under_way || now_ms - trim->last_ms < HEAP_TRIM_EVERY_MS) {
        return;
    }
    trim->last_ms = now_ms;
    trim->work.data = trim;
    trim->under_way = uv_queue_work(loop, &trim->work, on_work, on_done) == 0;
}
