/* Where in an array the record of a MAC stands. For tables of up to a million, on the loop: a lookup meets one record
 * as a rule, strangers cannot steer who meets whom (fleet/mac_hash.h), and growing, which must be done at once, looks
 * at no record, so it takes milliseconds.
 */
#ifndef FLEET_MAC_INDEX_H
#define FLEET_MAC_INDEX_H

#include "fleet/mac_hash.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mac_index { /* zeroed, but for the seed */
    struct mac_hash_seed seed;
    uint64_t *slots; /* the upper half: the MAC's hash; the lower: its place + 1; 0 = free */
    size_t size, count;
};

#define MAC_INDEX_NONE UINT32_MAX

/* The MAC of the record that stands there. */
typedef const struct mac *(*mac_at_fn)(const void *owner, uint32_t place);

uint32_t mac_index_find(const struct mac_index *index, const struct mac *mac, mac_at_fn mac_at, const void *owner);
void mac_index_add(struct mac_index *index, const struct mac *mac, uint32_t place); /* is not in it yet */
void mac_index_remove(struct mac_index *index, const struct mac *mac, uint32_t place);
void mac_index_clear(struct mac_index *index); /* keeps the seed */

#endif
