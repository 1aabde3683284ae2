/* From what a device said to a decision, in the order of the house: fleet, catalog, fleet, decision. */
#include "server/check.h"

#include <stdio.h>
#include <string.h>

void check_init(struct check *check, const struct check_sources *sources)
{
    memset(check, 0, sizeof *check);
    check->sources = sources;
    check->type = slice_of("");
    check->input.running_flash_mode = FLASH_MODE_UNKNOWN;
}

static bool is_fs(const struct device_request *device)
{
    return device->mode == DEVICE_MODE_FS;
}

const char *build_name(const struct build *build)
{
    return build->version.text[0] != '\0' ? build->version.text : build->label;
}

/* Who runs this digest? A file system check carries the sketch's, which says nothing of the file system. */
void check_find_running(struct check *check)
{
    const struct device_request *device = &check->device;
    uint8_t mode = FLASH_MODE_UNKNOWN;
    if (device->has_md5) {
        check->running = catalog_find_md5(check->sources->catalog, device->sketch_md5, check->type, &mode);
    }
    if (check->running == NULL && device->has_sha256) {
        check->running = catalog_find_sha256(check->sources->catalog, device->sketch_sha256, check->type);
    }
    check->input.running = check->running != NULL ? &check->running->build : NULL;
    check->input.running_flash_mode = mode;
}

static void find_slot(struct check *check, const char *wanted)
{
    check->input.offer = (struct offer){ NULL, NULL };
    if (catalog_slots(check->sources->catalog, check->type, wanted, check->slots, &check->input.missing)) {
        check->input.offer.plain = &check->slots[check->slot - 1]->build;
    }
}

void check_find_offer(struct check *check, const char *wanted)
{
    check->input.assigned = wanted;
    if (check->slot != 0) {
        find_slot(check, wanted);
        return;
    }
    struct catalog_query query = {
        .type = check->type,
        .kind = is_fs(&check->device) ? OFFER_FS : OFFER_SKETCH,
        .wanted = wanted,
        .flash_bytes = check->device.flash_bytes,
    };
    catalog_offer(check->sources->catalog, &query, &check->input.offer, &check->input.missing);
}

/* Who is known by name: an updater's MAC. */
static const struct mac *mac_of(const struct check *check)
{
    return check->device.has_mac && check->device.client != CLIENT_PLAIN ? &check->device.mac : NULL;
}

/* A file system check without a version can never be told "up to date". */
static bool is_blind(const struct check *check)
{
    return is_fs(&check->device) && check->device.version.text[0] == '\0';
}

unsigned check_served_max(const struct check *check)
{
    return is_blind(check) ? 1 : check->sources->fleet->settings.loop_guard_max;
}

const uint8_t *check_run_md5(const struct check *check, const struct build *build)
{
    bool is_slot = check->slot != 0 && build == &check->slots[check->slot - 1]->build;
    return is_slot ? check->slots[0]->build.facts.run_md5[0] : build->facts.run_md5[0];
}

struct loop_guard_key check_guard_key(const struct check *check)
{
    return (struct loop_guard_key){ .mac = check->device.mac, .fs = is_fs(&check->device) };
}

static bool is_ordered(const struct check *check, const struct build *form)
{
    return form != NULL && fleet_orders_form(&check->direction, form->facts.md5);
}

/* Beside what was ordered other bytes may lie under the same version. Where nothing else does, the rollout says so. */
static void leave_out_unordered(struct check *check)
{
    struct offer *offer = &check->input.offer;
    struct offer ordered = { .plain = is_ordered(check, offer->plain) ? offer->plain : NULL,
                             .gzip = is_ordered(check, offer->gzip) ? offer->gzip : NULL };
    if (!check->by_name && (ordered.plain != NULL || ordered.gzip != NULL)) {
        *offer = ordered;
    }
}

/* May it have it now? */
void check_permit(struct check *check)
{
    leave_out_unordered(check);
    const struct build *forms[] = { check->input.offer.plain, check->input.offer.gzip };
    const uint8_t *running_md5 = check->running != NULL ? check->running->build.facts.run_md5[0] : NULL;
    const uint8_t *sketch_md5 = fleet_digest(&check->device, running_md5);
    uint8_t version_key[OUTCOME_KEY_BYTES];
    outcome_version_key(check->device.label, version_key);
    struct candidate candidate = { .type = check->type,
                                   .fs = is_fs(&check->device),
                                   .sketch_md5 =
                                       sketch_md5 != NULL || check->device.label.len == 0 ? sketch_md5 : version_key,
                                   .served_max = check_served_max(check),
                                   .is_blind = is_blind(check),
                                   .by_name = check->by_name,
                                   .ignores_record = check->ignores_record };
    struct moment now = clock_moment(check->sources->loop);
    struct permission *permission = &check->permission;
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
        if (forms[i] != NULL) {
            candidate.file_md5[candidate.form_count++] = forms[i]->facts.md5;
            candidate.run_md5 = check_run_md5(check, forms[i]);
        }
    }
    fleet_permit(check->sources->fleet, mac_of(check), fleet_site(check->address), &check->direction, &candidate, &now,
                 permission);
    check->input.withheld = permission->reason != REASON_COUNT;
    check->input.withheld_by = permission->reason;
    check->input.withheld_why = permission->detail;
}

void check_decide(struct check *check)
{
    check->input.request = &check->device;
    check->input.fs_gzip = check->sources->fs_gzip;
    decision_make(&check->input, &check->decision);
}

/* The type's last word was an older build; a version above what it passed over is newer than that word. */
static bool has_newer(struct check *check)
{
    const struct build *newest;
    struct version passed_over;
    if (check->direction.unless_above == NULL) {
        return false;
    }
    check_find_offer(check, NULL);
    newest = check->input.offer.plain != NULL ? check->input.offer.plain : check->input.offer.gzip;
    return newest != NULL && version_parse(slice_of(check->direction.unless_above), &passed_over) == STATUS_OK &&
           version_compare(&newest->version, &passed_over) > 0;
}

void check_direct(struct check *check, const char *wanted)
{
    fleet_direct(check->sources->fleet, mac_of(check), check->type, is_fs(&check->device), wanted, &check->direction);
}

void check_native(struct check *check)
{
    struct device_request *device = &check->device;
    device->mode = DEVICE_MODE_SKETCH;
    device->has_md5 = device->has_sha256 = false; /* of a sketch, which it has none */
    check->input.unconditional = device->version.text[0] == '\0';
}

void check_update(struct check *check, bool by_type, const char *wanted)
{
    struct direction *direction = &check->direction;
    if (by_type && check->type.len == 0) { /* a sketch whose variable was empty */
        check->input.missing = REASON_UNKNOWN_TYPE;
        check_decide(check);
        return;
    }
    check->type = by_type ? check->type : slice_of("");
    check_direct(check, wanted);
    check->type = direction->type;
    if (direction->nothing != REASON_COUNT) {
        check->input.missing = direction->nothing;
    } else if (has_newer(check)) {
        direction->source = REASON_NEWER;
        direction->rollout = NULL;
    } else {
        check_find_offer(check, direction->wanted);
        check->input.assigned_by = direction->source;
    }
    check_find_running(check);
    check_permit(check);
    check_decide(check);
}

void check_explain(const struct check *check, char *text, size_t size)
{
    const struct decision *decision = &check->decision;
    const char *detail = decision->detail;
    const char *name = decision->build != NULL ? build_name(decision->build) : "";
    snprintf(text, size, "%s%s%s%s%s", reason_text(decision->reason), name[0] != '\0' ? ": " : "", name,
             detail[0] != '\0' ? "; " : "", detail);
}
