/* Orders that a restart interrupted: with the image that was ordered, or not at all. */
#include "base/log.h"
#include "server/dispatch.h"

#include <stdio.h>
#include <string.h>

/* In any of its forms: it may have come to lie there compressed, too. */
static bool is_ordered(const struct trigger_plan *plan, const struct rollout_order *of)
{
    for (size_t i = 0; i < plan->target.image_count; i++) {
        for (size_t k = 0; k < of->target.image_count; k++) {
            if (memcmp(plan->target.md5[i], of->target.md5[k], 16) == 0) {
                return true;
            }
        }
    }
    return false;
}

#define WAITS "it waits: "

/* For a drive that is not there yet, or a network: that is no reason to give it up, nor a word on its image. */
static void wait_on(struct trigger *trigger, struct rollout *rollout, const char *why, const struct moment *now)
{
    char text[sizeof rollout->why];
    bool is_late = now->unix_s > rollout->created_s && now->unix_s - rollout->created_s > ROLLOUT_STAND_MS / 1000;
    snprintf(text, sizeof text, WAITS "%s", why);
    if (is_late) {
        rollout_call_off(trigger->fleet->rollouts, rollout, why, now);
    } else if (strcmp(rollout->why, text) != 0) {
        snprintf(rollout->why, sizeof rollout->why, "%s", text);
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
    if (!trigger_plan(trigger, &order, &plan, &problem) || !is_ordered(&plan, of)) {
        order.version = of->target.version;
        if (!trigger_plan(trigger, &order, &plan, &problem)) {
            wait_on(trigger, rollout, problem.message, &now);
            return;
        }
        if (!is_ordered(&plan, of)) {
            rollout_call_off(trigger->fleet->rollouts, rollout,
                             "its file was replaced while the server was down: order it again", &now);
            return;
        }
    }
    if (strncmp(rollout->why, WAITS, strlen(WAITS)) == 0) {
        rollout->why[0] = '\0';
    }
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
