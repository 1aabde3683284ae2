/* What `updraft status` says last: warnings, of what somebody must see to, and notes, of what was ordered and is easily
 * forgotten. */
#include "server/admin_parts.h"

#include "server/check.h"
#include "server/password_checks.h"

#include <stdio.h>
#include <string.h>

#define FAILED_DEVICES 3 /* so many within a day are not the devices' fault */

/* --- warnings ----------------------------------------------------------------------------------------------------- */

static void add_warning(json_t *warnings, const char *name, const char *text)
{
    char line[600];
    if (text[0] != '\0') {
        snprintf(line, sizeof line, "%s: %s", name, text);
        json_array_append_new(warnings, admin_text(line));
    }
}

/* What waits for an operator's word. */
static void warn_of_halted(json_t *warnings, const struct admin_api *api)
{
    char text[500];
    for (size_t i = 0; i < rollouts_count(api->fleet->rollouts); i++) {
        const struct rollout *rollout = rollouts_at(api->fleet->rollouts, i);
        if (rollout->state == ROLLOUT_HALTED) {
            snprintf(text, sizeof text,
                     "%s of %s %s is halted: %s; see to the cause, then `updraft rollouts resume %s`, or `abort`, or "
                     "`publish-update %s --version OLD`",
                     rollout->id, rollout->order.target.type, rollout->order.target.version, rollout->why, rollout->id,
                     rollout->order.target.type);
            add_warning(warnings, "rollout", text);
        }
    }
}

/* The image that its type is offered now; NULL where that is another, or nothing. */
static const struct image *still_offered(const struct admin_api *api, const struct failing_image *failing)
{
    struct check check;
    check_init(&check, &api->device_api->sources); /* as a device asks that nobody has said anything of */
    check.device.mode = failing->fs ? DEVICE_MODE_FS : DEVICE_MODE_SKETCH;
    check.type = slice_of(failing->type);
    check_update(&check, true, NULL);
    const struct build *build = check.input.offer.plain != NULL ? check.input.offer.plain : check.input.offer.gzip;
    bool is_it = build != NULL && memcmp(build->facts.run_md5[0], failing->md5, sizeof failing->md5) == 0;
    return is_it && !check.input.withheld ? image_of_build(build) : NULL;
}

/* Outside rollouts, which have their own limit. */
static void warn_of_failing(json_t *warnings, const struct admin_api *api)
{
    char text[500];
    const struct image_failures *failures = api->fleet->failures;
    for (size_t i = 0; i < failures->count; i++) {
        const struct failing_image *failing = &failures->images[i];
        size_t devices = failing_image_devices(failing, clock_moment(api->loop).unix_s);
        const struct image *image = devices >= FAILED_DEVICES ? still_offered(api, failing) : NULL;
        if (image != NULL) {
            snprintf(text, sizeof text,
                     "%.150s was sent to %zu devices%s within a day that came back with what they ran before: "
                     "`updraft devices --type %s --outcome old-build` (and `rolled-back`) lists them; `publish-update "
                     "%s%s --version OLD` goes back",
                     image->path, devices, devices == IMAGE_FAILURES_DEVICES ? " or more" : "", failing->type,
                     failing->type, failing->fs ? " --mode fs" : "");
            add_warning(warnings, "image", text);
        }
    }
}

/* A type that is mistyped in the file of passwords leaves open what it was meant to close. */
static void warn_of_unknown_types(json_t *warnings, const struct admin_api *api)
{
    const struct device_users *users = password_checks_users(api->device_api->passwords);
    const char *type, *before = "", *first = NULL;
    size_t count = 0;
    bool closes_all = users == NULL || device_users_cover(users, slice_of(""));
    for (size_t i = 0; !closes_all && (type = device_users_type(users, i)) != NULL; before = type, i++) {
        if (strcmp(type, before) != 0 && !catalog_has_type(api->catalog, slice_of(type))) {
            first = first != NULL ? first : type;
            count++;
        }
    }
    if (count > 0) {
        char text[300];
        snprintf(
            text, sizeof text,
            "no file is for the type \"%s\"%s that users are for: if that is mistyped, the one that is meant needs "
            "no password",
            first, count > 1 ? ", and others," : "");
        add_warning(warnings, "device-passwords", text);
    }
}

json_t *admin_warnings_json(const struct admin_api *api, const struct public_url *url)
{
    json_t *warnings = json_array();
    size_t rejected = catalog_rejection_count(api->catalog);
    char text[120] = "";
    add_warning(warnings, "public-url", url->warning);
    if (api->session != NULL && session_view(api->session)->state != SESSION_CONNECTED) {
        add_warning(warnings, "mqtt", session_view(api->session)->error);
    }
    if (api->store != NULL && store_queue_view(api->store)->health != STORE_GOOD) {
        add_warning(warnings, "store", store_queue_view(api->store)->why);
    }
    if (api->audit != NULL && audit_trouble(api->audit) != NULL) {
        char trouble[200];
        snprintf(trouble, sizeof trouble,
                 "audit.log in the state folder cannot be written: %s; acts go on, and are in the log",
                 audit_trouble(api->audit));
        add_warning(warnings, "audit", trouble);
    }
    warn_of_unknown_types(warnings, api);
    warn_of_halted(warnings, api);
    warn_of_failing(warnings, api);
    if (rejected > 0) {
        snprintf(text, sizeof text, "%zu file%s not served: `updraft firmware rejected` says why", rejected,
                 rejected == 1 ? " is" : "s are");
        add_warning(warnings, "repository", text);
    }
    return warnings;
}

/* --- notes -------------------------------------------------------------------------------------------------------- */

#define NOTES_MAX 64
#define ASKS_MAX  2000 /* devices that are asked about, for one answer */

/* "up to 10 % of the group kitchen of door is": some of them may be pinned, or have gone to a newer one */
static void name_part(const struct admin_keeping *keeping, char *text, size_t size)
{
    const struct rollout_order *order = &keeping->rollout->order;
    if (order->named) {
        snprintf(text, size, "%s%zu device%s of %s", keeping->counted ? "" : "up to ", keeping->devices,
                 keeping->devices == 1 ? "" : "s", order->target.type);
        return;
    }
    bool grouped = order->group[0] != '\0';
    snprintf(text, size, "up to %u %% of %s%s%s%s", order->percent, grouped ? "the group " : "", order->group,
             grouped ? " of " : "", order->target.type);
}

json_t *admin_notes_json(const struct admin_api *api)
{
    char text[700], who[240];
    size_t asks = ASKS_MAX;
    struct admin_keeping keeping;
    json_t *notes = json_array();
    const struct rollout *rollout = NULL;
    while ((rollout = rollouts_next(api->fleet->rollouts, rollout)) != NULL && json_array_size(notes) < NOTES_MAX) {
        const struct rollout_target *target = &rollout->order.target;
        bool some = admin_keeps_some(api, rollout, &asks, &keeping);
        if (some) {
            name_part(&keeping, who, sizeof who);
        } else {
            snprintf(who, sizeof who, "%s", target->type);
        }
        if (some || admin_keeps(api, rollout, &keeping)) {
            snprintf(text, sizeof text, "%s%s %s kept on %s by rollout %s; %s is newer; `publish-update %s%s` ends it",
                     who, target->fs ? "'s file system" : "", some && keeping.devices > 1 ? "are" : "is",
                     target->version, rollout->id, build_name(keeping.newest), target->type,
                     target->fs ? " --mode fs" : "");
            json_array_append_new(notes, admin_text(text));
        }
    }
    return notes;
}
