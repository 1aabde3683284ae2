/* A small world for tests of rollouts: devices by number, a broker that notes what it is told, a store that keeps pace
 * or does not, and a clock. The devices ask as the server lets them: whose word, may it, what does its coming mean.
 */
#ifndef TESTS_ROLLOUT_FIXTURE_H
#define TESTS_ROLLOUT_FIXTURE_H

#include "fleet/rollout.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define TOLD_MAX    4096
#define TO_THE_TYPE (-1)
#define ROLLOUT_ID  "00112233445566aa"

struct told {
    int device; /* number, or TO_THE_TYPE */
    unsigned attempt;
    char id[ANNOUNCE_ID_SIZE];
};

struct world {
    struct moment now;
    struct rollouts *rollouts;
    struct rollout *rollout;
    struct rollout_order order;
    struct told told[TOLD_MAX];
    size_t told_count;
    unsigned withdrawals, written_rollouts, written_members, forgotten;
    bool store_lags;
    uint64_t ticket;
    int group_first, group_last; /* who is in any group */
};

static inline struct mac mac_of(int device)
{
    return (struct mac){ { 0x5c, 0xcf, 0x7f, (uint8_t)(device >> 16), (uint8_t)(device >> 8), (uint8_t)device } };
}

static inline int number_of(const struct mac *mac)
{
    return mac->bytes[3] << 16 | mac->bytes[4] << 8 | mac->bytes[5];
}

/* --- effects ------------------------------------------------------------------------------------------------------ */

static inline void on_trigger(void *owner, struct rollout *rollout, const struct mac *device, unsigned attempt)
{
    struct world *world = owner;
    assert_true(world->told_count < TOLD_MAX);
    struct told *told = &world->told[world->told_count++];
    told->device = device != NULL ? number_of(device) : TO_THE_TYPE;
    told->attempt = attempt;
    rollout_command_id(rollout, device, attempt, told->id);
}

static inline void on_withdraw(void *owner, struct rollout *rollout)
{
    struct world *world = owner;
    (void)rollout;
    world->withdrawals++;
}

static inline uint64_t on_changed(void *owner, const struct rollout *rollout)
{
    struct world *world = owner;
    (void)rollout;
    world->written_rollouts++;
    return world->store_lags ? ++world->ticket : 0;
}

static inline uint64_t on_member(void *owner, const struct rollout *rollout, const struct rollout_member *member)
{
    struct world *world = owner;
    (void)rollout;
    (void)member;
    world->written_members++;
    return world->store_lags ? ++world->ticket : 0;
}

static inline void on_forgotten(void *owner, const struct rollout *rollout)
{
    struct world *world = owner;
    (void)rollout;
    world->forgotten++;
}

static inline bool on_group(void *owner, const struct mac *mac, const char *group)
{
    const struct world *world = owner;
    (void)group;
    return number_of(mac) >= world->group_first && number_of(mac) <= world->group_last;
}

/* --- the operator ------------------------------------------------------------------------------------------------- */

static const uint8_t target_md5[16] = { 7 };

static inline void world_rollouts(struct world *world)
{
    struct rollout_effects effects = { .trigger = on_trigger,
                                       .withdraw = on_withdraw,
                                       .changed = on_changed,
                                       .member_changed = on_member,
                                       .forgotten = on_forgotten,
                                       .in_group = on_group,
                                       .owner = world };
    world->rollouts = rollouts_new(&effects);
}

static inline struct world *world_new(void)
{
    struct world *world = calloc(1, sizeof *world);
    assert_non_null(world);
    world->now = (struct moment){ .ms = 1000000, .unix_s = 1000000000 };
    world->order = (struct rollout_order){ .percent = 100,
                                           .max_failures = 20,
                                           .in_flight = 1,
                                           .timeout_ms = 60000,
                                           .reboot_ms = 120000,
                                           .broker_ms = 300000 };
    snprintf(world->order.target.type, sizeof world->order.target.type, "porch");
    snprintf(world->order.target.version, sizeof world->order.target.version, "2.0");
    world->order.target.image_count = 1;
    memcpy(world->order.target.md5[0], target_md5, 16);
    world_rollouts(world);
    return world;
}

static inline void world_free(struct world *world)
{
    if (world->rollout != NULL && rollouts_count(world->rollouts) > 0) {
        for (size_t i = 0; i < rollouts_count(world->rollouts); i++) {
            rollout_check(rollouts_at(world->rollouts, i));
        }
    }
    rollouts_free(world->rollouts);
    free(world);
}

static inline void begin_as(struct world *world, const char *id)
{
    world->rollout = rollouts_begin(world->rollouts, id, &world->order, &world->now);
    assert_non_null(world->rollout);
}

static inline void join_at(struct world *world, int device, uint64_t site)
{
    struct rollout_joiner joiner = { .mac = mac_of(device), .site = site };
    rollout_join(world->rollout, &joiner, &world->now);
}

/* Devices 0 .. count-1, each at its own site. */
static inline void begin(struct world *world, int count)
{
    begin_as(world, ROLLOUT_ID);
    for (int i = 0; i < count; i++) {
        join_at(world, i, (uint64_t)i);
    }
}

static inline void start(struct world *world)
{
    rollout_start(world->rollout, false, true, &world->now);
    rollout_check(world->rollout);
}

static inline void set_going(struct world *world, int count)
{
    begin(world, count);
    start(world);
}

static inline enum status op_pause(struct world *world)
{
    const char *why = NULL;
    enum status status = rollout_pause(world->rollout, &world->now, &why);
    assert_true((status == STATUS_OK) == (why == NULL));
    return status;
}

static inline enum status op_resume(struct world *world)
{
    const char *why = NULL;
    enum status status = rollout_resume(world->rollout, &world->now, &why);
    assert_true((status == STATUS_OK) == (why == NULL));
    return status;
}

static inline enum status op_abort(struct world *world)
{
    const char *why = NULL;
    enum status status = rollout_abort(world->rollout, "by an operator", &world->now, &why);
    assert_true((status == STATUS_OK) == (why == NULL));
    return status;
}

/* --- time, broker, store ------------------------------------------------------------------------------------------ */

static inline void pass(struct world *world, uint64_t ms)
{
    world->now.ms += ms;
    world->now.unix_s += (uint32_t)(ms / 1000);
    rollouts_tick(world->rollouts, &world->now);
    rollout_check(world->rollout);
}

static inline void store_catches_up(struct world *world)
{
    rollouts_written(world->rollouts, world->ticket, &world->now);
}

static inline void broker_says(struct world *world, int device, bool acknowledged)
{
    struct mac mac = mac_of(device < 0 ? 0 : device);
    rollouts_told(world->rollout, device == TO_THE_TYPE ? NULL : &mac, acknowledged ? STATUS_OK : STATUS_DENIED,
                  "denied", &world->now);
    rollout_check(world->rollout);
}

/* There was no room for it where commands wait. */
static inline void no_room(struct world *world, int device)
{
    struct mac mac = mac_of(device < 0 ? 0 : device);
    rollouts_told(world->rollout, device == TO_THE_TYPE ? NULL : &mac, STATUS_BUSY, "full", &world->now);
    rollout_check(world->rollout);
}

static inline size_t times_told(const struct world *world, int device)
{
    size_t count = 0;
    for (size_t i = 0; i < world->told_count; i++) {
        count += world->told[i].device == device;
    }
    return count;
}

static inline const struct told *last_told(const struct world *world)
{
    assert_true(world->told_count > 0);
    return &world->told[world->told_count - 1];
}

/* --- devices ------------------------------------------------------------------------------------------------------ */

static inline struct rollout_fact fact_of(int device)
{
    return (struct rollout_fact){ .mac = mac_of(device), .type = slice_of("porch"), .site = (uint64_t)device };
}

static inline void check_in(struct world *world, const struct rollout_fact *fact)
{
    rollouts_checked_in(world->rollouts, fact, &world->now);
    rollout_check(world->rollout);
}

static inline bool may(const struct world *world, int device)
{
    struct mac mac = mac_of(device);
    struct rollout_permission permission;
    rollout_permit(world->rollout, &mac, (uint64_t)device, &permission);
    assert_true(permission.granted || permission.detail[0] != '\0');
    return permission.granted;
}

/* With the old build, as the server takes it. Returns whether it is served. */
static inline bool asks(struct world *world, int device)
{
    struct rollout_fact fact = fact_of(device);
    fact.served = may(world, device);
    check_in(world, &fact);
    return fact.served;
}

static inline void runs_it(struct world *world, int device)
{
    struct rollout_fact fact = fact_of(device);
    fact.runs_target = true;
    check_in(world, &fact);
}

static inline void fails(struct world *world, int device)
{
    struct rollout_fact fact = fact_of(device);
    fact.failed = "came back with the old build";
    check_in(world, &fact);
}

/* After the rollout was aborted, and it was told or at it. */
static inline void came_after(struct world *world, int device, bool runs_it, const char *failed)
{
    struct rollout_fact fact = fact_of(device);
    fact.runs_target = runs_it;
    fact.failed = failed;
    assert_non_null(rollouts_following(world->rollouts, &fact.mac, fact.type, false));
    rollouts_came_after(world->rollouts, &fact, &world->now);
    rollout_check(world->rollout);
}

static inline void is_withheld(struct world *world, int device, const char *why)
{
    struct rollout_fact fact = fact_of(device);
    fact.withheld = why;
    check_in(world, &fact);
}

static inline void begins(struct world *world, int device)
{
    struct mac mac = mac_of(device);
    rollouts_transfer_begins(world->rollouts, &mac, target_md5, &world->now);
    rollout_check(world->rollout);
}

static inline void ends(struct world *world, int device, bool whole, const char *why_cut)
{
    struct mac mac = mac_of(device);
    rollouts_transfer_ended(world->rollouts, &mac, target_md5, whole, 1000, 900, why_cut, &world->now);
    rollout_check(world->rollout);
}

static inline void takes_it(struct world *world, int device)
{
    assert_true(asks(world, device));
    begins(world, device);
    ends(world, device, true, NULL);
}

static inline void is_cut(struct world *world, int device)
{
    assert_true(asks(world, device));
    begins(world, device);
    ends(world, device, false, "cut at 50 %");
}

static inline void updates(struct world *world, int device)
{
    takes_it(world, device);
    runs_it(world, device);
}

static inline void flashes_in_vain(struct world *world, int device)
{
    takes_it(world, device);
    fails(world, device);
}

/* --- looked at ---------------------------------------------------------------------------------------------------- */

static inline struct rollout_member member_of(const struct world *world, int device)
{
    struct mac mac = mac_of(device);
    struct rollout_member member;
    assert_true(rollout_member(world->rollout, &mac, &member));
    return member;
}

static inline const char *state_of(const struct world *world, int device)
{
    return rollout_device_word(member_of(world, device).state);
}

static inline const char *word_of(const struct world *world)
{
    return rollout_state_word(world->rollout->state);
}

#endif
