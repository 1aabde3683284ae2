#include "base/file.h"

#include "base/text.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
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
