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
    const struct rollout_order *order = &rollout->order;
    const struct rollout *newer =
        rollouts_of_type(api->fleet->rollouts, slice_of(order->target.type), order->target.fs);
    for (; newer != rollout; newer = rollout_older_of_type(newer)) {
        const struct rollout_order *other = &newer->order;
        bool whole_group = !other->named && !order->named && order->group[0] != '\0' &&
                           strcmp(other->group, order->group) == 0 && other->percent >= 100;
        if ((whole_group || rollout_means_all(other)) && (newer->state == ROLLOUT_DONE || !rollout_is_over(newer))) {
            return true;
        }
    }
    return false;
}

/* Those that it named, and that follow its word still: no newer one means them, and no pin holds them. */
static void count_named(const struct admin_api *api, const struct rollout *rollout, size_t *asks,
                        struct admin_keeping *keeping)
{
    const struct rollout_order *order = &rollout->order;
    size_t count = order->device_count < *asks ? order->device_count : *asks;
    *asks -= count;
    keeping->counted = count == order->device_count;
    keeping->devices = order->device_count - count;
    for (size_t i = 0; i < count; i++) {
        struct direction direction;
        fleet_direct(api->fleet, &order->devices[i], slice_of(order->target.type), order->target.fs, NULL, &direction);
        keeping->devices += direction.rollout == rollout;
    }
}

bool admin_keeps_some(const struct admin_api *api, const struct rollout *rollout, size_t *asks,
                      struct admin_keeping *keeping)
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
    if (keeping->newest == NULL || version_compare(&keeping->newest->version, &passed_over) > 0 ||
        version_compare(&keeping->newest->version, &on) <= 0) {
        return false;
    }
    if (rollout->order.named) {
        count_named(api, rollout, asks, keeping);
    }
    return !rollout->order.named || keeping->devices > 0;
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
