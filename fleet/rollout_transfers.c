/* What transfers mean for the rollouts whose image they carry: one begins, ends, breaks off here or by the device's own
 * word. Where two devices call themselves the same, several run at once.
 */
#include "fleet/rollout_parts.h"

#include <string.h>

bool rollout_has_file(const struct rollout *rollout, const uint8_t file_md5[16])
{
    for (size_t i = 0; i < rollout->order.target.image_count; i++) {
        if (memcmp(rollout->order.target.md5[i], file_md5, 16) == 0) {
            return true;
        }
    }
    return false;
}

/* The member whose transfer of this file is the rollout's business; NULL = it is not. */
static struct member *find_transfer(struct rollout *rollout, const struct mac *mac, const uint8_t file_md5[16])
{
    struct member *member = mac != NULL && rollout_is_followed(rollout) && rollout_has_file(rollout, file_md5)
                                ? member_find(rollout, mac)
                                : NULL;
    return member != NULL && !member->handed_over ? member : NULL;
}

void rollouts_transfer_begins(struct rollouts *rollouts, const struct mac *mac, const uint8_t file_md5[16],
                              const struct moment *now)
{
    for (struct rollout *rollout = rollouts->recent.newest; rollout != NULL; rollout = rollout->table->older) {
        struct member *member = find_transfer(rollout, mac, file_md5);
        if (member == NULL) {
            continue;
        }
        member_find_again(rollout, member);
        member_reserve(rollout, member, now);
        if (member_takes_slot(member)) {
            member->transfers += member->transfers < UINT8_MAX;
            member->has_all = false;
            rollout->news_ms = now->ms;
            member_set(rollout, member, ROLLOUT_DEVICE_DOWNLOADING, "", now);
        }
    }
}

static void break_off(struct rollout *rollout, struct member *member, const char *why, const struct moment *now)
{
    window_stalled(&rollout->window, now->ms);
    if (++member->cuts >= ROLLOUT_ATTEMPTS_MAX) {
        member_fail(rollout, member, why, now);
    } else {
        member_requeue(rollout, member, true, now);
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
        member->has_all = true;
        member_set(rollout, member, ROLLOUT_DEVICE_FLASHED, "", now);
        return;
    }
    break_off(rollout, member, why, now);
}

void rollouts_transfer_ended(struct rollouts *rollouts, const struct mac *mac, const uint8_t file_md5[16], bool whole,
                             uint64_t bytes, uint64_t ms, const char *why_cut, const struct moment *now)
{
    struct rollout *older;
    for (struct rollout *rollout = rollouts->recent.newest; rollout != NULL; rollout = older) {
        struct member *member = find_transfer(rollout, mac, file_md5);
        older = rollout->table->older;
        if (!rollout_is_followed(rollout) || !rollout_has_file(rollout, file_md5)) {
            continue;
        }
        rollout->bytes += bytes;
        rollout->anonymous += mac == NULL && whole;
        rollout->news_ms = now->ms;
        if (member == NULL) {
            continue;
        }
        member->transfers -= member->transfers > 0;
        bool ends = whole || (why_cut != NULL && member->transfers == 0);
        if (member->state == ROLLOUT_DEVICE_DOWNLOADING && ends) {
            end_download(rollout, member, whole, ms, why_cut, now);
        }
        rollout_step(rollout, now);
    }
}

void rollouts_reported_failure(struct rollouts *rollouts, const struct mac *mac, const char *why,
                               const struct moment *now)
{
    struct rollout *older;
    for (struct rollout *rollout = rollouts->recent.newest; rollout != NULL; rollout = older) {
        struct member *member = rollout_is_followed(rollout) ? member_find(rollout, mac) : NULL;
        older = rollout->table->older;
        if (member != NULL && !member->handed_over && member_takes_slot(member)) {
            rollout->news_ms = now->ms;
            bool is_cut =
                member->state == ROLLOUT_DEVICE_DOWNLOADING; /* here, too, in a moment: it is one try of some */
            is_cut ? break_off(rollout, member, why, now) : member_fail(rollout, member, why, now);
            rollout_step(rollout, now);
        }
    }
}
