/* The fleet's memory with all its rooms and no store, for tests and fuzz targets; every device may be served three
 * times before the loop guard holds it. What rollouts do goes to a trigger, or (NULL) nowhere.
 */
#ifndef TESTS_SUPPORT_WHOLE_FLEET_H
#define TESTS_SUPPORT_WHOLE_FLEET_H

#include "fleet/fleet.h"
#include "server/trigger.h"

static inline void whole_fleet_trigger(void *owner, struct rollout *rollout, const struct mac *device, unsigned attempt)
{
    if (owner != NULL) {
        trigger_tell(owner, rollout, device, attempt);
    }
}

static inline void whole_fleet_withdraw(void *owner, struct rollout *rollout)
{
    if (owner != NULL) {
        trigger_withdraw(owner, rollout);
    }
}

static inline uint64_t whole_fleet_changed(void *owner, const struct rollout *rollout)
{
    (void)owner;
    (void)rollout;
    return 0;
}

static inline uint64_t whole_fleet_member_changed(void *owner, const struct rollout *rollout,
                                                  const struct rollout_member *member)
{
    (void)owner;
    (void)rollout;
    (void)member;
    return 0;
}

static inline bool whole_fleet_in_group(void *owner, const struct mac *mac, const char *group)
{
    const struct trigger *trigger = owner;
    return trigger != NULL && policy_in_group(policies_find(trigger->fleet->policies, mac),
                                              words_find(trigger->fleet->words, slice_of(group)));
}

static inline struct rollouts *whole_fleet_rollouts(struct trigger *trigger)
{
    const struct rollout_effects effects = { .trigger = whole_fleet_trigger,
                                             .withdraw = whole_fleet_withdraw,
                                             .changed = whole_fleet_changed,
                                             .member_changed = whole_fleet_member_changed,
                                             .in_group = whole_fleet_in_group,
                                             .owner = trigger };
    return rollouts_new(&effects);
}

static inline void whole_fleet_make(struct fleet *fleet, size_t devices_max, const struct assignments *assignments,
                                    const struct offerings *offerings, struct trigger *trigger)
{
    *fleet = (struct fleet){ .settings = { .assignments = assignments, .offerings = offerings, .loop_guard_max = 3 } };
    fleet->words = words_new();
    fleet->devices = devices_new(fleet->words, devices_max);
    fleet->policies = policies_new(fleet->words);
    fleet->never_again = never_again_new(devices_max);
    fleet->guard = loop_guard_new(devices_max);
    fleet->failures = image_failures_new();
    fleet->rollouts = whole_fleet_rollouts(trigger);
}

/* Assignments and offerings are their owner's. */
static inline void whole_fleet_drop(struct fleet *fleet)
{
    rollouts_free(fleet->rollouts);
    image_failures_free(fleet->failures);
    loop_guard_free(fleet->guard);
    never_again_free(fleet->never_again);
    policies_free(fleet->policies);
    devices_free(fleet->devices);
    words_free(fleet->words);
}

#endif
