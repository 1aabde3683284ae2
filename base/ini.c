/* inih calls back for each pair and asks us for each line; between the two we know the line's number, which it does
 * not tell. */
#include "base/ini.h"

#include <errno.h>
#include <ini.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct reading {
    FILE *file;
    char *line; /* getline's */
    size_t line_size;
    unsigned long number;
    ini_line_fn on_line;
    void *owner;
    enum status status;
    unsigned long failed_line;
    char why[400];
};

static void fail(struct reading *reading, enum status status, const char *why)
{
    if (reading->status == STATUS_OK) {
        reading->status = status;
        reading->failed_line = reading->number;
        snprintf(reading->why, sizeof reading->why, "%s", why);
    }
}

/* fgets for inih: the next line, or NULL at the end or after the first mistake. */
static char *next_line(char *to, int size, void *stream)
{
    struct reading *reading = stream;
    if (reading->status != STATUS_OK) {
        return NULL;
    }
    ssize_t n = getline(&reading->line, &reading->line_size, reading->file);
    if (n < 0) {
        return NULL;
    }
    reading->number++;
    if (memchr(reading->line, '\0', (size_t)n) != NULL) {
        fail(reading, STATUS_INVALID, "a NUL byte: this is no text file");
        return NULL;
    }
    /* inih takes a line that begins with a blank, whichever, for more of the value above. */
    char *from = reading->line + strspn(reading->line, " \t\r\v\f");
    n = (ssize_t)strlen(from);
    while (n > 0 && (from[n - 1] == '\n' || from[n - 1] == '\r')) {
        from[--n] = '\0'; /* a line end is none of the line's bytes */
    }
    if (n > INI_LINE_MAX || n >= size) {
        fail(reading, STATUS_TOO_LONG, "longer than 198 characters");
        return NULL;
    }
    /* inih takes `:` for a separator too, and a MAC address is a key of ours. */
    size_t key_bytes = strcspn(from, "=");
    for (size_t i = 0; from[0] != '[' && i < key_bytes; i++) {
        if (from[i] == ':') {
            from[i] = '-';
        }
    }
    memcpy(to, from, (size_t)n + 1);
    return to;
}

static int on_pair(void *user, const char *section, const char *key, const char *value)
{
    struct reading *reading = user;
    char why[sizeof reading->why] = "";
    enum status status = reading->on_line(reading->owner, section, key, value, why, sizeof why);
    if (status != STATUS_OK) {
        fail(reading, status, why);
    }
    return status == STATUS_OK;
}

enum status ini_read(const char *path, ini_line_fn on_line, void *owner, char *message, size_t size)
{
    struct reading reading = { .on_line = on_line, .owner = owner };
    reading.file = fopen(path, "re");
    if (reading.file == NULL) {
        enum status status = status_from_errno(errno);
        snprintf(message, size, "%s: %s", path, strerror(errno));
        return status;
    }
    errno = 0;
    int result = ini_parse_stream(next_line, &reading, on_pair, &reading);
    if (reading.status == STATUS_OK && ferror(reading.file)) {
        reading.number = 0;
        fail(&reading, STATUS_IO, strerror(errno));
    }
    /* inih reads on behind a line that it does not understand: of two mistakes the first is named. */
    if (result != 0 && (reading.status == STATUS_OK || (result > 0 && (unsigned long)result < reading.failed_line))) {
        reading.status = STATUS_OK;
        reading.number = result > 0 ? (unsigned long)result : 0;
        fail(&reading, STATUS_INVALID, "neither [section] nor key = value");
    }
    if (reading.status != STATUS_OK && reading.failed_line == 0) {
        snprintf(message, size, "%s: %s", path, reading.why);
    } else if (reading.status != STATUS_OK) {
        snprintf(message, size, "%s: line %lu: %s", path, reading.failed_line, reading.why);
    }
    fclose(reading.file);
    free(reading.line);
    return reading.status;
}
