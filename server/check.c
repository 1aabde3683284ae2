/* From what a device said to a decision, in the order of the house: catalog, assignment, guard, decision. */
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

void check_find_offer(struct check *check, const char *wanted)
{
    struct catalog_query query = {
        .type = check->type,
        .kind = is_fs(&check->device) ? OFFER_FS : OFFER_SKETCH,
        .wanted = wanted,
        .flash_bytes = check->device.flash_bytes,
    };
    catalog_offer(check->sources->catalog, &query, &check->input.offer, &check->input.missing);
    check->input.assigned = wanted;
}

/* A file system check without a version can never be told "up to date": one whole transfer has to do. */
unsigned check_served_max(const struct check *check)
{
    bool blind = is_fs(&check->device) && check->device.version.text[0] == '\0';
    return blind ? 1 : check->sources->loop_guard_max;
}

struct loop_guard_key check_guard_key(const struct check *check)
{
    return (struct loop_guard_key){ .mac = check->device.mac, .fs = is_fs(&check->device) };
}

static void ask_guard(struct check *check)
{
    const struct build *forms[] = { check->input.offer.plain, check->input.offer.gzip };
    struct loop_guard_key key = check_guard_key(check);
    uint64_t wait_ms;
    for (size_t i = 0; check->device.has_mac && i < sizeof forms / sizeof forms[0]; i++) {
        check->input.guarded =
            check->input.guarded ||
            (forms[i] != NULL && loop_guard_holds(check->sources->guard, &key, forms[i]->facts.run_md5[0],
                                                  check_served_max(check), uv_now(check->sources->loop), &wait_ms));
    }
}

void check_decide(struct check *check)
{
    check->input.request = &check->device;
    check->input.fs_gzip = check->sources->fs_gzip;
    decision_make(&check->input, &check->decision);
    if (check->decision.reason == REASON_LOOP_GUARD) {
        snprintf(check->decision.detail, sizeof check->decision.detail,
                 "sent whole %u times and asked for again; the device must be failing to start it",
                 check_served_max(check));
    }
}

/* The assignment that speaks for this check: on /update any, on /update/<type> one that does not name another type. */
static void find_assignment(struct check *check, bool by_type)
{
    const struct assignment *found = assignments_find(check->sources->assignments, &check->device.mac);
    if (found != NULL && by_type && found->type[0] != '\0' && !slice_is(check->type, found->type)) {
        found = NULL;
    }
    check->assignment = found;
    if (found != NULL && found->type[0] != '\0') {
        check->type = slice_of(found->type);
    }
}

void check_update(struct check *check, bool by_type, const char *wanted)
{
    find_assignment(check, by_type);
    if (!by_type && check->assignment == NULL) {
        check->input.missing = REASON_UNASSIGNED;
    } else {
        const char *label = check->assignment != NULL ? check->assignment->label : "";
        check_find_offer(check, label[0] != '\0' ? label : wanted);
    }
    check_find_running(check);
    ask_guard(check);
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
