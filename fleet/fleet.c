/* Told: the record, the judgement, the rollouts, the journal, in this order, because each looks at what the one before
 * left. What is asked: fleet_asked.c. */
#include "fleet/fleet_parts.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum outcome fleet_outcome(const struct device_transfer *sent, uint32_t reboot_s, const struct moment *now)
{
    bool late = sent->outcome == OUTCOME_OPEN && now->unix_s > sent->unix_s && now->unix_s - sent->unix_s > reboot_s;
    return late ? OUTCOME_SILENT : (enum outcome)sent->outcome;
}

/* --- told: a check-in ------------------------------------------------------------------------------------------------
 */

const uint8_t *fleet_digest(const struct device_request *request, const uint8_t *running_md5)
{
    const uint8_t *by_sha256 = running_md5 != NULL ? running_md5 : request->sketch_sha256;
    return request->has_md5 ? request->sketch_md5 : request->has_sha256 ? by_sha256 : NULL;
}

static const uint8_t *digest_of(const struct checkin *checkin)
{
    return fleet_digest(checkin->request, checkin->running_md5);
}

static bool same_md5(const uint8_t *md5, const uint8_t other[16])
{
    return md5 != NULL && memcmp(md5, other, 16) == 0;
}

static bool is_fs(const struct checkin *checkin)
{
    return checkin->request->mode == DEVICE_MODE_FS;
}

/* A file system has no digest, nor has a sketch of an old core. */
static bool by_version(const struct checkin *checkin)
{
    return is_fs(checkin) || digest_of(checkin) == NULL;
}

static bool is_in_rollout(const struct fleet *fleet, const struct device *device, const struct checkin *checkin)
{
    bool fs = is_fs(checkin);
    return fleet_stands(rollouts_for(fleet->rollouts, &device->mac, checkin->type, fs, false)) ||
           rollouts_following(fleet->rollouts, &device->mac, checkin->type, fs) != NULL;
}

/* A device that asks again and comes back with the old build is tried as often as the loop guard lets it; that, or
 * failing within a rollout, is one failure with the image. However late it comes: one that asks once a day would else
 * be flashed every day. The guard forgets whom it served longest ago, the record does not. */
static bool is_one_failure(const struct fleet *fleet, const struct device *device, const struct checkin *checkin)
{
    const struct device_transfer *sent = device_sent(device, is_fs(checkin));
    struct loop_guard_key key = { .mac = device->mac, .fs = is_fs(checkin) };
    return is_in_rollout(fleet, device, checkin) ||
           loop_guard_served(fleet->guard, &key, sent->md5) >= fleet->settings.loop_guard_max ||
           sent->failures >= fleet->settings.loop_guard_max;
}

static bool runs_target(const struct rollout *rollout, const struct checkin *checkin)
{
    const struct rollout_target *target = &rollout->order.target;
    const struct device_request *request = checkin->request;
    if (by_version(checkin)) {
        return version_same_text(request->label, slice_of(target->version));
    }
    for (size_t i = 0; request->has_md5 && i < target->run_md5_count; i++) {
        if (memcmp(request->sketch_md5, target->run_md5[i], 16) == 0) {
            return true;
        }
    }
    return target->run_md5_count > 0 && same_md5(checkin->running_md5, target->run_md5[0]); /* by its SHA-256 */
}

static bool is_of_rollout(const struct device *device, const struct rollout *rollout)
{
    const struct rollout_target *target = &rollout->order.target;
    const uint8_t *sent = device_sent(device, target->fs)->md5;
    for (size_t i = 0; i < target->run_md5_count; i++) { /* the first, or that of the slots */
        if (memcmp(sent, target->run_md5[i], 16) == 0) {
            return true;
        }
    }
    return false;
}

/* The file may be gone since: then its own digest tells, and a rollout knows all of them. */
static bool runs_sent(const struct fleet *fleet, const struct device *device, const struct checkin *checkin)
{
    const struct device_transfer *transfer = device_sent(device, is_fs(checkin));
    const uint8_t *sent = transfer->md5;
    if (by_version(checkin)) {
        return version_same_text(checkin->request->label, slice_of(words_text(fleet->words, transfer->version)));
    }
    if (same_md5(checkin->running_md5, sent) ||
        (checkin->request->has_md5 && same_md5(checkin->request->sketch_md5, sent))) {
        return true;
    }
    const struct rollout *rollout = rollouts_for(fleet->rollouts, &device->mac, checkin->type, false, false);
    return rollout != NULL && is_of_rollout(device, rollout) && runs_target(rollout, checkin);
}

/* What nobody counts but a rollout, and there is none. */
static void count_failure(struct fleet *fleet, const struct device *device, const struct checkin *checkin,
                          const struct moment *now)
{
    const struct device_transfer *sent = device_sent(device, is_fs(checkin));
    bool came_back_old = sent->outcome == OUTCOME_OLD_BUILD || sent->outcome == OUTCOME_ROLLED_BACK;
    if (came_back_old && !is_in_rollout(fleet, device, checkin)) {
        image_failures_failed(fleet->failures, sent->md5, is_fs(checkin), checkin->type, &device->mac, now->unix_s);
    } else if (sent->outcome == OUTCOME_CONFIRMED) {
        image_failures_confirmed(fleet->failures, sent->md5, &device->mac);
    }
}

/* What the verdict means for it from now on. */
static void take_verdict(struct fleet *fleet, struct device *device, const struct checkin *checkin,
                         enum outcome outcome, const struct moment *now)
{
    struct device_transfer *sent = devices_take_sent(fleet->devices, device, is_fs(checkin));
    sent->outcome = (uint8_t)outcome;
    count_failure(fleet, device, checkin, now);
    if (outcome == OUTCOME_CONFIRMED) {
        struct loop_guard_key key = { .mac = device->mac, .fs = is_fs(checkin) };
        sent->failures = 0;
        sent->served = 0;
        device->came_back = true;
        loop_guard_forget(fleet->guard, &key);
        never_again_confirmed(fleet->never_again, &device->mac, sent->md5);
    } else if (outcome_is_failure(outcome)) {
        sent->failures += sent->failures < UINT8_MAX;
        if (outcome == OUTCOME_ROLLED_BACK ||
            (outcome_is_images_fault(outcome) && is_one_failure(fleet, device, checkin))) {
            never_again_failed(fleet->never_again, &device->mac, sent->md5, outcome == OUTCOME_ROLLED_BACK,
                               now->unix_s);
        }
    }
}

static void judge(struct fleet *fleet, struct device *device, const struct checkin *checkin, const struct moment *now,
                  struct outcome_verdict *verdict)
{
    bool fs = is_fs(checkin);
    const struct device_transfer *sent = device_sent(device, fs);
    struct outcome_case the_case = {
        .sent = sent,
        .md5_before = device->has_md5 ? device->md5 : NULL,
        .fs = fs,
        .md5 = digest_of(checkin),
        .runs_sent = runs_sent(fleet, device, checkin),
        .version = checkin->request->label,
        .version_before = slice_of(words_text(fleet->words, fs ? device->fs_version : device->version)),
        .sent_version = slice_of(words_text(fleet->words, sent->version)),
        .knows_sent = checkin->sent_is_known,
    };
    outcome_judge(&the_case, verdict);
    if (verdict->outcome != OUTCOME_NONE) {
        take_verdict(fleet, device, checkin, verdict->outcome, now);
    }
}

#define IN_ROLLOUT_SIZE (ANNOUNCE_ID_SIZE + 16)
/* For a time-line. NULL = none's business. */
static const char *name_rollout(const struct rollout *rollout, char text[IN_ROLLOUT_SIZE])
{
    text[0] = '\0';
    if (rollout != NULL) {
        snprintf(text, IN_ROLLOUT_SIZE, " (rollout %s)", rollout->id);
    }
    return text;
}

/* The rollout under way, or followed, in which it took what it is judged by. */
static const struct rollout *rollout_of_verdict(const struct fleet *fleet, const struct device *device,
                                                const struct checkin *checkin)
{
    struct rollout_member member;
    bool fs = checkin->request->mode == DEVICE_MODE_FS;
    const struct rollout *over = rollouts_following(fleet->rollouts, &device->mac, checkin->type, fs);
    const struct rollout *now_on = rollouts_for(fleet->rollouts, &device->mac, checkin->type, fs, false);
    const struct rollout *either[] = { fleet_stands(now_on) ? now_on : NULL, over };
    for (size_t i = 0; i < sizeof either / sizeof either[0]; i++) {
        if (either[i] != NULL && is_of_rollout(device, either[i]) && rollout_member(either[i], &device->mac, &member) &&
            member.attempts > 0) {
            return either[i];
        }
    }
    return NULL;
}

static void write_line(struct fleet *fleet, const struct device *device, bool is_first, const struct checkin *checkin,
                       const struct outcome_verdict *verdict, const struct moment *now)
{
    char rollout[IN_ROLLOUT_SIZE];
    if (is_first) {
        journal_event(fleet->journal, &device->mac, now, "first-seen", "as %.60s",
                      words_text(fleet->words, device->type->name));
    }
    if (verdict->outcome != OUTCOME_NONE) {
        journal_event(fleet->journal, &device->mac, now, outcome_word(verdict->outcome), "%s%s%s%s",
                      words_text(fleet->words, device_sent(device, is_fs(checkin))->version),
                      name_rollout(rollout_of_verdict(fleet, device, checkin), rollout),
                      verdict->detail[0] != '\0' ? ": " : "", verdict->detail);
    }
}

/* Reasons that pass by themselves: it may have the image later. */
static bool is_passing(enum reason reason)
{
    static const bool passing[REASON_COUNT] = {
        [REASON_HELD_BACK] = true,
        [REASON_PAUSED] = true,
        [REASON_NOT_YET] = true,
        [REASON_NOT_MODIFIED] = true,
    };
    return passing[reason];
}

static bool make_fact(const struct device *device, const struct checkin *checkin, const struct rollout *rollout,
                      const struct outcome_verdict *verdict, char withheld[120], struct rollout_fact *fact)
{
    *fact = (struct rollout_fact){ .mac = device->mac,
                                   .type = checkin->type,
                                   .fs = is_fs(checkin),
                                   .site = fleet_site(device->address),
                                   .runs_target = runs_target(rollout, checkin),
                                   .is_blind = by_version(checkin) && checkin->request->label.len == 0 };
    if (outcome_is_failure(verdict->outcome) && verdict->outcome != OUTCOME_CUT && is_of_rollout(device, rollout)) {
        fact->failed = verdict->detail;
    }
    fact->served = fleet_stands(rollout) && checkin->serves && checkin->of_rollout;
    if (!fact->served && !is_passing(checkin->reason)) {
        snprintf(withheld, 120, "%s%s%.90s", reason_word(checkin->reason), checkin->detail[0] != '\0' ? ": " : "",
                 checkin->detail);
        fact->withheld = withheld;
    }
    return !checkin->is_aside || fact->runs_target || fact->failed != NULL; /* else its check for it is still to come */
}

static void tell_rollouts(struct fleet *fleet, const struct device *device, const struct checkin *checkin,
                          const struct outcome_verdict *verdict, const struct moment *now)
{
    bool fs = is_fs(checkin);
    const struct rollout *over = rollouts_following(fleet->rollouts, &device->mac, checkin->type, fs);
    const struct rollout *rollout = rollouts_for(fleet->rollouts, &device->mac, checkin->type, fs, false);
    struct rollout_fact fact;
    char withheld[120];
    if (over != NULL && make_fact(device, checkin, over, verdict, withheld, &fact)) {
        rollouts_came_after(fleet->rollouts, &fact, now);
    }
    if (fleet_stands(rollout) && make_fact(device, checkin, rollout, verdict, withheld, &fact)) {
        rollouts_checked_in(fleet->rollouts, &fact, now);
    }
}

/* Most come as they were; when, is written later. What went by a clock that was wrong is corrected in the row, too. */
static void note_checkin(struct fleet *fleet, const struct device *before, struct device *device,
                         const struct outcome_verdict *verdict)
{
    bool is_later = before->seen_s > 0 && device->seen_s >= before->seen_s;
    if (!is_later || verdict->outcome != OUTCOME_NONE || journal_device_differs(before, device)) {
        devices_mark(fleet->devices, device);
    }
    journal_saw(fleet->journal, device);
}

struct device *fleet_checked_in(struct fleet *fleet, const struct checkin *checkin, const struct moment *now,
                                struct outcome_verdict *verdict)
{
    *verdict = (struct outcome_verdict){ .outcome = OUTCOME_NONE };
    struct device *device = devices_take(fleet->devices, &checkin->request->mac, checkin->type);
    if (device == NULL) {
        return NULL;
    }
    struct device_request said = *checkin->request;
    const uint8_t *digest = digest_of(checkin);
    if (digest != NULL) {
        said.has_md5 = true;
        memmove(said.sketch_md5, digest, sizeof said.sketch_md5);
    }
    struct device_sighting sighting = { .request = &said,
                                        .flash_mode = checkin->flash_mode,
                                        .chip = checkin->chip,
                                        .reason = checkin->reason,
                                        .via_proxy = checkin->via_proxy };
    memcpy(sighting.address, checkin->address, sizeof sighting.address);
    bool is_first = device->first_seen_s == 0;
    judge(fleet, device, checkin, now, verdict);
    const struct device before = *device;
    device_saw(fleet->devices, device, &sighting, now);
    note_checkin(fleet, &before, device, verdict);
    write_line(fleet, device, is_first, checkin, verdict, now); /* behind the record, see fleet/journal.h */
    tell_rollouts(fleet, device, checkin, verdict, now);
    return device;
}

/* --- told: transfers -------------------------------------------------------------------------------------------------
 */

void fleet_sending_begins(struct fleet *fleet, const struct sending *sending, const struct moment *now)
{
    rollouts_transfer_begins(fleet->rollouts, sending->mac, sending->file_md5, now);
}

/* Of one image in a row, as the loop guard counts. */
static void count_served(struct device_transfer *transfer, const uint8_t md5[16], bool whole)
{
    if (transfer->unix_s == 0 || memcmp(transfer->md5, md5, 16) != 0) {
        transfer->served = 0;
    }
    transfer->served = (uint16_t)(transfer->served + (whole && transfer->served < UINT16_MAX));
}

static void remember_sending(struct fleet *fleet, struct device *device, const struct sending *sending,
                             const struct sending_end *end, const struct moment *now)
{
    char rollout[IN_ROLLOUT_SIZE];
    struct device_transfer *transfer = devices_take_sent(fleet->devices, device, sending->fs);
    count_served(transfer, sending->run_md5, end->whole);
    memcpy(transfer->md5, sending->run_md5, 16);
    if (sending->asked_by != NULL || device->has_md5) {
        memcpy(transfer->before, sending->asked_by != NULL ? sending->asked_by : device->md5, sizeof transfer->before);
    } else {
        outcome_version_key(slice_of(words_text(fleet->words, device->version)), transfer->before);
    }
    transfer->bytes = (uint32_t)end->bytes;
    transfer->of = (uint32_t)end->of;
    transfer->ms = end->ms < UINT32_MAX ? (uint32_t)end->ms : UINT32_MAX;
    transfer->unix_s = now->unix_s;
    words_set(fleet->words, &transfer->version, slice_of(sending->version));
    transfer->outcome = end->whole ? OUTCOME_OPEN : OUTCOME_CUT;
    transfer->failures += !end->whole && transfer->failures < UINT8_MAX;
    devices_mark(fleet->devices, device);
    name_rollout(rollouts_sending(fleet->rollouts, sending->mac, sending->file_md5), rollout);
    if (end->whole) {
        journal_event(fleet->journal, &device->mac, now, "sent", "%s%s, %" PRIu64 " bytes in %" PRIu64 " ms",
                      sending->version, rollout, end->bytes, end->ms);
    } else {
        unsigned percent = end->of > 0 ? (unsigned)(end->bytes * 100 / end->of) : 0;
        journal_event(fleet->journal, &device->mac, now, "cut", "%s%s, at %u %% (%" PRIu64 " of %" PRIu64 " bytes): %s",
                      sending->version, rollout, percent, end->bytes, end->of, end->why);
    }
}

void fleet_sending_ended(struct fleet *fleet, const struct sending *sending, const struct sending_end *end,
                         const struct moment *now)
{
    char why[120] = "";
    struct device *device = sending->mac != NULL ? devices_find(fleet->devices, sending->mac) : NULL;
    if (device != NULL && sending->full) {
        remember_sending(fleet, device, sending, end, now);
    }
    if (sending->mac != NULL && sending->full && end->whole) {
        struct loop_guard_key key = { .mac = *sending->mac, .fs = sending->fs };
        loop_guard_sent(fleet->guard, &key, sending->run_md5, sending->served_max, now->ms);
    }
    if (!end->whole) {
        snprintf(why, sizeof why, "cut at %u %%: %.80s", end->of > 0 ? (unsigned)(100 * end->bytes / end->of) : 0u,
                 end->why != NULL ? end->why : "");
    }
    bool part = !sending->full; /* how much it has of the file then, only the device knows */
    rollouts_transfer_ended(fleet->rollouts, sending->mac, sending->file_md5, end->whole && !part, end->bytes, end->ms,
                            part ? NULL : why, now);
}

/* --- told: over MQTT -------------------------------------------------------------------------------------------------
 */

/* What it speaks of: it does not say which kind; NULL = nothing that is open. */
static struct device_transfer *last_open(struct device *device)
{
    struct device_transfer *sketch = &device->transfer, *fs = device->fs_transfer;
    sketch = sketch->outcome == OUTCOME_OPEN ? sketch : NULL;
    fs = fs != NULL && fs->outcome == OUTCOME_OPEN ? fs : NULL;
    return fs == NULL || (sketch != NULL && sketch->unix_s >= fs->unix_s) ? sketch : fs;
}

void fleet_reported(struct fleet *fleet, const struct mac *mac, const struct device_report *report,
                    const struct moment *now)
{
    char why[160];
    struct device *device = devices_find(fleet->devices, mac);
    struct device_transfer *sent = device != NULL ? last_open(device) : NULL;
    if (report->state != REPORT_FAILED) {
        return;
    }
    snprintf(why, sizeof why, "it reported: %s", report->error[0] != '\0' ? report->error : "failed");
    if (sent != NULL) {
        sent->outcome = OUTCOME_REPORTED;
        sent->failures += sent->failures < UINT8_MAX;
        never_again_failed(fleet->never_again, mac, sent->md5, false, now->unix_s);
        devices_mark(fleet->devices, device);
    }
    if (device != NULL) {
        journal_event(fleet->journal, mac, now, "reported", "%s", why);
    }
    rollouts_reported_failure(fleet->rollouts, mac, why, now);
}

void fleet_said_online(struct fleet *fleet, const struct mac *mac, struct slice type, bool online,
                       const struct moment *now)
{
    struct device *device = devices_find(fleet->devices, mac);
    bool is_kept_out = fleet_bars(&fleet->settings, mac, NULL) || fleet_refuses_unknown(fleet, mac);
    if (device == NULL && is_kept_out) {
        return; /* it would hear so over HTTP, and not be remembered either */
    }
    if (type.len > 0 && (device == NULL || device->seen_s == 0)) { /* what it asks for counts more than a topic */
        struct device *placed = devices_take(fleet->devices, mac, type);
        device = placed != NULL ? placed : device;
    }
    if (device != NULL && device->first_seen_s == 0) {
        device->first_seen_s = now->unix_s;
        devices_mark(fleet->devices, device);
        journal_event(fleet->journal, mac, now, "first-seen", "over MQTT, as %.60s",
                      words_text(fleet->words, device->type->name));
    }
    if (device != NULL) {
        device->online = online;
        device->said_online = true;
    }
    if (online) {
        rollouts_came_online(fleet->rollouts, mac, now);
    }
}

/* --- an operator's word ----------------------------------------------------------------------------------------------
 */

enum status fleet_set_policy(struct fleet *fleet, const struct policy_entry *entry, const struct moment *now,
                             uint64_t *ticket)
{
    struct policy_entry dated = *entry;
    *ticket = 0;
    if (!journal_takes_words(fleet->journal, 1)) {
        return STATUS_BUSY; /* it would be forgotten at the next start: rather nothing is changed */
    }
    dated.unix_s = now->unix_s;
    enum status status = policies_set(fleet->policies, &dated);
    if (status == STATUS_OK) {
        *ticket = journal_policy(fleet->journal, &entry->mac);
    }
    return status;
}

size_t fleet_retry(struct fleet *fleet, const struct mac *mac, const struct moment *now)
{
    struct loop_guard_key keys[] = { { .mac = *mac, .fs = false }, { .mac = *mac, .fs = true } };
    struct device *device = devices_find(fleet->devices, mac);
    size_t forgotten = never_again_forget(fleet->never_again, mac);
    for (size_t i = 0; i < 2; i++) {
        loop_guard_forget(fleet->guard, &keys[i]);
    }
    if (device != NULL) {
        device->transfer.failures = 0;
        device->transfer.served = 0;
        if (device->fs_transfer != NULL) {
            device->fs_transfer->failures = 0;
            device->fs_transfer->served = 0;
        }
        devices_mark(fleet->devices, device);
        journal_event(fleet->journal, mac, now, "retry", "an operator lets it try again");
    }
    return forgotten;
}

enum status fleet_forget(struct fleet *fleet, const struct mac *mac, const struct moment *now, uint64_t *ticket)
{
    struct device *device = devices_find(fleet->devices, mac);
    struct policy_entry nothing = { .mac = *mac };
    *ticket = 0;
    if (device == NULL && policies_find(fleet->policies, mac) == NULL) {
        return STATUS_NOT_FOUND;
    }
    if (!journal_takes_words(fleet->journal, 2)) {
        return STATUS_BUSY;
    }
    (void)fleet_retry(fleet, mac, now);
    if (device != NULL) {
        journal_saw(fleet->journal, device);
        devices_forget(fleet->devices, device);
    }
    (void)fleet_set_policy(fleet, &nothing, now, ticket);
    uint64_t of_policy = *ticket;
    *ticket = journal_device_gone(fleet->journal, mac);
    *ticket = of_policy == JOURNAL_REFUSED ? JOURNAL_REFUSED : *ticket;
    return STATUS_OK;
}
