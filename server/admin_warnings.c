/* What `updraft status` says last: warnings, of what somebody must see to, and notes, of what was ordered and is easily
 * forgotten. */
#include "server/admin_parts.h"

#include "server/check.h"

#include <stdio.h>
#include <string.h>

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
    warn_of_halted(warnings, api);
    if (rejected > 0) {
        snprintf(text, sizeof text, "%zu file%s not served: `updraft firmware rejected` says why", rejected,
                 rejected == 1 ? " is" : "s are");
        add_warning(warnings, "repository", text);
    }
    return warnings;
}

/* --- notes -------------------------------------------------------------------------------------------------------- */

json_t *admin_notes_json(const struct admin_api *api)
{
    char text[500];
    struct admin_keeping keeping;
    json_t *notes = json_array();
    for (size_t i = 0; i < rollouts_count(api->fleet->rollouts); i++) {
        const struct rollout *rollout = rollouts_at(api->fleet->rollouts, i);
        const struct rollout_target *target = &rollout->order.target;
        if (admin_keeps(api, rollout, &keeping)) {
            snprintf(text, sizeof text, "%s%s is kept on %s by rollout %s; %s is newer; `publish-update %s%s` ends it",
                     target->type, target->fs ? "'s file system" : "", target->version, rollout->id,
                     build_name(keeping.newest), target->type, target->fs ? " --mode fs" : "");
            json_array_append_new(notes, admin_text(text));
        }
    }
    return notes;
}
