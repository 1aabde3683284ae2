/* An idle handle that runs while there is work: libuv then looks for events at each turn without waiting for any. */
#include "server/turns.h"

#include <assert.h>
#include <stdlib.h>

#define SLICE_NS    1000000
#define LOOK_EVERY  16 /* steps between two looks at the clock */
#define WITHOUT_END UINT64_MAX

bool turn_is_spent(struct turn_budget *budget)
{
    return ++budget->asked % LOOK_EVERY == 0 && budget->end_ns != WITHOUT_END && uv_hrtime() >= budget->end_ns;
}

static void on_idle(uv_idle_t *idle);

void turns_add(struct turns *turns, struct turn_job *job)
{
    if (job->queued || turns->running == job) {
        return;
    }
    job->queued = true;
    job->next = NULL;
    *(turns->first != NULL ? &turns->last->next : &turns->first) = job;
    turns->last = job;
    if (turns->idle == NULL) {
        turns->idle = malloc(sizeof *turns->idle);
        assert(turns->idle != NULL);
        uv_idle_init(turns->loop, turns->idle);
        turns->idle->data = turns;
    }
    uv_idle_start(turns->idle, on_idle);
}

/* The first job, until it is done or the budget is spent. Returns whether it is done. */
static bool run_first(struct turns *turns, struct turn_budget *budget)
{
    struct turn_job *job = turns->first;
    turns->first = job->next;
    job->queued = false;
    turns->running = job;
    bool more = job->step(job->owner, budget);
    turns->running = NULL;
    if (more) {
        job->queued = true;
        job->next = turns->first;
        turns->first = job;
    }
    return !more;
}

static void run_until(struct turns *turns, uint64_t end_ns)
{
    struct turn_budget budget = { .end_ns = end_ns };
    if (turns->running != NULL) {
        return;
    }
    while (turns->first != NULL && run_first(turns, &budget) && !turn_is_spent(&budget)) {
    }
    if (turns->first == NULL && turns->idle != NULL) {
        uv_idle_stop(turns->idle);
    }
}

static void on_idle(uv_idle_t *idle)
{
    run_until(idle->data, uv_hrtime() + SLICE_NS);
}

void turns_run(struct turns *turns)
{
    if (turns->running == NULL && turns->first != NULL && turns->cut_ms != uv_now(turns->loop)) {
        run_until(turns, uv_hrtime() + SLICE_NS);
        turns->cut_ms = turns->first != NULL ? uv_now(turns->loop) : 0;
    }
}

void turns_finish(struct turns *turns)
{
    run_until(turns, WITHOUT_END);
}

static void on_closed(uv_handle_t *handle)
{
    free(handle);
}

void turns_close(struct turns *turns)
{
    assert(turns->first == NULL && turns->running == NULL);
    if (turns->idle != NULL) {
        uv_close((uv_handle_t *)turns->idle, on_closed);
        turns->idle = NULL;
    }
}
