/* How often an address may try: so many times at once, then one after the other in its time. What was right is given
 * back, so only failures cost.
 *
 * A table of fixed size, in sets found by a hash that strangers cannot steer; who was quiet the longest in a set gives
 * way. Of IPv6 the /64 counts, which one host has whole.
 */
#ifndef SERVER_ATTEMPTS_H
#define SERVER_ATTEMPTS_H

#include "fleet/mac_hash.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ATTEMPTS_SETS     512
#define ATTEMPTS_WAYS     8
#define ATTEMPTS_AT_ONCE  16
#define ATTEMPTS_EVERY_MS 10000 /* one more */

struct attempts_slot {
    uint8_t network[16];
    uint64_t full_ms; /* when all attempts will be there again: what is spent lies between now and then */
};

struct attempts {
    struct mac_hash_seed seed;
    struct attempts_slot slots[ATTEMPTS_SETS][ATTEMPTS_WAYS];
};

void attempts_init(struct attempts *attempts);

/* Takes one. False: there is none left for this address (IPv4 as ::ffff:a.b.c.d). */
bool attempts_take(struct attempts *attempts, const uint8_t address[16], uint64_t now_ms);

/* It was right after all. */
void attempts_give_back(struct attempts *attempts, const uint8_t address[16], uint64_t now_ms);

#endif
