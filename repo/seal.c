/* What makes it hard: the .sig is a second file, which may come later, change, or be anything at all. */
#include "repo/seal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

bool seal_equal(const struct seal *a, const struct seal *b)
{
    return memcmp(a->keys, b->keys, sizeof a->keys) == 0 && file_identity_equal(&a->detached, &b->detached);
}

bool seal_stands(const struct seal *seal, const struct signature_keys *keys)
{
    return keys == NULL || signature_keys_have(keys, seal->by.trailer) || signature_keys_have(keys, seal->by.detached);
}

static bool name_of(const char *entry, char name[FILENAME_MAX])
{
    return snprintf(name, FILENAME_MAX, "%s" SEAL_SUFFIX, entry) < FILENAME_MAX;
}

void seal_of(const struct signature_keys *keys, int folder, const char *entry, struct seal *seal)
{
    char name[FILENAME_MAX];
    struct stat stat;
    memset(seal, 0, sizeof *seal);
    if (keys == NULL) {
        return;
    }
    signature_keys_print(keys, seal->keys);
    if (name_of(entry, name) && fstatat(folder, name, &stat, 0) == 0 && S_ISREG(stat.st_mode)) {
        file_identity_from(&stat, &seal->detached);
    }
}

/* Reads at most `size` bytes of the file. Returns how many, or -1 with errno: what no read file has, it has not. */
static ssize_t read_some(int file, uint8_t *to, size_t size)
{
    size_t used = 0;
    while (used < size) {
        ssize_t n = read(file, to + used, size - used);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return -1;
        }
        if (n == 0) {
            break;
        }
        used += (size_t)n;
    }
    return (ssize_t)used;
}

/* The .sig, with its state; one that is too long is cut, and no key's then. Returns -1 where there is none to be read:
 * then errno says why. */
static ssize_t read_detached(int folder, const char *entry, uint8_t bytes[SIGNATURE_BYTES_MAX + 1],
                             struct file_identity *identity)
{
    char name[FILENAME_MAX];
    errno = ENAMETOOLONG;
    int file = name_of(entry, name) ? openat(folder, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY) : -1;
    if (file < 0) {
        return -1;
    }
    errno = EINVAL;
    ssize_t n = file_identity_of(file, identity) ? read_some(file, bytes, SIGNATURE_BYTES_MAX + 1) : -1;
    int error = errno;
    close(file);
    errno = error;
    return n;
}

bool seal_check(const struct signature_keys *keys, int folder, const char *entry, const uint8_t *bytes,
                const struct image_facts *facts, struct seal *seal, struct image_verdict *verdict)
{
    uint8_t signature[SIGNATURE_BYTES_MAX + 1];
    struct slice detached = { NULL, 0 };
    seal_of(keys, folder, entry, seal); /* what stands where the .sig cannot be opened: no reason to look each time */
    if (keys == NULL) {
        return true;
    }
    ssize_t n = read_detached(folder, entry, signature, &seal->detached);
    int error = n < 0 ? errno : 0;
    if (n >= 0) {
        detached = (struct slice){ (const char *)signature, (size_t)n };
    }
    bool good = signature_check(keys, bytes, facts, detached, &seal->by, verdict);
    if (!good && error != 0 && error != ENOENT) { /* it may be what vouches for the image, however bad its trailer is */
        verdict->fault = IMAGE_FAULT_UNREADABLE;
        snprintf(verdict->detail, sizeof verdict->detail, "its .sig cannot be read: %s",
                 error == EINVAL ? "not a plain file" : strerror(error));
        snprintf(
            verdict->remedy, sizeof verdict->remedy,
            "let the server's user read the .sig, a plain file; a link out of the repository needs --sandbox-read");
    }
    return good;
}
