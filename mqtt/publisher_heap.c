/* A binary heap with places kept in its entries. */
#include "mqtt/publisher_heap.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

void heap_init(struct heap *heap, enum heap_kind kind)
{
    memset(heap, 0, sizeof *heap);
    heap->kind = kind;
}

void heap_close(struct heap *heap)
{
    free(heap->entries);
    heap->entries = NULL;
    heap->used = heap->size = 0;
}

static void put(struct heap *heap, size_t at, struct heap_entry *entry)
{
    heap->entries[at] = entry;
    entry->place[heap->kind] = at + 1;
}

static uint64_t rank_at(const struct heap *heap, size_t at)
{
    return heap->entries[at]->rank[heap->kind];
}

/* Moves what stands at `at` up, then down, until it is in order. */
static void settle(struct heap *heap, size_t at)
{
    struct heap_entry *entry = heap->entries[at];
    uint64_t rank = entry->rank[heap->kind];
    while (at > 0 && rank < rank_at(heap, (at - 1) / 2)) {
        put(heap, at, heap->entries[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    for (;;) {
        size_t child = 2 * at + 1;
        if (child + 1 < heap->used && rank_at(heap, child + 1) < rank_at(heap, child)) {
            child++;
        }
        if (child >= heap->used || rank <= rank_at(heap, child)) {
            break;
        }
        put(heap, at, heap->entries[child]);
        at = child;
    }
    put(heap, at, entry);
}

void heap_push(struct heap *heap, struct heap_entry *entry, uint64_t rank)
{
    assert(entry->place[heap->kind] == 0);
    if (heap->used == heap->size) {
        size_t size = heap->size > 0 ? 2 * heap->size : 64;
        struct heap_entry **grown = realloc(heap->entries, size * sizeof(struct heap_entry *));
        assert(grown != NULL);
        heap->entries = grown;
        heap->size = size;
    }
    entry->rank[heap->kind] = rank;
    heap->entries[heap->used++] = entry;
    settle(heap, heap->used - 1);
}

void heap_remove(struct heap *heap, struct heap_entry *entry)
{
    if (entry->place[heap->kind] == 0) {
        return;
    }
    size_t at = entry->place[heap->kind] - 1;
    assert(at < heap->used && heap->entries[at] == entry);
    entry->place[heap->kind] = 0;
    struct heap_entry *last = heap->entries[--heap->used];
    if (last != entry) {
        heap->entries[at] = last;
        settle(heap, at);
    }
}

struct heap_entry *heap_first(const struct heap *heap)
{
    return heap->used > 0 ? heap->entries[0] : NULL;
}
