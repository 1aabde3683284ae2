/* Between two slices the last word looked at may be taken back: then it begins anew, a few times. */
#include "server/reliance.h"

#include <stdio.h>
#include <string.h>

#define BEGUN_MAX 4

static bool is_at(const struct build *build, const char *path)
{
    return build != NULL && strcmp(image_of_build(build)->path, path) == 0;
}

/* Half of a pair is nothing: the device cannot update from it again. */
static bool is_of_pair(const struct reliance *reliance, const struct direction *direction)
{
    struct image *slots[2];
    enum reason missing;
    return !reliance->fs && catalog_slots(*reliance->catalog, direction->type, direction->wanted, slots, &missing) &&
           (is_at(&slots[0]->build, reliance->path) || is_at(&slots[1]->build, reliance->path));
}

static bool relies(const struct reliance *reliance, const struct policy_entry *entry)
{
    const struct fleet *fleet = reliance->fleet;
    const struct device *device = devices_find(fleet->devices, &entry->mac);
    const char *type = device != NULL ? words_text(fleet->words, device->type->name) : "";
    struct direction direction;
    struct offer offer = { NULL, NULL };
    enum reason missing;
    if (entry->pin == 0 && entry->label == 0) {
        return false;
    }
    fleet_direct(fleet, &entry->mac, slice_of(type), reliance->fs, NULL, &direction);
    struct catalog_query query = { .type = direction.type,
                                   .kind = reliance->fs ? OFFER_FS : OFFER_SKETCH,
                                   .wanted = direction.wanted,
                                   .flash_bytes = device != NULL ? device->flash_bytes : 0 };
    if (direction.wanted == NULL || (direction.source != REASON_PINNED && direction.source != REASON_ASSIGNED)) {
        return false;
    }
    catalog_offer(*reliance->catalog, &query, &offer, &missing);
    bool is_alone = offer.plain == NULL || offer.gzip == NULL;
    return (is_alone && (is_at(offer.plain, reliance->path) || is_at(offer.gzip, reliance->path))) ||
           is_of_pair(reliance, &direction);
}

static const struct policy_entry *go_on(struct reliance *reliance)
{
    const struct policy_entry *last = reliance->has_at ? policies_find(reliance->fleet->policies, &reliance->at) : NULL;
    if (reliance->has_at && last == NULL) {
        reliance->is_part = ++reliance->begun >= BEGUN_MAX;
        reliance->count = reliance->is_part ? reliance->count : 0;
        if (reliance->is_part) {
            return NULL;
        }
    }
    return policies_next(reliance->fleet->policies, last);
}

static bool on_turn(void *owner, struct turn_budget *budget)
{
    struct reliance *reliance = owner;
    const struct policy_entry *entry = go_on(reliance);
    for (; entry != NULL; entry = policies_next(reliance->fleet->policies, entry)) {
        if (relies(reliance, entry)) {
            if (reliance->count < RELIANCE_NAMED) {
                reliance->first[reliance->count] = entry->mac;
            }
            reliance->count++;
        }
        reliance->at = entry->mac;
        reliance->has_at = true;
        if (turn_is_spent(budget)) {
            return true;
        }
    }
    reliance->on_done(reliance->owner);
    return false;
}

void reliance_count(struct reliance *reliance)
{
    reliance->job = (struct turn_job){ .step = on_turn, .owner = reliance };
    turns_add(reliance->turns, &reliance->job);
    turns_run(reliance->turns);
}

void reliance_text(const struct reliance *reliance, char *text, size_t size)
{
    size_t used = 0, named = reliance->count < RELIANCE_NAMED ? reliance->count : RELIANCE_NAMED;
    char mac[MAC_TEXT_SIZE], names[RELIANCE_NAMED * (MAC_TEXT_SIZE + 2) + 8] = "";
    bool one = reliance->count == 1;
    text[0] = '\0';
    for (size_t i = 0; i < named; i++) {
        mac_print(&reliance->first[i], mac);
        used += (size_t)snprintf(names + used, sizeof names - used, "%s%s", i > 0 ? ", " : "", mac);
    }
    if (reliance->count > 0) {
        snprintf(
            text, size,
            "%s%zu device%s pinned or assigned to it (%s%s): nothing is offered to %s until it is back, or another "
            "is said (`updraft devices unpin MAC`)",
            reliance->is_part ? "at least " : "", reliance->count, one ? " is" : "s are", names,
            reliance->count > named ? ", ..." : "", one ? "it" : "them");
    }
}
