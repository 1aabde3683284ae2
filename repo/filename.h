/* The naming conventions of the repository: what a path inside it promises. Pure: looks at the name alone.
 *
 *   <project>_<version>.ino.<type>.bin          sketch, in any folder
 *   spiffs_<version>_<N>M.bin, littlefs_…       file system for every type with N MiB of flash, in any folder
 *   <type>/<version>.bin                        sketch
 *   <type>/<version>.fs.bin                     file system of that type
 *   <type>/<version>.user1.bin, .user2.bin      the two slots of a native-SDK image
 *   <label>.bin at the top                      image by exact label
 *   any of these with .gz behind                compressed
 */
#ifndef REPO_FILENAME_H
#define REPO_FILENAME_H

#include "base/text.h"
#include "proto/type.h"
#include "proto/version.h"

#include <stdbool.h>
#include <stdint.h>

#define LABEL_TEXT_MAX   64
#define PROJECT_TEXT_MAX 64

enum filename_role {
    FILENAME_SKETCH,    /* type, version, perhaps project */
    FILENAME_SHARED_FS, /* version, flash_mib */
    FILENAME_FS,        /* type, version */
    FILENAME_USER1,     /* type, version */
    FILENAME_USER2,
    FILENAME_LABEL, /* label */
};

enum filename_result {
    FILENAME_OK,
    FILENAME_IGNORED, /* no firmware by its name: hidden, temporary, or neither .bin nor .bin.gz, nor signed */
    FILENAME_REFUSED, /* meant as firmware, but the name says too little: see detail and remedy */
};

struct filename {
    enum filename_role role;
    bool gzip;
    uint32_t flash_mib;
    char type[TYPE_TEXT_MAX + 1];
    char label[LABEL_TEXT_MAX + 1];
    char project[PROJECT_TEXT_MAX + 1];
    struct version version; /* version.text is "" for a label */
};

struct filename_refusal {
    char detail[160]; /* "no version before .ino" */
    char remedy[200]; /* "rename it to truc_1_0_0.ino.d1_mini.bin" */
};

/* `path` is relative to the repository, parts separated by `/`, any bytes. *name is written on FILENAME_OK alone,
 * *refusal on FILENAME_REFUSED alone (its text is printable whatever the bytes of the path). */
enum filename_result filename_parse(struct slice path, struct filename *name, struct filename_refusal *refusal);

/* Whether the version in a name may have it: letters, digits and . _ - + ~ ( ). */
bool filename_version_takes(char c);

#endif
