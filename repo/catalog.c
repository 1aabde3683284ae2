/* Building a catalog, and counting who holds it. Images lie in one sorted array; a type is a run of it, so "the newest"
 * is the first of a run. What makes it hard: everything is built on one thread and counted on another, so building
 * touches no count. */
#include "repo/catalog.h"
#include "repo/catalog_parts.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

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

void catalog_expect_still(struct catalog *catalog, const struct catalog *before)
{
    for (const struct expectation *one = before->expectations; one != NULL; one = one->hh.next) {
        struct filename name;
        struct filename_refusal refusal;
        enum filename_result result = filename_parse(slice_of(one->path), &name, &refusal);
        assert(result == FILENAME_OK); /* it was awaited by that name */
        (void)result;
        catalog_expect(catalog, one->path, &name, &one->identity, one->seen_ms);
    }
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

struct catalog *catalog_ref(struct catalog *catalog)
{
    if (catalog != NULL) {
        assert(catalog->refs > 0);
        catalog->refs++;
    }
    return catalog;
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
    if (catalog == NULL) {
        return;
    }
    assert(catalog->refs > 0);
    if (--catalog->refs == 0) {
        for (size_t i = 0; i < catalog->image_count; i++) {
            image_unref(catalog->images[i]);
        }
        catalog_free(catalog);
    }
}
