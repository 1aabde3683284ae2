/* "d1_mini, d1, door": the types that the repository has, for somebody who named another: those most like it first. */
#ifndef SERVER_KNOWN_TYPES_H
#define SERVER_KNOWN_TYPES_H

#include "repo/catalog.h"

#include <stddef.h>

#define KNOWN_TYPES_MAX 12 /* listed; then "and 30 more" */

/* Writes what to do about an unknown type: the types there are, or that there are none. */
void known_types_remedy(const struct catalog *catalog, struct slice wanted, char *to, size_t size);

#endif
