/* Random numbers of one device's own: what it draws depends on the seed and its number, never on what the others do or
 * when, so that the same seed tells the same story. splitmix64 (Steele, Lea, Flood: "Fast splittable pseudorandom
 * number generators"). */
#ifndef TESTS_SIM_DRAW_H
#define TESTS_SIM_DRAW_H

#include <stdint.h>

struct draw {
    uint64_t state;
};

static inline uint64_t draw_number(struct draw *draw)
{
    uint64_t z = draw->state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* Below `end`, which is not 0. */
static inline uint64_t draw_below(struct draw *draw, uint64_t end)
{
    return draw_number(draw) % end;
}

static inline struct draw draw_of(uint64_t seed, uint64_t number)
{
    struct draw draw = { seed ^ (number + 1) * 0xd1342543de82ef95u };
    draw_number(&draw);
    return draw;
}

#endif
