/* What makes it hard: an errno value names no thing. "No such file" is a missing repository, a link to nowhere or a
 * file that somebody took away, by where it was met; so the rows are found by both. */
#include "repo/place_parts.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define COUNT_OF(array) (sizeof(array) / sizeof(array)[0])
#define PLACE_ANYWHERE  ((enum place_step) - 1)

static const struct row {
    enum place_step step; /* of PLACE_AT_FILE: the reason is the file's own */
    int error;
    const char *reason; /* what is behind the thing's name */
    const char *remedy;
} rows[] = {
    { PLACE_AT_ROOT, ENOENT, "is not there", "make that folder, mount what it lies on, or name another with --repo" },
    { PLACE_AT_ROOT, ENOTDIR, "is no folder", "name a folder with --repo" },
    { PLACE_AT_FOLDER, ENOENT, "is a link to nowhere",
      "mend the link, or remove it: the server makes the folder itself" },
    { PLACE_AT_FOLDER, ENOTDIR, "is a file, and a type's images lie in a folder of its name",
      "move that file out of the way, or choose another type" },
    { PLACE_AT_FOLDER, EXDEV, "is a link that may lead out of the repository, where nothing is added or removed",
      "change the files where the link leads by hand; or make it a folder, a bind mount, or a relative link to a "
      "folder "
      "inside the repository" },
    { PLACE_AT_FOLDER, ELOOP, "is a link that leads in a circle",
      "make it a folder, or a relative link to another folder inside the repository" },
    { PLACE_AT_FILE, ENOENT, "was taken away meanwhile", "look at `updraft firmware ls`, then try again" },
    { PLACE_AT_FILE, EISDIR, "is a folder", "move that folder away by hand: images are files" },
    { PLACE_ANYWHERE, EACCES, "is closed to the server's user",
      "let the server's user write to its --repo: change the folder's owner or mode (in a container, those of the "
      "volume)" },
    { PLACE_ANYWHERE, EPERM, "is protected by its file system",
      "`lsattr -d` shows whether it is immutable; a network drive may forbid it on its own side" },
    { PLACE_ANYWHERE, EROFS, "is mounted read-only",
      "mount the --repo so that it can be written to (in a container: the volume without :ro)" },
    { PLACE_ANYWHERE, ENOSPC, "is on a disk that is full",
      "make room, such as by `updraft firmware rm` of images that no device needs" },
    { PLACE_ANYWHERE, EDQUOT, "is on a disk where the server's user has used up its quota",
      "raise the quota, or make room by `updraft firmware rm` of images that no device needs" },
    { PLACE_ANYWHERE, EFBIG, "takes no file as large as this from the server",
      "raise the limit on the size of its files (ulimit -f, systemd's LimitFSIZE=)" },
    { PLACE_ANYWHERE, ENAMETOOLONG, "is on a file system that takes no name as long as this",
      "choose a shorter type or version" },
    { PLACE_ANYWHERE, EOVERFLOW, "is on a file system that does not know the server's user",
      "run the server as a user that its container's user namespace maps" },
    { PLACE_ANYWHERE, EIO, "is on a disk that fails", "the kernel's log (dmesg) names the fault; check the disk" },
    { PLACE_ANYWHERE, ESTALE, "is on a network drive that has lost it", "mount the drive again" },
    { PLACE_ANYWHERE, EMFILE, "cannot be opened, since the server has too many files open",
      "raise its limit (ulimit -n, systemd's LimitNOFILE=)" },
    { PLACE_ANYWHERE, ENFILE, "cannot be opened, since the machine has too many files open", "raise fs.file-max" },
};

static const struct row *find_row(enum place_step step, int error)
{
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        if (rows[i].error == error && (rows[i].step == step || rows[i].step == PLACE_ANYWHERE)) {
            return &rows[i];
        }
    }
    return NULL;
}

/* What the reason is said of: the repository, the folder in it, or the file itself. */
static void name_thing(const struct place_site *site, enum place_step step, const struct row *row, char *to,
                       size_t size)
{
    const char *slash = strrchr(site->path, '/');
    if (row != NULL && row->step == PLACE_AT_FILE) {
        snprintf(to, size, "it");
    } else if (step == PLACE_AT_ROOT || slash == NULL) {
        snprintf(to, size, "the repository %s", site->root);
    } else {
        snprintf(to, size, "folder %.*s", (int)(slash - site->path), site->path);
    }
}

void place_fail(struct place_outcome *outcome, const struct place_site *site, enum place_step step, int error)
{
    const struct row *row = find_row(step, error);
    char thing[320], who[32] = "", reason[128];
    name_thing(site, step, row, thing, sizeof thing);
    if (error == EACCES) { /* the number is what tells in a container, where names differ inside and outside */
        snprintf(who, sizeof who, " (uid %u)", (unsigned)geteuid());
    }
    snprintf(reason, sizeof reason, "%s%s",
             row != NULL ? row->reason : "gives an error: ", row != NULL ? who : strerror(error));
    outcome->result = PLACE_FAILED;
    outcome->status = status_from_errno(error);
    snprintf(outcome->message, sizeof outcome->message, "%s cannot be %s: %s %s", site->path, site->verb, thing,
             reason);
    snprintf(outcome->remedy, sizeof outcome->remedy, "%s",
             row != NULL ? row->remedy : "see what is special about the file system of --repo");
}

void place_fail_in_the_way(struct place_outcome *outcome, const struct place_site *site, mode_t mode)
{
    static const struct {
        mode_t format;
        const char *text;
    } kinds[] = {
        { S_IFDIR, "a folder" },           { S_IFIFO, "a FIFO" },         { S_IFSOCK, "a socket" },
        { S_IFCHR, "a character device" }, { S_IFBLK, "a block device" },
    };
    const char *kind = "something that is no file";
    for (size_t i = 0; i < COUNT_OF(kinds); i++) {
        kind = kinds[i].format == (mode & S_IFMT) ? kinds[i].text : kind;
    }
    outcome->result = PLACE_FAILED;
    outcome->status = STATUS_BUSY;
    snprintf(outcome->message, sizeof outcome->message, "%s cannot be %s: %s lies under that name", site->path,
             site->verb, kind);
    snprintf(outcome->remedy, sizeof outcome->remedy, "move it out of the way by hand: --replace replaces files alone");
}
