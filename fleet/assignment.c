/* The table of assignments and its one-line form. */
#include "fleet/assignment.h"

#include "base/ini.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

struct entry {
    struct mac mac;
    struct assignment assignment;
    UT_hash_handle hh;
};

struct assignments {
    struct entry *entries;
};

struct assignments *assignments_new(void)
{
    struct assignments *assignments = calloc(1, sizeof *assignments);
    assert(assignments != NULL);
    return assignments;
}

void assignments_free(struct assignments *assignments)
{
    struct entry *entry, *next;
    HASH_ITER(hh, assignments->entries, entry, next)
    {
        HASH_DEL(assignments->entries, entry);
        free(entry);
    }
    free(assignments);
}

static enum status read_words(struct slice words, struct assignment *assignment, const char **why)
{
    struct slice first = slice_next_word(&words);
    struct slice second = slice_next_word(&words);
    struct slice label = second.len > 0 ? second : first;
    *why = "give a label, or a type and a label or version; a comment begins with ;";
    if (first.len == 0 || words.len > 0) {
        return STATUS_INVALID;
    }
    *why = "a type or label has at most 64 characters";
    if (second.len > 0 && !slice_copy(first, assignment->type, sizeof assignment->type)) {
        return STATUS_TOO_LONG;
    }
    if (second.len > 0 && slice_is(second, "newest")) {
        label.len = 0;
    }
    return slice_copy(label, assignment->label, sizeof assignment->label) ? STATUS_OK : STATUS_TOO_LONG;
}

enum status assignments_add_line(struct assignments *assignments, struct slice mac_text, struct slice words,
                                 const char **why)
{
    struct assignment assignment = { .type = "" };
    struct mac mac;
    if (!mac_parse(slice_trim(mac_text), &mac)) {
        *why = "the key is no MAC address such as 5C:CF:7F:B1:E0:42";
        return STATUS_INVALID;
    }
    enum status status = read_words(words, &assignment, why);
    if (status != STATUS_OK) {
        return status;
    }
    if (assignments_find(assignments, &mac) != NULL) {
        *why = "this MAC is assigned already: delete one of the two lines";
        return STATUS_BUSY;
    }
    if (assignments_count(assignments) >= ASSIGNMENTS_MAX) {
        *why = "more than 1000000 assignments";
        return STATUS_LIMIT;
    }
    struct entry *entry = calloc(1, sizeof *entry);
    assert(entry != NULL);
    entry->mac = mac;
    entry->assignment = assignment;
    HASH_ADD(hh, assignments->entries, mac, sizeof entry->mac, entry);
    return STATUS_OK;
}

static enum status on_pair(void *owner, const struct ini_pair *pair, char *why, size_t size)
{
    const char *reason = "";
    if (strcmp(pair->section, "assign") != 0) {
        if (pair->section[0] == '\0') {
            snprintf(why, size, "write [assign] above the first device");
        } else {
            snprintf(why, size, "[%s]: only the section [assign] belongs here", pair->section);
        }
        return STATUS_INVALID;
    }
    enum status status = assignments_add_line(owner, slice_of(pair->key), slice_of(pair->value), &reason);
    if (status != STATUS_OK) {
        snprintf(why, size, "%s: %s", pair->key, reason);
    }
    return status;
}

enum status assignments_load(struct assignments *assignments, const char *path, char *message, size_t size)
{
    return ini_read(path, on_pair, assignments, message, size);
}

size_t assignments_count(const struct assignments *assignments)
{
    return HASH_COUNT(assignments->entries);
}

void assignments_each(const struct assignments *assignments, size_t count,
                      void (*on_assignment)(void *owner, const struct mac *mac, const struct assignment *assignment),
                      void *owner)
{
    for (const struct entry *entry = assignments->entries; entry != NULL && count > 0; count--) {
        on_assignment(owner, &entry->mac, &entry->assignment);
        entry = entry->hh.next; /* uthash keeps the order of adding */
    }
}

const struct assignment *assignments_find(const struct assignments *assignments, const struct mac *mac)
{
    struct entry *entry = NULL;
    HASH_FIND(hh, assignments->entries, mac, sizeof *mac, entry);
    return entry != NULL ? &entry->assignment : NULL;
}
