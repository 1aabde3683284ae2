/* What the last word on a type keeps: a done rollout that went back holds the type on an older version than there is.
 */
#include "server/admin_parts.h"

#include "server/check.h"

static const struct build *offered(const struct check *check)
{
    return check->input.offer.plain != NULL ? check->input.offer.plain : check->input.offer.gzip;
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
