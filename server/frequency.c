#include "server/frequency.h"

#include <string.h>

void frequency_init(struct frequency *frequency)
{
    memset(frequency, 0, sizeof *frequency);
    frequency->seed = mac_hash_seed_draw();
}

struct frequency_place *frequency_count(struct frequency *frequency, uint64_t high, uint64_t low, uint64_t now_ms)
{
    uint32_t key = seeded_hash(&frequency->seed, high, low);
    struct frequency_place *place = &frequency->places[key % FREQUENCY_PLACES];
    if (place->key != key || place->since_ms == 0) {
        *place = (struct frequency_place){ .key = key, .since_ms = now_ms };
    } else if (now_ms - place->since_ms >= FREQUENCY_SPAN_MS) {
        place->since_ms = now_ms;
        place->count = 0;
    }
    place->count++;
    return place;
}
