/* The broker's answers to the commands of a rollout. One that had no room to wait in, or that a pause overtook, was
 * never told; one that was refused is nobody's failure but the command's.
 */
#include "fleet/rollout_parts.h"

#include <stdio.h>

bool rollout_somebody_came(const struct rollout *rollout)
{
    return rollout->devices[ROLLOUT_DEVICE_DOWNLOADING] + rollout->devices[ROLLOUT_DEVICE_FLASHED] +
               rollout->devices[ROLLOUT_DEVICE_CONFIRMED] + rollout->anonymous >
           0;
}

static void tell_failed(struct rollout *rollout, struct member *member, enum status status, const char *why,
                        const struct moment *now)
{
    char text[120];
    if (member == NULL || member->state != ROLLOUT_DEVICE_TRIGGERED) {
        return;
    }
    if (status == STATUS_BUSY || rollout_stands_still(rollout) ||
        member->withdrawn) { /* the same command goes out later */
        member->attempts -= member->attempts > 0;
        story_untold(rollout, member, why, now);
        member_requeue(rollout, member, false, now);
        return;
    }
    snprintf(text, sizeof text, NOT_TOLD "%s", why);
    member_set_as(rollout, member, ROLLOUT_DEVICE_FAILED, ROLLOUT_MARK_UNTOLD, text, now);
}

static void tell_succeeded(struct rollout *rollout, struct member *member, const struct moment *now)
{
    if (member != NULL && member->state == ROLLOUT_DEVICE_TRIGGERED && !member->told) {
        member_told(rollout, member, now);
    }
}

/* Not refused: there was no room for it, or a pause overtook it. */
static bool never_left(const struct rollout *rollout, const struct mac *device, enum status status)
{
    const struct member *member = device != NULL ? member_find(rollout, device) : NULL;
    return status == STATUS_BUSY || rollout_stands_still(rollout) ||
           (device == NULL && rollout->table->type_withdrawn) || (member != NULL && member->withdrawn);
}

static void tell_all(struct rollout *rollout, enum status status, const char *why, const struct moment *now)
{
    struct rollout_table *table = rollout->table;
    struct member *next;
    table->type_untold = status == STATUS_BUSY || (status != STATUS_OK && table->type_withdrawn);
    table->type_open = table->type_withdrawn = false;
    for (struct member *member = table->telling.head; member != NULL; member = next) {
        next = member->next;
        status == STATUS_OK ? tell_succeeded(rollout, member, now) : tell_failed(rollout, member, status, why, now);
    }
}

void rollouts_told(struct rollout *rollout, const struct mac *device, enum status status, const char *why,
                   const struct moment *now)
{
    bool acknowledged = status == STATUS_OK;
    if (!acknowledged && never_left(rollout, device, status)) {
        rollout->commands -= rollout->commands > 0; /* it is none, then */
    } else {
        *(acknowledged ? &rollout->acknowledged : &rollout->commands_failed) += 1;
    }
    if (!rollout_is_followed(rollout)) {
        return;
    }
    bool nobody = !rollout_is_over(rollout) && rollout->acknowledged == 0 && rollout->commands_failed > 0 &&
                  rollout->commands_failed >= rollout->commands && !rollout_somebody_came(rollout) &&
                  !rollout_stands_still(rollout);
    if (nobody) {
        char text[200];
        snprintf(text, sizeof text, "no command reached the broker: %s", why);
        rollout_end(rollout, ROLLOUT_ABORTED, text, now);
        return;
    }
    if (status == STATUS_BUSY) {
        rollout->table->busy_until_ms = now->ms + ROLLOUT_BUSY_MS;
    }
    if (device != NULL) {
        struct member *member = member_find(rollout, device);
        acknowledged ? tell_succeeded(rollout, member, now) : tell_failed(rollout, member, status, why, now);
    } else {
        tell_all(rollout, status, why, now);
    }
    rollout->news_ms = now->ms;
    rollout_step(rollout, now);
}
