/* What is asked of a rollout: may this device have it now, and how long will the rest take? Nothing changes here.
 */
#include "fleet/rollout_parts.h"

#include <stdio.h>

static void refuse(struct rollout_permission *permission, enum rollout_state state)
{
    permission->granted = false;
    permission->reason = state == ROLLOUT_PAUSED ? REASON_PAUSED : REASON_HELD_BACK;
}

/* No member yet is as good as queued: it joins when it is served. */
static bool permit_state(const struct rollout *rollout, const struct member *member,
                         struct rollout_permission *permission)
{
    enum rollout_device_state state = member != NULL ? (enum rollout_device_state)member->state : ROLLOUT_DEVICE_QUEUED;
    char *detail = permission->detail;
    size_t size = sizeof permission->detail;
    if (member != NULL && member->has_all) { /* who asks runs something else: this check may be its failure */
        snprintf(detail, size, "rollout %s: it took all of it, and asks with another build", rollout->id);
        return false;
    }
    switch (state) {
    case ROLLOUT_DEVICE_CONFIRMED:
        snprintf(detail, size, "rollout %s has it confirmed already, and now it asks with another build", rollout->id);
        return false;
    case ROLLOUT_DEVICE_FAILED:
        if (member_is_untold(member)) {
            break;
        }
        snprintf(detail, size, "it failed in rollout %s: %s", rollout->id, member_why(rollout, member));
        return false;
    default:
        break;
    }
    bool is_canary = member != NULL ? member->canary : rollout_lacks_canaries(rollout);
    if (rollout->state == ROLLOUT_CANARY && !is_canary) {
        snprintf(detail, size, "rollout %s: %zu of %u canaries confirmed", rollout->id, rollout->canaries_confirmed,
                 rollout->order.canary);
        return false;
    }
    return true;
}

static bool permit_slot(const struct rollout *rollout, const struct member *member, uint64_t site_key,
                        struct rollout_permission *permission)
{
    const struct site *site = member != NULL ? member->site : member_site(rollout, site_key);
    bool armed = member != NULL && member->armed > 0; /* counts among its site's already */
    if (member != NULL && member_takes_slot(member)) {
        return true;
    }
    if (rollout->in_flight >= window_size(&rollout->window)) {
        snprintf(permission->detail, sizeof permission->detail, "rollout %s: %zu are under way, %zu wait", rollout->id,
                 rollout->in_flight, rollout->devices[ROLLOUT_DEVICE_QUEUED]);
        return false;
    }
    if (site != NULL && !armed && member_site_is_full(rollout, site)) {
        snprintf(permission->detail, sizeof permission->detail, "rollout %s: %zu of its site are under way",
                 rollout->id, site->taken);
        return false;
    }
    return true;
}

void rollout_permit(const struct rollout *rollout, const struct mac *mac, uint64_t site,
                    struct rollout_permission *permission)
{
    const struct member *member = member_find(rollout, mac);
    *permission = (struct rollout_permission){ .granted = true };
    if (rollout->state == ROLLOUT_DONE) {
        return; /* the type's word: whoever asks may have it */
    }
    if (!rollout_may_trigger(rollout)) {
        refuse(permission, rollout->state);
        snprintf(permission->detail, sizeof permission->detail, "rollout %s is %s%s%s", rollout->id,
                 rollout_state_word(rollout->state), rollout->why[0] != '\0' ? ": " : "", rollout->why);
        return;
    }
    if (!permit_state(rollout, member, permission) || !permit_slot(rollout, member, site, permission)) {
        refuse(permission, rollout->state);
    }
}

int64_t rollout_seconds_left(const struct rollout *rollout)
{
    size_t confirmed = rollout->devices[ROLLOUT_DEVICE_CONFIRMED];
    size_t left = rollout->devices[ROLLOUT_DEVICE_QUEUED] + rollout->in_flight;
    if (left == 0) {
        return 0;
    }
    if (confirmed == 0) {
        return -1;
    }
    uint64_t each_ms = (rollout->transfer_ms + rollout->reboot_ms) / confirmed;
    uint64_t rounds = (left + window_size(&rollout->window) - 1) / window_size(&rollout->window);
    return (int64_t)((rounds * each_ms + 999) / 1000);
}
