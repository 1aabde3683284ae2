/* What devices show of themselves, and what it means for the rollouts under way: a check-in, a word over MQTT that one
 * is there. What does not fit a member's state changes nothing.
 */
#include "fleet/rollout_parts.h"

#include <stdio.h>
#include <string.h>

/* The rollout under way that means this device, and the member; it joins where it is a stranger. */
static struct rollout *find_rollout(struct rollouts *rollouts, const struct mac *mac, struct slice type, bool fs)
{
    const struct rollout *found = rollouts_for(rollouts, mac, type, fs, false);
    bool counts = found != NULL && (found->table->started || rollout_is_followed(found));
    return counts ? rollouts_find(rollouts, slice_of(found->id)) : NULL;
}

static struct member *take_member(struct rollout *rollout, const struct mac *mac, uint64_t site,
                                  const struct moment *now)
{
    struct member *member = member_find(rollout, mac);
    if (member == NULL && rollout->members < ROLLOUT_DEVICES_MAX) {
        rollout_hand_over(rollout, mac, now);
        bool tries_it = rollout_lacks_canaries(rollout);
        member = member_add(rollout, mac, site, now);
        if (tries_it) {
            member_make_canary(rollout, member);
        }
    }
    return member;
}

void member_fail(struct rollout *rollout, struct member *member, const char *why, const struct moment *now)
{
    if (member->state != ROLLOUT_DEVICE_FAILED && member->state != ROLLOUT_DEVICE_SKIPPED) {
        member_set(rollout, member, ROLLOUT_DEVICE_FAILED, why, now);
        member->failed = true;
        rollout->failures++;
        if (rollout_fails_often(rollout)) {
            window_stalled(&rollout->window, now->ms);
        }
    }
}

void member_find_again(struct rollout *rollout, struct member *member)
{
    rollout->lost -= member->lost;
    member->lost = false;
}

/* It runs the target. Who never took it here ran it before. */
static void confirm(struct rollout *rollout, struct member *member, const struct moment *now)
{
    if (member->state == ROLLOUT_DEVICE_CONFIRMED || member->state == ROLLOUT_DEVICE_SKIPPED) {
        return;
    }
    if (member->state == ROLLOUT_DEVICE_FLASHED) {
        rollout->reboot_ms += now->ms - member->since_ms;
    }
    rollout->failures -= member->failed; /* it runs it after all */
    member->failed = false;
    member_set(rollout, member, member->took ? ROLLOUT_DEVICE_CONFIRMED : ROLLOUT_DEVICE_SKIPPED,
               member->took ? "" : "runs it already", now);
}

static void skip(struct rollout *rollout, struct member *member, const char *why, const struct moment *now)
{
    bool waits = member->state == ROLLOUT_DEVICE_QUEUED || member->state == ROLLOUT_DEVICE_TRIGGERED ||
                 member->state == ROLLOUT_DEVICE_SILENT;
    if (waits) {
        if (member->canary) {
            struct refusals *refusals = &rollout->table->refused_canaries;
            refusals->count++;
            snprintf(refusals->why, sizeof refusals->why, "%s", why);
        }
        member_set(rollout, member, ROLLOUT_DEVICE_SKIPPED, why, now);
    }
}

void member_reserve(struct rollout *rollout, struct member *member, const struct moment *now)
{
    struct rollout_permission permission;
    member->took = true;
    if (!member_takes_slot(member)) {
        rollout_permit(rollout, &member->mac, 0, &permission);
        if (!permission.granted) {
            return;
        }
        member->attempts += member->attempts < UINT8_MAX; /* it came by itself */
        member_set(rollout, member, ROLLOUT_DEVICE_TRIGGERED, "", now);
        member_told(rollout, member, now);
    }
}

/* It is there, and could not be served: it will be told, or told again. */
static void wait_again(struct rollout *rollout, struct member *member, const struct moment *now)
{
    if (member->list == &rollout->table->resting) { /* after a cut; it is back */
        member_rested(rollout, member);
        return;
    }
    bool triggered = member->state == ROLLOUT_DEVICE_TRIGGERED;
    if (member->state == ROLLOUT_DEVICE_QUEUED && member->unsure) {
        member_spend(rollout, member);
        return;
    }
    if (!triggered && member->state != ROLLOUT_DEVICE_SILENT && !member_is_untold(member)) {
        return;
    }
    if (member->attempts < ROLLOUT_COMMANDS_MAX) {
        member_requeue(rollout, member, triggered, now);
    } else if (triggered) {
        member_set(rollout, member, ROLLOUT_DEVICE_SILENT, "was told again and again, and could never be served", now);
    }
}

static bool has_taken_all(const struct member *member)
{
    return member->state == ROLLOUT_DEVICE_FLASHED ||
           (member->state == ROLLOUT_DEVICE_SILENT && member->mark == ROLLOUT_MARK_BLIND);
}

/* What is withheld then is no word on the device. */
static bool lacks_image(const struct rollout *rollout)
{
    return rollout->table->image_gone || rollout->table->image_awaited;
}

static void take_fact(struct rollout *rollout, struct member *member, const struct rollout_fact *fact,
                      const struct moment *now)
{
    uint64_t moves_before = rollout->table->moves;
    member_find_again(rollout, member);
    member_set_stale(rollout, member, false);
    if (fact->runs_target) {
        confirm(rollout, member, now);
    } else if (fact->failed != NULL && member->took) { /* what failed before this rollout is another story */
        member_fail(rollout, member, fact->failed, now);
    } else if (member->unsure && member->state == ROLLOUT_DEVICE_FLASHED) { /* its record knows no transfer any more */
        member_fail(rollout, member, "took all of it, and asks with another build", now);
    } else if (fact->is_blind && has_taken_all(member)) {
        if (member->state == ROLLOUT_DEVICE_FLASHED) {
            member_set_as(rollout, member, ROLLOUT_DEVICE_SILENT, ROLLOUT_MARK_BLIND,
                          "took all of it, and asks without a version: nobody can tell what it has", now);
        }
    } else if (fact->withheld != NULL && !lacks_image(rollout)) {
        skip(rollout, member, fact->withheld, now);
    } else if (fact->served) {
        member_reserve(rollout, member, now);
    } else {
        wait_again(rollout, member, now);
    }
    member->has_all = member->has_all && member->state == ROLLOUT_DEVICE_FLASHED; /* nothing was proved */
    if (rollout->table->moves != moves_before) { /* that one who has it asks every minute is no news */
        rollout->news_ms = now->ms;
    }
    rollout_step(rollout, now);
}

void rollouts_checked_in(struct rollouts *rollouts, const struct rollout_fact *fact, const struct moment *now)
{
    struct rollout *rollout = find_rollout(rollouts, &fact->mac, fact->type, fact->fs);
    struct member *member = rollout != NULL ? take_member(rollout, &fact->mac, fact->site, now) : NULL;
    if (member != NULL) {
        take_fact(rollout, member, fact, now);
    }
}

void rollouts_came_after(struct rollouts *rollouts, const struct rollout_fact *fact, const struct moment *now)
{
    const struct rollout *found = rollouts_following(rollouts, &fact->mac, fact->type, fact->fs);
    struct rollout *rollout = found != NULL ? rollouts_find(rollouts, slice_of(found->id)) : NULL;
    struct member *member = rollout != NULL ? member_find(rollout, &fact->mac) : NULL;
    if (member != NULL && (member_takes_slot(member) || fact->runs_target)) {
        take_fact(rollout, member, fact, now);
    }
}

void rollouts_came_online(struct rollouts *rollouts, const struct mac *mac, const struct moment *now)
{
    struct rollout *older;
    for (struct rollout *rollout = rollouts->recent.newest; rollout != NULL; rollout = older) {
        bool goes_on = !rollout_is_over(rollout) && rollout_is_followed(rollout);
        struct member *member = goes_on ? member_find(rollout, mac) : NULL;
        older = rollout->table->older;
        if (member != NULL && member->state == ROLLOUT_DEVICE_SILENT) {
            member_find_again(rollout, member);
            member_set_stale(rollout, member, false);
            wait_again(rollout, member, now);
            rollout->news_ms = now->ms;
            rollout_step(rollout, now);
        }
    }
}

void rollouts_written(struct rollouts *rollouts, uint64_t ticket, const struct moment *now)
{
    struct rollout *older;
    rollouts->written_ticket = ticket > rollouts->written_ticket ? ticket : rollouts->written_ticket;
    for (struct rollout *rollout = rollouts->recent.newest; rollout != NULL; rollout = older) {
        older = rollout->table->older;
        if (rollout->table->started && !rollout_is_over(rollout)) {
            rollout_step(rollout, now);
        }
    }
}
