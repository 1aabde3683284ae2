/* Deadlines as lists: all entries of one list wait equally long, so the first is due first, and to wait anew is to go
 * to the end. No timer a connection. Entries are embedded in what waits. */
#ifndef SERVER_WAIT_LIST_H
#define SERVER_WAIT_LIST_H

#include <stdint.h>

struct wait_entry {
    struct wait_entry *previous, *next;
    uint64_t since_ms;
};

struct wait_list {
    struct wait_entry *first, *last;
};

void wait_list_append(struct wait_list *list, struct wait_entry *entry, uint64_t now_ms);
void wait_list_remove(struct wait_list *list, struct wait_entry *entry);

/* The first entry where it has waited for limit_ms, else NULL. */
struct wait_entry *wait_list_due(const struct wait_list *list, uint64_t limit_ms, uint64_t now_ms);

#endif
