/* Who the devices of the benchmarks are: one list for the program that writes them down and the one that asks as them.
 */
#ifndef TESTS_BENCH_BENCH_DEVICES_H
#define TESTS_BENCH_BENCH_DEVICES_H

#include "proto/mac.h"

/* MACs as a maker gives them: counting up, in three lots. */
static inline struct mac bench_mac(uint32_t number)
{
    static const uint8_t lots[3][2] = { { 0x5c, 0xcf }, { 0xec, 0xfa }, { 0x24, 0x0a } };
    const uint8_t *lot = lots[number % 3];
    return (struct mac){ { lot[0], lot[1], (uint8_t)(number >> 24), (uint8_t)(number >> 16), (uint8_t)(number >> 8),
                           (uint8_t)number } };
}

/* A generator whose numbers are the same in every run. */
static inline uint32_t bench_below(uint64_t *state, uint32_t n)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return (uint32_t)((*state >> 32) * n >> 32);
}

#endif
