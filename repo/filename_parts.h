/* What the rooms of filename share; nobody else's. filename.c knows the conventions and which of them a name follows,
 * filename_export.c reads `<project>_<version>.ino.<type>.bin`, where one part runs into the next. */
#ifndef REPO_FILENAME_PARTS_H
#define REPO_FILENAME_PARTS_H

#include "repo/filename.h"

#include <string.h>

/* A path taken apart. */
struct parts {
    struct slice path;
    struct slice folder; /* of the last `/`; empty at the top */
    struct slice name;   /* behind it */
    struct slice stem;   /* the name without `.bin` or `.bin.gz` */
    bool at_top;
    bool gzip;
    bool is_bin;
};

static inline const char *extension(const struct parts *parts)
{
    return parts->gzip ? ".bin.gz" : ".bin";
}

static inline struct slice before(struct slice text, size_t at)
{
    return (struct slice){ text.at, at };
}

static inline struct slice after(struct slice text, size_t at)
{
    return (struct slice){ text.at + at, text.len - at };
}

/* Takes a suffix off; false, changing nothing, where it is not there. */
static inline bool cut_suffix(struct slice *text, const char *suffix)
{
    if (!slice_ends_with(*text, suffix)) {
        return false;
    }
    text->len -= strlen(suffix);
    return true;
}

/* Where the last `part` begins; false where there is none. */
static inline bool find_last(struct slice text, const char *part, size_t *at)
{
    for (size_t i = text.len; i-- > 0;) {
        if (slice_starts_with(after(text, i), part)) {
            *at = i;
            return true;
        }
    }
    return false;
}

/* --- filename -------------------------------------------------------------------------------------------------- */

/* NULL with *version written, or what is wrong with the text as the version in a file's name. */
const char *filename_read_version(struct slice text, struct version *version);

/* A name as a refusal repeats it: escaped, and cut where it is very long. */
struct shown {
    char text[72];
};

struct shown filename_show(struct slice bytes);

/* The valid type or label closest to a name, to be proposed instead of it. */
struct shown filename_tidied(struct slice name);

__attribute__((format(printf, 3, 4))) void filename_say(char *to, size_t size, const char *format, ...);

#define DETAIL(refusal, ...) filename_say((refusal)->detail, sizeof(refusal)->detail, __VA_ARGS__)
#define REMEDY(refusal, ...) filename_say((refusal)->remedy, sizeof(refusal)->remedy, __VA_ARGS__)

/* --- filename_export -------------------------------------------------------------------------------------------- */

bool filename_has_ino(const struct parts *parts);
enum filename_result filename_read_export(const struct parts *parts, struct filename *name,
                                          struct filename_refusal *refusal);

#endif
