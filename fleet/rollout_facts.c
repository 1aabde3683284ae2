/* What is heard of devices, and what it means for the rollouts under way. A table tells which fact moves a member from
 * which state to which; what is not in it changes nothing.
 */
#include "fleet/rollout_parts.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool is_under_way(const struct rollout *rollout)
{
    return rollout->table->started && !rollout_is_over(rollout);
}

/* The rollout under way that means this device, and the member; it joins where it is a stranger. */
static struct rollout *find_rollout(struct rollouts *rollouts, const struct mac *mac, struct slice type, bool fs)
{
    const struct rollout *found = rollouts_for(rollouts, mac, type, fs, false);
    return found != NULL && is_under_way(found) ? rollouts_find(rollouts, slice_of(found->id)) : NULL;
}

static struct member *take_member(struct rollout *rollout, const struct mac *mac, uint64_t site,
                                  const struct moment *now)
{
    struct member *member = member_find(rollout, mac);
    if (member == NULL && rollout->members < ROLLOUT_DEVICES_MAX) {
        member = member_add(rollout, mac, site, now);
    }
    rollout->news_ms = now->ms;
    return member;
}

static void fail(struct rollout *rollout, struct member *member, const char *why, const struct moment *now)
{
    if (member->state != ROLLOUT_DEVICE_FAILED) {
        member_set(rollout, member, ROLLOUT_DEVICE_FAILED, why, now);
        rollout->failures++;
    }
}

/* --- check-ins ------------------------------------------------------------------------------------------------------
 */

/* It runs the target. Who never took it here ran it before. */
static void confirm(struct rollout *rollout, struct member *member, const struct moment *now)
{
    switch ((enum rollout_device_state)member->state) {
    case ROLLOUT_DEVICE_CONFIRMED:
    case ROLLOUT_DEVICE_SKIPPED:
        return;
    case ROLLOUT_DEVICE_QUEUED:
    case ROLLOUT_DEVICE_TRIGGERED:
        if (!member->took) {
            member_set(rollout, member, ROLLOUT_DEVICE_SKIPPED, "runs it already", now);
            return;
        }
        break;
    case ROLLOUT_DEVICE_FLASHED:
        rollout->reboot_ms += now->ms - member->since_ms;
        break;
    default:
        break;
    }
    member_set(rollout, member, ROLLOUT_DEVICE_CONFIRMED, "", now);
}

static void skip(struct rollout *rollout, struct member *member, const char *why, const struct moment *now)
{
    bool waits = member->state == ROLLOUT_DEVICE_QUEUED || member->state == ROLLOUT_DEVICE_TRIGGERED ||
                 member->state == ROLLOUT_DEVICE_SILENT;
    if (waits) {
        member_set(rollout, member, ROLLOUT_DEVICE_SKIPPED, why, now);
    }
}

void rollouts_checked_in(struct rollouts *rollouts, const struct rollout_fact *fact, const struct moment *now)
{
    struct rollout *rollout = find_rollout(rollouts, &fact->mac, fact->type, fact->fs);
    struct member *member = rollout != NULL ? take_member(rollout, &fact->mac, fact->site, now) : NULL;
    if (member == NULL) {
        return;
    }
    if (fact->runs_target) {
        confirm(rollout, member, now);
    } else if (fact->failed != NULL) {
        fail(rollout, member, fact->failed, now);
    } else if (fact->withheld != NULL) {
        skip(rollout, member, fact->withheld, now);
    } else if (!fact->served && (member->state == ROLLOUT_DEVICE_SILENT || member->state == ROLLOUT_DEVICE_TRIGGERED)) {
        member_requeue(rollout, member, false, now); /* it is there, and not its turn: it will be told */
    }
    rollout_step(rollout, now);
}

/* --- transfers ------------------------------------------------------------------------------------------------------
 */

static bool is_of(const struct rollout *rollout, const uint8_t file_md5[16])
{
    for (size_t i = 0; i < rollout->order.target.image_count; i++) {
        if (memcmp(rollout->order.target.md5[i], file_md5, 16) == 0) {
            return true;
        }
    }
    return false;
}

void rollouts_transfer_begins(struct rollouts *rollouts, const struct mac *mac, const uint8_t file_md5[16],
                              const struct moment *now)
{
    for (struct rollout *rollout = rollouts->newest; rollout != NULL; rollout = rollout->table->older) {
        struct member *member = mac != NULL ? member_find(rollout, mac) : NULL;
        if (!is_under_way(rollout) || !is_of(rollout, file_md5) || member == NULL) {
            continue;
        }
        member->transfers += member->transfers < UINT8_MAX;
        member->attempts += member->state == ROLLOUT_DEVICE_QUEUED; /* it came by itself */
        member->took = true;
        rollout->news_ms = now->ms;
        if (member->state != ROLLOUT_DEVICE_CONFIRMED && member->state != ROLLOUT_DEVICE_FAILED) {
            member_set(rollout, member, ROLLOUT_DEVICE_DOWNLOADING, "", now);
        }
    }
}

static void end_download(struct rollout *rollout, struct member *member, bool whole, uint64_t ms, const char *why,
                         const struct moment *now)
{
    if (whole) {
        if (rollout->in_flight >= window_size(&rollout->window)) {
            window_flowed(&rollout->window);
        }
        rollout->transfer_ms += ms;
        member_set(rollout, member, ROLLOUT_DEVICE_FLASHED, "", now);
        return;
    }
    window_stalled(&rollout->window, now->ms);
    if (member->attempts >= ROLLOUT_ATTEMPTS_MAX) {
        fail(rollout, member, why, now);
    } else {
        member_requeue(rollout, member, true, now);
    }
}

void rollouts_transfer_ended(struct rollouts *rollouts, const struct mac *mac, const uint8_t file_md5[16], bool whole,
                             uint64_t bytes, uint64_t ms, const char *why_cut, const struct moment *now)
{
    struct rollout *older;
    for (struct rollout *rollout = rollouts->newest; rollout != NULL; rollout = older) {
        struct member *member = mac != NULL ? member_find(rollout, mac) : NULL;
        older = rollout->table->older;
        if (!is_under_way(rollout) || !is_of(rollout, file_md5)) {
            continue;
        }
        rollout->bytes += bytes;
        rollout->anonymous += mac == NULL && whole;
        rollout->news_ms = now->ms;
        if (member == NULL) {
            continue;
        }
        member->transfers -= member->transfers > 0;
        if (member->state == ROLLOUT_DEVICE_DOWNLOADING && member->transfers == 0) {
            end_download(rollout, member, whole, ms, why_cut, now);
        }
        rollout_step(rollout, now);
    }
}

/* --- the broker's answers --------------------------------------------------------------------------------------------
 */

static bool somebody_came(const struct rollout *rollout)
{
    return rollout->devices[ROLLOUT_DEVICE_DOWNLOADING] + rollout->devices[ROLLOUT_DEVICE_FLASHED] +
               rollout->devices[ROLLOUT_DEVICE_CONFIRMED] + rollout->anonymous >
           0;
}

static void tell_failed(struct rollout *rollout, struct member *member, const char *why, const struct moment *now)
{
    char text[120];
    bool stands_still = rollout->state == ROLLOUT_PAUSED || rollout->state == ROLLOUT_HALTED;
    if (member == NULL || member->state != ROLLOUT_DEVICE_TRIGGERED) {
        return;
    }
    if (stands_still) { /* withdrawn: the same command goes out later */
        member->attempts--;
        member_requeue(rollout, member, false, now);
        return;
    }
    snprintf(text, sizeof text, "not told: %s", why);
    member_set(rollout, member, ROLLOUT_DEVICE_FAILED, text, now);
}

static void tell_succeeded(struct rollout *rollout, struct member *member, const struct moment *now)
{
    if (member != NULL && member->state == ROLLOUT_DEVICE_TRIGGERED && !member->told) {
        member_told(rollout, member, now);
    }
}

void rollouts_told(struct rollouts *rollouts, struct rollout *rollout, const struct mac *device, bool acknowledged,
                   const char *why, const struct moment *now)
{
    (void)rollouts;
    *(acknowledged ? &rollout->acknowledged : &rollout->commands_failed) += 1;
    if (!is_under_way(rollout)) {
        return;
    }
    bool nobody = rollout->acknowledged == 0 && rollout->commands_failed == rollout->commands &&
                  !somebody_came(rollout) && rollout->state != ROLLOUT_PAUSED && rollout->state != ROLLOUT_HALTED;
    if (nobody) {
        char text[200];
        snprintf(text, sizeof text, "no command reached the broker: %s", why);
        rollout_end(rollout, ROLLOUT_ABORTED, text, now);
        return;
    }
    if (device != NULL) {
        struct member *member = member_find(rollout, device);
        acknowledged ? tell_succeeded(rollout, member, now) : tell_failed(rollout, member, why, now);
    } else {
        struct member *next;
        for (struct member *member = rollout->table->telling.head; member != NULL; member = next) {
            next = member->next;
            acknowledged ? tell_succeeded(rollout, member, now) : tell_failed(rollout, member, why, now);
        }
    }
    rollout->news_ms = now->ms;
    rollout_step(rollout, now);
}

void rollouts_reported_failure(struct rollouts *rollouts, const struct mac *mac, const char *why,
                               const struct moment *now)
{
    struct rollout *older;
    for (struct rollout *rollout = rollouts->newest; rollout != NULL; rollout = older) {
        struct member *member = is_under_way(rollout) ? member_find(rollout, mac) : NULL;
        older = rollout->table->older;
        if (member != NULL && member_takes_slot(member)) {
            rollout->news_ms = now->ms;
            fail(rollout, member, why, now);
            rollout_step(rollout, now);
        }
    }
}

/* --- deadlines ------------------------------------------------------------------------------------------------------
 */

static struct member *due(const struct member_list *list, uint64_t wait_ms, const struct moment *now)
{
    return list->head != NULL && now->ms - list->head->since_ms >= wait_ms ? list->head : NULL;
}

static void check_deadlines(struct rollout *rollout, const struct moment *now)
{
    struct rollout_table *table = rollout->table;
    const struct {
        struct member_list *list;
        uint64_t wait_ms;
        enum rollout_device_state to;
        const char *why;
    } deadlines[] = {
        { &table->telling, ROLLOUT_TELL_MS, ROLLOUT_DEVICE_FAILED, "not told: the broker never answered" },
        { &table->of_state[ROLLOUT_DEVICE_TRIGGERED],
          rollout->order.timeout_ms + (uint64_t)rollout->order.window_s * 1000, ROLLOUT_DEVICE_SILENT,
          "was told, and has not asked" },
        { &table->of_state[ROLLOUT_DEVICE_DOWNLOADING], ROLLOUT_DOWNLOAD_MS, ROLLOUT_DEVICE_SILENT,
          "its download has not ended for an hour" },
        { &table->of_state[ROLLOUT_DEVICE_FLASHED], rollout->order.reboot_ms, ROLLOUT_DEVICE_SILENT,
          "took all of it, and has not come back" },
    };
    struct member *member;
    for (size_t i = 0; i < sizeof deadlines / sizeof deadlines[0]; i++) {
        while ((member = due(deadlines[i].list, deadlines[i].wait_ms, now)) != NULL) {
            bool flashed = member->state == ROLLOUT_DEVICE_FLASHED;
            rollout->lost += flashed && member->came_back;
            member_set(rollout, member, deadlines[i].to, deadlines[i].why, now);
        }
    }
    while ((member = due(&table->resting, ROLLOUT_RETRY_MS, now)) != NULL) {
        member_rested(rollout, member);
    }
}

/* Devices that nobody can tell one by one ask by themselves, or never. */
static void check_untellable(struct rollout *rollout, const struct moment *now)
{
    const struct rollout_table *table = rollout->table;
    bool runs = rollout->state == ROLLOUT_RUNNING || rollout->state == ROLLOUT_CANARY;
    if (table->device_topic || !runs || now->ms - table->started_ms < ROLLOUT_STAND_MS) {
        return;
    }
    for (struct member *member = table->joined; member != NULL; member = member->next_joined) {
        if (member->state == ROLLOUT_DEVICE_QUEUED) {
            member_set(rollout, member, ROLLOUT_DEVICE_SILENT, "has not asked by itself, and nothing can tell it", now);
        }
    }
}

static bool end_of_patience(struct rollout *rollout, const struct moment *now)
{
    char why[200];
    bool stands_still = rollout->state == ROLLOUT_PAUSED || rollout->state == ROLLOUT_HALTED;
    if (stands_still && now->ms - rollout->since_ms >= ROLLOUT_PAUSE_MS) {
        snprintf(why, sizeof why, "%s for a month, and nobody came back to it", rollout_state_word(rollout->state));
    } else if (!stands_still && rollout->commands > 0 && rollout->acknowledged == 0 && !somebody_came(rollout) &&
               now->ms - rollout->table->started_ms >= rollout->order.broker_ms) {
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
    for (struct rollout *rollout = rollouts->newest; rollout != NULL; rollout = older) {
        older = rollout->table->older;
        if (!is_under_way(rollout) || end_of_patience(rollout, now)) {
            continue;
        }
        check_deadlines(rollout, now);
        check_untellable(rollout, now);
        rollout_step(rollout, now);
        rollout_call_all(rollout, now);
    }
}

void rollouts_written(struct rollouts *rollouts, uint64_t ticket, const struct moment *now)
{
    struct rollout *older;
    rollouts->written_ticket = ticket > rollouts->written_ticket ? ticket : rollouts->written_ticket;
    for (struct rollout *rollout = rollouts->newest; rollout != NULL; rollout = older) {
        older = rollout->table->older;
        if (is_under_way(rollout)) {
            rollout_step(rollout, now);
        }
    }
}
