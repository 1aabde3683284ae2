#include "fleet/fleet.h"

static size_t at_most(size_t wanted, size_t max)
{
    return wanted < max ? wanted : max;
}

void fleet_init(struct fleet *fleet, size_t devices_max, const struct rollout_effects *effects)
{
    fleet->words = words_new();
    fleet->devices = devices_new(fleet->words, devices_max);
    fleet->policies = policies_new(fleet->words);
    fleet->never_again = never_again_new(at_most(devices_max, NEVER_AGAIN_DEVICES_MAX));
    fleet->guard = loop_guard_new(at_most(devices_max, LOOP_GUARD_DEVICES_MAX));
    fleet->rollouts = rollouts_new(effects);
    fleet->failures = NULL;
    fleet->journal = NULL;
}

struct recall fleet_recall(const struct fleet *fleet, const struct moment *now)
{
    return (struct recall){ .words = fleet->words,
                            .devices = fleet->devices,
                            .policies = fleet->policies,
                            .never_again = fleet->never_again,
                            .rollouts = fleet->rollouts,
                            .failures = fleet->failures,
                            .guard = fleet->guard,
                            .loop_guard_max = fleet->settings.loop_guard_max,
                            .now = now,
                            .site_of = fleet_site };
}

void fleet_close(struct fleet *fleet)
{
    journal_free(fleet->journal);
    image_failures_free(fleet->failures);
    rollouts_free(fleet->rollouts);
    loop_guard_free(fleet->guard);
    never_again_free(fleet->never_again);
    policies_free(fleet->policies);
    devices_free(fleet->devices);
    words_free(fleet->words);
}
