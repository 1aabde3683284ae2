/* Putting an image into the repository, and taking one out: checked first, then written beside its place, synced, and
 * renamed, so that no scan ever sees a part of it. Blocking: for a worker thread.
 *
 * A scan reads whatever a link leads to; nothing here changes what lies outside the repository. A folder that is a
 * relative link to another one inside is followed; any other link is refused. A file that is a link gives way to the
 * image itself (with `replace`), or is removed; what it leads to stays.
 */
#ifndef REPO_PLACE_H
#define REPO_PLACE_H

#include "base/status.h"
#include "proto/image.h"
#include "repo/file_identity.h"
#include "repo/filename.h"
#include "repo/seal.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PLACE_PATH_MAX 192

/*    name                 word */
#define PLACE_RESULT_LIST(X)                                                                                           \
    X(DONE, "done")                                                                                                    \
    X(EXISTS, "exists")                                                                                                \
    X(REJECTED, "rejected")                       /* by the image check: see verdict */                                \
    X(CONTRADICTS_VERSION, "contradicts-version") /* the version inside is another than the name's */                  \
    X(CONTRADICTS_CHIP, "contradicts-chip")       /* other images of the type are for another chip */                  \
    X(FAILED, "not-written")                      /* see status */

enum place_result {
#define X(name, word) PLACE_##name,
    PLACE_RESULT_LIST(X)
#undef X
};

const char *place_result_word(enum place_result result);

struct place_order {
    const char *root;
    char path[PLACE_PATH_MAX]; /* from place_path */
    struct filename name;      /* what the path promises */
    const uint8_t *bytes;      /* borrowed */
    size_t size;
    const uint8_t *detached; /* its .sig, borrowed; NULL = it has none */
    size_t detached_size;
    const struct signature_keys *keys; /* whose signatures count, borrowed; NULL = none is asked for */
    bool replace;
    enum chip chip; /* of the other images of the type; CHIP_UNKNOWN = none, or file systems */
};

struct place_outcome {
    enum place_result result;
    struct image_facts facts;      /* of DONE, CONTRADICTS_… */
    struct image_verdict verdict;  /* of REJECTED */
    enum status status;            /* of FAILED */
    struct file_identity identity; /* of DONE: of the file as it lies there now */
    char message[512];             /* of all but DONE and REJECTED */
    char remedy[256];
};

/* Why a type or a version cannot be part of a name: constant texts. */
struct place_name_fault {
    bool bad_type; /* else the version */
    const char *reason, *remedy;
};

/* Where an image of this type, version and role lies: "<type>/<version>.bin", ".fs.bin", ".user1.bin", ".user2.bin",
 * ".gz" behind. Returns false, with *fault, where type or version cannot be a name. */
bool place_path(struct slice type, struct slice version, enum filename_role role, bool gzip, struct place_order *order,
                struct place_name_fault *fault);

/* A .sig goes to its place first, so that no scan finds the image without it; one that lay there and is not this
 * image's is removed.
 *
 * Of several that place a file of one name at once without `replace`, in whichever process, one has DONE and the others
 * EXISTS. (On a file system that has neither RENAME_NOREPLACE nor links, one that comes in the very moment is lost.) */
void place_image(const struct place_order *order, struct place_outcome *outcome);

/* Removes the file with its .sig, and its folder where that is empty then: DONE or FAILED. */
void place_remove(const char *root, const char *path, struct place_outcome *outcome);

/* Removes what uploads left behind whose process was killed, but nothing that another process is just writing. Returns
 * how many files that were. */
size_t place_sweep(const char *root);

#endif
