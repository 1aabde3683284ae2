/* Back, at the start: records from rows. */
#include "fleet/image_failures.h"
#include "fleet/journal.h"
#include "fleet/journal_rows.h"

#include <stdio.h>
#include <string.h>

/* When it failed is not written down: not before it was sent. */
static void recall_failure(const struct recall *recall, const struct device *device, bool fs, struct slice type)
{
    const struct device_transfer *sent = device_sent(device, fs);
    bool came_back_old = sent->outcome == OUTCOME_OLD_BUILD || sent->outcome == OUTCOME_ROLLED_BACK;
    uint32_t sent_s = sent->unix_s, now_s = recall->now->unix_s;
    if (came_back_old && (sent_s > now_s || now_s - sent_s <= IMAGE_FAILURES_FOR_S)) {
        image_failures_failed(recall->failures, sent->md5, fs, type, &device->mac, sent_s);
    }
}

/* A file system check without a version can never prove that it has it: such a device is sent it once, as in
 * server/check. */
static void recall_guard(const struct recall *recall, const struct device *device, bool fs)
{
    const struct device_transfer *sent = device_sent(device, fs);
    struct loop_guard_key key = { .mac = device->mac, .fs = fs };
    unsigned served_max = fs && device->fs_version == 0 ? 1 : recall->loop_guard_max;
    uint32_t now_s = recall->now->unix_s, ago_s = now_s > sent->unix_s ? now_s - sent->unix_s : 0;
    if (recall->guard != NULL && sent->served > 0) {
        loop_guard_restore(recall->guard, &key, sent->md5, sent->served, served_max, (uint64_t)ago_s * 1000,
                           recall->now->ms);
    }
}

#define NUMBER(name) to->name = row->name;
#define BYTES(name)  memcpy(to->name, row->name, sizeof to->name);
#define WORD(name)   words_set(words, &to->name, slice_of(row->name));

static void recall_transfer(const struct recall *recall, struct device *device, bool fs,
                            const struct store_transfer *row)
{
    if (row->unix_s == 0) {
        return;
    }
    struct words *words = recall->words;
    struct device_transfer *to = devices_take_sent(recall->devices, device, fs);
    TRANSFER_NUMBERS(NUMBER)
    TRANSFER_BYTES(BYTES)
    TRANSFER_WORDS(WORD)
    recall_guard(recall, device, fs);
    recall_failure(recall, device, fs, slice_of(words_text(recall->words, device->type->name)));
}

static void recall_device(struct recall *recall, const struct store_device *row)
{
    struct words *words = recall->words;
    struct device *to = devices_take(recall->devices, &row->mac, slice_of(row->type));
    if (to == NULL) {
        return;
    }
    DEVICE_NUMBERS(NUMBER)
    DEVICE_BYTES(BYTES)
    DEVICE_WORDS(WORD)
    to->seen_s = row->seen_s;
    never_again_restore(recall->never_again, &row->never_again);
    recall_transfer(recall, to, false, &row->transfer);
    recall_transfer(recall, to, true, &row->fs_transfer);
}

/* Behind the devices. One that was forgotten may still be in it, and the device's row may be the later one. */
static void recall_seen(const struct recall *recall, const struct store_seen *row)
{
    for (size_t i = 0; i < row->count; i++) {
        struct device *device = devices_find(recall->devices, &row->devices[i].mac);
        if (device != NULL && row->devices[i].unix_s > device->seen_s) {
            device->seen_s = row->devices[i].unix_s;
        }
    }
}

static void recall_policy(struct recall *recall, const struct store_policy *row)
{
    struct words *words = recall->words;
    struct policy_entry entry = { .mac = row->mac,
                                  .blocked = row->blocked,
                                  .approved = row->approved,
                                  .group_count = row->group_count,
                                  .unix_s = row->unix_s };
    word_id taken[3 + POLICY_GROUPS_MAX] = { words_take(words, slice_of(row->type)),
                                             words_take(words, slice_of(row->label)),
                                             words_take(words, slice_of(row->pin)) };
    entry.type = taken[0];
    entry.label = taken[1];
    entry.pin = taken[2];
    for (size_t i = 0; i < row->group_count; i++) {
        entry.groups[i] = taken[3 + i] = words_take(words, slice_of(row->groups[i]));
    }
    snprintf(entry.note, sizeof entry.note, "%s", row->note);
    (void)policies_set(recall->policies, &entry);
    for (size_t i = 0; i < 3u + row->group_count; i++) {
        words_drop(words, taken[i]); /* the entry counts its own */
    }
}

static void recall_member(struct recall *recall, const struct store_member *row)
{
    struct rollout *rollout = rollouts_find(recall->rollouts, slice_of(row->rollout));
    const struct device *device = devices_find(recall->devices, &row->mac);
    struct rollout_member member = { .state = (enum rollout_device_state)row->state,
                                     .mark = (enum rollout_mark)row->mark,
                                     .why = row->why };
    struct rollout_member *to = &member;
    MEMBER_NUMBERS(NUMBER)
    if (rollout != NULL) {
        rollout_restore_member(rollout, &member, device != NULL ? recall->site_of(device->address) : 0, recall->now);
    }
}

bool recall_row(void *owner, const struct store_change *row)
{
    struct recall *recall = owner;
    recall->rows++;
    switch (row->kind) {
    case STORE_DEVICE:
        recall_device(recall, &row->row.device);
        break;
    case STORE_SEEN:
        recall_seen(recall, &row->row.seen);
        break;
    case STORE_POLICY:
        recall_policy(recall, &row->row.policy);
        break;
    case STORE_ROLLOUT:
        (void)rollouts_restore(recall->rollouts, &row->row.rollout.rollout, recall->now);
        break;
    case STORE_MEMBER:
        recall_member(recall, &row->row.member);
        break;
    default:
        break;
    }
    return true;
}
