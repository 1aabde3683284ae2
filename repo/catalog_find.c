/* Asking a catalog: what a type offers, which image a digest names, what lies at a path. */
#include "repo/catalog.h"
#include "repo/catalog_parts.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

size_t catalog_image_count(const struct catalog *catalog)
{
    return catalog->image_count;
}

size_t catalog_type_count(const struct catalog *catalog)
{
    size_t named = 0;
    for (const struct type_entry *type = catalog->types; type != NULL; type = type->hh.next) {
        named += type->name[0] != '\0';
    }
    return named;
}

struct image *catalog_image_at(const struct catalog *catalog, size_t i)
{
    assert(i < catalog->image_count);
    return catalog->images[i];
}

size_t catalog_rejection_count(const struct catalog *catalog)
{
    return catalog->rejection_count;
}

const struct rejection *catalog_rejection_at(const struct catalog *catalog, size_t i)
{
    assert(i < catalog->rejection_count);
    return &catalog->rejections[i];
}

static const struct path_entry *find_path(const struct catalog *catalog, struct slice path)
{
    struct path_entry *entry = NULL;
    if (path.at != NULL) {
        HASH_FIND(hh, catalog->paths, path.at, path.len, entry);
    }
    return entry;
}

struct image *catalog_find_path(const struct catalog *catalog, struct slice path)
{
    const struct path_entry *entry = find_path(catalog, path);
    return entry != NULL ? entry->image : NULL;
}

const struct rejection *catalog_find_rejection(const struct catalog *catalog, struct slice path)
{
    const struct path_entry *entry = find_path(catalog, path);
    return entry != NULL ? entry->rejection : NULL;
}

static const struct type_entry *find_type(const struct catalog *catalog, struct slice name)
{
    struct type_entry *type = NULL;
    if (name.at != NULL) {
        HASH_FIND(hh, catalog->types, name.at, name.len, type);
    }
    return type;
}

bool catalog_has_type(const struct catalog *catalog, struct slice type)
{
    return type.len > 0 && find_type(catalog, type) != NULL;
}

struct image *image_of_build(const struct build *build)
{
    static_assert(offsetof(struct image, build) == 0, "a build is the beginning of its image");
    return (struct image *)(uintptr_t)build;
}

static bool is_wanted(const struct image *image, const char *wanted, const struct version *version)
{
    if (wanted == NULL) {
        return true;
    }
    const char *text = image->role == FILENAME_LABEL ? image->build.label : image->build.version.text;
    return strcmp(text, wanted) == 0 || (version->text[0] != '\0' && image->role != FILENAME_LABEL &&
                                         version_compare(&image->build.version, version) == 0);
}

/* The first wanted version of one run: its images with that version fill the forms of *offer that are free. A version
 * already in *offer is replaced by a newer one only; returns whether the run had any image for this device. */
static bool offer_from_run(const struct catalog *catalog, const struct type_entry *type, enum filename_role role,
                           const struct catalog_query *query, uint32_t flash_mib, struct offer *offer)
{
    struct version wanted = { .text = "" };
    if (query->wanted != NULL) {
        (void)version_parse(slice_of(query->wanted), &wanted);
    }
    struct offer found = { NULL, NULL };
    for (size_t i = 0; type != NULL && i < type->roles[role].count; i++) {
        const struct image *image = catalog->images[type->roles[role].first + i];
        const struct build *first = found.plain != NULL ? found.plain : found.gzip;
        if (!is_wanted(image, query->wanted, &wanted) ||
            (role == FILENAME_SHARED_FS && image->build.flash_mib != flash_mib)) {
            continue;
        }
        if (first != NULL && role != FILENAME_LABEL && version_compare(&first->version, &image->build.version) != 0) {
            break;
        }
        *(image->build.facts.gzip ? &found.gzip : &found.plain) = &image->build;
    }
    const struct build *ours = found.plain != NULL ? found.plain : found.gzip;
    const struct build *theirs = offer->plain != NULL ? offer->plain : offer->gzip;
    if (ours != NULL && (theirs == NULL || version_compare(&ours->version, &theirs->version) > 0)) {
        *offer = found;
    }
    return ours != NULL;
}

/* The flash of a type's devices as its newest sketch says it; 0 where it does not. */
static uint64_t type_flash_bytes(const struct catalog *catalog, const struct type_entry *type)
{
    if (type == NULL || type->roles[FILENAME_SKETCH].count == 0) {
        return 0;
    }
    return catalog->images[type->roles[FILENAME_SKETCH].first]->build.facts.flash_bytes;
}

static void offer_fs(const struct catalog *catalog, const struct type_entry *type, const struct catalog_query *query,
                     struct offer *offer)
{
    const struct type_entry *shared = find_type(catalog, slice_of(""));
    if (type == NULL && query->wanted == NULL) {
        return; /* nobody has heard of this type: it may be mistyped */
    }
    uint64_t flash_bytes = query->flash_bytes != 0 ? query->flash_bytes : type_flash_bytes(catalog, type);
    offer_from_run(catalog, type, FILENAME_FS, query, 0, offer);
    offer_from_run(catalog, shared, FILENAME_SHARED_FS, query, (uint32_t)(flash_bytes >> 20), offer);
    if (offer->plain != NULL || offer->gzip != NULL || shared == NULL || query->wanted != NULL || type == NULL ||
        query->flash_bytes == 0) {
        return;
    }
    /* None for this flash: offer one of another size, so that the refusal can name both figures. A device that does
     * not say its size would not be refused it, hence gets nothing. */
    size_t count = shared->roles[FILENAME_SHARED_FS].count;
    if (count > 0) {
        struct image *other = catalog->images[shared->roles[FILENAME_SHARED_FS].first];
        *(other->build.facts.gzip ? &offer->gzip : &offer->plain) = &other->build;
    }
}

static enum reason why_missing(const struct type_entry *type, enum filename_role role)
{
    if (type == NULL) {
        return REASON_UNKNOWN_TYPE;
    }
    if (type->roles[role].expected) {
        return REASON_NOT_YET;
    }
    return type->roles[role].rejected && type->roles[role].count == 0 ? REASON_REJECTED : REASON_NO_IMAGE;
}

static bool is_rejected_label(const struct catalog *catalog, const char *label)
{
    static const char *const endings[] = { ".bin", ".bin.gz" };
    for (size_t i = 0; i < sizeof endings / sizeof endings[0]; i++) {
        char path[LABEL_TEXT_MAX + 16];
        int n = snprintf(path, sizeof path, "%s%s", label, endings[i]);
        if (n < (int)sizeof path && catalog_find_rejection(catalog, slice_of(path)) != NULL) {
            return true;
        }
    }
    return false;
}

static enum reason why_no_offer(const struct catalog *catalog, const struct type_entry *type,
                                const struct catalog_query *query)
{
    const struct type_entry *nameless = find_type(catalog, slice_of("")); /* labels, and file systems for all types */
    if (query->wanted != NULL && query->kind == OFFER_SKETCH && nameless != NULL &&
        nameless->roles[FILENAME_LABEL].expected) {
        return REASON_NOT_YET; /* perhaps the wanted one: it is heard of again in a moment */
    }
    if (type == NULL && query->wanted != NULL) {
        bool rejected = query->kind == OFFER_SKETCH && is_rejected_label(catalog, query->wanted);
        return rejected ? REASON_REJECTED : REASON_NO_IMAGE;
    }
    enum reason reason = why_missing(type, query->kind == OFFER_FS ? FILENAME_FS : FILENAME_SKETCH);
    if (reason == REASON_NO_IMAGE && query->kind == OFFER_FS && nameless != NULL) {
        reason = why_missing(nameless, FILENAME_SHARED_FS);
    }
    return reason;
}

void catalog_offer(const struct catalog *catalog, const struct catalog_query *query, struct offer *offer,
                   enum reason *missing)
{
    const struct type_entry *type = query->type.len > 0 ? find_type(catalog, query->type) : NULL;
    *offer = (struct offer){ NULL, NULL };
    if (query->kind == OFFER_FS) {
        offer_fs(catalog, type, query, offer);
    } else {
        offer_from_run(catalog, type, FILENAME_SKETCH, query, 0, offer);
        if (offer->plain == NULL && offer->gzip == NULL && query->wanted != NULL) {
            const struct type_entry *top = find_type(catalog, slice_of(""));
            offer_from_run(catalog, top, FILENAME_LABEL, query, 0, offer);
        }
    }
    if (offer->plain == NULL && offer->gzip == NULL) {
        *missing = why_no_offer(catalog, type, query);
    }
}

bool catalog_slots(const struct catalog *catalog, struct slice type_name, const char *wanted, struct image *slots[2],
                   enum reason *missing)
{
    const struct type_entry *type = type_name.len > 0 ? find_type(catalog, type_name) : NULL;
    struct version version = { .text = "" };
    if (wanted != NULL) {
        (void)version_parse(slice_of(wanted), &version);
    }
    for (size_t i = 0; type != NULL && i < type->roles[FILENAME_USER1].count; i++) {
        struct image *one = catalog->images[type->roles[FILENAME_USER1].first + i];
        for (size_t k = 0; k < type->roles[FILENAME_USER2].count; k++) {
            struct image *two = catalog->images[type->roles[FILENAME_USER2].first + k];
            bool pair = !one->build.facts.gzip && !two->build.facts.gzip;
            if (pair && is_wanted(one, wanted, &version) &&
                version_compare(&one->build.version, &two->build.version) == 0) {
                slots[0] = one;
                slots[1] = two;
                return true;
            }
        }
    }
    *missing = why_missing(type, FILENAME_USER1);
    if (type != NULL && *missing == REASON_NO_IMAGE) {
        *missing = why_missing(type, FILENAME_USER2);
    }
    return false;
}

static size_t add_forms(const struct catalog *catalog, const struct type_entry *type, enum filename_role role,
                        const char *wanted, struct image *forms[], size_t max)
{
    struct version version = { .text = "" };
    size_t count = 0;
    (void)version_parse(slice_of(wanted), &version);
    for (size_t i = 0; type != NULL && i < type->roles[role].count && count < max; i++) {
        struct image *image = catalog->images[type->roles[role].first + i];
        if (is_wanted(image, wanted, &version)) {
            forms[count++] = image;
        }
    }
    return count;
}

size_t catalog_forms(const struct catalog *catalog, struct slice type_name, enum offer_kind kind, const char *version,
                     struct image *forms[], size_t max)
{
    const struct type_entry *type = type_name.len > 0 ? find_type(catalog, type_name) : NULL;
    struct image *slots[2];
    enum reason ignored;
    if (kind == OFFER_FS) { /* its own go before shared ones of the same version: see offer_fs */
        size_t own = add_forms(catalog, type, FILENAME_FS, version, forms, max);
        return own > 0 ? own
                       : add_forms(catalog, find_type(catalog, slice_of("")), FILENAME_SHARED_FS, version, forms, max);
    }
    size_t count = add_forms(catalog, type, FILENAME_SKETCH, version, forms, max);
    if (count + 2 <= max && catalog_slots(catalog, type_name, version, slots, &ignored)) {
        forms[count++] = slots[0];
        forms[count++] = slots[1];
    }
    return count;
}

static struct digest_entry *prefer_type(struct digest_entry *entry, struct slice type)
{
    for (struct digest_entry *same = entry; same != NULL; same = same->next_same) {
        if (slice_is(type, same->image->type)) {
            return same;
        }
    }
    return entry;
}

struct image *catalog_find_md5(const struct catalog *catalog, const uint8_t md5[16], struct slice type,
                               uint8_t *flash_mode)
{
    struct digest_entry *entry = NULL;
    HASH_FIND(hh, catalog->md5s, md5, 16, entry);
    entry = prefer_type(entry, type);
    if (entry == NULL) {
        return NULL;
    }
    *flash_mode = entry->flash_mode;
    return entry->image;
}

struct image *catalog_find_sha256(const struct catalog *catalog, const uint8_t sha256[32], struct slice type)
{
    struct digest_entry *entry = NULL;
    HASH_FIND(hh, catalog->sha256s, sha256, 32, entry);
    entry = prefer_type(entry, type);
    return entry != NULL ? entry->image : NULL;
}
