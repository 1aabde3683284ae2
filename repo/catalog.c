/* Images in one sorted array; a type is a run of it, so "the newest" is the first of a run. What makes it hard:
 * everything is built on one thread and counted on another, so building touches no count. */
#include "repo/catalog.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

/* One type: its runs in the sorted array, by role, and what is known to be missing. */
struct type_entry {
    char name[TYPE_TEXT_MAX + 1];
    struct {
        size_t first, count;
        bool rejected, expected;
    } roles[FILENAME_LABEL + 1];
    UT_hash_handle hh;
};

struct path_entry {
    const char *path;
    struct image *image; /* one of the two */
    const struct rejection *rejection;
    UT_hash_handle hh;
};

/* A file that is not whole yet, as it looked when it was first seen so. */
struct expectation {
    char *path;
    struct file_identity identity;
    uint64_t seen_ms;
    UT_hash_handle hh;
};

/* One digest that a device may report. Several images may have it: the same bytes under two names. */
struct digest_entry {
    uint8_t digest[32];
    struct image *image;
    uint8_t flash_mode;
    struct digest_entry *next_same;
    UT_hash_handle hh;
};

struct catalog {
    unsigned refs;
    bool sealed;
    struct image **images;
    size_t image_count, image_room;
    struct rejection *rejections;
    size_t rejection_count, rejection_room;
    struct expectation *expectations;
    struct type_entry *types;
    struct path_entry *paths;
    struct digest_entry *md5s;
    struct digest_entry *sha256s;
};

/* Out of memory while a catalog is built is not survivable in a useful way: stop, the supervisor starts us again. */
static void *need(void *memory)
{
    assert(memory != NULL);
    return memory;
}

static void *grow(void *array, size_t count, size_t *room, size_t item_bytes)
{
    if (count < *room) {
        return array;
    }
    *room = *room == 0 ? 64 : *room * 2;
    return need(realloc(array, *room * item_bytes));
}

struct catalog *catalog_new(void)
{
    return need(calloc(1, sizeof(struct catalog)));
}

/* --- building ---------------------------------------------------------------------------------------------------- */

static struct type_entry *type_of(struct catalog *catalog, const char *name)
{
    struct type_entry *type = NULL;
    HASH_FIND_STR(catalog->types, name, type);
    if (type == NULL) {
        type = need(calloc(1, sizeof *type));
        memcpy(type->name, name, strlen(name) + 1);
        HASH_ADD_STR(catalog->types, name, type);
    }
    return type;
}

void catalog_share(struct catalog *catalog, struct image *image)
{
    assert(!catalog->sealed);
    catalog->images = grow(catalog->images, catalog->image_count, &catalog->image_room, sizeof(struct image *));
    catalog->images[catalog->image_count++] = image;
}

struct image *catalog_add(struct catalog *catalog, const char *path, const struct filename *name,
                          const struct image_facts *facts, const struct file_identity *identity)
{
    struct image *image = need(calloc(1, sizeof *image));
    image->path = need(strdup(path));
    image->role = name->role;
    image->identity = *identity;
    memcpy(image->type, name->type, sizeof image->type);
    memcpy(image->project, name->project, sizeof image->project);
    image->build.version = name->version;
    memcpy(image->build.label, name->label, sizeof image->build.label);
    image->build.flash_mib = name->flash_mib;
    image->build.facts = *facts;
    image->fresh = true;
    catalog_share(catalog, image);
    return image;
}

void catalog_reject(struct catalog *catalog, const char *path, const struct filename *name,
                    const struct file_identity *identity, const struct image_verdict *verdict)
{
    assert(!catalog->sealed);
    catalog->rejections =
        grow(catalog->rejections, catalog->rejection_count, &catalog->rejection_room, sizeof(struct rejection));
    struct rejection *rejection = &catalog->rejections[catalog->rejection_count++];
    *rejection = (struct rejection){ .verdict = *verdict, .role = FILENAME_LABEL };
    rejection->path = need(strdup(path));
    if (identity != NULL) {
        rejection->identity = *identity;
    }
    if (name != NULL) {
        rejection->role = name->role;
        memcpy(rejection->type, name->type, sizeof rejection->type);
    }
}

void catalog_expect(struct catalog *catalog, const char *path, const struct filename *name,
                    const struct file_identity *identity, uint64_t seen_ms)
{
    assert(!catalog->sealed);
    struct expectation *expectation = need(calloc(1, sizeof *expectation));
    expectation->path = need(strdup(path));
    expectation->identity = *identity;
    expectation->seen_ms = seen_ms;
    HASH_ADD_KEYPTR(hh, catalog->expectations, expectation->path, strlen(expectation->path), expectation);
    type_of(catalog, name->type)->roles[name->role].expected = true;
}

bool catalog_awaited_since(const struct catalog *catalog, const char *path, const struct file_identity *identity,
                           uint64_t *seen_ms)
{
    struct expectation *expectation = NULL;
    HASH_FIND_STR(catalog->expectations, path, expectation);
    if (expectation == NULL || !file_identity_equal(&expectation->identity, identity)) {
        return false;
    }
    *seen_ms = expectation->seen_ms;
    return true;
}

/* --- sealing ----------------------------------------------------------------------------------------------------- */

/* By type, role, newest version first, uncompressed before compressed, then path: two files that claim the same come
 * out side by side, always in the same order. */
static int image_order(const struct image *a, const struct image *b)
{
    int order = strcmp(a->type, b->type);
    if (order == 0) {
        order = (int)a->role - (int)b->role;
    }
    if (order == 0) {
        order = strcmp(a->build.label, b->build.label);
    }
    if (order == 0 && a->build.flash_mib != b->build.flash_mib) {
        order = a->build.flash_mib < b->build.flash_mib ? -1 : 1;
    }
    if (order == 0 && a->role != FILENAME_LABEL) {
        order = version_compare(&b->build.version, &a->build.version);
    }
    if (order == 0) {
        order = (int)a->build.facts.gzip - (int)b->build.facts.gzip;
    }
    return order;
}

static int compare_images(const void *a, const void *b)
{
    const struct image *one = *(struct image *const *)a;
    const struct image *two = *(struct image *const *)b;
    int order = image_order(one, two);
    return order != 0 ? order : strcmp(one->path, two->path);
}

static int compare_rejections(const void *a, const void *b)
{
    return strcmp(((const struct rejection *)a)->path, ((const struct rejection *)b)->path);
}

static void image_free(struct image *image)
{
    assert(image->blob == NULL);
    free(image->path);
    free(image);
}

static void reject_duplicate(struct catalog *catalog, struct image *image, const struct image *first)
{
    struct image_verdict verdict = { .fault = IMAGE_FAULT_DUPLICATE };
    struct filename name = { .role = image->role };
    memcpy(name.type, image->type, sizeof name.type);
    /* The paths are clean UTF-8 (repo/filename refuses others); a long one is cut. */
    strcpy(verdict.detail, "claims the same type and version as ");
    strncat(verdict.detail, first->path, sizeof verdict.detail - strlen(verdict.detail) - 1);
    strcpy(verdict.remedy, "delete one of the two, or give this one another version");
    catalog_reject(catalog, image->path, &name, &image->identity, &verdict);
}

static void drop_duplicates(struct catalog *catalog)
{
    size_t kept = 0;
    for (size_t i = 0; i < catalog->image_count; i++) {
        struct image *image = catalog->images[i];
        if (kept > 0 && image_order(catalog->images[kept - 1], image) == 0) {
            reject_duplicate(catalog, image, catalog->images[kept - 1]);
            if (image->fresh) {
                image_free(image); /* a shared one belongs to the catalog before */
            }
        } else {
            catalog->images[kept++] = image;
        }
    }
    catalog->image_count = kept;
}

static void index_path(struct catalog *catalog, const char *path, struct image *image,
                       const struct rejection *rejection)
{
    struct path_entry *entry = need(calloc(1, sizeof *entry));
    entry->path = path;
    entry->image = image;
    entry->rejection = rejection;
    HASH_ADD_KEYPTR(hh, catalog->paths, entry->path, strlen(entry->path), entry);
}

static void index_digest(struct digest_entry **table, struct image *image, const uint8_t *digest, size_t n,
                         uint8_t flash_mode)
{
    struct digest_entry *found = NULL;
    struct digest_entry *entry = need(calloc(1, sizeof *entry));
    memcpy(entry->digest, digest, n);
    entry->image = image;
    entry->flash_mode = flash_mode;
    HASH_FIND(hh, *table, entry->digest, n, found);
    if (found != NULL) {
        entry->next_same = found->next_same;
        found->next_same = entry;
    } else {
        HASH_ADD(hh, *table, digest, n, entry);
    }
}

static void index_digests(struct catalog *catalog, struct image *image)
{
    const struct image_facts *facts = &image->build.facts;
    if (image->role != FILENAME_SKETCH && image->role != FILENAME_LABEL) {
        return; /* devices report the digest of a sketch alone */
    }
    for (uint8_t mode = 0; mode < IMAGE_FLASH_MODES; mode++) {
        bool variant = facts->kind == IMAGE_ESP8266 || mode == 0;
        if (variant) {
            uint8_t known = facts->kind == IMAGE_ESP8266 ? mode : FLASH_MODE_UNKNOWN;
            index_digest(&catalog->md5s, image, facts->run_md5[mode], 16, known);
        }
    }
    if (facts->has_run_sha256) {
        index_digest(&catalog->sha256s, image, facts->run_sha256, 32, FLASH_MODE_UNKNOWN);
    }
}

void catalog_seal(struct catalog *catalog)
{
    assert(!catalog->sealed);
    if (catalog->image_count > 0) { /* qsort of no array at all is undefined, even of no items */
        qsort(catalog->images, catalog->image_count, sizeof(struct image *), compare_images);
    }
    drop_duplicates(catalog);
    if (catalog->rejection_count > 0) {
        qsort(catalog->rejections, catalog->rejection_count, sizeof(struct rejection), compare_rejections);
    }
    for (size_t i = 0; i < catalog->image_count; i++) {
        struct image *image = catalog->images[i];
        struct type_entry *type = type_of(catalog, image->type);
        if (type->roles[image->role].count++ == 0) {
            type->roles[image->role].first = i;
        }
        index_path(catalog, image->path, image, NULL);
        index_digests(catalog, image);
    }
    for (size_t i = 0; i < catalog->rejection_count; i++) {
        struct rejection *rejection = &catalog->rejections[i];
        type_of(catalog, rejection->type)->roles[rejection->role].rejected = true;
        index_path(catalog, rejection->path, NULL, rejection);
    }
    catalog->sealed = true;
}

/* --- counting ---------------------------------------------------------------------------------------------------- */

void image_ref(struct image *image)
{
    image->refs++;
}

void image_unref(struct image *image)
{
    assert(image->refs > 0);
    if (--image->refs == 0) {
        image_free(image);
    }
}

void catalog_adopt(struct catalog *catalog)
{
    assert(catalog->sealed && catalog->refs == 0);
    catalog->refs = 1;
    for (size_t i = 0; i < catalog->image_count; i++) {
        catalog->images[i]->fresh = false;
        image_ref(catalog->images[i]);
    }
}

void catalog_ref(struct catalog *catalog)
{
    assert(catalog->refs > 0);
    catalog->refs++;
}

static void free_digests(struct digest_entry **table)
{
    struct digest_entry *entry, *next_entry;
    HASH_ITER(hh, *table, entry, next_entry)
    {
        HASH_DEL(*table, entry);
        for (struct digest_entry *same = entry; same != NULL;) {
            struct digest_entry *next = same->next_same;
            free(same);
            same = next;
        }
    }
}

/* All but the images. */
static void catalog_free(struct catalog *catalog)
{
    struct path_entry *path, *next_path;
    HASH_ITER(hh, catalog->paths, path, next_path)
    {
        HASH_DEL(catalog->paths, path);
        free(path);
    }
    struct type_entry *type, *next_type;
    HASH_ITER(hh, catalog->types, type, next_type)
    {
        HASH_DEL(catalog->types, type);
        free(type);
    }
    struct expectation *expectation, *next_expectation;
    HASH_ITER(hh, catalog->expectations, expectation, next_expectation)
    {
        HASH_DEL(catalog->expectations, expectation);
        free(expectation->path);
        free(expectation);
    }
    free_digests(&catalog->md5s);
    free_digests(&catalog->sha256s);
    for (size_t i = 0; i < catalog->rejection_count; i++) {
        free(catalog->rejections[i].path);
    }
    free(catalog->images);
    free(catalog->rejections);
    free(catalog);
}

void catalog_discard(struct catalog *catalog)
{
    assert(catalog->refs == 0);
    for (size_t i = 0; i < catalog->image_count; i++) {
        if (catalog->images[i]->fresh) {
            image_free(catalog->images[i]);
        }
    }
    catalog_free(catalog);
}

void catalog_unref(struct catalog *catalog)
{
    assert(catalog->refs > 0);
    if (--catalog->refs == 0) {
        for (size_t i = 0; i < catalog->image_count; i++) {
            image_unref(catalog->images[i]);
        }
        catalog_free(catalog);
    }
}

/* --- asking ------------------------------------------------------------------------------------------------------ */

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

static enum reason why_no_offer(const struct catalog *catalog, const struct type_entry *type,
                                const struct catalog_query *query)
{
    if (type == NULL && query->wanted != NULL) {
        return REASON_NO_IMAGE;
    }
    enum reason reason = why_missing(type, query->kind == OFFER_FS ? FILENAME_FS : FILENAME_SKETCH);
    const struct type_entry *shared = find_type(catalog, slice_of(""));
    if (reason == REASON_NO_IMAGE && query->kind == OFFER_FS && shared != NULL) {
        reason = why_missing(shared, FILENAME_SHARED_FS);
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

bool catalog_slots(const struct catalog *catalog, struct slice type_name, struct image *slots[2], enum reason *missing)
{
    const struct type_entry *type = type_name.len > 0 ? find_type(catalog, type_name) : NULL;
    for (size_t i = 0; type != NULL && i < type->roles[FILENAME_USER1].count; i++) {
        struct image *one = catalog->images[type->roles[FILENAME_USER1].first + i];
        for (size_t k = 0; k < type->roles[FILENAME_USER2].count; k++) {
            struct image *two = catalog->images[type->roles[FILENAME_USER2].first + k];
            bool pair = !one->build.facts.gzip && !two->build.facts.gzip;
            if (pair && version_compare(&one->build.version, &two->build.version) == 0) {
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
