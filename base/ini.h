/* INI files, read by inih, with the manners that an operator's file wants: every complaint names file and line.
 *
 *   [section]
 *   key = value        ; comment behind a blank
 *
 * Only `=` separates; blanks at the beginning of a line say nothing (no continuation lines). Without its comment a line
 * has at most INI_LINE_MAX bytes, and is UTF-8 without control characters other than tabs: what it says can be shown.
 */
#ifndef BASE_INI_H
#define BASE_INI_H

#include "base/status.h"
#include "base/text.h"

#include <stddef.h>

#define INI_LINE_MAX 198

struct ini_pair {
    const char *section; /* "" before the first */
    const char *key, *value;
    unsigned long line; /* of the file, from 1 */
};

/* On a status other than STATUS_OK, `why` (of `size` bytes) says what is wrong and what to do; the reading stops. */
typedef enum status (*ini_pair_fn)(void *owner, const struct ini_pair *pair, char *why, size_t size);

/* STATUS_OK, or `message` (of `size` bytes) names the file, the line and the reason. STATUS_NOT_FOUND: no such file. */
enum status ini_read(const char *path, ini_pair_fn on_pair, void *owner, char *message, size_t size);

/* What stands between a key and its value, so that ini_read reads this very value: " = ", or "=" where only that leads
 * there. NULL: no line can say it. The value has no blanks at its ends. */
const char *ini_separator(const char *key, const char *value);

#endif
