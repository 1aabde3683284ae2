/* Linear probing in a table that is half empty at least. */
#include "fleet/mac_index.h"

#include "fleet/huge_page.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define SIZE_MIN 64

/* As large as a huge page or larger, they are a multiple of it. */
static uint64_t *new_slots(size_t size)
{
    size_t bytes = size * sizeof(uint64_t);
    uint64_t *slots = bytes < HUGE_PAGE_BYTES ? malloc(bytes) : huge_alloc(bytes);
    assert(slots != NULL);
    memset(slots, 0, bytes);
    return slots;
}

static void put(uint64_t *slots, size_t size, uint64_t slot)
{
    size_t at = (size_t)(slot >> 32) & (size - 1);
    while (slots[at] != 0) {
        at = (at + 1) & (size - 1);
    }
    slots[at] = slot;
}

static void grow(struct mac_index *index)
{
    size_t size = index->size > 0 ? 2 * index->size : SIZE_MIN;
    uint64_t *slots = new_slots(size);
    for (size_t i = 0; i < index->size; i++) {
        if (index->slots[i] != 0) {
            put(slots, size, index->slots[i]);
        }
    }
    free(index->slots);
    index->slots = slots;
    index->size = size;
}

uint32_t mac_index_find(const struct mac_index *index, const struct mac *mac, mac_at_fn mac_at, const void *owner)
{
    uint32_t hash = mac_hash(&index->seed, mac);
    for (size_t at = hash; index->size > 0; at++) {
        uint64_t slot = index->slots[at & (index->size - 1)];
        uint32_t place = (uint32_t)slot - 1; /* of a free slot: MAC_INDEX_NONE */
        if (slot == 0 || (slot >> 32 == hash && mac_equal(mac_at(owner, place), mac))) {
            return place;
        }
    }
    return MAC_INDEX_NONE;
}

static uint64_t slot_of(const struct mac_index *index, const struct mac *mac, uint32_t place)
{
    assert(place < MAC_INDEX_NONE);
    return (uint64_t)mac_hash(&index->seed, mac) << 32 | (place + 1);
}

static size_t find_slot(const struct mac_index *index, uint64_t slot)
{
    size_t at = (size_t)(slot >> 32) & (index->size - 1);
    while (index->slots[at] != slot) {
        assert(index->slots[at] != 0);
        at = (at + 1) & (index->size - 1);
    }
    return at;
}

void mac_index_add(struct mac_index *index, const struct mac *mac, uint32_t place)
{
    if (2 * (index->count + 1) > index->size) {
        grow(index);
    }
    put(index->slots, index->size, slot_of(index, mac, place));
    index->count++;
}

/* Those behind it move up, as far as their hash lets them: a search ends at a free slot (Knuth, 6.4, algorithm R). */
void mac_index_remove(struct mac_index *index, const struct mac *mac, uint32_t place)
{
    size_t mask = index->size - 1;
    size_t hole = find_slot(index, slot_of(index, mac, place));
    for (size_t at = (hole + 1) & mask; index->slots[at] != 0; at = (at + 1) & mask) {
        size_t home = (size_t)(index->slots[at] >> 32) & mask;
        if (((at - home) & mask) >= ((at - hole) & mask)) {
            index->slots[hole] = index->slots[at];
            hole = at;
        }
    }
    index->slots[hole] = 0;
    index->count--;
}

void mac_index_clear(struct mac_index *index)
{
    free(index->slots);
    index->slots = NULL;
    index->size = index->count = 0;
}
