/* What makes it hard is what can be in the way: a folder that is not there yet, a file that is, a link that leads
 * elsewhere, a disk that is full, and others who write there at the same time. */
#include "repo/place_parts.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* --- folders ------------------------------------------------------------------------------------------------------ */

#define FOLDER_FLAGS (O_RDONLY | O_DIRECTORY | O_CLOEXEC)

/* Part by part, following no link at all: EXDEV at one. */
static int open_by_steps(int base, const char *path)
{
    char part[NAME_MAX + 1];
    struct stat stat;
    int folder = openat(base, ".", FOLDER_FLAGS);
    while (folder >= 0 && *path != '\0') {
        size_t n = strcspn(path, "/");
        int next = -1, error = ENAMETOOLONG;
        if (slice_copy((struct slice){ path, n }, part, sizeof part)) {
            next = openat(folder, part, FOLDER_FLAGS | O_NOFOLLOW);
            error = errno;
        }
        if (next < 0 && error != ENAMETOOLONG && fstatat(folder, part, &stat, AT_SYMLINK_NOFOLLOW) == 0 &&
            S_ISLNK(stat.st_mode)) {
            error = EXDEV;
        }
        close(folder);
        errno = error;
        folder = next;
        path += n + (path[n] == '/');
    }
    return folder;
}

/* Opens a folder of the repository ("" = itself), wherever links lead, but EXDEV where that is not surely inside.
 * Returns the descriptor, or -1 with errno. Before Linux 5.6, and where a container's filter hides openat2 (EPERM),
 * links are not followed. */
static int open_beneath(int base, const char *path)
{
    struct open_how how = { .flags = FOLDER_FLAGS, .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS };
    int folder, tries = 10;
    do { /* EAGAIN: somebody moved a folder while `..` in a link was looked at */
        folder = (int)syscall(SYS_openat2, base, *path != '\0' ? path : ".", &how, sizeof how);
    } while (folder < 0 && errno == EAGAIN && --tries > 0);
    return folder < 0 && (errno == ENOSYS || errno == EPERM) ? open_by_steps(base, path) : folder;
}

/* The type's folder, which is there. A link to the repository itself would make labels of the type's images. */
static int open_type_folder(int root, const char *type)
{
    struct stat above, found;
    int folder = open_beneath(root, type);
    if (folder >= 0 && fstat(root, &above) == 0 && fstat(folder, &found) == 0 && above.st_dev == found.st_dev &&
        above.st_ino == found.st_ino) {
        close(folder);
        folder = -1;
        errno = ELOOP;
    }
    return folder;
}

/* --- temporary files ---------------------------------------------------------------------------------------------- */

#define TEMPORARY_PREFIX ".updraft-upload" /* hidden: scans pass over it */
#define TEMPORARY_SUFFIX ".tmp"

/* Its name is its own, so that no two writers ever share it, not even those of two servers; who lives holds a lock. */
struct temporary {
    char name[64];
    int fd;   /* to write */
    int mark; /* open and locked until the file is in its place; not for writing, or a scan would wait */
};

/* Makes the file and marks it. Returns 0 or an errno value: EAGAIN where a sweep took it before it was marked. */
static int temporary_try(int folder, struct temporary *temporary)
{
    uint64_t number = 0;
    struct stat stat;
    ssize_t drawn = getrandom(&number, sizeof number, 0);
    assert(drawn == (ssize_t)sizeof number); /* so few bytes are never cut short: getrandom(2) */
    (void)drawn;
    snprintf(temporary->name, sizeof temporary->name, TEMPORARY_PREFIX "-%016" PRIx64 TEMPORARY_SUFFIX, number);
    temporary->fd = openat(folder, temporary->name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
    if (temporary->fd < 0) {
        return errno;
    }
    int error = EAGAIN;
    temporary->mark = openat(folder, temporary->name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (temporary->mark < 0) {
        error = errno == ENOENT ? EAGAIN : errno;
    } else if (flock(temporary->mark, LOCK_SH | LOCK_NB) == 0 || errno != EWOULDBLOCK) {
        /* a file system without locks is not swept */
        error = fstat(temporary->mark, &stat) == 0 && stat.st_nlink > 0 ? 0 : EAGAIN;
    }
    if (error != 0) {
        (void)unlinkat(folder, temporary->name, 0);
        close(temporary->fd);
        if (temporary->mark >= 0) {
            close(temporary->mark);
        }
    }
    return error;
}

static int temporary_open(int folder, struct temporary *temporary)
{
    int tries = 10, error;
    do {
        error = temporary_try(folder, temporary);
    } while (error == EAGAIN && --tries > 0);
    return error;
}

/* Removes a temporary file that nobody holds. */
static bool sweep_file(int folder, const char *name)
{
    struct stat stat;
    int file = openat(folder, name, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    bool removed = file >= 0 && fstat(file, &stat) == 0 && S_ISREG(stat.st_mode) &&
                   flock(file, LOCK_EX | LOCK_NB) == 0 && unlinkat(folder, name, 0) == 0;
    if (file >= 0) {
        close(file);
    }
    return removed;
}

static size_t sweep_folder(int folder)
{
    size_t count = 0;
    int copy = openat(folder, ".", FOLDER_FLAGS);
    DIR *entries = copy >= 0 ? fdopendir(copy) : NULL;
    if (entries == NULL) {
        return 0;
    }
    for (const struct dirent *entry; (entry = readdir(entries)) != NULL;) {
        struct slice name = slice_of(entry->d_name);
        if (slice_starts_with(name, TEMPORARY_PREFIX) && slice_ends_with(name, TEMPORARY_SUFFIX)) {
            count += sweep_file(folder, entry->d_name);
        }
    }
    closedir(entries);
    return count;
}

size_t place_sweep(const char *root)
{
    size_t count = 0;
    int base = open(root, FOLDER_FLAGS);
    DIR *entries = base >= 0 ? fdopendir(base) : NULL;
    if (entries == NULL) {
        return 0;
    }
    for (const struct dirent *entry; (entry = readdir(entries)) != NULL;) {
        if (entry->d_type == DT_REG || !type_is_valid(slice_of(entry->d_name))) {
            continue;
        }
        int folder = open_beneath(base, entry->d_name);
        if (folder >= 0) {
            count += sweep_folder(folder);
            close(folder);
        }
    }
    closedir(entries);
    return count;
}

/* --- writing ------------------------------------------------------------------------------------------------------ */

/* Returns 0, or an errno value. */
static int write_all(int fd, const uint8_t *bytes, size_t n)
{
    while (n > 0) {
        ssize_t written = write(fd, bytes, n);
        if (written < 0 && errno == EINTR) {
            continue;
        }
        if (written < 0) {
            return errno;
        }
        bytes += written;
        n -= (size_t)written;
    }
    return fsync(fd) == 0 ? 0 : errno;
}

/* Gives the file its name, over another file only where that is wanted. Returns 0, or an errno value: EEXIST. */
static int put_in_place(int folder, const char *temporary, const char *name, bool replace)
{
    struct stat stat;
    if (replace) {
        return renameat(folder, temporary, folder, name) == 0 ? 0 : errno;
    }
    if (renameat2(folder, temporary, folder, name, RENAME_NOREPLACE) == 0) {
        return 0;
    }
    if (errno != EINVAL && errno != ENOSYS && errno != EPERM) {
        return errno;
    }
    /* The file system cannot (NFS), or a container's filter hides it. A link takes no name that is taken, either. */
    if (linkat(folder, temporary, folder, name, 0) == 0) {
        (void)unlinkat(folder, temporary, 0);
        return 0;
    }
    if (errno == EEXIST || fstatat(folder, name, &stat, AT_SYMLINK_NOFOLLOW) == 0) {
        return EEXIST;
    }
    return renameat(folder, temporary, folder, name) == 0 ? 0 : errno; /* no links either: FAT */
}

static void say_exists(const struct place_order *order, bool leads_nowhere, struct place_outcome *outcome)
{
    outcome->result = PLACE_EXISTS;
    snprintf(outcome->message, sizeof outcome->message, "%s is %s", order->path,
             leads_nowhere ? "a link to a file that is not there" : "there already");
    snprintf(outcome->remedy, sizeof outcome->remedy,
             leads_nowhere ? "remove the link; or --replace, which puts the image in its place"
                           : "give the build a version of its own; or --replace, which devices that run the old one "
                             "only notice by its digest");
}

/* Whether something lies under the name that may not be replaced: said then. */
static bool is_taken(int folder, const char *name, const struct place_order *order, const struct place_site *site,
                     struct place_outcome *outcome)
{
    struct stat stat;
    if (fstatat(folder, name, &stat, AT_SYMLINK_NOFOLLOW) != 0) {
        return false; /* nothing; or what writing will tell */
    }
    bool leads_nowhere = S_ISLNK(stat.st_mode) && fstatat(folder, name, &stat, 0) != 0;
    if (!leads_nowhere && !S_ISREG(stat.st_mode)) {
        place_fail_in_the_way(outcome, site, stat.st_mode);
        return true;
    }
    if (!order->replace) {
        say_exists(order, leads_nowhere, outcome);
        return true;
    }
    return false;
}

/* A hidden file of these bytes, which scans pass over. Returns 0, or an errno value: then nothing is left. */
static int write_temporary(int folder, const uint8_t *bytes, size_t n, struct temporary *temporary)
{
    int error = temporary_open(folder, temporary);
    if (error != 0) {
        return error;
    }
    error = write_all(temporary->fd, bytes, n);
    if (close(temporary->fd) != 0 && error == 0) {
        error = errno;
    }
    if (error != 0) {
        (void)unlinkat(folder, temporary->name, 0);
        close(temporary->mark);
    }
    return error;
}

/* Gives it its name, or removes it. Returns 0, or an errno value: EEXIST. */
static int place_temporary(int folder, const struct temporary *temporary, const char *name, bool replace,
                           struct stat *placed)
{
    int error = put_in_place(folder, temporary->name, name, replace);
    if (error == 0 && fstat(temporary->mark, placed) != 0) {
        error = errno;
    }
    if (error != 0) {
        (void)unlinkat(folder, temporary->name, 0);
    }
    close(temporary->mark);
    return error;
}

/* Both are on the disk before the first gets its name. Between the two renames an image that is replaced has a .sig of
 * other bytes: a scan then waits for the second (repo/scan). */
static int write_both(int folder, const struct place_order *order, const char *name, struct stat *placed)
{
    char sig[PLACE_PATH_MAX + sizeof SEAL_SUFFIX];
    struct temporary image, detached;
    snprintf(sig, sizeof sig, "%s" SEAL_SUFFIX, name);
    int error = write_temporary(folder, order->bytes, order->size, &image);
    if (error != 0) {
        return error;
    }
    if (order->detached != NULL) {
        error = write_temporary(folder, order->detached, order->detached_size, &detached);
        error = error == 0 ? place_temporary(folder, &detached, sig, true, placed) : error;
    }
    if (error != 0) {
        (void)unlinkat(folder, image.name, 0);
        close(image.mark);
        return error;
    }
    error = place_temporary(folder, &image, name, order->replace, placed);
    bool stale = error == 0 ? order->detached == NULL : faccessat(folder, name, F_OK, AT_SYMLINK_NOFOLLOW) != 0;
    if (stale) {
        (void)unlinkat(folder, sig, 0);
    }
    return error;
}

static void write_file(int folder, const struct place_order *order, const struct place_site *site,
                       struct place_outcome *outcome)
{
    const char *name = strchr(order->path, '/') + 1;
    struct stat placed;
    if (is_taken(folder, name, order, site, outcome)) {
        return;
    }
    int error = write_both(folder, order, name, &placed);
    if (error == 0) {
        file_identity_from(&placed, &outcome->identity);
        (void)fsync(folder); /* the image is there, whether or not the disk says so */
    } else if (error != EEXIST || !is_taken(folder, name, order, site, outcome)) {
        place_fail(outcome, site, PLACE_AT_FILE, error);
    }
}

void place_write(const struct place_order *order, struct place_outcome *outcome)
{
    struct place_site site = { .root = order->root, .path = order->path, .verb = "written" };
    const char *type = order->name.type;
    int root = open(order->root, FOLDER_FLAGS);
    if (root < 0) {
        place_fail(outcome, &site, PLACE_AT_ROOT, errno);
        return;
    }
    bool made = mkdirat(root, type, 0755) == 0;
    if (!made && errno != EEXIST) {
        place_fail(outcome, &site, PLACE_AT_ROOT, errno);
        close(root);
        return;
    }
    int folder = open_type_folder(root, type);
    if (folder < 0) {
        place_fail(outcome, &site, PLACE_AT_FOLDER, errno);
    } else {
        (void)(made ? fsync(root) : 0);
        (void)sweep_folder(folder);
        write_file(folder, order, &site, outcome);
        close(folder);
    }
    if (made && outcome->result != PLACE_DONE) {
        (void)unlinkat(root, type, AT_REMOVEDIR);
    }
    close(root);
}

/* --- removing ----------------------------------------------------------------------------------------------------- */

/* Splits "a/b" into its folder "a", "" where it has none, and its name "b". Returns NULL where it is too long. */
static const char *split(const char *path, char *folder, size_t size)
{
    const char *slash = strrchr(path, '/');
    size_t n = slash != NULL ? (size_t)(slash - path) : 0;
    return slice_copy((struct slice){ path, n }, folder, size) ? path + n + (slash != NULL) : NULL;
}

/* Only an empty folder goes. One that is a link stays. */
static void remove_folder(int root, const char *path)
{
    char above[PATH_MAX];
    const char *name = split(path, above, sizeof above);
    int folder = name != NULL && *name != '\0' ? open_beneath(root, above) : -1;
    if (folder >= 0) {
        (void)unlinkat(folder, name, AT_REMOVEDIR);
        close(folder);
    }
}

/* The .sig of what is gone. */
static void remove_detached(int folder, const char *name)
{
    char sig[NAME_MAX + 1];
    if (snprintf(sig, sizeof sig, "%s" SEAL_SUFFIX, name) < (int)sizeof sig) {
        (void)unlinkat(folder, sig, 0);
    }
}

void place_remove(const char *root, const char *path, struct place_outcome *outcome)
{
    struct place_site site = { .root = root, .path = path, .verb = "removed" };
    char folder_path[PATH_MAX];
    const char *name = split(path, folder_path, sizeof folder_path);
    memset(outcome, 0, sizeof *outcome);
    int base = open(root, FOLDER_FLAGS);
    if (base < 0 || name == NULL) {
        place_fail(outcome, &site, PLACE_AT_ROOT, base < 0 ? errno : ENAMETOOLONG);
        if (base >= 0) {
            close(base);
        }
        return;
    }
    int folder = open_beneath(base, folder_path);
    if (folder < 0) {
        place_fail(outcome, &site, PLACE_AT_FOLDER, errno);
    } else if (unlinkat(folder, name, 0) != 0) {
        place_fail(outcome, &site, PLACE_AT_FILE, errno);
    } else {
        remove_detached(folder, name);
        remove_folder(base, folder_path);
    }
    if (folder >= 0) {
        close(folder);
    }
    close(base);
}
