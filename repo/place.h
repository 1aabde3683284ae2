/* Putting an image into the repository, and taking one out: checked first, then written beside its place, synced, and
 * renamed, so that no scan ever sees a part of it. Blocking: for a worker thread.
 */
#ifndef REPO_PLACE_H
#define REPO_PLACE_H

#include "base/status.h"
#include "proto/image.h"
#include "repo/file_identity.h"
#include "repo/filename.h"

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
    bool replace;
    enum chip chip; /* of the other images of the type; CHIP_UNKNOWN = none, or file systems */
};

struct place_outcome {
    enum place_result result;
    struct image_facts facts;      /* of DONE, CONTRADICTS_… */
    struct image_verdict verdict;  /* of REJECTED */
    enum status status;            /* of FAILED */
    struct file_identity identity; /* of DONE: of the file as it lies there now */
    char message[300];             /* of all but DONE and REJECTED */
    char remedy[200];
};

/* Where an image of this type, version and role lies: "<type>/<version>.bin", ".fs.bin", ".user1.bin", ".user2.bin",
 * ".gz" behind. Returns false, *why being a constant text, where type or version cannot be a name: `bad_type` tells
 * which. */
bool place_path(struct slice type, struct slice version, enum filename_role role, bool gzip, struct place_order *order,
                bool *bad_type, const char **why);

void place_image(const struct place_order *order, struct place_outcome *outcome);

/* Removes the file, and its folder where that is empty then. */
enum status place_remove(const char *root, const char *path);

#endif
