#include "base/status.h"

#include <errno.h>
#include <stddef.h>

static const struct {
    const char *name;
    const char *text;
} rows[] = {
#define X(name, text) { #name, text },
    STATUS_LIST(X)
#undef X
};

#define ROW_COUNT (sizeof rows / sizeof rows[0])

const char *status_name(enum status status)
{
    return (size_t)status < ROW_COUNT ? rows[status].name : "UNKNOWN";
}

const char *status_text(enum status status)
{
    return (size_t)status < ROW_COUNT ? rows[status].text : "unknown failure";
}

enum status status_from_errno(int error)
{
    switch (error) {
    case 0:
        return STATUS_OK;
    case ENOENT:
    case ENOTDIR:
        return STATUS_NOT_FOUND;
    case EACCES:
    case EPERM:
    case EROFS:
        return STATUS_DENIED;
    case EBUSY:
    case EADDRINUSE:
    case EAGAIN:
        return STATUS_BUSY;
    case EMFILE:
    case ENFILE:
        return STATUS_LIMIT;
    case ENOMEM:
        return STATUS_NO_MEMORY;
    case ENAMETOOLONG:
        return STATUS_TOO_LONG;
    case ENOSPC:
    case EDQUOT:
        return STATUS_DISK_FULL;
    case EINVAL:
        return STATUS_INVALID;
    default:
        return STATUS_IO;
    }
}
