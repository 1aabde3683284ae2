/* Which device is to run what: MAC -> type and label, as the Arduino cores' advanced updater keeps it in a table.
 *
 * Written in the section [assign] of the configuration and of STATE/assignments.ini, one line a device:
 *
 *     5C:CF:7F:B1:E0:42 = DOOR-7-g14f53a19          exactly this label
 *     5C:CF:7F:B1:E0:43 = door 0.5.0                type door, exactly this version or label
 *     5C:CF:7F:B1:E0:44 = door newest               type door, whatever is newest
 */
#ifndef FLEET_ASSIGNMENT_H
#define FLEET_ASSIGNMENT_H

#include "base/status.h"
#include "base/text.h"
#include "proto/mac.h"

#include <stdbool.h>
#include <stddef.h>

#define ASSIGNMENT_TEXT_MAX 64

struct assignment {
    char type[ASSIGNMENT_TEXT_MAX + 1];  /* "" = no type, the label says all */
    char label[ASSIGNMENT_TEXT_MAX + 1]; /* "" = the newest */
};

#define ASSIGNMENTS_MAX 1000000

struct assignments; /* the table: MAC -> assignment */

struct assignments *assignments_new(void);
void assignments_free(struct assignments *assignments);

/* One line of a section [assign]: what stands before and behind its `=`. *why is a constant text, set on failure:
 * STATUS_INVALID (no MAC, or not one or two words), STATUS_TOO_LONG, STATUS_BUSY (the MAC has one already). */
enum status assignments_add_line(struct assignments *assignments, struct slice mac, struct slice words,
                                 const char **why);

/* Adds all of a file. STATUS_NOT_FOUND where there is none; on any other failure `message` (of `size` bytes) names the
 * file, the line, the reason and the remedy. */
enum status assignments_load(struct assignments *assignments, const char *path, char *message, size_t size);

size_t assignments_count(const struct assignments *assignments);

/* The first `count`, in the order in which they were added. */
void assignments_each(const struct assignments *assignments, size_t count,
                      void (*on_assignment)(void *owner, const struct mac *mac, const struct assignment *assignment),
                      void *owner);

/* NULL where the device has none. Valid until the table is freed. */
const struct assignment *assignments_find(const struct assignments *assignments, const struct mac *mac);

#endif
