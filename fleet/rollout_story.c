/* What a device's time-line says of rollouts: when it was told, when it asked, how it ended, and what happened
 * meanwhile to the rollout that it was in the midst of. Who never had to do with it has no story: of a whole fleet that
 * is left out, or never came, nobody is noted.
 */
#include "fleet/rollout_parts.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void note(const struct rollout *rollout, const struct member *member, const struct moment *now, const char *word,
                 const char *format, ...) __attribute__((format(printf, 5, 6)));

static void note(const struct rollout *rollout, const struct member *member, const struct moment *now, const char *word,
                 const char *format, ...)
{
    const struct rollout_effects *effects = &rollout->table->rollouts->effects;
    char text[ROLLOUT_NOTE_SIZE];
    va_list args;
    if (effects->noted != NULL) {
        va_start(args, format);
        vsnprintf(text, sizeof text, format, args);
        va_end(args);
        effects->noted(effects->owner, &member->mac, word, text, now);
    }
}

void story_told(const struct rollout *rollout, const struct member *member, const struct moment *now)
{
    const char *version = rollout->order.target.version;
    if (rollout->told_type) {
        note(rollout, member, now, "told", "with all of its type, to take %.64s (rollout %s)", version, rollout->id);
    } else {
        note(rollout, member, now, "told", "to take %.64s (rollout %s, attempt %u)", version, rollout->id,
             member->attempts);
    }
}

void story_untold(const struct rollout *rollout, const struct member *member, const char *why, const struct moment *now)
{
    note(rollout, member, now, "not-told", "yet, in rollout %s: %s", rollout->id, why);
}

/* Confirmed is what the device itself proves: that is noted with its record, and so are whole transfers. */
void story_moved(const struct rollout *rollout, const struct member *member, const struct moment *now)
{
    const char *why = member_why(rollout, member), *version = rollout->order.target.version;
    bool left = strncmp(why, ROLLOUT_SUPERSEDED, strlen(ROLLOUT_SUPERSEDED)) == 0;
    switch (member->state) {
    case ROLLOUT_DEVICE_DOWNLOADING:
        note(rollout, member, now, "asked", "and is being sent %.64s (rollout %s)", version, rollout->id);
        break;
    case ROLLOUT_DEVICE_SKIPPED:
        if (member->attempts > 0 || !left) {
            note(rollout, member, now, "skipped", "by rollout %s: %s", rollout->id, why);
        }
        break;
    case ROLLOUT_DEVICE_FAILED:
    case ROLLOUT_DEVICE_SILENT:
        if (member->attempts > 0) {
            note(rollout, member, now, rollout_device_word(member->state), "in rollout %s: %s", rollout->id, why);
        }
        break;
    default:
        break;
    }
}

/* Who is under way: no more than the window. */
void story_stopped(const struct rollout *rollout, const struct moment *now)
{
    const struct rollout_table *table = rollout->table;
    const struct member_list *lists[] = {
        &table->telling,
        &table->of_state[ROLLOUT_DEVICE_TRIGGERED],
        &table->of_state[ROLLOUT_DEVICE_DOWNLOADING],
        &table->of_state[ROLLOUT_DEVICE_FLASHED],
    };
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
        for (const struct member *member = lists[i]->head; member != NULL; member = member->next) {
            note(rollout, member, now, rollout_state_word(rollout->state), "rollout %s, in the midst of it: %s",
                 rollout->id, rollout->why);
        }
    }
}

const struct rollout *rollouts_sending(const struct rollouts *rollouts, const struct mac *mac,
                                       const uint8_t file_md5[16])
{
    for (const struct rollout *rollout = rollouts->recent.newest; rollout != NULL; rollout = rollout->table->older) {
        const struct member *member =
            rollout_is_followed(rollout) && rollout_has_file(rollout, file_md5) ? member_find(rollout, mac) : NULL;
        if (member != NULL && member->state == ROLLOUT_DEVICE_DOWNLOADING) {
            return rollout;
        }
    }
    return NULL;
}
