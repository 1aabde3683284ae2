#include "base/file.h"

#include "base/text.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The folder part of a path: "." where it has none. Returns false where it is too long. */
static bool folder_of(const char *path, char folder[PATH_MAX])
{
    const char *slash = strrchr(path, '/');
    struct slice part =
        slash == NULL ? slice_of(".") : (struct slice){ path, slash > path ? (size_t)(slash - path) : 1 };
    return slice_copy(part, folder, PATH_MAX);
}

enum status file_sync_folder(const char *path)
{
    char folder[PATH_MAX];
    if (!folder_of(path, folder)) {
        return STATUS_TOO_LONG;
    }
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    enum status status = fd >= 0 && fsync(fd) == 0 ? STATUS_OK : status_from_errno(errno);
    if (fd >= 0) {
        close(fd);
    }
    return status;
}

static enum status read_opened(int file, size_t max, char **bytes, size_t *n)
{
    struct stat stat;
    if (fstat(file, &stat) != 0 || !S_ISREG(stat.st_mode)) {
        return STATUS_INVALID;
    }
    if ((uint64_t)stat.st_size > max) {
        return STATUS_TOO_LONG;
    }
    size_t size = (size_t)stat.st_size, used = 0;
    char *read_bytes = malloc(size + 1);
    if (read_bytes == NULL) {
        return STATUS_NO_MEMORY;
    }
    while (used < size) {
        ssize_t got = read(file, read_bytes + used, size - used);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            enum status status = got < 0 ? status_from_errno(errno) : STATUS_CHANGED;
            file_forget(read_bytes, used);
            return status;
        }
        used += (size_t)got;
    }
    read_bytes[size] = '\0';
    *bytes = read_bytes;
    *n = size;
    return STATUS_OK;
}

enum status file_read(const char *path, size_t max, char **bytes, size_t *n)
{
    /* Not blocking: a pipe in its place would be waited for. */
    int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (file < 0) {
        return status_from_errno(errno);
    }
    enum status status = read_opened(file, max, bytes, n);
    close(file);
    return status;
}

void file_forget(char *bytes, size_t n)
{
    if (bytes != NULL) {
        explicit_bzero(bytes, n);
        free(bytes);
    }
}

bool file_socket_name(const char *path, char *name, size_t size)
{
    char folder[PATH_MAX];
    const char *slash = strrchr(path, '/');
    if (strlen(path) < size) {
        snprintf(name, size, "%s", path);
        return true;
    }
    if (slash == NULL || !folder_of(path, folder)) {
        return false;
    }
    int fd = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return false;
    }
    bool fits = (size_t)snprintf(name, size, "/proc/self/fd/%d/%s", fd, slash + 1) < size;
    if (!fits) {
        close(fd);
    }
    return fits;
}
