/* inih calls back for each pair and asks us for each line; between the two we know the line's number, which it does
 * not tell. It is handed lines without what it would read otherwise than we promise: see next_line. */
#include "base/ini.h"

#include <errno.h>
#include <ini.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Stands for a colon of a key, which inih would take for its end; no line has it by itself. */
#define COLON '\x01'

struct reading {
    FILE *file;
    char *line; /* getline's */
    size_t line_size;
    unsigned long number;
    ini_pair_fn on_pair;
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

static bool is_blank(char c)
{
    return c != '\0' && strchr(" \t\r\n\v\f", c) != NULL;
}

/* How much of a line is neither comment nor line end; `from` begins with no blank. */
static size_t said_bytes(const char *from)
{
    size_t n = 0;
    while (from[n] != '\0' && !(from[n] == ';' && (n == 0 || is_blank(from[n - 1])))) {
        n++;
    }
    while (n > 0 && is_blank(from[n - 1])) {
        n--;
    }
    return from[0] == '#' ? 0 : n;
}

/* Tabs apart, what reaches a terminal or a log must not be able to do anything there. */
static bool is_plain(struct slice text)
{
    const char *end = text.at + text.len;
    for (const char *from = text.at, *tab; from < end; from = tab + 1) {
        tab = memchr(from, '\t', (size_t)(end - from));
        tab = tab != NULL ? tab : end;
        if (!text_is_clean_utf8((struct slice){ from, (size_t)(tab - from) })) {
            return false;
        }
    }
    return true;
}

/* Where what a line says begins. inih would take a line that begins with a blank, whichever, for more of the value
 * above. */
static char *begin_of(char *line, unsigned long number)
{
    static const char byte_order_mark[] = "\xef\xbb\xbf";
    if (number == 1 && strncmp(line, byte_order_mark, 3) == 0) {
        line += 3;
    }
    while (is_blank(line[0])) {
        line++;
    }
    return line;
}

/* fgets for inih: the next line, or NULL at the end or after the first mistake. */
static char *next_line(char *to, int size, void *stream)
{
    struct reading *reading = stream;
    if (reading->status != STATUS_OK) {
        return NULL;
    }
    ssize_t bytes = getline(&reading->line, &reading->line_size, reading->file);
    if (bytes < 0) {
        return NULL;
    }
    reading->number++;
    if (memchr(reading->line, '\0', (size_t)bytes) != NULL) {
        fail(reading, STATUS_INVALID, "a NUL byte: this is no text file");
        return NULL;
    }
    char *from = begin_of(reading->line, reading->number);
    size_t n = said_bytes(from);
    from[n] = '\0';
    if (n > INI_LINE_MAX || n >= (size_t)size) {
        fail(reading, STATUS_TOO_LONG, "longer than 198 characters");
        return NULL;
    }
    if (!is_plain((struct slice){ from, n })) {
        fail(reading, STATUS_INVALID, "not plain text: take control characters out, and save the file as UTF-8");
        return NULL;
    }
    /* A MAC address is a key of ours. */
    size_t key_bytes = from[0] != '[' ? strcspn(from, "=") : 0;
    for (size_t i = 0; i < key_bytes; i++) {
        from[i] = from[i] == ':' ? COLON : from[i];
    }
    memcpy(to, from, n + 1);
    return to;
}

static int on_pair(void *user, const char *section, const char *key, const char *value)
{
    struct reading *reading = user;
    char why[sizeof reading->why] = "", typed[INI_LINE_MAX + 1];
    snprintf(typed, sizeof typed, "%s", key);
    for (char *c = typed; *c != '\0'; c++) {
        *c = *c == COLON ? ':' : *c;
    }
    struct ini_pair pair = { section, typed, value, reading->number };
    enum status status = reading->on_pair(reading->owner, &pair, why, sizeof why);
    if (status != STATUS_OK) {
        fail(reading, status, why);
    }
    return status == STATUS_OK;
}

enum status ini_read(const char *path, ini_pair_fn on_pair_read, void *owner, char *message, size_t size)
{
    struct reading reading = { .on_pair = on_pair_read, .owner = owner };
    char shown[512];
    text_show(slice_of(path), shown, sizeof shown);
    reading.file = fopen(path, "re");
    if (reading.file == NULL) {
        enum status status = status_from_errno(errno);
        snprintf(message, size, "%s: %s", shown, strerror(errno));
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
        snprintf(message, size, "%s: %s", shown, reading.why);
    } else if (reading.status != STATUS_OK) {
        snprintf(message, size, "%s: line %lu: %s", shown, reading.failed_line, reading.why);
    }
    fclose(reading.file);
    free(reading.line);
    return reading.status;
}

const char *ini_separator(const char *key, const char *value)
{
    static const char *const separators[] = { " = ", "=" };
    char line[INI_LINE_MAX + 2];
    for (size_t i = 0; i < sizeof separators / sizeof separators[0]; i++) {
        int n = snprintf(line, sizeof line, "%s%s%s", key, separators[i], value);
        if (n <= INI_LINE_MAX && said_bytes(line) == (size_t)n && is_plain((struct slice){ line, (size_t)n })) {
            return separators[i];
        }
    }
    return NULL;
}
