/* Deadlines of a rollout and of its members: nothing waits for ever.
 */
#include "fleet/rollout_parts.h"

#include <inttypes.h>
#include <stdio.h>

#define DUE_MAX 512 /* at a time: thousands that fall silent together are not looked at in one turn of the loop */

static struct member *due(const struct member_list *list, uint64_t wait_ms, const struct moment *now)
{
    return list->head != NULL && now->ms - list->head->since_ms >= wait_ms ? list->head : NULL;
}

static void check_deadlines(struct rollout *rollout, const struct moment *now)
{
    const struct rollout_effects *effects = &rollout->table->rollouts->effects;
    struct rollout_table *table = rollout->table;
    size_t lost_before = rollout->lost;
    const struct {
        struct member_list *list;
        uint64_t wait_ms;
        enum rollout_device_state to;
        enum rollout_mark mark;
        const char *why;
    } deadlines[] = {
        { &table->telling, ROLLOUT_TELL_MS, ROLLOUT_DEVICE_FAILED, ROLLOUT_MARK_UNTOLD,
          NOT_TOLD "the broker never answered" },
        { &table->of_state[ROLLOUT_DEVICE_TRIGGERED],
          rollout->order.timeout_ms + (uint64_t)rollout->order.window_s * 1000, ROLLOUT_DEVICE_SILENT,
          ROLLOUT_MARK_NONE, "was told, and has not asked" },
        { &table->of_state[ROLLOUT_DEVICE_DOWNLOADING], ROLLOUT_DOWNLOAD_MS, ROLLOUT_DEVICE_SILENT, ROLLOUT_MARK_NONE,
          "its download has not ended for an hour" },
        { &table->of_state[ROLLOUT_DEVICE_FLASHED], rollout->order.reboot_ms, ROLLOUT_DEVICE_SILENT, ROLLOUT_MARK_NONE,
          "took all of it, and has not come back" },
    };
    struct member *member;
    size_t count = 0;
    for (size_t i = 0; i < sizeof deadlines / sizeof deadlines[0]; i++) {
        while (count < DUE_MAX && (member = due(deadlines[i].list, deadlines[i].wait_ms, now)) != NULL) {
            count++;
            bool is_told_again = table->device_topic || !table->started;
            if (member->unsure && is_told_again && !rollout_is_over(rollout)) { /* it may have come: it says so then */
                member_requeue(rollout, member, false, now);
                continue;
            }
            if (member->state == ROLLOUT_DEVICE_DOWNLOADING) {
                window_stalled(&rollout->window, now->ms);
            }
            member->lost = member->state == ROLLOUT_DEVICE_FLASHED && member->came_back;
            rollout->lost += member->lost;
            member_set_as(rollout, member, deadlines[i].to, deadlines[i].mark, deadlines[i].why, now);
        }
    }
    if (rollout->lost != lost_before) { /* no member tells that it is missed */
        (void)effects->changed(effects->owner, rollout);
    }
    while ((member = due(&table->resting, ROLLOUT_RETRY_MS, now)) != NULL) {
        member_rested(rollout, member);
    }
}

#define UNTELLABLE_LOOKED_AT 4096 /* at a time, of perhaps a million */

/* Devices that nobody can tell one by one ask by themselves, or never. */
static void check_untellable(struct rollout *rollout, const struct moment *now)
{
    struct rollout_table *table = rollout->table;
    bool runs = rollout->state == ROLLOUT_RUNNING || rollout->state == ROLLOUT_CANARY;
    if (table->device_topic || !table->started || !runs || now->ms - table->stands_ms < ROLLOUT_STAND_MS) {
        return;
    }
    for (size_t i = 0; i < UNTELLABLE_LOOKED_AT && i < table->member_count; i++) {
        size_t at = table->untellable_next < table->member_count ? table->untellable_next : 0;
        struct member *member = member_at(table, at);
        table->untellable_next = at + 1;
        if (member->state == ROLLOUT_DEVICE_QUEUED) {
            member_set(rollout, member, ROLLOUT_DEVICE_SILENT, "has not asked by itself, and nothing can tell it", now);
        }
    }
}

static bool end_of_patience(struct rollout *rollout, const struct moment *now)
{
    char why[200];
    bool stands = rollout_stands_still(rollout);
    if (rollout_is_over(rollout)) {
        return false;
    }
    if (stands && now->ms - rollout->since_ms >= ROLLOUT_PAUSE_MS) {
        snprintf(why, sizeof why, "%s for a month, and nobody came back to it", rollout_state_word(rollout->state));
        rollout->distrusted = true; /* who stopped it had a reason */
    } else if (!stands && rollout->table->started && rollout->commands > 0 && rollout->acknowledged == 0 &&
               !rollout_somebody_came(rollout) && now->ms - rollout->table->started_ms >= rollout->order.broker_ms) {
        snprintf(why, sizeof why, "the broker took no command within %" PRIu64 " s", rollout->order.broker_ms / 1000);
    } else {
        return false;
    }
    rollout_end(rollout, ROLLOUT_ABORTED, why, now);
    return true;
}

void rollouts_tick(struct rollouts *rollouts, const struct moment *now)
{
    struct rollout *older;
    (void)waste_sweep(rollouts);
    for (struct rollout *rollout = rollouts->recent.newest; rollout != NULL; rollout = older) {
        older = rollout->table->older;
        if (!rollout_is_followed(rollout) || end_of_patience(rollout, now)) {
            continue;
        }
        check_deadlines(rollout, now);
        check_untellable(rollout, now);
        rollout_step(rollout, now);
        rollout_call_all(rollout, now);
    }
}
