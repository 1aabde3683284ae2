#include "server/attempts.h"

#include <string.h>

void attempts_init(struct attempts *attempts)
{
    memset(attempts, 0, sizeof *attempts);
    attempts->seed = mac_hash_seed_draw();
}

static void network_of(const uint8_t address[16], uint8_t network[16])
{
    static const uint8_t v4_mapped[12] = { [10] = 0xff, [11] = 0xff };
    bool is_v4 = memcmp(address, v4_mapped, sizeof v4_mapped) == 0;
    memset(network, 0, 16);
    memcpy(network, address, is_v4 ? 16 : 8);
}

/* Its slot; else the one of its set that was or will be full first, made its own. */
static struct attempts_slot *slot_of(struct attempts *attempts, const uint8_t address[16])
{
    uint8_t network[16];
    uint64_t words[2];
    network_of(address, network);
    memcpy(words, network, sizeof words);
    struct attempts_slot *set = attempts->slots[seeded_hash(&attempts->seed, words[0], words[1]) % ATTEMPTS_SETS];
    struct attempts_slot *quiet = &set[0];
    for (size_t i = 0; i < ATTEMPTS_WAYS; i++) {
        if (memcmp(set[i].network, network, sizeof network) == 0) {
            return &set[i];
        }
        quiet = set[i].full_ms < quiet->full_ms ? &set[i] : quiet;
    }
    memcpy(quiet->network, network, sizeof network);
    quiet->full_ms = 0;
    return quiet;
}

bool attempts_take(struct attempts *attempts, const uint8_t address[16], uint64_t now_ms)
{
    struct attempts_slot *slot = slot_of(attempts, address);
    uint64_t from_ms = slot->full_ms > now_ms ? slot->full_ms : now_ms;
    if (from_ms + ATTEMPTS_EVERY_MS > now_ms + ATTEMPTS_AT_ONCE * (uint64_t)ATTEMPTS_EVERY_MS) {
        return false;
    }
    slot->full_ms = from_ms + ATTEMPTS_EVERY_MS;
    return true;
}

void attempts_give_back(struct attempts *attempts, const uint8_t address[16], uint64_t now_ms)
{
    struct attempts_slot *slot = slot_of(attempts, address);
    if (slot->full_ms > now_ms) {
        slot->full_ms = slot->full_ms - now_ms > ATTEMPTS_EVERY_MS ? slot->full_ms - ATTEMPTS_EVERY_MS : now_ms;
    }
}
