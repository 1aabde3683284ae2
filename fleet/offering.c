/* A table by type; few rows. */
#include "fleet/offering.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

struct offering_entry {
    char type[OFFERING_TYPE_MAX + 1];
    enum offering offering;
    UT_hash_handle hh;
};

struct offerings {
    enum offering fallback;
    struct offering_entry *entries;
};

struct offerings *offerings_new(enum offering fallback)
{
    struct offerings *offerings = calloc(1, sizeof *offerings);
    assert(offerings != NULL);
    offerings->fallback = fallback;
    return offerings;
}

void offerings_free(struct offerings *offerings)
{
    while (offerings != NULL && offerings->entries != NULL) {
        struct offering_entry *entry = offerings->entries;
        HASH_DEL(offerings->entries, entry);
        free(entry);
    }
    free(offerings);
}

static struct offering_entry *find_offering(const struct offerings *offerings, struct slice type)
{
    struct offering_entry *entry = NULL;
    HASH_FIND(hh, offerings->entries, type.at, type.len, entry);
    return entry;
}

const char *offering_word(enum offering offering)
{
    return offering == OFFER_PUBLISHED ? "published" : "newest";
}

bool offering_from_word(struct slice word, enum offering *offering)
{
    bool published = slice_is(word, "published");
    if (!published && !slice_is(word, "newest")) {
        return false;
    }
    *offering = published ? OFFER_PUBLISHED : OFFER_NEWEST_TO_ALL;
    return true;
}

enum status offerings_add_line(struct offerings *offerings, struct slice type, struct slice word, const char **why)
{
    enum offering offering;
    if (!offering_from_word(word, &offering)) {
        *why = "write newest or published";
        return STATUS_INVALID;
    }
    if (type.len == 0 || type.len > OFFERING_TYPE_MAX) {
        *why = "a type has 1 to 64 characters";
        return STATUS_TOO_LONG;
    }
    if (find_offering(offerings, type) != NULL) {
        *why = "this type stands in [offer] already: delete one of the two lines";
        return STATUS_BUSY;
    }
    struct offering_entry *entry = calloc(1, sizeof *entry);
    assert(entry != NULL);
    memcpy(entry->type, type.at, type.len);
    entry->offering = offering;
    HASH_ADD_KEYPTR(hh, offerings->entries, entry->type, type.len, entry);
    return STATUS_OK;
}

void offerings_set_fallback(struct offerings *offerings, enum offering fallback)
{
    offerings->fallback = fallback;
}

void offerings_each(const struct offerings *offerings, offering_fn on_offering, void *owner)
{
    for (const struct offering_entry *entry = offerings->entries; entry != NULL; entry = entry->hh.next) {
        on_offering(owner, entry->type, entry->offering); /* uthash keeps the order of adding */
    }
}

enum offering offerings_of(const struct offerings *offerings, struct slice type)
{
    const struct offering_entry *entry = type.len > 0 ? find_offering(offerings, type) : NULL;
    return entry != NULL ? entry->offering : offerings->fallback;
}
