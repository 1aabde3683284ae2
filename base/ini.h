/* INI files, read by inih, with the manners that an operator's file wants: every complaint names file and line.
 *
 *   [section]
 *   key = value        ; comment behind a blank
 *
 * Only `=` separates; blanks at the beginning of a line say nothing (no continuation lines). Lines have at most
 * INI_LINE_MAX bytes.
 */
#ifndef BASE_INI_H
#define BASE_INI_H

#include "base/status.h"
#include "base/text.h"

#include <stddef.h>

#define INI_LINE_MAX 198

/* One `key = value` of a section ("" before the first). A colon in the key arrives as `-`. On a status other than
 * STATUS_OK, `why` (of `size` bytes) says what is wrong and what to do; the reading stops. */
typedef enum status (*ini_line_fn)(void *owner, const char *section, const char *key, const char *value, char *why,
                                   size_t size);

/* STATUS_OK, or `message` (of `size` bytes) names the file, the line and the reason. STATUS_NOT_FOUND: no such file. */
enum status ini_read(const char *path, ini_line_fn on_line, void *owner, char *message, size_t size);

#endif
