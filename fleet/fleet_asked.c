/* What a device is to be offered, and whether it may have it now: policy first, then rollouts, then what the device
 * itself has proved. Changes nothing. */
#include "fleet/fleet_parts.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* --- what it is offered ---------------------------------------------------------------------------------------------
 */

/* A rollout's word, or the type's. */
static void follow_rollout(const struct fleet *fleet, const struct mac *mac, bool fs, struct direction *direction)
{
    bool published = offerings_of(fleet->settings.offerings, direction->type) == OFFER_PUBLISHED;
    const struct rollout *rollout = rollouts_for(fleet->rollouts, mac, direction->type, fs, published);
    if (rollout != NULL) {
        const char *passed_over = rollout->order.target.passed_over;
        direction->rollout = rollout;
        direction->wanted = rollout->order.target.version;
        direction->source = REASON_PUBLISHED;
        direction->unless_above = fleet_stands(rollout) || published ? NULL : passed_over;
    } else if (published) {
        direction->nothing = REASON_UNPUBLISHED;
    }
}

bool fleet_bars(const struct fleet_settings *settings, const struct mac *mac, const char **key)
{
    if (settings->block_macs.count + settings->allow_macs.count == 0) {
        return false; /* mostly */
    }
    bool is_blocked = mac != NULL && mac_list_has(&settings->block_macs, mac);
    bool is_left_out = settings->allow_macs.count > 0 && (mac == NULL || !mac_list_has(&settings->allow_macs, mac));
    if (key != NULL) {
        *key = is_blocked ? "block-mac" : "allow-mac";
    }
    return is_blocked || is_left_out;
}

bool fleet_refuses_unknown(const struct fleet *fleet, const struct mac *mac)
{
    if (!fleet->settings.refuse_unknown) {
        return false;
    }
    const struct policy_entry *entry = mac != NULL ? policies_find(fleet->policies, mac) : NULL;
    return !(entry != NULL && entry->approved) &&
           (mac == NULL || assignments_find(fleet->settings.assignments, mac) == NULL);
}

void fleet_direct(const struct fleet *fleet, const struct mac *mac, struct slice asked_type, bool fs,
                  const char *asked_version, struct direction *direction)
{
    const struct fleet_settings *settings = &fleet->settings;
    const struct policy_entry *entry = mac != NULL ? policies_find(fleet->policies, mac) : NULL;
    const struct assignment *assignment = mac != NULL ? assignments_find(settings->assignments, mac) : NULL;
    *direction = (struct direction){ .type = asked_type, .source = REASON_NEWER, .nothing = REASON_COUNT };
    struct policy *policy = &direction->policy;
    policy_of(fleet->words, entry, assignment, asked_type, settings->hold_unknown, policy);
    policy->barred = fleet_bars(settings, mac, NULL);
    policy->refused = policy->unapproved && settings->refuse_unknown;
    direction->by_operator = policy->by_operator;
    if (policy->type[0] != '\0') {
        direction->type = slice_of(policy->type);
    }
    if (asked_type.len == 0 && !policy->assigned && !policy->pinned) {
        direction->nothing = REASON_UNASSIGNED;
    } else if (policy->wanted[0] != '\0') {
        direction->wanted = policy->wanted;
        direction->source = policy->pinned ? REASON_PINNED : REASON_ASSIGNED;
    } else {
        follow_rollout(fleet, mac, fs, direction);
    }
    if (direction->wanted == NULL && direction->nothing == REASON_COUNT && asked_version != NULL) {
        direction->wanted = asked_version;
        direction->source = REASON_ASSIGNED;
        direction->by_address = true;
    }
}

/* --- may it have it -------------------------------------------------------------------------------------------------
 */

static bool refuse(struct permission *permission, enum reason reason)
{
    permission->reason = reason;
    return false;
}

static bool policy_permits(const struct direction *direction, struct permission *permission)
{
    enum reason reason = policy_refusal(&direction->policy);
    if (reason == REASON_BLOCKED && !direction->policy.blocked) {
        snprintf(permission->detail, sizeof permission->detail, "the configuration's block-mac or allow-mac");
    }
    return reason == REASON_COUNT || refuse(permission, reason);
}

/* The very check that is asked about proves it: it was seen running this build, and now runs what it ran before. */
static bool rolls_back(const struct device *device, const struct candidate *candidate)
{
    return device != NULL && device->transfer.outcome == OUTCOME_CONFIRMED && !candidate->fs &&
           candidate->sketch_md5 != NULL && memcmp(device->transfer.md5, candidate->run_md5, 16) == 0 &&
           memcmp(device->transfer.before, candidate->sketch_md5, sizeof device->transfer.before) == 0;
}

/* This check proves its second failure with the build: it was sent all of it, asks for it again, and had failed with it
 * before. Whether it would be one: is_one_failure. */
static bool fails_again(const struct fleet *fleet, const struct device *device, const struct mac *mac,
                        const struct candidate *candidate)
{
    const struct never_again_entry *entry = never_again_find(fleet->never_again, mac);
    struct loop_guard_key key = { .mac = *mac, .fs = candidate->fs };
    unsigned failures = 0;
    for (size_t i = 0; entry != NULL && i < entry->count; i++) {
        bool same = memcmp(entry->images[i].md5, candidate->run_md5, sizeof entry->images[i].md5) == 0;
        failures = same ? entry->images[i].failures : failures;
    }
    unsigned most = fleet->settings.loop_guard_max;
    const struct device_transfer *sent = device != NULL ? device_sent(device, candidate->fs) : NULL;
    return sent != NULL && sent->outcome == OUTCOME_OPEN &&
           memcmp(sent->md5, candidate->run_md5, sizeof sent->md5) == 0 && failures + 1 >= NEVER_AGAIN_FAILURES &&
           (loop_guard_served(fleet->guard, &key, candidate->run_md5) >= most || sent->failures + 1u >= most);
}

/* What it proved with this build before. */
static bool never_again_permits(const struct fleet *fleet, const struct mac *mac, const struct candidate *candidate,
                                struct permission *permission)
{
    const struct never_again_image *failed = never_again_holds(fleet->never_again, mac, candidate->run_md5);
    if (failed == NULL) {
        return true;
    }
    if (failed->rolled_back) {
        snprintf(permission->detail, sizeof permission->detail, "it ran this build and went back to the one before");
    } else {
        snprintf(permission->detail, sizeof permission->detail, "it failed with this build %u times", failed->failures);
    }
    return refuse(permission, REASON_NEVER_AGAIN);
}

static bool guard_permits(const struct fleet *fleet, const struct mac *mac, const struct candidate *candidate,
                          const struct moment *now, struct permission *permission)
{
    struct loop_guard_key key = { .mac = *mac, .fs = candidate->fs };
    uint64_t wait_ms;
    if (!loop_guard_holds(fleet->guard, &key, candidate->run_md5, candidate->served_max, now->ms, &wait_ms)) {
        return true;
    }
    unsigned served = loop_guard_served(fleet->guard, &key, candidate->run_md5);
    snprintf(permission->detail, sizeof permission->detail,
             "sent whole %u time%s and asked for again%s; the next try is in %" PRIu64 " min", served,
             served == 1 ? "" : "s", candidate->is_blind ? " without a version, so nobody can tell what it has" : "",
             (wait_ms + 59999) / 60000);
    return refuse(permission, REASON_LOOP_GUARD);
}

bool fleet_record_permits(const struct fleet *fleet, const struct mac *mac, const struct candidate *candidate,
                          const struct moment *now, struct permission *permission)
{
    return never_again_permits(fleet, mac, candidate, permission) &&
           guard_permits(fleet, mac, candidate, now, permission);
}

/* The same, and what this very check proves. */
static bool record_permits(const struct fleet *fleet, const struct mac *mac, const struct candidate *candidate,
                           const struct moment *now, struct permission *permission)
{
    const struct device *device = devices_find(fleet->devices, mac);
    if (rolls_back(device, candidate)) {
        snprintf(permission->detail, sizeof permission->detail, "it ran this build and went back to the one before");
        return refuse(permission, REASON_NEVER_AGAIN);
    }
    if (!never_again_permits(fleet, mac, candidate, permission)) {
        return false;
    }
    if (fails_again(fleet, device, mac, candidate)) {
        snprintf(permission->detail, sizeof permission->detail, "it failed with this build %u times",
                 NEVER_AGAIN_FAILURES);
        return refuse(permission, REASON_NEVER_AGAIN);
    }
    return guard_permits(fleet, mac, candidate, now, permission);
}

static bool is_target(const struct rollout *rollout, const struct candidate *candidate)
{
    for (size_t i = 0; i < candidate->form_count; i++) {
        if (rollout_has_file(rollout, candidate->file_md5[i])) {
            return true;
        }
    }
    return false;
}

bool fleet_orders_form(const struct direction *direction, const uint8_t file_md5[16])
{
    return !fleet_stands(direction->rollout) || rollout_has_file(direction->rollout, file_md5);
}

static bool own_rollout_permits(const struct rollout *rollout, const struct mac *mac, uint64_t site,
                                const struct candidate *candidate, struct permission *permission)
{
    struct rollout_permission granted;
    if (!is_target(rollout, candidate)) {
        snprintf(permission->detail, sizeof permission->detail,
                 "the file of rollout %s was replaced after it was ordered: order it again", rollout->id);
        return refuse(permission, REASON_HELD_BACK);
    }
    rollout_permit(rollout, mac, site, &granted);
    if (granted.granted) {
        return true;
    }
    snprintf(permission->detail, sizeof permission->detail, "%s", granted.detail);
    return refuse(permission, granted.reason);
}

/* Who names no device cannot be told from those that a rollout means: it waits while that gives the image to some only,
 * or to canaries first. A file that it names by itself is refused where nobody shall have it. */
static bool flows_to_nameless(const struct rollout *rollout, const struct candidate *candidate)
{
    return candidate->by_name || (rollout->state == ROLLOUT_RUNNING && rollout_means_all(&rollout->order));
}

/* No rollout means this device; one may keep the image from it all the same. */
static bool other_rollouts_permit(const struct fleet *fleet, bool is_named, const struct candidate *candidate,
                                  struct permission *permission)
{
    for (size_t i = 0; i < candidate->form_count; i++) {
        const struct rollout *rollout =
            rollouts_holding(fleet->rollouts, candidate->type, candidate->fs, candidate->file_md5[i]);
        bool flows = rollout != NULL && (rollout->state == ROLLOUT_CANARY || rollout->state == ROLLOUT_RUNNING ||
                                         rollout->state == ROLLOUT_PLANNED);
        if (rollout != NULL && !(flows && !is_named && flows_to_nameless(rollout, candidate))) {
            snprintf(permission->detail, sizeof permission->detail, "rollout %s %s%s%.90s", rollout->id,
                     flows ? "gives it to others first" : rollout_state_word(rollout->state),
                     rollout->why[0] != '\0' ? ": " : "", rollout->why);
            return refuse(permission, rollout->state == ROLLOUT_PAUSED ? REASON_PAUSED : REASON_HELD_BACK);
        }
    }
    return true;
}

void fleet_permit(const struct fleet *fleet, const struct mac *mac, uint64_t site, const struct direction *direction,
                  const struct candidate *candidate, const struct moment *now, struct permission *permission)
{
    *permission = (struct permission){ .reason = REASON_COUNT };
    if (!policy_permits(direction, permission)) {
        return;
    }
    bool has_record = mac != NULL && candidate->form_count > 0 && !candidate->ignores_record;
    if (has_record && !record_permits(fleet, mac, candidate, now, permission)) {
        return;
    }
    bool is_operators = (direction->source == REASON_PINNED || direction->source == REASON_ASSIGNED) &&
                        !direction->by_address && !candidate->by_name;
    if (candidate->form_count == 0 || is_operators) {
        return; /* an operator's word on this device goes before rollouts */
    }
    bool is_own = fleet_stands(direction->rollout) && mac != NULL &&
                  !(candidate->by_name && !is_target(direction->rollout, candidate));
    if (is_own) {
        (void)own_rollout_permits(direction->rollout, mac, site, candidate, permission);
    } else {
        (void)other_rollouts_permit(fleet, mac != NULL, candidate, permission);
    }
}

/* IPv4 addresses that are a site's own, so that many of a /24 belong to one: RFC 1918, 3927, 6598 and loopback. */
static const struct {
    uint32_t network, mask;
} inner_networks[] = {
    { 0x0a000000, 0xff000000 }, /* 10/8 */
    { 0xac100000, 0xfff00000 }, /* 172.16/12 */
    { 0xc0a80000, 0xffff0000 }, /* 192.168/16 */
    { 0xa9fe0000, 0xffff0000 }, /* 169.254/16 */
    { 0x64400000, 0xffc00000 }, /* 100.64/10 */
    { 0x7f000000, 0xff000000 }, /* 127/8 */
};

static bool is_inner(uint32_t v4)
{
    for (size_t i = 0; i < sizeof inner_networks / sizeof inner_networks[0]; i++) {
        if ((v4 & inner_networks[i].mask) == inner_networks[i].network) {
            return true;
        }
    }
    return false;
}

uint64_t fleet_site(const uint8_t address[16])
{
    static const uint8_t v4_mapped[12] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff };
    bool is_v4 = memcmp(address, v4_mapped, sizeof v4_mapped) == 0;
    if (is_v4) {
        uint32_t v4 =
            (uint32_t)address[12] << 24 | (uint32_t)address[13] << 16 | (uint32_t)address[14] << 8 | address[15];
        return UINT64_C(0xffff) << 48 | (is_inner(v4) ? v4 & 0xffffff00 : v4);
    }
    uint64_t site = 0;
    for (size_t i = 0; i < sizeof site; i++) {
        site = site << 8 | address[i];
    }
    return site;
}
