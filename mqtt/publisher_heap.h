/* Commands in order of a number, the least first: which is next to go, which expires first. A binary heap that knows
 * where each command stands, so that any can be taken out again.
 *
 * What makes it hard: a command is in two of them at once, so it holds a place for each.
 */
#ifndef MQTT_PUBLISHER_HEAP_H
#define MQTT_PUBLISHER_HEAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum heap_kind { HEAP_READY, HEAP_EXPIRY, HEAP_KINDS };

/* The part of a command that the heaps use; all zero = in none. */
struct heap_entry {
    uint64_t rank[HEAP_KINDS];
    size_t place[HEAP_KINDS]; /* index + 1; 0 = not in it */
};

struct heap {
    enum heap_kind kind;
    struct heap_entry **entries;
    size_t used, size;
};

void heap_init(struct heap *heap, enum heap_kind kind);
void heap_close(struct heap *heap);

/* The entry must not be in it. */
void heap_push(struct heap *heap, struct heap_entry *entry, uint64_t rank);

/* Nothing where it is not in it. */
void heap_remove(struct heap *heap, struct heap_entry *entry);

/* NULL = empty. */
struct heap_entry *heap_first(const struct heap *heap);

#endif
