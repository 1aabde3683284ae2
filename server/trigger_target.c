/* A type's native slots are a form of its build, as the compressed file is: published with it, and held back with it.
 */
#include "server/trigger_target.h"

#include <stdio.h>
#include <string.h>

/* Of a version by name, file systems of whatever flash size: each device's own decides, not what a sketch says. */
static bool find_other_size(const struct catalog *catalog, const struct trigger_order *order, const char *version,
                            struct offer *offer)
{
    struct image *forms[ROLLOUT_FORMS_MAX];
    size_t count = catalog_forms(catalog, order->type, OFFER_FS, version, forms, ROLLOUT_FORMS_MAX);
    for (size_t i = 0; i < count; i++) {
        if (forms[i]->build.flash_mib == forms[0]->build.flash_mib) {
            *(forms[i]->build.facts.gzip ? &offer->gzip : &offer->plain) = &forms[i]->build;
        }
    }
    return count > 0;
}

bool trigger_find_offer(const struct catalog *catalog, const struct trigger_order *order, const char *version,
                        struct offer *offer, enum reason *missing)
{
    struct image *slots[2];
    enum reason no_slots = REASON_COUNT;
    struct catalog_query query = {
        .type = order->type,
        .kind = order->fs ? OFFER_FS : OFFER_SKETCH,
        .wanted = version,
    };
    catalog_offer(catalog, &query, offer, missing);
    if (offer->plain != NULL || offer->gzip != NULL) {
        return true;
    }
    if (order->fs) {
        return version != NULL && find_other_size(catalog, order, version, offer);
    }
    if (catalog_slots(catalog, order->type, version, slots, &no_slots)) {
        offer->plain = &slots[0]->build;
        return true;
    }
    bool says_more = no_slots == REASON_REJECTED || no_slots == REASON_NOT_YET;
    *missing = *missing == REASON_NO_IMAGE && says_more ? no_slots : *missing;
    return false;
}

size_t trigger_find_forms(const struct catalog *catalog, const struct rollout_target *target,
                          struct image *forms[ROLLOUT_FORMS_MAX])
{
    enum offer_kind kind = target->fs ? OFFER_FS : OFFER_SKETCH;
    return catalog_forms(catalog, slice_of(target->type), kind, target->version, forms, ROLLOUT_FORMS_MAX);
}

static void add_digest(uint8_t (*digests)[16], size_t *count, size_t max, const uint8_t digest[16])
{
    for (size_t i = 0; i < *count; i++) {
        if (memcmp(digests[i], digest, sizeof digests[i]) == 0) {
            return;
        }
    }
    if (*count < max) {
        memcpy(digests[(*count)++], digest, sizeof digests[0]);
    }
}

static void add_file(struct rollout_target *target, const struct build *build)
{
    add_digest(target->md5, &target->image_count, ROLLOUT_FORMS_MAX, build->facts.md5);
}

static void add_form(struct rollout_target *target, const struct build *build)
{
    add_file(target, build);
    for (size_t mode = 0; mode < IMAGE_FLASH_MODES; mode++) {
        add_digest(target->run_md5, &target->run_md5_count, ROLLOUT_RUN_MD5_MAX, build->facts.run_md5[mode]);
    }
}

static void add_forms(const struct catalog *catalog, const struct offer *offer, struct rollout_target *target)
{
    struct image *forms[ROLLOUT_FORMS_MAX];
    size_t count = trigger_find_forms(catalog, target, forms);
    const struct build *first[] = { offer->plain, offer->gzip }; /* name the build */
    for (size_t i = 0; i < sizeof first / sizeof first[0]; i++) {
        if (first[i] != NULL) {
            add_form(target, first[i]);
        }
    }
    for (size_t i = 0; i < count; i++) {
        bool is_second = forms[i]->role == FILENAME_USER2; /* the first slot's digest names both: see check_run_md5 */
        is_second ? add_file(target, &forms[i]->build) : add_form(target, &forms[i]->build);
    }
}

static bool has_sizes(const struct catalog *catalog, const struct rollout_target *target)
{
    struct image *forms[ROLLOUT_FORMS_MAX];
    size_t count = trigger_find_forms(catalog, target, forms);
    for (size_t i = 1; i < count; i++) {
        if (forms[i]->build.flash_mib != forms[0]->build.flash_mib) {
            return true;
        }
    }
    return false;
}

static void pass_over(struct rollout_target *target, const struct version *version)
{
    struct version least;
    const char *so_far = target->passed_over[0] != '\0' ? target->passed_over : target->version;
    if (version_parse(slice_of(so_far), &least) == STATUS_OK && version_compare(version, &least) > 0) {
        snprintf(target->passed_over, sizeof target->passed_over, "%s", version->text);
    }
}

/* Where the target is older than the newest: what it passes over, so that nobody is sent that again by itself. Slots
 * may be newer than the newest sketch. */
static void note_passed_over(const struct catalog *catalog, const struct trigger_order *order,
                             struct rollout_target *target)
{
    struct offer newest = { NULL, NULL };
    struct image *slots[2];
    enum reason missing;
    (void)trigger_find_offer(catalog, order, NULL, &newest, &missing);
    const struct build *build = newest.plain != NULL ? newest.plain : newest.gzip;
    if (build != NULL) {
        pass_over(target, &build->version);
    }
    if (!order->fs && catalog_slots(catalog, order->type, NULL, slots, &missing)) {
        pass_over(target, &slots[0]->build.version);
    }
}

void trigger_make_target(const struct catalog *catalog, const struct trigger_order *order, const struct offer *offer,
                         struct trigger_plan *plan)
{
    const struct build *build = offer->plain != NULL ? offer->plain : offer->gzip;
    plan->offer = *offer;
    plan->image = image_of_build(build);
    plan->is_slots = plan->image->role == FILENAME_USER1;
    plan->target = (struct rollout_target){ .fs = order->fs, .bytes = build->facts.file_bytes };
    snprintf(plan->target.file, sizeof plan->target.file, "%s", plan->image->path);
    (void)slice_copy(order->type, plan->target.type, sizeof plan->target.type);
    snprintf(plan->target.version, sizeof plan->target.version, "%s", build->version.text);
    plan->is_several = plan->is_slots || has_sizes(catalog, &plan->target);
    add_forms(catalog, offer, &plan->target);
    note_passed_over(catalog, order, &plan->target);
}
