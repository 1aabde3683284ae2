/* A disk that fails on command, for a whole program: LD_PRELOAD it, name a file in UPDRAFT_FAULT, and write the number
 * of an error into that file. While there is one, writing and syncing files called updraft.db* fails with it; while it
 * is -1, they hang, and go on as if nothing had been. The file named in FAULT_READS does the same to reading
 * files called *.bin.
 *
 * Calls go to the kernel directly, so that nothing needs to be looked up, and a sanitizer that has wrapped them too is
 * not in the way.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

#define HANGS (-1)

/* The error that is ordered; 0 = none. */
static int ordered(const char *variable)
{
    char text[16] = "";
    const char *path = getenv(variable);
    int fd = path != NULL ? (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0) : -1;
    if (fd >= 0) {
        (void)!syscall(SYS_read, fd, text, sizeof text - 1);
        syscall(SYS_close, fd);
    }
    return atoi(text);
}

static int fails(int fd, bool is_read)
{
    char link[64], path[512];
    int before = errno, error = 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = syscall(SYS_readlinkat, AT_FDCWD, link, path, sizeof path - 1);
    if (n > 0) {
        path[n] = '\0';
        const char *name = strrchr(path, '/');
        bool is_ours = name != NULL &&
                       (is_read ? n > 4 && strcmp(path + n - 4, ".bin") == 0 : strncmp(name, "/updraft.db", 11) == 0);
        while (is_ours && (error = ordered(is_read ? "FAULT_READS" : "UPDRAFT_FAULT")) == HANGS) {
            (void)syscall(SYS_nanosleep, &(struct timespec){ .tv_nsec = 10000000 }, NULL);
        }
    }
    errno = error != 0 ? error : before;
    return error;
}

#define FAULTY(type, name, number, parameters, ...)                                                                    \
    type name parameters;                                                                                              \
    type name parameters                                                                                               \
    {                                                                                                                  \
        return fails(fd, number == SYS_read) != 0 ? -1 : (type)syscall(number, __VA_ARGS__);                           \
    }

FAULTY(ssize_t, read, SYS_read, (int fd, void *bytes, size_t n), fd, bytes, n)
FAULTY(ssize_t, write, SYS_write, (int fd, const void *bytes, size_t n), fd, bytes, n)
FAULTY(ssize_t, pwrite, SYS_pwrite64, (int fd, const void *bytes, size_t n, off_t at), fd, bytes, n, at)
FAULTY(ssize_t, pwrite64, SYS_pwrite64, (int fd, const void *bytes, size_t n, off64_t at), fd, bytes, n, at)
FAULTY(int, ftruncate, SYS_ftruncate, (int fd, off_t n), fd, n)
FAULTY(int, ftruncate64, SYS_ftruncate, (int fd, off64_t n), fd, n)
FAULTY(int, fsync, SYS_fsync, (int fd), fd)
FAULTY(int, fdatasync, SYS_fdatasync, (int fd), fd)
