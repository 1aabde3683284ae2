/* "Did you mean": the name that a mistyped one is nearest to. */
#ifndef BASE_NEAREST_H
#define BASE_NEAREST_H

#include <stddef.h>

/* Keeps the best of the names it is shown. Begin with { .wanted = … }. */
struct nearest {
    const char *wanted;
    const char *name; /* the best so far; NULL = none is near */
    size_t distance;
};

/* A name counts as near when it begins with what was written, or differs from it by at most two letters (one, where
 * fewer than four were written). */
void nearest_try(struct nearest *nearest, const char *name);

/* By how many letters a name differs from what was written; 0 also where it begins with it. Names of more than 40
 * letters are 40 away. */
size_t nearest_distance(const char *wanted, const char *name);

#endif
