/* The end of a rollout, and after it: who waits is told no more; who has been told, or is at it, is followed until it
 * is clear what became of it. Only then is the rollout closed, and its members are let go.
 *
 * What makes it hard is number: of a hundred thousand that still wait, the first are listed and written down, the rest
 * is counted and stays where it is. So QUEUED in a rollout that is over reads SKIPPED (member_state).
 */
#include "fleet/rollout_parts.h"

#include <stdio.h>
#include <string.h>

bool rollout_is_superseded(const struct rollout *rollout)
{
    return rollout->cause == ROLLOUT_CAUSE_SUPERSEDED;
}

enum rollout_device_state member_state(const struct rollout *rollout, const struct member *member)
{
    bool left = member->state == ROLLOUT_DEVICE_QUEUED && rollout_is_over(rollout);
    return left ? ROLLOUT_DEVICE_SKIPPED : (enum rollout_device_state)member->state;
}

static const char *why_given_up(const struct rollout *rollout, bool was_told)
{
    return rollout_is_superseded(rollout) ? rollout->why
           : was_told                     ? "the rollout was aborted"
                                          : NOT_TOLD "the rollout was aborted";
}

void member_give_up(struct rollout *rollout, struct member *member, const struct moment *now)
{
    bool superseded = rollout_is_superseded(rollout);
    member_set_as(rollout, member, ROLLOUT_DEVICE_SKIPPED, superseded ? ROLLOUT_MARK_SUPERSEDED : ROLLOUT_MARK_NONE,
                  why_given_up(rollout, member->attempts > 0), now);
}

/* At most so many of the list. */
static size_t give_up(struct rollout *rollout, const struct member_list *list, size_t max, const struct moment *now)
{
    size_t count = 0;
    for (; list->head != NULL && count < max; count++) {
        member_give_up(rollout, list->head, now);
    }
    return count;
}

static void give_up_waiting(struct rollout *rollout, const struct moment *now)
{
    struct rollout_table *table = rollout->table;
    const struct member_list *queues[] = { &table->armed, &table->resting };
    size_t listed = table->of_state[ROLLOUT_DEVICE_FAILED].count + table->of_state[ROLLOUT_DEVICE_SILENT].count +
                    rollout->in_flight;
    size_t room = listed < ROLLOUT_LISTED_MAX ? ROLLOUT_LISTED_MAX - listed : 0;
    for (size_t i = 0; i < sizeof queues / sizeof queues[0]; i++) {
        room -= give_up(rollout, queues[i], room, now);
    }
    for (const struct site *site = table->sites; site != NULL && room > 0; site = site->hh.next) {
        for (size_t kind = 0; kind < SITE_KINDS; kind++) {
            room -= give_up(rollout, &site->queues[kind].members, room, now);
        }
    }
    member_write_left_out(rollout, room);
    reasons_add(&rollout->skipped_for, why_given_up(rollout, false), rollout->devices[ROLLOUT_DEVICE_QUEUED]);
    rollout->devices[ROLLOUT_DEVICE_SKIPPED] += rollout->devices[ROLLOUT_DEVICE_QUEUED];
    rollout->devices[ROLLOUT_DEVICE_QUEUED] = 0;
}

/* The newer rollout tells them anew, as where it takes only a part. Else their commands are taken back, as far as they
 * wait; who has heard his is followed. */
static void recall_told(struct rollout *rollout, const struct moment *now)
{
    struct rollout_table *table = rollout->table;
    if (rollout_is_superseded(rollout)) {
        (void)give_up(rollout, &table->telling, SIZE_MAX, now);
        (void)give_up(rollout, &table->of_state[ROLLOUT_DEVICE_TRIGGERED], SIZE_MAX, now);
    }
    for (struct member *member = table->telling.head; member != NULL; member = member->next) {
        member->withdrawn = true;
    }
    table->type_withdrawn = table->type_open;
}

/* What was halted stays suspect, whatever ends it. */
static void end(struct rollout *rollout, enum rollout_state state, enum rollout_cause cause, const char *why,
                const struct moment *now)
{
    const struct rollout_effects *effects = &rollout->table->rollouts->effects;
    rollout->distrusted = rollout->distrusted || rollout->state == ROLLOUT_HALTED;
    rollout->state = state;
    rollout->cause = cause;
    snprintf(rollout->why, sizeof rollout->why, "%s", why);
    recall_told(rollout, now);
    give_up_waiting(rollout, now);
    rollout->ended_s = now->unix_s;
    rollout_set_for(rollout, state, cause, why, now);
    effects->withdraw(effects->owner, rollout);
    rollout->table->closed = rollout->in_flight == 0;
    if (rollout->table->closed) {
        members_thin(rollout);
    }
}

void rollout_end(struct rollout *rollout, enum rollout_state state, const char *why, const struct moment *now)
{
    end(rollout, state, ROLLOUT_CAUSE_ANY, why, now);
}

void rollout_end_superseded(struct rollout *rollout, const char *by, const struct moment *now)
{
    char why[80];
    snprintf(why, sizeof why, ROLLOUT_SUPERSEDED "%s", by);
    memmove(rollout->superseded_by, by, strlen(by) + 1);
    end(rollout, ROLLOUT_ABORTED, ROLLOUT_CAUSE_SUPERSEDED, why, now);
}

bool rollout_is_followed(const struct rollout *rollout)
{
    return rollout_is_over(rollout) ? !rollout->table->closed : rollout->state != ROLLOUT_PLANNED;
}

void rollout_close(struct rollout *rollout)
{
    const struct rollout_effects *effects = &rollout->table->rollouts->effects;
    if (!rollout_is_over(rollout) || rollout->table->closed || rollout->in_flight > 0) {
        return;
    }
    rollout->table->closed = true;
    (void)effects->changed(effects->owner, rollout);
    members_thin(rollout);
}

const struct rollout *rollouts_following(const struct rollouts *rollouts, const struct mac *mac, struct slice type,
                                         bool fs)
{
    for (const struct rollout *rollout = rollouts->recent.newest; rollout != NULL; rollout = rollout->table->older) {
        bool follows = rollout_is_over(rollout) && !rollout->table->closed && rollout_is_about(rollout, type, fs);
        const struct member *member = follows ? member_find(rollout, mac) : NULL;
        if (member != NULL && (member_takes_slot(member) || member->state == ROLLOUT_DEVICE_SILENT)) {
            return rollout;
        }
    }
    return NULL;
}
