/* What the two halves of fleet share, and nobody else: fleet_asked.c, and fleet.c, which is told. */
#ifndef FLEET_FLEET_PARTS_H
#define FLEET_FLEET_PARTS_H

#include "fleet/fleet.h"

static inline bool fleet_stands(const struct rollout *rollout)
{
    return rollout != NULL && !rollout_is_over(rollout);
}

#endif
