#include "server/known_types.h"

#include "base/nearest.h"

#include <stdio.h>
#include <string.h>

struct known_type {
    const char *name;
    size_t distance;
};

struct known_types {
    struct known_type list[KNOWN_TYPES_MAX]; /* the nearest first; of equally near ones as the catalog has them */
    size_t listed, all;
};

static void add(struct known_types *types, const char *name, size_t distance)
{
    size_t at = types->listed;
    types->all++;
    while (at > 0 && types->list[at - 1].distance > distance) {
        at--;
    }
    if (at == KNOWN_TYPES_MAX) {
        return;
    }
    types->listed += types->listed < KNOWN_TYPES_MAX;
    memmove(&types->list[at + 1], &types->list[at], (types->listed - at - 1) * sizeof types->list[0]);
    types->list[at] = (struct known_type){ name, distance };
}

static void find(const struct catalog *catalog, const char *wanted, struct known_types *types)
{
    const char *before = "";
    *types = (struct known_types){ .listed = 0 };
    for (size_t i = 0; i < catalog_image_count(catalog); i++) { /* ordered by type */
        const char *name = catalog_image_at(catalog, i)->type;
        if (name[0] != '\0' && strcmp(name, before) != 0) {
            add(types, name, nearest_distance(wanted, name));
            before = name;
        }
    }
}

void known_types_remedy(const struct catalog *catalog, struct slice wanted, char *to, size_t size)
{
    char text[TYPE_TEXT_MAX + 1];
    struct known_types types;
    size_t used = 0, i = 0;
    (void)slice_copy(wanted, text, sizeof text); /* a longer one is like none of them */
    find(catalog, text, &types);
    if (types.all == 0) {
        snprintf(to, size, "the repository has none yet: add an image");
        return;
    }
    for (; i < types.listed && used + TYPE_TEXT_MAX + 40 < size; i++) {
        used +=
            (size_t)snprintf(to + used, size - used, "%s%s", i == 0 ? "types there are: " : ", ", types.list[i].name);
    }
    if (i < types.all) {
        snprintf(to + used, size - used, " and %zu more: `updraft firmware ls`", types.all - i);
    }
}
