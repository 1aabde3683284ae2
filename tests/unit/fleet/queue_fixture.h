/* Between the loop and a store in memory that does as it is told: fails, hangs, is slow. */
#ifndef TESTS_UNIT_FLEET_QUEUE_FIXTURE_H
#define TESTS_UNIT_FLEET_QUEUE_FIXTURE_H

#include "fleet/store_queue.h"
#include "tests/unit/fleet/store_fixture.h"

#include <stdatomic.h>

/* --- a store in memory --------------------------------------------------------------------------------------------*/

#define KEPT_MAX 200000

/* Written by the writer's thread, read by the test when that has nothing to do. */
static struct {
    uv_mutex_t mutex;
    uint32_t kept[KEPT_MAX]; /* unix_s of each change, in the order they were written */
    size_t count;
    size_t batches, durable_batches, largest;
    atomic_bool fails, ails;
    atomic_bool hangs, inside; /* a call does not come back as long as it does; whether one is in it */
    atomic_uint why;           /* a number in the message */
    atomic_uint slow_ms;       /* a batch takes */
    atomic_uint attempts;      /* writes, good or bad */
    atomic_uint untidy;        /* pieces of what is left to do */
    atomic_bool closed;
} memory;

static inline enum status memory_open(const char *dir, void **store, char *message, size_t size)
{
    if (strcmp(dir, "refused") == 0) {
        snprintf(message, size, "refused: as the test says");
        return STATUS_CORRUPT;
    }
    *store = &memory;
    return STATUS_OK;
}

static inline enum status memory_load(void *store, store_row_fn on_row, void *owner, char *message, size_t size)
{
    (void)store;
    struct store_change row = { .kind = STORE_EVENT };
    if (owner != NULL && !on_row(owner, &row)) {
        snprintf(message, size, "the reader said stop");
        return STATUS_IO;
    }
    return STATUS_OK;
}

static inline void memory_hang(void)
{
    while (atomic_load(&memory.hangs)) {
        atomic_store(&memory.inside, true);
        uv_sleep(1);
    }
    atomic_store(&memory.inside, false);
}

static inline enum status memory_write(void *store, const struct store_change *const *changes, size_t count,
                                       bool durable, char *message, size_t size)
{
    (void)store;
    atomic_fetch_add(&memory.attempts, 1);
    memory_hang();
    if (atomic_load(&memory.slow_ms) > 0) {
        uv_sleep(atomic_load(&memory.slow_ms));
    }
    if (atomic_load(&memory.fails)) {
        snprintf(message, size, "failing %u", atomic_load(&memory.why));
        return STATUS_IO;
    }
    uv_mutex_lock(&memory.mutex);
    for (size_t i = 0; i < count; i++) {
        assert_true(memory.count < KEPT_MAX);
        memory.kept[memory.count++] = changes[i]->row.event.unix_s;
    }
    memory.batches++;
    memory.durable_batches += durable;
    memory.largest = count > memory.largest ? count : memory.largest;
    uv_mutex_unlock(&memory.mutex);
    if (atomic_load(&memory.ails)) {
        snprintf(message, size, "ailing");
    }
    return STATUS_OK;
}

/* One event, which says how many changes had been written when it was read. */
static inline enum status memory_events(void *store, const struct mac *mac, struct store_event *events, size_t max,
                                        size_t *count, char *message, size_t size)
{
    (void)store;
    (void)message;
    (void)size;
    memory_hang();
    *count = max > 0 ? 1 : 0;
    if (max > 0) {
        uv_mutex_lock(&memory.mutex);
        events[0] = (struct store_event){ .mac = *mac, .unix_s = (uint32_t)memory.count };
        uv_mutex_unlock(&memory.mutex);
    }
    return STATUS_OK;
}

static inline bool memory_tidy(void *store)
{
    (void)store;
    if (atomic_load(&memory.untidy) > 0) {
        atomic_fetch_sub(&memory.untidy, 1);
        return true;
    }
    return false;
}

static inline void memory_close(void *store)
{
    (void)store;
    assert_false(atomic_exchange(&memory.closed, true));
}

static const struct store_ops in_memory = { .name = "memory",
                                            .open = memory_open,
                                            .load = memory_load,
                                            .write = memory_write,
                                            .tidy = memory_tidy,
                                            .events = memory_events,
                                            .close = memory_close };

/* --- the fixture --------------------------------------------------------------------------------------------------*/

static struct {
    uv_loop_t loop;
    struct store_queue *queue;
    uint64_t written; /* as on_written said */
    unsigned health_told;
    enum store_health health;
    char why[STORE_WHY_SIZE];
    bool closed;
} at;

static inline void on_health(void *owner, const struct store_view *view)
{
    assert_ptr_equal(owner, &at);
    at.health_told++;
    at.health = view->health;
    snprintf(at.why, sizeof at.why, "%s", view->why);
}

static inline void on_written(void *owner, uint64_t ticket)
{
    assert_ptr_equal(owner, &at);
    assert_true(ticket > at.written);
    at.written = ticket;
}

static const struct store_queue_events events = { on_health, on_written, &at };

static inline int set_up(void **state)
{
    char message[MESSAGE_SIZE];
    (void)state;
    memset(&memory, 0, sizeof memory);
    memset(&at, 0, sizeof at);
    assert_int_equal(uv_mutex_init(&memory.mutex), 0);
    assert_int_equal(uv_loop_init(&at.loop), 0);
    at.queue = store_queue_open(&at.loop, &in_memory, "", &events, NULL, NULL, message, sizeof message);
    assert_non_null(at.queue);
    return 0;
}

static inline void on_closed(void *owner)
{
    assert_ptr_equal(owner, &at);
    at.closed = true;
}

static inline void close_queue(uint64_t timeout_ms)
{
    store_queue_close(at.queue, timeout_ms, on_closed, &at);
    while (!at.closed) {
        (void)uv_run(&at.loop, UV_RUN_ONCE);
    }
    at.queue = NULL;
}

static inline int tear_down(void **state)
{
    (void)state;
    if (at.queue != NULL) {
        atomic_store(&memory.fails, false);
        atomic_store(&memory.hangs, false);
        close_queue(10000);
    }
    assert_true(atomic_load(&memory.closed));
    (void)uv_run(&at.loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&at.loop), 0); /* no handle is left */
    uv_mutex_destroy(&memory.mutex);
    return 0;
}

static inline struct store_change *event_of(uint32_t number)
{
    struct store_change *change = store_change_new(STORE_EVENT);
    change->row.event.unix_s = number;
    return change;
}

static inline uint64_t put(uint32_t number, enum store_hurry hurry)
{
    return store_queue_put(at.queue, event_of(number), hurry);
}

static inline void run_until(bool (*done)(void), uint64_t timeout_ms)
{
    uint64_t until_ns = uv_hrtime() + timeout_ms * 1000000;
    while (!done()) {
        assert_true(uv_hrtime() < until_ns);
        (void)uv_run(&at.loop, UV_RUN_NOWAIT);
        uv_sleep(1);
    }
}

static inline bool nothing_waits(void)
{
    return store_queue_view(at.queue)->backlog == 0;
}

static inline bool is_failing(void)
{
    return at.health == STORE_FAILING;
}

static inline void fail_store(bool fails)
{
    atomic_store(&memory.fails, fails);
}

static inline bool is_good(void)
{
    return at.health == STORE_GOOD && nothing_waits();
}

/* --- readings -----------------------------------------------------------------------------------------------------*/

struct reading {
    bool answered;
    enum status status;
    uint32_t kept; /* changes that were written before it */
    size_t count;
    struct mac mac;
};

static unsigned readings;

static inline void on_events(void *owner, enum status status, const struct store_event *found, size_t count,
                             const char *why)
{
    struct reading *reading = owner;
    (void)why;
    assert_false(reading->answered);
    reading->answered = true;
    reading->status = status;
    reading->count = count;
    if (count > 0) {
        reading->kept = found[0].unix_s;
        reading->mac = found[0].mac;
    }
    readings++;
}

static inline bool one_read(void)
{
    return readings >= 1;
}

static inline bool three_read(void)
{
    return readings >= 3;
}

#endif
