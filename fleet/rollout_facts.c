/* What is heard of devices. Each fact moves a device from one state to another, or changes nothing; the two tables
 * below say which. What makes it hard is all that facts leave out: a transfer that dies is noticed minutes later, when
 * the device has long begun the next; two devices share a MAC; a device asks before it has restarted. So transfers
 * under way are counted, a proof outranks what came before, and what is already proven is never taken back.
 */
#include "fleet/rollout_parts.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* It is seen to run the target. Who never pulled ran it already. */
static const enum rollout_device_state after_proof[ROLLOUT_DEVICE_STATES] = {
    [ROLLOUT_DEVICE_TRIGGERED] = ROLLOUT_DEVICE_CURRENT, [ROLLOUT_DEVICE_DOWNLOADING] = ROLLOUT_DEVICE_CONFIRMED,
    [ROLLOUT_DEVICE_SENT] = ROLLOUT_DEVICE_CONFIRMED,    [ROLLOUT_DEVICE_CONFIRMED] = ROLLOUT_DEVICE_CONFIRMED,
    [ROLLOUT_DEVICE_CURRENT] = ROLLOUT_DEVICE_CURRENT,   [ROLLOUT_DEVICE_FAILED] = ROLLOUT_DEVICE_CONFIRMED,
    [ROLLOUT_DEVICE_SILENT] = ROLLOUT_DEVICE_SILENT,     [ROLLOUT_DEVICE_SUPERSEDED] = ROLLOUT_DEVICE_SUPERSEDED,
};

/* It begins to pull. CURRENT ones do when what was known of them was out of date; CONFIRMED ones ask unconditionally,
 * or have a twin. */
static const enum rollout_device_state after_begin[ROLLOUT_DEVICE_STATES] = {
    [ROLLOUT_DEVICE_TRIGGERED] = ROLLOUT_DEVICE_DOWNLOADING, [ROLLOUT_DEVICE_DOWNLOADING] = ROLLOUT_DEVICE_DOWNLOADING,
    [ROLLOUT_DEVICE_SENT] = ROLLOUT_DEVICE_DOWNLOADING,      [ROLLOUT_DEVICE_CONFIRMED] = ROLLOUT_DEVICE_CONFIRMED,
    [ROLLOUT_DEVICE_CURRENT] = ROLLOUT_DEVICE_DOWNLOADING,   [ROLLOUT_DEVICE_FAILED] = ROLLOUT_DEVICE_DOWNLOADING,
    [ROLLOUT_DEVICE_SILENT] = ROLLOUT_DEVICE_SILENT,         [ROLLOUT_DEVICE_SUPERSEDED] = ROLLOUT_DEVICE_SUPERSEDED,
};

static bool is_file(const struct rollout_target *target, const uint8_t *md5)
{
    return memcmp(target->md5[0], md5, 16) == 0 || (target->image_count > 1 && memcmp(target->md5[1], md5, 16) == 0);
}

/* The device, where facts about it concern this rollout. */
static struct rollout_device *find_own(const struct followed *followed, const struct mac *mac)
{
    struct rollout_device *device = followed_find(followed, mac);
    return device != NULL && !device->taken ? device : NULL;
}

/* --- checks ------------------------------------------------------------------------------------------------------- */

enum verdict { SAYS_NOTHING, RUNS_TARGET, RUNS_ANOTHER };

/* A digest decides; where none is said, the server's decision. A file system check tells nothing against a sketch: the
 * device may ask before it restarts. And nothing against a file system: many devices never say which one they have. */
static enum verdict judge(const struct rollout_target *target, const struct rollout_sighting *sighting)
{
    bool offered = sighting->offered_md5 != NULL && is_file(target, sighting->offered_md5);
    if (target->fs) {
        return sighting->fs && sighting->up_to_date && offered ? RUNS_TARGET : SAYS_NOTHING;
    }
    if (sighting->md5 != NULL && rollout_target_runs(target, sighting->md5)) {
        return RUNS_TARGET;
    }
    if (sighting->fs) {
        return SAYS_NOTHING;
    }
    if (sighting->md5 != NULL) {
        return RUNS_ANOTHER;
    }
    return !offered ? SAYS_NOTHING : sighting->up_to_date ? RUNS_TARGET : RUNS_ANOTHER;
}

/* It came for the target and was not sent it. Said once: a device that polls is refused each time. */
static bool is_refused(const struct rollout_target *target, const struct rollout_device *device,
                       const struct rollout_sighting *sighting)
{
    return device != NULL && device->state == ROLLOUT_DEVICE_TRIGGERED && sighting->refused != NULL &&
           sighting->fs == target->fs && sighting->offered_md5 != NULL && is_file(target, sighting->offered_md5);
}

void rollouts_saw(struct rollouts *rollouts, const struct rollout_sighting *sighting, uint64_t now_ms)
{
    for (size_t i = 0; i < rollouts->count; i++) {
        struct followed *followed = rollouts->items[i];
        const struct rollout_target *target = &followed->rollout.order.target;
        if (rollout_is_over(&followed->rollout) || !slice_is(sighting->type, target->type)) {
            continue;
        }
        struct rollout_device *device = find_own(followed, &sighting->mac);
        enum verdict verdict = device != NULL ? judge(target, sighting) : SAYS_NOTHING;
        if (verdict == RUNS_TARGET) {
            followed_move(followed, device, after_proof[device->state], NULL, now_ms);
        } else if (verdict == RUNS_ANOTHER && device->state == ROLLOUT_DEVICE_SENT) {
            followed_fail(followed, device, "came back without it", false, now_ms);
        } else if (is_refused(target, device, sighting)) {
            followed_fail(followed, device, sighting->refused, false, now_ms);
        }
    }
}

/* --- transfers ---------------------------------------------------------------------------------------------------- */

static bool distributes(const struct followed *followed, const uint8_t file_md5[16])
{
    return !rollout_is_over(&followed->rollout) && is_file(&followed->rollout.order.target, file_md5);
}

/* One file may serve several types, as a file system image does, or be named by several orders, and a transfer does not
 * say which. So it is of those rollouts of the file that know the device; where none does, of those to a whole type;
 * and where there is none of these either, of all. */
static size_t find_of_transfer(struct rollouts *rollouts, const struct mac *mac, const uint8_t file_md5[16],
                               struct followed *found[ROLLOUTS_MAX])
{
    bool knows = false, to_type = false;
    size_t count = 0;
    for (size_t i = 0; i < rollouts->count; i++) {
        const struct followed *followed = rollouts->items[i];
        bool is_of_file = distributes(followed, file_md5);
        knows = knows || (is_of_file && mac != NULL && find_own(followed, mac) != NULL);
        to_type = to_type || (is_of_file && followed->rollout.order.whole_type);
    }
    for (size_t i = 0; i < rollouts->count; i++) {
        struct followed *followed = rollouts->items[i];
        bool fits = knows ? find_own(followed, mac) != NULL : !to_type || followed->rollout.order.whole_type;
        if (distributes(followed, file_md5) && fits) {
            found[count++] = followed;
        }
    }
    return count;
}

static void begin_transfer(struct followed *followed, const struct mac *mac, uint64_t now_ms)
{
    struct rollout_device *device = followed_find(followed, mac);
    if (device == NULL) {
        device = followed_add(followed, mac, ROLLOUT_DEVICE_DOWNLOADING);
        if (device == NULL) {
            followed->rollout.untracked++;
            return;
        }
        followed_news(followed, device, now_ms);
    } else if (!device->taken) {
        followed_move(followed, device, after_begin[device->state], NULL, now_ms);
    }
    device->transfers += device->transfers < UINT16_MAX;
}

void rollouts_transfer_begins(struct rollouts *rollouts, const struct mac *mac, const uint8_t file_md5[16],
                              uint64_t now_ms)
{
    struct followed *found[ROLLOUTS_MAX];
    size_t count = mac != NULL ? find_of_transfer(rollouts, mac, file_md5, found) : 0;
    for (size_t i = 0; i < count; i++) {
        begin_transfer(found[i], mac, now_ms);
    }
}

static void print_cut(const struct rollout_target *target, const uint8_t file_md5[16], uint64_t bytes, char *to,
                      size_t size)
{
    bool size_is_known = target->bytes > 0 && memcmp(target->md5[0], file_md5, 16) == 0;
    if (size_is_known) {
        uint64_t percent = bytes < target->bytes ? bytes * 100 / target->bytes : 100;
        snprintf(to, size, "cut at %" PRIu64 " %%", percent);
    } else {
        snprintf(to, size, "cut after %" PRIu64 " bytes", bytes);
    }
}

/* Also of transfers that began before the rollout did: the device pulled its image all the same. */
static void end_transfer(struct followed *followed, const struct mac *mac, const char *cut, uint64_t now_ms)
{
    struct rollout_device *device = followed_find(followed, mac);
    if (device == NULL) {
        device = followed_add(followed, mac, ROLLOUT_DEVICE_DOWNLOADING);
    }
    if (device == NULL) {
        return; /* untracked; counted when it began */
    }
    device->transfers -= device->transfers > 0;
    if (device->taken || (device->state != ROLLOUT_DEVICE_DOWNLOADING && device->state != ROLLOUT_DEVICE_TRIGGERED)) {
        return;
    }
    if (cut == NULL) {
        followed_move(followed, device, ROLLOUT_DEVICE_SENT, NULL, now_ms);
    } else if (device->transfers == 0) { /* else it is the end of one that the device gave up for the next */
        followed_fail(followed, device, cut, true, now_ms);
    }
}

void rollouts_transfer_ended(struct rollouts *rollouts, const struct mac *mac, const uint8_t file_md5[16], bool whole,
                             uint64_t bytes, uint64_t now_ms)
{
    struct followed *found[ROLLOUTS_MAX];
    size_t count = find_of_transfer(rollouts, mac, file_md5, found);
    char cut[48];
    for (size_t i = 0; i < count; i++) {
        found[i]->rollout.bytes += bytes;
        print_cut(&found[i]->rollout.order.target, file_md5, bytes, cut, sizeof cut);
        if (mac != NULL) {
            end_transfer(found[i], mac, whole ? NULL : cut, now_ms);
        }
    }
}

/* --- reports ------------------------------------------------------------------------------------------------------ */

static bool is_pulling(const struct rollout_device *device)
{
    return device->state == ROLLOUT_DEVICE_DOWNLOADING || device->state == ROLLOUT_DEVICE_SENT;
}

static void hear_report(struct followed *followed, struct rollout_device *device, const struct device_report *report,
                        uint64_t now_ms)
{
    bool can_fail =
        rollout_device_is_open((enum rollout_device_state)device->state) || device->state == ROLLOUT_DEVICE_FAILED;
    if (report->state == REPORT_FAILED &&
        can_fail) { /* where we saw the cut that it speaks of, it may still try again */
        const char *why = report->error[0] != '\0' ? report->error : "the device reports a failure";
        followed_fail(followed, device, why, device->may_retry, now_ms);
    }
    /* A report does not say of what: a version proves a file system only where one has just been sent. */
    if (report->state == REPORT_RUNNING && followed->rollout.order.target.fs && device->state == ROLLOUT_DEVICE_SENT &&
        followed->version.text[0] != '\0' && report->version.text[0] != '\0' &&
        version_compare(&report->version, &followed->version) == 0) {
        followed_move(followed, device, ROLLOUT_DEVICE_CONFIRMED, NULL, now_ms);
    }
}

void rollouts_reported(struct rollouts *rollouts, const struct mac *mac, const struct device_report *report,
                       uint64_t now_ms)
{
    struct rollout_device *found[ROLLOUTS_MAX] = { NULL };
    bool pulls = false; /* then the report is of what it pulls, not of another rollout that it waits for */
    for (size_t i = 0; i < rollouts->count; i++) {
        if (!rollout_is_over(&rollouts->items[i]->rollout)) {
            found[i] = find_own(rollouts->items[i], mac);
            pulls = pulls || (found[i] != NULL && is_pulling(found[i]));
        }
    }
    for (size_t i = 0; i < rollouts->count; i++) {
        if (found[i] != NULL && (!pulls || is_pulling(found[i]))) {
            hear_report(rollouts->items[i], found[i], report, now_ms);
        }
    }
}
