/* The fleet's memory with all its rooms and no store, for tests and fuzz targets; every device may be served three
 * times before the loop guard holds it. What rollouts do goes to a trigger, or (NULL) nowhere.
 */
#ifndef TESTS_SUPPORT_WHOLE_FLEET_H
#define TESTS_SUPPORT_WHOLE_FLEET_H

#include "fleet/fleet.h"
#include "server/trigger.h"
#include "tests/support/no_effects.h"

static inline void whole_fleet_trigger(void *owner, struct rollout *rollout, const struct mac *device, unsigned attempt)
{
    trigger_tell(owner, rollout, device, attempt);
}

static inline void whole_fleet_withdraw(void *owner, struct rollout *rollout)
{
    trigger_withdraw(owner, rollout);
}

static inline bool whole_fleet_in_group(void *owner, const struct mac *mac, const char *group)
{
    const struct fleet *fleet = ((const struct trigger *)owner)->fleet;
    return policy_in_group(policies_find(fleet->policies, mac), words_find(fleet->words, slice_of(group)));
}

/* Assignments and offerings are their owner's. */
static inline void whole_fleet_make(struct fleet *fleet, size_t devices_max, const struct assignments *assignments,
                                    const struct offerings *offerings, struct trigger *trigger)
{
    struct rollout_effects effects = no_effects;
    if (trigger != NULL) {
        effects.trigger = whole_fleet_trigger;
        effects.withdraw = whole_fleet_withdraw;
        effects.in_group = whole_fleet_in_group;
        effects.owner = trigger;
    }
    *fleet = (struct fleet){ .settings = { .assignments = assignments, .offerings = offerings, .loop_guard_max = 3 } };
    fleet_init(fleet, devices_max, &effects);
    fleet->failures = image_failures_new();
}

#endif
