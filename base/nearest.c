#include "base/nearest.h"

#include <string.h>

#define NAME_MAX_LENGTH 40

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Levenshtein's: letters added, left out or changed. Row by row, the one above kept. */
static size_t edit_distance(const char *a, const char *b)
{
    size_t a_length = strlen(a), b_length = strlen(b);
    size_t above[NAME_MAX_LENGTH + 1], row[NAME_MAX_LENGTH + 1];
    if (a_length > NAME_MAX_LENGTH || b_length > NAME_MAX_LENGTH) {
        return NAME_MAX_LENGTH;
    }
    for (size_t k = 0; k <= b_length; k++) {
        above[k] = k;
    }
    for (size_t i = 1; i <= a_length; i++) {
        row[0] = i;
        for (size_t k = 1; k <= b_length; k++) {
            size_t changed = above[k - 1] + (a[i - 1] != b[k - 1]);
            row[k] = least(changed, 1 + least(above[k], row[k - 1]));
        }
        memcpy(above, row, sizeof row);
    }
    return above[b_length];
}

size_t nearest_distance(const char *wanted, const char *name)
{
    size_t length = strlen(wanted);
    return length >= 2 && strncmp(wanted, name, length) == 0 ? 0 : edit_distance(wanted, name);
}

void nearest_try(struct nearest *nearest, const char *name)
{
    size_t length = strlen(nearest->wanted);
    size_t distance = nearest_distance(nearest->wanted, name);
    size_t allowed = length < 4 ? 1 : 2;
    if (distance <= allowed && distance < length && (nearest->name == NULL || distance < nearest->distance)) {
        nearest->name = name;
        nearest->distance = distance;
    }
}
