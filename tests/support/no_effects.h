/* Rollouts that reach nobody and are not written down, for tests, fuzz targets and benches. */
#ifndef TESTS_SUPPORT_NO_EFFECTS_H
#define TESTS_SUPPORT_NO_EFFECTS_H

#include "fleet/rollout.h"

static inline void no_trigger(void *owner, struct rollout *rollout, const struct mac *device, unsigned attempt)
{
    (void)owner;
    (void)rollout;
    (void)device;
    (void)attempt;
}

static inline void no_withdraw(void *owner, struct rollout *rollout)
{
    (void)owner;
    (void)rollout;
}

static inline uint64_t no_change(void *owner, const struct rollout *rollout)
{
    (void)owner;
    (void)rollout;
    return 0;
}

static inline uint64_t no_member_change(void *owner, const struct rollout *rollout, const struct rollout_member *member)
{
    (void)owner;
    (void)rollout;
    (void)member;
    return 0;
}

static inline bool no_group(void *owner, const struct mac *mac, const char *group)
{
    (void)owner;
    (void)mac;
    (void)group;
    return false;
}

static const struct rollout_effects no_effects = { .trigger = no_trigger,
                                                   .withdraw = no_withdraw,
                                                   .changed = no_change,
                                                   .member_changed = no_member_change,
                                                   .in_group = no_group };

#endif
