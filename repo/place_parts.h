/* What the rooms of place share; nobody else's. place.c decides what may be placed, place_disk.c does it,
 * place_trouble.c says in words what kept an image from its place: the thing, the reason, the remedy. */
#ifndef REPO_PLACE_PARTS_H
#define REPO_PLACE_PARTS_H

#include "repo/place.h"

#include <sys/types.h>

/* --- place_disk --------------------------------------------------------------------------------------------------- */

/* Writes what was checked, and puts it in its place: DONE, EXISTS or FAILED. */
void place_write(const struct place_order *order, struct place_outcome *outcome);

/* --- place_trouble ------------------------------------------------------------------------------------------------ */

/* What was being done, to which file of which repository. */
struct place_site {
    const char *root;
    const char *path;
    const char *verb; /* "written", "removed" */
};

/* Where an error was met: the same number means another thing at each. */
enum place_step {
    PLACE_AT_ROOT,   /* opening the repository, making a folder in it */
    PLACE_AT_FOLDER, /* opening the folder */
    PLACE_AT_FILE,   /* whatever was done in the folder */
    PLACE_ANYWHERE,  /* of the table's rows alone */
};

/* The outcome of an errno value: PLACE_FAILED, with status, message and remedy. */
void place_fail(struct place_outcome *outcome, const struct place_site *site, enum place_step step, int error);

/* The same where something that is no file lies under the name; `mode` is its st_mode. */
void place_fail_in_the_way(struct place_outcome *outcome, const struct place_site *site, mode_t mode);

#endif
