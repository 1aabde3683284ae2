/* A table that is also a queue: uthash keeps its entries in the order of insertion, so re-inserting on each failure
 * makes the first entry the one that failed longest ago. */
#include "fleet/never_again.h"

#include "fleet/mac_hash.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

struct entry {
    struct never_again_entry entry;
    UT_hash_handle hh;
};

struct never_again {
    struct mac_hash_seed seed;
    struct entry *entries;
    size_t devices_max;
};

struct never_again *never_again_new(size_t devices_max)
{
    struct never_again *never_again = calloc(1, sizeof *never_again);
    assert(never_again != NULL && devices_max > 0);
    never_again->seed = mac_hash_seed_draw();
    never_again->devices_max = devices_max;
    return never_again;
}

static void remove_entry(struct never_again *never_again, struct entry *entry)
{
    HASH_DEL(never_again->entries, entry);
    free(entry);
}

void never_again_free(struct never_again *never_again)
{
    while (never_again != NULL && never_again->entries != NULL) {
        remove_entry(never_again, never_again->entries);
    }
    free(never_again);
}

static struct entry *find(const struct never_again *never_again, const struct mac *mac)
{
    struct entry *entry = NULL;
    HASH_FIND_BYHASHVALUE(hh, never_again->entries, mac, sizeof *mac, mac_hash(&never_again->seed, mac), entry);
    return entry;
}

static void insert(struct never_again *never_again, struct entry *entry)
{
    HASH_ADD_BYHASHVALUE(hh, never_again->entries, entry.mac, sizeof entry->entry.mac,
                         mac_hash(&never_again->seed, &entry->entry.mac), entry);
}

/* The device's entry, the youngest in the queue from now on. */
static struct entry *take(struct never_again *never_again, const struct mac *mac)
{
    struct entry *entry = find(never_again, mac);
    if (entry != NULL) {
        HASH_DEL(never_again->entries, entry);
    } else {
        if (HASH_COUNT(never_again->entries) >= never_again->devices_max) {
            remove_entry(never_again, never_again->entries);
        }
        entry = calloc(1, sizeof *entry);
        assert(entry != NULL);
        entry->entry.mac = *mac;
    }
    insert(never_again, entry);
    return entry;
}

static struct never_again_image *find_image(struct never_again_entry *entry, const uint8_t md5[16])
{
    for (size_t i = 0; i < entry->count; i++) {
        if (memcmp(entry->images[i].md5, md5, 16) == 0) {
            return &entry->images[i];
        }
    }
    return NULL;
}

/* Makes room by forgetting the oldest, which stands first. */
static struct never_again_image *add_image(struct never_again_entry *entry, const uint8_t md5[16])
{
    if (entry->count == NEVER_AGAIN_OF_DEVICE) {
        memmove(&entry->images[0], &entry->images[1], (NEVER_AGAIN_OF_DEVICE - 1) * sizeof entry->images[0]);
        entry->count--;
    }
    struct never_again_image *image = &entry->images[entry->count++];
    *image = (struct never_again_image){ .failures = 0 };
    memcpy(image->md5, md5, 16);
    return image;
}

void never_again_failed(struct never_again *never_again, const struct mac *mac, const uint8_t md5[16], bool rolled_back,
                        uint32_t unix_s)
{
    struct never_again_entry *entry = &take(never_again, mac)->entry;
    struct never_again_image *image = find_image(entry, md5);
    if (image == NULL) {
        image = add_image(entry, md5);
    }
    image->failures += image->failures < UINT8_MAX;
    image->rolled_back = image->rolled_back || rolled_back;
    image->unix_s = unix_s;
}

const struct never_again_image *never_again_holds(const struct never_again *never_again, const struct mac *mac,
                                                  const uint8_t md5[16])
{
    struct entry *entry = find(never_again, mac);
    const struct never_again_image *image = entry != NULL ? find_image(&entry->entry, md5) : NULL;
    return image != NULL && (image->rolled_back || image->failures >= NEVER_AGAIN_FAILURES) ? image : NULL;
}

void never_again_confirmed(struct never_again *never_again, const struct mac *mac, const uint8_t md5[16])
{
    struct entry *entry = find(never_again, mac);
    struct never_again_image *image = entry != NULL ? find_image(&entry->entry, md5) : NULL;
    if (image == NULL) {
        return;
    }
    size_t behind = (size_t)(&entry->entry.images[entry->entry.count] - image) - 1;
    memmove(image, image + 1, behind * sizeof *image);
    if (--entry->entry.count == 0) {
        remove_entry(never_again, entry);
    }
}

size_t never_again_forget(struct never_again *never_again, const struct mac *mac)
{
    struct entry *entry = find(never_again, mac);
    size_t count = entry != NULL ? entry->entry.count : 0;
    if (entry != NULL) {
        remove_entry(never_again, entry);
    }
    return count;
}

const struct never_again_entry *never_again_find(const struct never_again *never_again, const struct mac *mac)
{
    const struct entry *entry = find(never_again, mac);
    return entry != NULL ? &entry->entry : NULL;
}

void never_again_restore(struct never_again *never_again, const struct never_again_entry *entry)
{
    if (entry->count > 0 && entry->count <= NEVER_AGAIN_OF_DEVICE) {
        take(never_again, &entry->mac)->entry = *entry;
    }
}

size_t never_again_count(const struct never_again *never_again)
{
    return HASH_COUNT(never_again->entries);
}
