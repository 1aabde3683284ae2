/* STATE/audit.log (mode 0600), a JSON object a line, and the full ones before it, audit.log.1 … .9, the oldest last:
 * what there is of it is bounded.
 *
 * One at a time uses it, on a worker thread.
 */
#ifndef SERVER_AUDIT_FILE_H
#define SERVER_AUDIT_FILE_H

#include "base/status.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define AUDIT_FILE_BYTES (1u << 20) /* then the next one is begun */
#define AUDIT_FILES_KEPT 9          /* full ones */

struct audit_file {
    char *path;
    int descriptor;     /* -1 = to be opened again */
    uint64_t bytes_max; /* AUDIT_FILE_BYTES */
    bool within_line;   /* the last write was cut */
    bool ends_open;     /* it was found with half a line at its end, which is to be ended first */
};

/* Opens it for appending, or makes it; on a disk that is full or read-only perhaps later. Else `message` names file,
 * reason and remedy. */
enum status audit_file_open(struct audit_file *file, const char *path, char *message, size_t size);
/* Whether that would do; nothing is made. */
enum status audit_file_check(const char *path, char *message, size_t size);
void audit_file_close(struct audit_file *file);

/* Appends whole lines, and has them reach the disk. `*written`: so many bytes are in the file, also where it failed;
 * the rest is to be given again. */
enum status audit_file_append(struct audit_file *file, const char *lines, size_t n, size_t *written);

/* A page of what is there. */
struct audit_page {
    const char *since;    /* "2026-11-21T07:00:00Z"; "" = however old */
    size_t offset, limit; /* without the newest so many; at most so many */
};

/* The newest first: {"acts":[…],"more":true|false}, which is the caller's; NULL without memory. Lines that cannot be
 * read are left out. */
json_t *audit_file_read(struct audit_file *file, const struct audit_page *page);

#endif
