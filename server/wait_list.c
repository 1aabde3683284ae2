#include "server/wait_list.h"

#include <stddef.h>

void wait_list_append(struct wait_list *list, struct wait_entry *entry, uint64_t now_ms)
{
    *entry = (struct wait_entry){ .previous = list->last, .since_ms = now_ms };
    *(list->last != NULL ? &list->last->next : &list->first) = entry;
    list->last = entry;
}

void wait_list_remove(struct wait_list *list, struct wait_entry *entry)
{
    *(entry->previous != NULL ? &entry->previous->next : &list->first) = entry->next;
    *(entry->next != NULL ? &entry->next->previous : &list->last) = entry->previous;
    entry->previous = entry->next = NULL;
}

struct wait_entry *wait_list_due(const struct wait_list *list, uint64_t limit_ms, uint64_t now_ms)
{
    struct wait_entry *first = list->first;
    return first != NULL && now_ms - first->since_ms >= limit_ms ? first : NULL;
}
