/* What the last word on a type keeps: a done rollout that went back holds the type on an older version than there is.
 */
#include "server/admin_parts.h"

#include "server/check.h"

#include <string.h>

static const struct build *offered(const struct check *check)
{
    return check->input.offer.plain != NULL ? check->input.offer.plain : check->input.offer.gzip;
}

/* A newer one for all that this one means is the word, instead of it, for everybody. */
static bool is_replaced(const struct admin_api *api, const struct rollout *rollout)
{
    const struct rollout_target *target = &rollout->order.target;
    const struct rollout *newer = rollouts_of_type(api->fleet->rollouts, slice_of(target->type), target->fs);
    for (; newer != rollout; newer = rollout_older_of_type(newer)) {
        if (rollout_means_all(&newer->order) && (newer->state == ROLLOUT_DONE || !rollout_is_over(newer))) {
            return true;
        }
    }
    return false;
}

bool admin_keeps_some(const struct admin_api *api, const struct rollout *rollout, struct admin_keeping *keeping)
{
    struct check check;
    struct version passed_over, on;
    const struct rollout_target *target = &rollout->order.target;
    if (rollout->state != ROLLOUT_DONE || target->passed_over[0] == '\0' || rollout_means_all(&rollout->order) ||
        is_replaced(api, rollout) || version_parse(slice_of(target->passed_over), &passed_over) != STATUS_OK ||
        version_parse(slice_of(target->version), &on) != STATUS_OK) {
        return false;
    }
    check_init(&check, &api->device_api->sources);
    check.device.mode = target->fs ? DEVICE_MODE_FS : DEVICE_MODE_SKETCH;
    check.type = slice_of(target->type);
    check_update(&check, true, NULL);
    check_find_offer(&check, NULL);
    *keeping = (struct admin_keeping){ .rollout = rollout, .newest = offered(&check) };
    return keeping->newest != NULL && version_compare(&keeping->newest->version, &passed_over) <= 0 &&
           version_compare(&keeping->newest->version, &on) > 0;
}

bool admin_keeps(const struct admin_api *api, const struct rollout *rollout, struct admin_keeping *keeping)
{
    struct check check;
    const struct rollout_target *target = &rollout->order.target;
    if (rollout->state != ROLLOUT_DONE || target->passed_over[0] == '\0') {
        return false;
    }
    check_init(&check, &api->device_api->sources); /* as a device asks that nobody has said anything of */
    check.device.mode = target->fs ? DEVICE_MODE_FS : DEVICE_MODE_SKETCH;
    check.type = slice_of(target->type);
    check_update(&check, true, NULL);
    if (check.direction.rollout != rollout || check.direction.unless_above == NULL) {
        return false;
    }
    *keeping = (struct admin_keeping){ .rollout = rollout };
    keeping->on = offered(&check);
    check_find_offer(&check, NULL);
    keeping->newest = offered(&check);
    return keeping->newest != NULL &&
           (keeping->on == NULL || version_compare(&keeping->newest->version, &keeping->on->version) > 0);
}
