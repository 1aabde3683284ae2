/* A bit a block, and a round over all of them in SEEN_WRITTEN_S. */
#include "fleet/seen.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define SLICE_MAX 64 /* blocks in a turn of the loop: a millisecond */
#define WORD_BITS 64

struct seen {
    const struct devices *devices;
    struct store_queue *queue;
    uint64_t *due;        /* a bit a block */
    size_t blocks, words; /* up to the highest that was noted; room */
    size_t at, second;    /* of the round */
    bool renewed;         /* all blocks were written since the start, and the store knows it */
};

struct seen *seen_new(const struct devices *devices, struct store_queue *queue)
{
    struct seen *seen = calloc(1, sizeof *seen);
    assert(seen != NULL);
    seen->devices = devices;
    seen->queue = queue;
    for (size_t i = 0; i < devices_count(devices); i++) {
        seen_note(seen, devices_at(devices, i));
    }
    return seen;
}

void seen_free(struct seen *seen)
{
    if (seen != NULL) {
        free(seen->due);
        free(seen);
    }
}

static uint64_t bit_of(size_t block)
{
    return UINT64_C(1) << block % WORD_BITS;
}

static void make_room(struct seen *seen, size_t block)
{
    size_t words = seen->words > 0 ? seen->words : 1;
    while (block >= words * WORD_BITS) {
        words *= 2;
    }
    if (words > seen->words) {
        seen->due = realloc(seen->due, words * sizeof *seen->due);
        assert(seen->due != NULL);
        memset(seen->due + seen->words, 0, (words - seen->words) * sizeof *seen->due);
        seen->words = words;
    }
    seen->blocks = block + 1;
}

void seen_note(struct seen *seen, const struct device *device)
{
    size_t block = device->number / STORE_SEEN_MAX;
    if (block >= seen->blocks) {
        make_room(seen, block);
    }
    seen->due[block / WORD_BITS] |= bit_of(block);
}

/* What waits long is not worth the room that others need. */
static bool has_room(const struct seen *seen)
{
    return store_queue_view(seen->queue)->health != STORE_FAILING &&
           store_queue_room(seen->queue) > STORE_BACKLOG_MAX / 2;
}

/* All of the block, as its row is written anew. */
static void put_block(const struct seen *seen, size_t block)
{
    struct store_change *change = store_queue_change(seen->queue, STORE_SEEN);
    struct store_seen *row = &change->row.seen;
    struct device *device;
    uint64_t number = block * STORE_SEEN_MAX, end = number + STORE_SEEN_MAX;
    row->block = (uint32_t)block;
    while (number < end && devices_walk(seen->devices, &number, &device)) {
        if (device != NULL) {
            row->devices[row->count++] = (struct store_seen_device){ device->mac, device->seen_s };
        }
    }
    (void)store_queue_put(seen->queue, change, STORE_BEHIND); /* there is room */
}

/* From where the round is, up to that block. Returns false where there is no room. */
static bool write_up_to(struct seen *seen, size_t end, size_t max)
{
    for (; seen->at < end && max > 0; seen->at++) {
        uint64_t *word = &seen->due[seen->at / WORD_BITS];
        if ((*word & bit_of(seen->at)) == 0) {
            continue;
        }
        if (!has_room(seen)) {
            return false;
        }
        put_block(seen, seen->at);
        *word &= ~bit_of(seen->at);
        max--;
    }
    return seen->at >= end;
}

static bool renew(struct seen *seen)
{
    if (!seen->renewed && has_room(seen)) {
        struct store_change *change = store_queue_change(seen->queue, STORE_SEEN);
        change->row.seen.renewed = true;
        (void)store_queue_put(seen->queue, change, STORE_BEHIND);
        seen->renewed = true;
    }
    return seen->renewed;
}

void seen_tick(struct seen *seen)
{
    size_t end = seen->blocks * (seen->second + 1) / SEEN_WRITTEN_S;
    if (!write_up_to(seen, end, SLICE_MAX)) {
        return; /* the rest in the next second */
    }
    if (seen->second + 1 < SEEN_WRITTEN_S) {
        seen->second++;
    } else if (renew(seen)) {
        seen->at = 0;
        seen->second = 0;
    }
}

void seen_write(struct seen *seen)
{
    seen->at = 0;
    (void)write_up_to(seen, seen->blocks, SIZE_MAX);
}
