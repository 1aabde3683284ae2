/* The newer rollout of a type takes the place of the older one: wholly, or in the devices that both mean. Said to both.
 *
 * What makes it hard is that the newer one's devices are gathered in slices: meanwhile the older goes on, and must not
 * tell those that are the newer's already.
 */
#include "fleet/rollout_parts.h"

#include <stdio.h>
#include <string.h>

static bool is_like(const struct rollout *rollout, const struct rollout_order *order)
{
    return !rollout_is_over(rollout) && rollout_is_about(rollout, slice_of(order->target.type), order->target.fs);
}

/* --- wholly ---------------------------------------------------------------------------------------------------------
 */

size_t rollouts_that_stay(const struct rollouts *rollouts, const struct rollout_order *order)
{
    size_t count = 0;
    for (const struct rollout *rollout = rollouts->recent.newest; rollout != NULL; rollout = rollout->table->older) {
        count += !rollout_is_over(rollout) && !(rollout_means_all(order) && is_like(rollout, order));
    }
    return count;
}

void rollouts_give_way(struct rollouts *rollouts, const struct rollout_order *order, const char *id,
                       char supersedes[ANNOUNCE_ID_SIZE], const struct moment *now)
{
    for (struct rollout *rollout = rollout_means_all(order) ? rollouts->recent.newest : NULL; rollout != NULL;
         rollout = rollout->table->older) {
        if (is_like(rollout, order)) {
            snprintf(supersedes, ANNOUNCE_ID_SIZE, "%s", rollout->id);
            rollout_end_superseded(rollout, id, now);
        }
    }
}

/* --- in part --------------------------------------------------------------------------------------------------------
 */

bool rollout_has_newer(const struct rollout *rollout)
{
    const struct rollout *newer = rollout->table->newer;
    while (newer != NULL && !is_like(newer, &rollout->order)) {
        newer = newer->table->newer;
    }
    return newer != NULL;
}

struct rollout *rollout_newer_for(const struct rollout *rollout, const struct mac *mac)
{
    struct rollout *newer = rollout->table->newer;
    while (newer != NULL &&
           (!is_like(newer, &rollout->order) || !rollout_means(rollout->table->rollouts, newer, mac))) {
        newer = newer->table->newer;
    }
    return newer;
}

/* Both say so: each once, however many devices it is about. */
static void say_to_both(struct rollout *newer, struct rollout *older)
{
    const struct rollout_effects *effects = &newer->table->rollouts->effects;
    if (strcmp(newer->supersedes, older->id) != 0) {
        snprintf(newer->supersedes, sizeof newer->supersedes, "%s", older->id);
        (void)effects->changed(effects->owner, newer);
    }
    if (strcmp(older->superseded_by, newer->id) != 0) {
        snprintf(older->superseded_by, sizeof older->superseded_by, "%s", newer->id);
        rollout_say(older);
        (void)effects->changed(effects->owner, older);
    }
}

/* What is proved or failed stays: it was the older one's. */
static void hand_over(struct rollout *newer, struct rollout *older, struct member *member, const struct moment *now)
{
    const struct rollout_effects *effects = &newer->table->rollouts->effects;
    bool slot = member_takes_slot(member);
    char why[80];
    member->handed_over = true;
    member->lost = false; /* and still counts: it did take that image */
    say_to_both(newer, older);
    if (slot || member->state == ROLLOUT_DEVICE_QUEUED || member->state == ROLLOUT_DEVICE_SILENT) {
        snprintf(why, sizeof why, ROLLOUT_SUPERSEDED "%s", newer->id);
        member_set_as(older, member, ROLLOUT_DEVICE_SKIPPED, ROLLOUT_MARK_SUPERSEDED, why, now);
        older->table->yielded++;
    }
    if (slot) {
        effects->withdraw(effects->owner, older); /* its command, if that still waits */
    }
}

bool rollout_yields(struct rollout *rollout, struct member *member, const struct moment *now)
{
    struct rollout *newer = rollout_newer_for(rollout, &member->mac);
    if (newer != NULL) {
        hand_over(newer, rollout, member, now);
    }
    return newer != NULL;
}

void rollout_hand_over(struct rollout *newer, const struct mac *mac, const struct moment *now)
{
    for (struct rollout *older = newer->table->older; older != NULL; older = older->table->older) {
        struct member *member = is_like(older, &newer->order) ? member_find(older, mac) : NULL;
        if (member == NULL || member->handed_over) {
            continue;
        }
        hand_over(newer, older, member, now);
        if (rollout_is_followed(older)) {
            rollout_step(older, now);
        }
    }
}
