/* What makes it hard is a disk that is full: a write may take half a line. The rest of it is then the first to be
 * written when there is room, and a start that finds half a line ends it, so that the next stands on its own. */
#include "server/audit_file.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define READ_MAX (4u * AUDIT_FILE_BYTES) /* of a file: others may have written to it */

/* --- appending ---------------------------------------------------------------------------------------------------- */

/* Whether the file ends within a line. */
static bool ends_within_line(int descriptor, off_t bytes)
{
    char last = '\n';
    return bytes > 0 && pread(descriptor, &last, 1, bytes - 1) == 1 && last != '\n';
}

static enum status open_path(const char *path, int flags, int *opened)
{
    struct stat stat;
    int descriptor = open(path, O_RDWR | O_APPEND | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | flags, 0600);
    if (descriptor < 0) {
        return errno == ELOOP || errno == EISDIR ? STATUS_INVALID : status_from_errno(errno);
    }
    if (fstat(descriptor, &stat) != 0 || !S_ISREG(stat.st_mode)) {
        close(descriptor);
        return STATUS_INVALID;
    }
    *opened = descriptor;
    return STATUS_OK;
}

static enum status open_it(struct audit_file *file)
{
    struct stat stat;
    int descriptor = -1;
    enum status status = open_path(file->path, O_CREAT, &descriptor);
    if (status != STATUS_OK) {
        return status;
    }
    file->ends_open = !file->within_line && fstat(descriptor, &stat) == 0 && ends_within_line(descriptor, stat.st_size);
    file->descriptor = descriptor;
    return STATUS_OK;
}

/* A server starts on a disk that is full or read-only, and serves what it can. */
static bool may_pass(enum status status, int error)
{
    return status == STATUS_DISK_FULL || (status == STATUS_DENIED && error == EROFS);
}

static enum status complain(const char *path, enum status status, char *message, size_t size)
{
    snprintf(message, size, "%s cannot be written: %s; it must be a file that the server's user may write", path,
             status_text(status));
    return status;
}

enum status audit_file_check(const char *path, char *message, size_t size)
{
    int descriptor = -1;
    enum status status = open_path(path, 0, &descriptor);
    bool good = status == STATUS_NOT_FOUND || may_pass(status, errno) || status == STATUS_OK;
    if (descriptor >= 0) {
        close(descriptor);
    }
    return good ? STATUS_OK : complain(path, status, message, size);
}

enum status audit_file_open(struct audit_file *file, const char *path, char *message, size_t size)
{
    *file = (struct audit_file){ .path = strdup(path), .descriptor = -1, .bytes_max = AUDIT_FILE_BYTES };
    enum status status = file->path != NULL ? open_it(file) : STATUS_NO_MEMORY;
    if (may_pass(status, errno)) {
        return STATUS_OK;
    }
    if (status != STATUS_OK) {
        complain(path, status, message, size);
        audit_file_close(file);
    }
    return status;
}

void audit_file_close(struct audit_file *file)
{
    if (file->descriptor >= 0) {
        close(file->descriptor);
    }
    free(file->path);
}

static void name_of(const struct audit_file *file, unsigned n, char *name, size_t size)
{
    snprintf(name, size, n == 0 ? "%s" : "%s.%u", file->path, n);
}

/* The full one becomes the first of those kept; the oldest goes. */
static enum status turn_over(struct audit_file *file)
{
    char from[4096], to[4096];
    enum status status = STATUS_OK;
    for (unsigned n = AUDIT_FILES_KEPT; n > 0 && status == STATUS_OK; n--) {
        name_of(file, n - 1, from, sizeof from);
        name_of(file, n, to, sizeof to);
        if (rename(from, to) != 0 && errno != ENOENT) {
            status = status_from_errno(errno);
        }
    }
    if (status == STATUS_OK) {
        close(file->descriptor);
        file->descriptor = -1;
        status = open_it(file);
    }
    return status;
}

static enum status end_line(struct audit_file *file)
{
    if (file->ends_open && write(file->descriptor, "\n", 1) != 1) {
        return status_from_errno(errno);
    }
    file->ends_open = false;
    return STATUS_OK;
}

/* Somebody took the file away, or it is full. */
static enum status make_ready(struct audit_file *file, size_t n)
{
    struct stat stat;
    if (file->descriptor >= 0 && (fstat(file->descriptor, &stat) != 0 || stat.st_nlink == 0)) {
        close(file->descriptor);
        file->descriptor = -1;
        file->within_line = false;
    }
    enum status status = file->descriptor < 0 ? open_it(file) : STATUS_OK;
    if (status == STATUS_OK && fstat(file->descriptor, &stat) != 0) {
        status = status_from_errno(errno);
    }
    bool full = status == STATUS_OK && stat.st_size > 0 && (uint64_t)stat.st_size + n > file->bytes_max;
    return full && !file->within_line ? turn_over(file) : status;
}

/* At most one file's worth of whole lines. */
static size_t whole_lines(const struct audit_file *file, const char *lines, size_t n)
{
    size_t end = n < file->bytes_max ? n : (size_t)file->bytes_max;
    while (n > end && end > 0 && lines[end - 1] != '\n') {
        end--;
    }
    return end > 0 ? end : n;
}

static enum status append_some(struct audit_file *file, const char *lines, size_t n, size_t *written)
{
    enum status status = make_ready(file, n);
    status = status == STATUS_OK ? end_line(file) : status;
    for (size_t used = 0; status == STATUS_OK && used < n;) {
        ssize_t taken = write(file->descriptor, lines + used, n - used);
        if (taken > 0) {
            used += (size_t)taken;
            *written += (size_t)taken;
            file->within_line = lines[used - 1] != '\n';
        } else if (taken == 0 || errno != EINTR) {
            status = taken == 0 ? STATUS_IO : status_from_errno(errno);
        }
    }
    return status == STATUS_OK && fdatasync(file->descriptor) != 0 ? status_from_errno(errno) : status;
}

enum status audit_file_append(struct audit_file *file, const char *lines, size_t n, size_t *written)
{
    enum status status = STATUS_OK;
    *written = 0;
    while (status == STATUS_OK && *written < n) {
        size_t some = whole_lines(file, lines + *written, n - *written);
        status = append_some(file, lines + *written, some, written);
    }
    return status;
}

/* --- reading ------------------------------------------------------------------------------------------------------ */

/* The end of a file, as far as READ_MAX goes. NULL where there is nothing, or no memory. */
static char *read_end(int descriptor, size_t *n)
{
    struct stat stat;
    if (fstat(descriptor, &stat) != 0 || !S_ISREG(stat.st_mode) || stat.st_size == 0) {
        return NULL;
    }
    size_t wanted = (uint64_t)stat.st_size < READ_MAX ? (size_t)stat.st_size : READ_MAX;
    char *bytes = malloc(wanted);
    ssize_t got = bytes != NULL ? pread(descriptor, bytes, wanted, stat.st_size - (off_t)wanted) : -1;
    if (got <= 0) {
        free(bytes);
        return NULL;
    }
    *n = (size_t)got;
    return bytes;
}

/* An act of the page, or NULL: too old, or no line of ours. */
static json_t *read_act(const char *line, size_t n, const struct audit_page *page)
{
    json_t *act = json_loadb(line, n, JSON_REJECT_DUPLICATES, NULL);
    const char *time = json_string_value(json_object_get(act, "time"));
    if (time == NULL || !json_is_string(json_object_get(act, "act")) || strcmp(time, page->since) < 0) {
        json_decref(act);
        return NULL;
    }
    return act;
}

/* Adds what a file says from its end on, until there is one more than the page holds. */
static void read_file(const char *bytes, size_t n, const struct audit_page *page, size_t *skipped, json_t *acts)
{
    while (n > 0 && json_array_size(acts) <= page->limit) {
        size_t end = bytes[n - 1] == '\n' ? n - 1 : n, start = end;
        while (start > 0 && bytes[start - 1] != '\n') {
            start--;
        }
        json_t *act = read_act(bytes + start, end - start, page);
        if (act != NULL && *skipped < page->offset) {
            json_decref(act);
            ++*skipped;
        } else if (act != NULL) {
            json_array_append_new(acts, act);
        }
        n = start;
    }
}

json_t *audit_file_read(struct audit_file *file, const struct audit_page *page)
{
    char name[4096];
    size_t skipped = 0;
    json_t *acts = json_array();
    for (unsigned i = 0; i <= AUDIT_FILES_KEPT && json_array_size(acts) <= page->limit; i++) {
        size_t n = 0;
        name_of(file, i, name, sizeof name);
        int descriptor = open(name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        if (descriptor >= 0) {
            char *bytes = read_end(descriptor, &n);
            read_file(bytes, n, page, &skipped, acts);
            free(bytes);
            close(descriptor);
        }
    }
    bool more = json_array_size(acts) > page->limit;
    if (more) {
        json_array_remove(acts, page->limit);
    }
    return json_pack("{s:o, s:b}", "acts", acts, "more", more);
}
