/* Rollouts and what lies in the repository: whether the image of each is still there, and, after a restart, how they go
 * on. What makes it hard is what comes late: a drive, a network, a file that is put back.
 */
#include "base/log.h"
#include "server/dispatch.h"
#include "server/trigger_target.h"

#include <stdio.h>
#include <string.h>

static bool is_same_build(const struct rollout_target *target, const struct build *build)
{
    for (size_t i = 0; i < target->run_md5_count; i++) {
        if (memcmp(target->run_md5[i], build->facts.run_md5[0], sizeof target->run_md5[i]) == 0) {
            return true;
        }
    }
    return false;
}

static bool is_among(struct image *forms[], size_t count, const uint8_t md5[16])
{
    for (size_t i = 0; i < count; i++) {
        if (memcmp(forms[i]->build.facts.md5, md5, 16) == 0) {
            return true;
        }
    }
    return false;
}

/* What lies in the repository under the version that was ordered. */
enum look { LOOK_GOOD, LOOK_GONE, LOOK_REPLACED };

/* Other bytes beside all that was ordered are no reason to stop: nobody is given them. In the place of one of its forms
 * they are: whoever put them there meant devices to have them. */
static enum look look_at(const struct trigger *trigger, struct rollout *rollout)
{
    const struct rollout_target *target = &rollout->order.target;
    const struct rejection *rejected = catalog_find_rejection(trigger->catalog, slice_of(target->file));
    struct image *forms[ROLLOUT_FORMS_MAX];
    size_t count = trigger_find_forms(trigger->catalog, target, forms), strange = 0;
    bool lacks_one = false;
    for (size_t i = 0; i < count; i++) {
        const struct build *build = &forms[i]->build;
        bool is_ours = rollout_has_file(rollout, build->facts.md5) ||
                       (is_same_build(target, build) && rollout_add_form(rollout, build->facts.md5));
        strange += !is_ours;
    }
    for (size_t i = 0; i < target->image_count; i++) {
        lacks_one = lacks_one || !is_among(forms, count, target->md5[i]);
    }
    rollout_image_refused(rollout, rejected != NULL ? rejected->verdict.detail : "");
    return count == 0 ? LOOK_GONE : strange > 0 && lacks_one ? LOOK_REPLACED : LOOK_GOOD;
}

void trigger_await_images(struct trigger *trigger)
{
    struct rollouts *rollouts = trigger->fleet->rollouts;
    trigger->awaits_images = true;
    for (size_t i = 0; i < rollouts_count(rollouts); i++) {
        struct rollout *rollout = rollouts_at(rollouts, i);
        if (!rollout_is_over(rollout) && look_at(trigger, rollout) != LOOK_GOOD) {
            rollout_image_awaited(rollout);
        }
    }
}

void trigger_look_for_images(struct trigger *trigger)
{
    struct rollouts *rollouts = trigger->fleet->rollouts;
    struct moment now = clock_moment(trigger->loop);
    trigger->awaits_images = false;
    for (size_t i = 0; i < rollouts_count(rollouts); i++) {
        struct rollout *rollout = rollouts_at(rollouts, i);
        if (!rollout_is_over(rollout)) {
            rollout_image_found(rollout, look_at(trigger, rollout) == LOOK_GOOD, &now);
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

/* What an order for the newest would give is what was ordered. */
static bool is_newest(const struct trigger *trigger, const struct rollout *rollout)
{
    const struct rollout_target *target = &rollout->order.target;
    struct trigger_order order = { .type = slice_of(target->type), .fs = target->fs };
    struct offer offer = { NULL, NULL };
    enum reason missing;
    (void)trigger_find_offer(trigger->catalog, &order, NULL, &offer, &missing);
    return (offer.plain != NULL && rollout_has_file(rollout, offer.plain->facts.md5)) ||
           (offer.gzip != NULL && rollout_has_file(rollout, offer.gzip->facts.md5));
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
    if (!is_newest(trigger, rollout)) {
        order.version = of->target.version;
    }
    if (look_at(trigger, rollout) == LOOK_REPLACED) {
        rollout_image_lost(rollout, &now);
        return;
    }
    if (!trigger_plan(trigger, &order, &plan, &problem)) {
        wait_on(rollout, problem.message, &now);
        return;
    }
    rollout_waits_no_more(rollout);
    order.group = of->group[0] != '\0' ? of->group : NULL; /* whose last member may have left it meanwhile */
    dispatch_begin(trigger, &order, &plan, rollout);
}

void trigger_restore(struct trigger *trigger)
{
    struct rollouts *rollouts = trigger->fleet->rollouts;
    for (size_t i = trigger->awaits_images ? 0 : rollouts_count(rollouts); i > 0;
         i--) { /* the oldest first: newer ones take their devices */
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
