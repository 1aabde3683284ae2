/* Rollouts over the end of the process: back from what was written down, and what they wait for until they go on.
 */
#include "fleet/rollout_parts.h"

#include <stdio.h>
#include <string.h>

/* On the loop's clock, which began anew: it may come out before zero, and differences to it are right nevertheless. A
 * calendar that was set back has passed nothing. */
static uint64_t loop_time_of(uint32_t unix_s, const struct moment *now)
{
    uint64_t ago_s = unix_s > 0 && now->unix_s > unix_s ? now->unix_s - unix_s : 0;
    return now->ms - ago_s * 1000;
}

static uint64_t within(uint64_t value, uint64_t least, uint64_t most)
{
    return value < least ? least : value > most ? most : value;
}

/* Whatever somebody wrote into the rows: nothing is divided by zero, nobody waits for ever. */
static void keep_bounds(struct rollout *rollout)
{
    struct rollout_order *order = &rollout->order;
    order->percent = (unsigned)within(order->percent, 1, 100);
    order->max_failures = (unsigned)within(order->max_failures, 0, 100);
    order->canary = (unsigned)within(order->canary, 0, ROLLOUT_DEVICES_MAX);
    order->in_flight = rollout->window.fixed = (uint32_t)within(order->in_flight, 0, ROLLOUT_DEVICES_MAX);
    order->window_s = (uint32_t)within(order->window_s, 0, ROLLOUT_WAIT_MS_MAX / 1000);
    order->timeout_ms = within(order->timeout_ms, 1, ROLLOUT_WAIT_MS_MAX);
    order->reboot_ms = within(order->reboot_ms, 1, ROLLOUT_WAIT_MS_MAX);
    order->broker_ms = within(order->broker_ms, 1, ROLLOUT_WAIT_MS_MAX);
    rollout->window.size = (uint32_t)within(rollout->window.size, WINDOW_MIN, WINDOW_MAX);
    rollout->forgiven = within(rollout->forgiven, 0, rollout->failures);
    rollout->lost_forgiven = within(rollout->lost_forgiven, 0, rollout->lost);
    if (rollout_stands_still(rollout) && rollout->before != ROLLOUT_PLANNED && rollout->before != ROLLOUT_CANARY) {
        rollout->before = ROLLOUT_RUNNING;
    }
    rollout->word_only = rollout->word_only && rollout_is_over(rollout);
}

struct rollout *rollouts_restore(struct rollouts *rollouts, const struct rollout *as_written, const struct moment *now)
{
    struct rollout kept = *as_written;
    keep_bounds(&kept);
    bool full = !kept.word_only && rollouts->recent.count >= ROLLOUTS_MAX; /* the end of an older one was not written */
    if (full && !rollouts_drop_oldest(rollouts)) {
        return NULL;
    }
    struct rollout *rollout = rollouts_add(rollouts, &kept);
    rollout->since_ms = loop_time_of(rollout->since_s, now);
    rollout->news_ms = now->ms;
    rollout->table->stands_ms = loop_time_of(rollout->created_s, now);
    rollout->in_flight = 0;
    bool over = rollout_is_over(rollout), follows = false;
    for (size_t i = 0; i < ROLLOUT_DEVICE_STATES; i++) {
        follows =
            follows || (over && as_written->devices[i] > 0 && rollout_device_is_open((enum rollout_device_state)i));
    }
    follows = follows && !rollout->word_only;
    rollout->table->closed = over && !follows;
    if (!over || follows) { /* they are counted again as they come; those of one that is closed stand */
        memset(rollout->devices, 0, sizeof rollout->devices);
        rollout->canaries = rollout->canaries_confirmed = 0;
    }
    if (!over) {
        memset(&rollout->skipped_for, 0, sizeof rollout->skipped_for);
    }
    rollout->members = over ? rollout->members : 0;
    if (follows) { /* whoever waited at the end, or was left out before, may not have been written down */
        rollout->devices[ROLLOUT_DEVICE_SKIPPED] = rollout->members;
    }
    return rollout;
}

static bool goes_on(const struct rollout *rollout)
{
    return rollout_may_trigger(rollout) || rollout->state == ROLLOUT_PLANNED;
}

bool rollout_waits(struct rollout *rollout, const char *why)
{
    char *waits = rollout->table->waits;
    if (strncmp(waits, why, sizeof rollout->table->waits - 1) == 0) {
        return false;
    }
    snprintf(waits, sizeof rollout->table->waits, "%s", why);
    if (goes_on(rollout)) {
        snprintf(rollout->why, sizeof rollout->why, "it waits: %s", waits);
    }
    return true;
}

void rollout_waits_no_more(struct rollout *rollout)
{
    rollout->table->waits[0] = '\0';
    if (goes_on(rollout)) {
        rollout_say(rollout);
    }
}

/* One of those counted so far without a name. */
static void restore_followed(struct rollout *rollout, const struct rollout_member *as_written, uint64_t site,
                             const struct moment *now)
{
    struct rollout_member member = *as_written;
    if (rollout->devices[ROLLOUT_DEVICE_SKIPPED] == 0) {
        return;
    }
    rollout->devices[ROLLOUT_DEVICE_SKIPPED]--;
    rollout->members--;
    if (member.state == ROLLOUT_DEVICE_DOWNLOADING) { /* the server's end was the download's; or it had all of it */
        member.state = ROLLOUT_DEVICE_TRIGGERED;
    } else if (member.state == ROLLOUT_DEVICE_QUEUED) {
        member.state = ROLLOUT_DEVICE_SKIPPED;
    }
    member_restore(rollout, &member, site, now);
}

void rollout_restore_member(struct rollout *rollout, const struct rollout_member *as_written, uint64_t site,
                            const struct moment *now)
{
    bool closed = rollout->table->closed;
    bool listed = as_written->state == ROLLOUT_DEVICE_FAILED || as_written->state == ROLLOUT_DEVICE_SILENT ||
                  as_written->state == ROLLOUT_DEVICE_SKIPPED;
    size_t max = closed ? ROLLOUT_LISTED_MAX : ROLLOUT_DEVICES_MAX;
    bool listed_here = !closed || (listed && !rollout->word_only);
    if (rollout->table->member_count >= max || !listed_here || member_find(rollout, &as_written->mac) != NULL) {
        return;
    }
    if (rollout_is_over(rollout) && !closed) {
        restore_followed(rollout, as_written, site, now);
        return;
    }
    struct rollout before = *rollout;
    member_restore(rollout, as_written, site, now);
    if (closed) { /* its counts stand; the member is for the list alone */
        *rollout = before;
    }
}
