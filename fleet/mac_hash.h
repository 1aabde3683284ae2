/* A hash of MAC addresses that nobody outside can steer. Devices name themselves, so a stranger could send a million
 * MACs that all fall into one bucket of a table with a known hash, and each check-in would walk them all.
 *
 * Secret factors make any two MACs unlikely to meet, whoever chose them (Dietzfelbinger 1996, universal hashing without
 * primes). The MACs of one maker count up, and by the factors alone they would, with an unlucky draw, meet in few
 * buckets; so the finalizer of SplitMix64 (Steele, Lea, Flood 2014) mixes all bits of the sum.
 */
#ifndef FLEET_MAC_HASH_H
#define FLEET_MAC_HASH_H

#include "proto/mac.h"

#include <assert.h>
#include <stdint.h>
#include <sys/random.h>

struct mac_hash_seed {
    uint64_t words[3];
};

static inline struct mac_hash_seed mac_hash_seed_draw(void)
{
    struct mac_hash_seed seed;
    ssize_t drawn = getrandom(&seed, sizeof seed, 0);
    assert(drawn == (ssize_t)sizeof seed); /* so few bytes are never cut short: getrandom(2) */
    (void)drawn;
    return seed;
}

static inline uint32_t seeded_hash(const struct mac_hash_seed *seed, uint64_t high, uint64_t low)
{
    uint64_t sum = seed->words[0] + seed->words[1] * high + seed->words[2] * low;
    sum = (sum ^ sum >> 30) * 0xbf58476d1ce4e5b9u;
    sum = (sum ^ sum >> 27) * 0x94d049bb133111ebu;
    return (uint32_t)(sum ^ sum >> 31);
}

static inline uint32_t mac_hash(const struct mac_hash_seed *seed, const struct mac *mac)
{
    const uint8_t *b = mac->bytes;
    uint64_t vendor = (uint64_t)b[0] << 16 | (uint64_t)b[1] << 8 | b[2];
    uint64_t tail = (uint64_t)b[3] << 16 | (uint64_t)b[4] << 8 | b[5];
    return seeded_hash(seed, vendor, tail);
}

#endif
