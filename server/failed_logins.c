/* Slots in a list from the longest quiet to the latest, found by a hash that strangers cannot steer: whoever has many
 * addresses could fill one bucket else. */
#include "server/failed_logins.h"

#include "base/log.h"
#include "fleet/mac_hash.h"
#include "server/host.h"

#include <stdlib.h>
#include <string.h>

#define NONE        UINT16_MAX
#define BUCKETS     FAILED_LOGINS_ADDRESSES
#define DOUBLED_MAX 8 /* shifts; the most is less than that much */

struct slot {
    uint8_t network[16];
    uint32_t failures, untold;
    uint64_t last_ms, told_ms;
    bool told;
    uint16_t next; /* in its bucket */
    uint16_t older, newer;
};

struct failed_logins {
    const char *door;
    struct mac_hash_seed seed;
    uint16_t count, oldest, newest;
    uint64_t lines_ms;      /* when the log's minute began */
    unsigned lines, unsaid; /* in it: lines, and failures that had none for that */
    uint16_t buckets[BUCKETS];
    struct slot slots[FAILED_LOGINS_ADDRESSES];
};

struct failed_logins *failed_logins_new(const char *door)
{
    struct failed_logins *failed = calloc(1, sizeof *failed);
    if (failed != NULL) {
        failed->door = door;
        failed->seed = mac_hash_seed_draw();
        failed->oldest = failed->newest = NONE;
        memset(failed->buckets, 0xff, sizeof failed->buckets);
    }
    return failed;
}

void failed_logins_free(struct failed_logins *failed)
{
    free(failed);
}

size_t failed_logins_addresses(const struct failed_logins *failed)
{
    return failed->count;
}

static uint16_t *bucket_of(struct failed_logins *failed, const uint8_t network[16])
{
    uint64_t words[2];
    memcpy(words, network, sizeof words);
    return &failed->buckets[seeded_hash(&failed->seed, words[0], words[1]) % BUCKETS];
}

static void take_out(struct failed_logins *failed, uint16_t i)
{
    struct slot *slot = &failed->slots[i];
    *(slot->older != NONE ? &failed->slots[slot->older].newer : &failed->oldest) = slot->newer;
    *(slot->newer != NONE ? &failed->slots[slot->newer].older : &failed->newest) = slot->older;
}

static void put_last(struct failed_logins *failed, uint16_t i)
{
    failed->slots[i].older = failed->newest;
    failed->slots[i].newer = NONE;
    *(failed->newest != NONE ? &failed->slots[failed->newest].newer : &failed->oldest) = i;
    failed->newest = i;
}

/* A slot for one who has none: a new one, or that of the longest quiet. */
static uint16_t take_slot(struct failed_logins *failed)
{
    if (failed->count < FAILED_LOGINS_ADDRESSES) {
        return failed->count++;
    }
    uint16_t i = failed->oldest;
    uint16_t *at = bucket_of(failed, failed->slots[i].network);
    while (*at != i) {
        at = &failed->slots[*at].next;
    }
    *at = failed->slots[i].next;
    take_out(failed, i);
    return i;
}

static struct slot *find_slot(struct failed_logins *failed, const uint8_t network[16])
{
    uint16_t *bucket = bucket_of(failed, network), i = *bucket;
    while (i != NONE && memcmp(failed->slots[i].network, network, 16) != 0) {
        i = failed->slots[i].next;
    }
    if (i != NONE) {
        take_out(failed, i);
    } else {
        i = take_slot(failed);
        failed->slots[i] = (struct slot){ .next = *bucket };
        memcpy(failed->slots[i].network, network, 16);
        *bucket = i;
    }
    put_last(failed, i);
    return &failed->slots[i];
}

static void tell(struct failed_logins *failed, struct slot *slot, const struct client_address *who, uint64_t delay_ms,
                 uint64_t now_ms)
{
    char peer[HOST_TEXT_SIZE];
    struct log_line line;
    slot->untold++;
    if (slot->told && now_ms - slot->told_ms < FAILED_LOGINS_TELL_MS) {
        return;
    }
    if (failed->lines == 0 || now_ms - failed->lines_ms >= FAILED_LOGINS_TELL_MS) {
        failed->lines_ms = now_ms;
        failed->lines = 0;
    }
    if (failed->lines == FAILED_LOGINS_LINES) {
        failed->unsaid++;
        return;
    }
    client_address_print(who, peer, sizeof peer);
    log_begin(&line, LOG_WARN, "login_failed");
    log_text(&line, "door", failed->door);
    log_text(&line, "peer", peer);
    log_number(&line, "failures", slot->untold); /* since its last line */
    log_number(&line, "held_ms", (int64_t)delay_ms);
    if (failed->unsaid > 0) {
        log_number(&line, "of_others_unsaid", failed->unsaid);
    }
    log_end(&line);
    slot->told = true;
    slot->told_ms = now_ms;
    slot->untold = 0;
    failed->unsaid = 0;
    failed->lines++;
}

static uint64_t delay_of(uint32_t failures)
{
    if (failures <= FAILED_LOGINS_FREE) {
        return 0;
    }
    uint32_t doubled = failures - FAILED_LOGINS_FREE - 1;
    uint64_t delay_ms = (uint64_t)FAILED_LOGINS_DELAY_MS << (doubled < DOUBLED_MAX ? doubled : DOUBLED_MAX);
    return delay_ms < FAILED_LOGINS_DELAY_MAX_MS ? delay_ms : FAILED_LOGINS_DELAY_MAX_MS;
}

uint64_t failed_logins_add(struct failed_logins *failed, const struct client_address *who, uint64_t now_ms)
{
    struct client_address network = client_address_network(who);
    struct slot *slot = find_slot(failed, network.bytes);
    if (now_ms - slot->last_ms >= FAILED_LOGINS_FORGET_MS) {
        slot->failures = 0;
    }
    slot->last_ms = now_ms;
    slot->failures += slot->failures < UINT32_MAX;
    uint64_t delay_ms = delay_of(slot->failures);
    tell(failed, slot, who, delay_ms, now_ms);
    return delay_ms;
}
