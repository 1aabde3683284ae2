/* What makes it hard is what can be in the way: a folder that is not there yet, a file that is, a disk that is full. */
#include "repo/place.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

const char *place_result_word(enum place_result result)
{
    static const char *const words[] = {
#define X(name, word) word,
        PLACE_RESULT_LIST(X)
#undef X
    };
    return words[result];
}

/* --- the name ----------------------------------------------------------------------------------------------------- */

bool place_path(struct slice type, struct slice version, enum filename_role role, bool gzip, struct place_order *order,
                bool *bad_type, const char **why)
{
    static const char *const suffixes[] = { [FILENAME_SKETCH] = ".bin",
                                            [FILENAME_FS] = ".fs.bin",
                                            [FILENAME_USER1] = ".user1.bin",
                                            [FILENAME_USER2] = ".user2.bin" };
    struct filename_refusal refusal;
    assert(role < sizeof suffixes / sizeof suffixes[0] && suffixes[role] != NULL);
    *bad_type = !type_is_valid(type);
    if (*bad_type) {
        *why = "a type has 1 to 64 letters, digits, `.`, `_` and `-`, and does not begin with `.`";
        return false;
    }
    *why = "a version has digits, letters, `.`, `_`, `-` and `+`, such as 0.4.10 or 1_2_0-rc1";
    if (version.len == 0 || version.len > VERSION_TEXT_MAX || memchr(version.at, '/', version.len) != NULL) {
        return false;
    }
    snprintf(order->path, sizeof order->path, "%.*s/%.*s%s%s", (int)type.len, type.at, (int)version.len, version.at,
             suffixes[role], gzip ? ".gz" : "");
    /* The convention itself has the last word: what a scan would read in this name must be what was meant. */
    return filename_parse(slice_of(order->path), &order->name, &refusal) == FILENAME_OK && order->name.role == role &&
           order->name.gzip == gzip && slice_is(type, order->name.type) && slice_is(version, order->name.version.text);
}

/* --- what contradicts --------------------------------------------------------------------------------------------- */

/* What build systems leave behind when nobody set a version says nothing: "1", a commit, the build tool's own name.
 * Only what reads as a version of several parts, and as nothing else, is taken for one. */
static bool says_version(const char *text, struct version *version)
{
    return strpbrk(text, "._") != NULL && version_is_plain(slice_of(text)) &&
           version_parse(slice_of(text), version) == STATUS_OK;
}

static bool contradicts(const struct place_order *order, struct place_outcome *outcome)
{
    const struct image_facts *facts = &outcome->facts;
    struct version inside;
    if (facts->has_app && says_version(facts->app_version, &inside) &&
        version_compare(&inside, &order->name.version) != 0) {
        outcome->result = PLACE_CONTRADICTS_VERSION;
        snprintf(outcome->message, sizeof outcome->message, "the image says that it is version %s, not %s", inside.text,
                 order->name.version.text);
        snprintf(outcome->remedy, sizeof outcome->remedy,
                 "add it as --version %s, or build it with the version you mean", inside.text);
        return true;
    }
    if (order->chip != CHIP_UNKNOWN && facts->chip != CHIP_UNKNOWN && facts->chip != order->chip) {
        outcome->result = PLACE_CONTRADICTS_CHIP;
        snprintf(outcome->message, sizeof outcome->message,
                 "the image is for %s, the other images of type \"%s\" for %s", chip_text(facts->chip),
                 order->name.type, chip_text(order->chip));
        snprintf(outcome->remedy, sizeof outcome->remedy, "a type has one chip: give this image a type of its own");
        return true;
    }
    return false;
}

/* --- writing ------------------------------------------------------------------------------------------------------ */

static enum status write_all(int fd, const uint8_t *bytes, size_t n)
{
    while (n > 0) {
        ssize_t written = write(fd, bytes, n);
        if (written < 0 && errno == EINTR) {
            continue;
        }
        if (written < 0) {
            return status_from_errno(errno);
        }
        bytes += written;
        n -= (size_t)written;
    }
    return fsync(fd) == 0 ? STATUS_OK : status_from_errno(errno);
}

/* Into the open folder, under a hidden name that scans pass over, then in place. */
static enum status write_file(int folder, const char *name, const struct place_order *order,
                              struct file_identity *identity)
{
    static const char temporary[] = ".updraft-upload.tmp";
    (void)unlinkat(folder, temporary, 0); /* of an upload that was killed; uploads come one at a time */
    int fd = openat(folder, temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
    if (fd < 0) {
        return status_from_errno(errno);
    }
    enum status status = write_all(fd, order->bytes, order->size);
    if (close(fd) != 0 && status == STATUS_OK) {
        status = status_from_errno(errno);
    }
    struct stat placed;
    if (status == STATUS_OK &&
        (renameat(folder, temporary, folder, name) != 0 || fstatat(folder, name, &placed, 0) != 0)) {
        status = status_from_errno(errno);
    }
    if (status != STATUS_OK) {
        (void)unlinkat(folder, temporary, 0);
        return status;
    }
    file_identity_from(&placed, identity);
    return fsync(folder) == 0 ? STATUS_OK : status_from_errno(errno);
}

/* Opens the type's folder, made where it is missing. Returns the descriptor, or -1 with errno. */
static int open_folder(const char *root, const char *type)
{
    int base = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (base < 0) {
        return -1;
    }
    int folder = -1;
    if (mkdirat(base, type, 0755) == 0 || errno == EEXIST) {
        folder = openat(base, type, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        (void)fsync(base);
    }
    int error = errno;
    close(base);
    errno = error;
    return folder;
}

static void write_image(const struct place_order *order, struct place_outcome *outcome)
{
    const char *name = strchr(order->path, '/') + 1;
    outcome->result = PLACE_DONE;
    outcome->status = STATUS_OK;
    int folder = open_folder(order->root, order->name.type);
    if (folder < 0) {
        outcome->status = status_from_errno(errno);
    } else if (!order->replace && faccessat(folder, name, F_OK, 0) == 0) {
        outcome->result = PLACE_EXISTS;
        snprintf(outcome->message, sizeof outcome->message, "%s is there already", order->path);
        snprintf(outcome->remedy, sizeof outcome->remedy,
                 "give the build a version of its own; or --replace, which devices that run the old one only notice by "
                 "its digest");
    } else {
        outcome->status = write_file(folder, name, order, &outcome->identity);
    }
    if (folder >= 0) {
        close(folder);
    }
    if (outcome->status != STATUS_OK) {
        outcome->result = PLACE_FAILED;
        snprintf(outcome->message, sizeof outcome->message, "%s cannot be written: %s", order->path,
                 status_text(outcome->status));
        snprintf(outcome->remedy, sizeof outcome->remedy,
                 "the server's user must be able to write to its --repo, and the disk must have room");
    }
}

static void reject_form(struct place_outcome *outcome)
{
    bool gzip = outcome->facts.gzip;
    outcome->result = PLACE_REJECTED;
    outcome->verdict.fault = IMAGE_FAULT_WRONG_USE;
    snprintf(outcome->verdict.detail, sizeof outcome->verdict.detail, "the image is %scompressed", gzip ? "" : "not ");
    snprintf(outcome->verdict.remedy, sizeof outcome->verdict.remedy, "add it %s",
             gzip ? "as a compressed one (gzip=yes, or without a word of it)" : "without gzip=yes");
}

void place_image(const struct place_order *order, struct place_outcome *outcome)
{
    static const enum image_use uses[] = { [FILENAME_SKETCH] = IMAGE_USE_SKETCH,
                                           [FILENAME_FS] = IMAGE_USE_FS,
                                           [FILENAME_USER1] = IMAGE_USE_SLOT,
                                           [FILENAME_USER2] = IMAGE_USE_SLOT };
    memset(outcome, 0, sizeof *outcome);
    if (!image_check(order->bytes, order->size, uses[order->name.role], &outcome->facts, &outcome->verdict)) {
        outcome->result = PLACE_REJECTED;
    } else if (outcome->facts.gzip != order->name.gzip) { /* a scan would refuse it by its name */
        reject_form(outcome);
    } else if (!contradicts(order, outcome)) {
        write_image(order, outcome);
    }
}

enum status place_remove(const char *root, const char *path)
{
    char folder[PLACE_PATH_MAX * 4];
    int base = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (base < 0) {
        return status_from_errno(errno);
    }
    enum status status = unlinkat(base, path, 0) == 0 ? STATUS_OK : status_from_errno(errno);
    const char *slash = strrchr(path, '/');
    if (status == STATUS_OK && slash != NULL &&
        slice_copy((struct slice){ path, (size_t)(slash - path) }, folder, sizeof folder)) {
        (void)unlinkat(base, folder, AT_REMOVEDIR); /* only an empty one goes */
    }
    close(base);
    return status;
}
