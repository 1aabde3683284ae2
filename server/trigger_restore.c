/* Rollouts and what lies in the repository: whether the image of each is still there, and, after a restart, how they go
 * on. What makes it hard is what comes late: a drive, a network, a file that is put back.
 */
#include "base/log.h"
#include "server/dispatch.h"
#include "server/trigger_target.h"

#include <stdio.h>
#include <string.h>

/* In any of its forms: it may have come to lie there compressed, too. */
static bool is_target(const struct rollout_target *target, const struct build *build)
{
    for (size_t i = 0; build != NULL && i < target->image_count; i++) {
        if (memcmp(target->md5[i], build->facts.md5, sizeof target->md5[i]) == 0) {
            return true;
        }
    }
    return false;
}

/* What an order of this version (NULL = the newest) would give is what was ordered. */
static bool gives(const struct trigger *trigger, const struct rollout_target *target, const char *version)
{
    struct trigger_order order = { .type = slice_of(target->type), .fs = target->fs };
    struct offer offer = { NULL, NULL };
    enum reason missing;
    (void)trigger_find_offer(trigger->catalog, &order, version, &offer, &missing);
    return is_target(target, offer.plain) || is_target(target, offer.gzip);
}

void trigger_look_for_images(struct trigger *trigger)
{
    struct rollouts *rollouts = trigger->fleet->rollouts;
    struct moment now = clock_moment(trigger->loop);
    for (size_t i = 0; i < rollouts_count(rollouts); i++) {
        struct rollout *rollout = rollouts_at(rollouts, i);
        const struct rollout_target *target = &rollout->order.target;
        if (!rollout_is_over(rollout)) {
            bool found = gives(trigger, target, NULL) || gives(trigger, target, target->version);
            rollout_image_found(rollout, found, &now);
        }
    }
}

/* --- after a restart ------------------------------------------------------------------------------------------------
 */

/* For a drive that is not there yet, or a network: that is no reason to give it up, nor a word on its image. */
static void wait_on(struct rollout *rollout, const char *why, const struct moment *now)
{
    bool is_late = now->unix_s > rollout->created_s && now->unix_s - rollout->created_s > ROLLOUT_STAND_MS / 1000;
    if (is_late) {
        rollout_call_off(rollout, why, now);
    } else if (rollout_waits(rollout, why)) {
        LOG_EVENT(LOG_WARN, "rollout_waits", "id", rollout->id, "type", rollout->order.target.type, "why", why);
    }
}

/* The image must be the one that was ordered, whatever stands in the repository now: as the newest, which its commands
 * did not name, or by its version. */
static void restore(struct trigger *trigger, struct rollout *rollout)
{
    const struct rollout_order *of = &rollout->order;
    struct trigger_order order = { .type = slice_of(of->target.type),
                                   .fs = of->target.fs,
                                   .device_count = of->device_count,
                                   .devices = of->devices,
                                   .percent = of->percent,
                                   .window_s = of->window_s,
                                   .timeout_ms = of->timeout_ms };
    struct trigger_plan plan;
    struct trigger_problem problem;
    struct moment now = clock_moment(trigger->loop);
    if (!gives(trigger, &of->target, NULL)) {
        order.version = of->target.version;
    }
    if (!trigger_plan(trigger, &order, &plan, &problem)) {
        wait_on(rollout, problem.message, &now);
        return;
    }
    if (order.version != NULL && !gives(trigger, &of->target, order.version)) {
        rollout_image_lost(rollout, &now);
        return;
    }
    rollout_waits_no_more(rollout);
    order.group = of->group[0] != '\0' ? of->group : NULL; /* whose last member may have left it meanwhile */
    dispatch_begin(trigger, &order, &plan, rollout);
}

void trigger_restore(struct trigger *trigger)
{
    struct rollouts *rollouts = trigger->fleet->rollouts;
    for (size_t i = rollouts_count(rollouts); i > 0; i--) { /* the oldest first: newer ones take their devices */
        struct rollout *rollout = rollouts_at(rollouts, i - 1);
        if (!rollout_is_over(rollout) && dispatch_find(trigger, rollout->id) == NULL) {
            restore(trigger, rollout);
        }
    }
}

void trigger_tick(struct trigger *trigger)
{
    dispatch_tick(trigger);
    trigger_restore(trigger);
}
