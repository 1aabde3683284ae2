/* Who tries it first, and what they say of it: the rest gets it when each of them has confirmed. What makes it hard is
 * whom nobody knows, or who is away: it waits for them, and not for ever. */
#include "fleet/rollout_parts.h"

#include <stdio.h>

static const struct member *find_canary(const struct rollout *rollout, enum rollout_device_state state)
{
    const struct member *member = rollout->table->of_state[state].head;
    while (member != NULL && !member->canary) {
        member = member->next;
    }
    return member;
}

bool rollout_lacks_canaries(const struct rollout *rollout)
{
    return rollout->state == ROLLOUT_CANARY && rollout->canaries < rollout->order.canary;
}

size_t rollout_canaries_left(const struct rollout *rollout)
{
    const size_t *canaries_of = rollout->table->canaries_of;
    return rollout->canaries - canaries_of[ROLLOUT_DEVICE_FAILED] - canaries_of[ROLLOUT_DEVICE_SILENT];
}

static void choose_canaries(struct rollout *rollout)
{
    struct member *member;
    while (rollout_lacks_canaries(rollout) && (member = sites_next_plain(rollout)) != NULL) {
        member_make_canary(rollout, member);
    }
}

/* Where nobody was known, or those who could try it are away, it waits for them; but not for ever. */
static void await_canaries(struct rollout *rollout, const struct moment *now)
{
    char why[200];
    bool may_come = rollout_awaits_strangers(rollout) ||
                    (rollout->canaries_confirmed == 0 && rollout->devices[ROLLOUT_DEVICE_SILENT] > 0);
    if (!rollout_lacks_canaries(rollout) || !may_come) {
        rollout_set(rollout, ROLLOUT_RUNNING, "", now);
    } else if (now->ms - rollout->table->stands_ms >= ROLLOUT_STAND_MS) {
        snprintf(why, sizeof why,
                 "%zu of %u canaries came within %d days and have it, and no other device asked: resume goes on "
                 "without more",
                 rollout->canaries_confirmed, rollout->order.canary, ROLLOUT_STAND_MS / 86400000);
        rollout_set(rollout, ROLLOUT_HALTED, why, now);
    }
}

/* Where the devices' own records refuse it to more than were asked, the rest of the fleet is hardly better off. */
static bool are_refused(struct rollout *rollout, const struct moment *now)
{
    char why[200];
    const struct refusals *refusals = &rollout->table->refused_canaries;
    if (refusals->count <= rollout->order.canary) {
        return false;
    }
    snprintf(why, sizeof why, "%zu canaries were refused, %u were asked for; the last: %s", refusals->count,
             rollout->order.canary, refusals->why);
    rollout_set(rollout, ROLLOUT_HALTED, why, now);
    return true;
}

void rollout_judge_canaries(struct rollout *rollout, const struct moment *now)
{
    static const enum rollout_device_state bad[] = { ROLLOUT_DEVICE_FAILED, ROLLOUT_DEVICE_SILENT };
    char why[200], mac[MAC_TEXT_SIZE];
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        const struct member *member = rollout->table->canaries_of[bad[i]] > 0 ? find_canary(rollout, bad[i]) : NULL;
        if (member != NULL) {
            mac_print(&member->mac, mac);
            snprintf(why, sizeof why, "canary %s %s: %.100s", mac,
                     bad[i] == ROLLOUT_DEVICE_FAILED ? "failed" : "is silent", member_why(rollout, member));
            rollout_halt(rollout, why, now);
            return;
        }
    }
    if (are_refused(rollout, now)) {
        return;
    }
    choose_canaries(rollout);
    bool open = rollout->table->canaries_of[ROLLOUT_DEVICE_QUEUED] > 0 || rollout->in_flight > 0 ||
                rollout->table->armed.count > 0 || rollout->table->resting.count > 0;
    if (!open) {
        await_canaries(rollout, now);
    }
}
