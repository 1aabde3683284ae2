#include "server/frequency.h"

#include <string.h>

void frequency_init(struct frequency *frequency)
{
    memset(frequency, 0, sizeof *frequency);
    frequency->seed = mac_hash_seed_draw();
}

static bool is_over(const struct frequency_place *place, uint64_t now_ms)
{
    return now_ms - place->since_ms >= FREQUENCY_SPAN_MS;
}

struct frequency_place *frequency_count(struct frequency *frequency, uint64_t high, uint64_t low, uint64_t now_ms)
{
    uint32_t key = seeded_hash(&frequency->seed, high, low);
    struct frequency_place *place = &frequency->places[key % FREQUENCY_PLACES];
    if (place->key != key || place->since_ms == 0) {
        if (place->count > 1 && !is_over(place, now_ms)) {
            place->count--;
            place = &frequency->passing;
        }
        *place = (struct frequency_place){ .key = key, .since_ms = now_ms };
    } else if (is_over(place, now_ms)) {
        place->since_ms = now_ms;
        place->count = 0;
    }
    place->count++;
    return place;
}
