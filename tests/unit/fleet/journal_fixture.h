/* A fleet whose changes are written down: opened from the state folder, ended as a process is, and between it and the
 * disk a gate. */
#ifndef TESTS_UNIT_FLEET_JOURNAL_FIXTURE_H
#define TESTS_UNIT_FLEET_JOURNAL_FIXTURE_H

#include "fleet/fleet.h"
#include "tests/unit/fleet/store_fixture.h"

#include <sqlite3.h>
#include <stdatomic.h>

struct world {
    struct fleet fleet;
    struct store_queue *queue;
    size_t triggers, refused;
    bool closed;
};

static uv_loop_t loop;
static struct moment now;
static struct store_ops gated; /* store_sqlite behind the gate */
static atomic_bool gate_shut;  /* the store takes nothing */

/* What the open gate does, which each test says: store_sqlite.write, or less. */
static enum status gate_pass(void *store, const struct store_change *const *changes, size_t count, bool durable,
                             char *message, size_t size);

static inline enum status gate_write(void *store, const struct store_change *const *changes, size_t count, bool durable,
                                     char *message, size_t size)
{
    if (atomic_load(&gate_shut)) {
        snprintf(message, size, "the gate is shut");
        return STATUS_LIMIT;
    }
    return gate_pass(store, changes, count, durable, message, size);
}

/* --- what rollouts do ---------------------------------------------------------------------------------------------*/

static inline void on_trigger(void *owner, struct rollout *rollout, const struct mac *device, unsigned attempt)
{
    struct world *world = owner;
    (void)rollout;
    (void)device;
    (void)attempt;
    world->triggers++;
}

static inline void on_withdraw(void *owner, struct rollout *rollout)
{
    (void)owner;
    (void)rollout;
}

static inline uint64_t count_refused(struct world *world, uint64_t ticket)
{
    world->refused += ticket == JOURNAL_REFUSED;
    return ticket;
}

static inline uint64_t on_changed(void *owner, const struct rollout *rollout)
{
    struct world *world = owner;
    return count_refused(world, journal_rollout(world->fleet.journal, rollout, false));
}

static inline uint64_t on_member_changed(void *owner, const struct rollout *rollout,
                                         const struct rollout_member *member)
{
    struct world *world = owner;
    return count_refused(world, journal_member(world->fleet.journal, rollout, member));
}

static inline void on_forgotten(void *owner, const struct rollout *rollout)
{
    struct world *world = owner;
    (void)count_refused(world, journal_rollout_gone(world->fleet.journal, rollout->id));
}

static inline bool in_every_group(void *owner, const struct mac *mac, const char *group)
{
    (void)owner;
    (void)mac;
    (void)group;
    return true;
}

/* --- from start to end --------------------------------------------------------------------------------------------*/

static inline void on_written(void *owner, uint64_t ticket)
{
    struct world *world = owner;
    rollouts_written(world->fleet.rollouts, ticket, &now);
}

static inline struct world *world_open(void)
{
    char message[MESSAGE_SIZE] = "";
    struct world *world = calloc(1, sizeof *world);
    assert_non_null(world);
    struct fleet *fleet = &world->fleet;
    const struct rollout_effects effects = { .trigger = on_trigger,
                                             .withdraw = on_withdraw,
                                             .changed = on_changed,
                                             .member_changed = on_member_changed,
                                             .forgotten = on_forgotten,
                                             .in_group = in_every_group,
                                             .owner = world };
    fleet_init(fleet, 200000, &effects);
    fleet->settings.loop_guard_max = 3;
    struct recall recall = fleet_recall(fleet, &now);
    struct store_queue_events events = { .on_written = on_written, .owner = world };
    world->queue = store_queue_open(&loop, &gated, state_dir, &events, recall_row, &recall, message, sizeof message);
    if (world->queue == NULL) {
        fail_msg("%s", message);
    }
    fleet->journal = journal_new(fleet->devices, fleet->policies, fleet->never_again, world->queue);
    return world;
}

static inline void turn(struct world *world)
{
    journal_flush(world->fleet.journal, world->fleet.rollouts);
    for (int i = 0; i < 3; i++) {
        (void)uv_run(&loop, UV_RUN_NOWAIT);
        uv_sleep(1);
    }
}

/* Until all is written that was marked. */
static inline void settle(struct world *world)
{
    uint64_t until_ns = uv_hrtime() + UINT64_C(60) * 1000000000;
    do {
        assert_true(uv_hrtime() < until_ns);
        turn(world);
    } while (devices_dirty_count(world->fleet.devices) > 0 || store_queue_view(world->queue)->backlog > 0);
}

static inline void on_closed(void *owner)
{
    ((struct world *)owner)->closed = true;
}

/* The process is killed: whatever was not written is lost. */
static inline void world_kill(struct world *world)
{
    store_queue_close(world->queue, 0, on_closed, world);
    while (!world->closed) {
        (void)uv_run(&loop, UV_RUN_ONCE);
    }
    fleet_close(&world->fleet);
    free(world);
}

static inline int set_up(void **state)
{
    now = (struct moment){ 1000, 1700000000 };
    gated = store_sqlite; /* before any world's thread reads it */
    gated.write = gate_write;
    atomic_store(&gate_shut, false);
    assert_int_equal(uv_loop_init(&loop), 0);
    return make_state(state);
}

static inline int tear_down(void **state)
{
    assert_int_equal(uv_loop_close(&loop), 0);
    return remove_state(state);
}

#endif
