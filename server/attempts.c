#include "server/attempts.h"

#include "base/log.h"
#include "fleet/mac_hash.h"
#include "server/host.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define DOUBLED_MAX 16 /* shifts: a delay stays far from 64 bits */

const struct attempts_rules attempts_of_devices = { .at_once = 16, .forgive_ms = 10000, .one_by_one = true };

const struct attempts_rules attempts_of_operators = {
    .door = "admin", .at_once = 5, .forgive_ms = 15 * 60 * 1000, .delay_ms = 250, .delay_max_ms = 8000
};

struct slot {
    uint8_t network[16];
    uint64_t clear_ms; /* when all will be forgiven */
    uint64_t told_ms;
    uint32_t failures, untold; /* attempts_failed's */
    bool told;
};

struct attempts {
    const struct attempts_rules *rules;
    struct mac_hash_seed seed;
    uint64_t lines_ms;      /* when the log's minute began */
    unsigned lines, unsaid; /* in it: lines, and failures that had none for that */
    struct slot slots[ATTEMPTS_SETS][ATTEMPTS_WAYS];
};

struct attempts *attempts_new(const struct attempts_rules *rules)
{
    struct attempts *attempts = calloc(1, sizeof *attempts);
    if (attempts != NULL) {
        attempts->rules = rules;
        attempts->seed = mac_hash_seed_draw();
    }
    return attempts;
}

void attempts_free(struct attempts *attempts)
{
    free(attempts);
}

/* --- the table ---------------------------------------------------------------------------------------------------- */

/* The one of a set that has this network; NULL = none has. */
static struct slot *find_in(struct slot *set, const uint8_t network[16])
{
    for (size_t i = 0; i < ATTEMPTS_WAYS; i++) {
        if (memcmp(set[i].network, network, sizeof set[i].network) == 0) {
            return &set[i];
        }
    }
    return NULL;
}

static struct slot *set_of(struct attempts *attempts, const uint8_t network[16])
{
    uint64_t words[2];
    memcpy(words, network, sizeof words);
    return attempts->slots[seeded_hash(&attempts->seed, words[0], words[1]) % ATTEMPTS_SETS];
}

static struct slot *find_slot(struct attempts *attempts, const struct client_address *who)
{
    struct client_address network = client_address_network(who);
    return find_in(set_of(attempts, network.bytes), network.bytes);
}

/* Its slot; else the one of its set that was or will be forgiven first, made its own. */
static struct slot *take_slot(struct attempts *attempts, const struct client_address *who)
{
    struct client_address network = client_address_network(who);
    struct slot *set = set_of(attempts, network.bytes), *found = find_in(set, network.bytes), *first = set;
    for (size_t i = 0; found == NULL && i < ATTEMPTS_WAYS; i++) {
        first = set[i].clear_ms < first->clear_ms ? &set[i] : first;
    }
    if (found == NULL) {
        found = first;
        *found = (struct slot){ .clear_ms = 0 };
        memcpy(found->network, network.bytes, sizeof found->network);
    }
    return found;
}

static uint64_t left_ms(const struct slot *slot, uint64_t now_ms)
{
    return slot->clear_ms > now_ms ? slot->clear_ms - now_ms : 0;
}

static void charge(struct attempts *attempts, struct slot *slot, uint64_t now_ms)
{
    const struct attempts_rules *rules = attempts->rules;
    slot->clear_ms = now_ms + (rules->one_by_one ? left_ms(slot, now_ms) : 0) + rules->forgive_ms;
}

/* --- asking before ------------------------------------------------------------------------------------------------ */

bool attempts_take(struct attempts *attempts, const struct client_address *who, uint64_t now_ms)
{
    const struct attempts_rules *rules = attempts->rules;
    struct slot *slot = take_slot(attempts, who);
    if (left_ms(slot, now_ms) > (rules->at_once - 1) * rules->forgive_ms) {
        return false;
    }
    charge(attempts, slot, now_ms);
    return true;
}

void attempts_give_back(struct attempts *attempts, const struct client_address *who, uint64_t now_ms)
{
    uint64_t forgive_ms = attempts->rules->forgive_ms;
    struct slot *slot = find_slot(attempts, who); /* it may have given way to others */
    if (slot != NULL) {
        slot->clear_ms = left_ms(slot, now_ms) > forgive_ms ? slot->clear_ms - forgive_ms : now_ms;
    }
}

/* --- counting behind ---------------------------------------------------------------------------------------------- */

/* Whether there may be a line now: one of an address, and so many of all. */
static bool may_tell(struct attempts *attempts, const struct slot *slot, uint64_t now_ms)
{
    if (slot->told && now_ms - slot->told_ms < ATTEMPTS_TELL_MS) {
        return false;
    }
    if (attempts->lines == 0 || now_ms - attempts->lines_ms >= ATTEMPTS_TELL_MS) {
        attempts->lines_ms = now_ms;
        attempts->lines = 0;
    }
    attempts->unsaid += attempts->lines == ATTEMPTS_LINES;
    return attempts->lines < ATTEMPTS_LINES;
}

static void tell(struct attempts *attempts, struct slot *slot, const struct client_address *who, uint64_t delay_ms,
                 uint64_t now_ms)
{
    char peer[HOST_TEXT_SIZE];
    struct log_line line;
    slot->untold++;
    if (!may_tell(attempts, slot, now_ms)) {
        return;
    }
    client_address_print(who, peer, sizeof peer);
    log_begin(&line, LOG_WARN, "login_failed");
    log_text(&line, "door", attempts->rules->door);
    log_text(&line, "peer", peer);
    log_number(&line, "failures", slot->untold); /* since its last line */
    log_number(&line, "held_ms", (int64_t)delay_ms);
    if (attempts->unsaid > 0) {
        log_number(&line, "of_others_unsaid", attempts->unsaid);
    }
    log_end(&line);
    slot->told = true;
    slot->told_ms = now_ms;
    slot->untold = 0;
    attempts->unsaid = 0;
    attempts->lines++;
}

static uint64_t delay_of(const struct attempts_rules *rules, uint32_t failures)
{
    if (failures <= rules->at_once) {
        return 0;
    }
    uint32_t doubled = failures - rules->at_once - 1;
    uint64_t delay_ms = rules->delay_ms << (doubled < DOUBLED_MAX ? doubled : DOUBLED_MAX);
    return delay_ms < rules->delay_max_ms ? delay_ms : rules->delay_max_ms;
}

uint64_t attempts_failed(struct attempts *attempts, const struct client_address *who, uint64_t now_ms)
{
    struct slot *slot = take_slot(attempts, who);
    slot->failures = left_ms(slot, now_ms) > 0 ? slot->failures : 0;
    slot->failures += slot->failures < UINT32_MAX;
    charge(attempts, slot, now_ms);
    uint64_t delay_ms = delay_of(attempts->rules, slot->failures);
    tell(attempts, slot, who, delay_ms, now_ms);
    return delay_ms;
}
