/* Who is offered a new image of a type: whoever asks, or nobody before an operator has published it. [offer] in the
 * configuration, `<type> = newest|published`, and its key `offer` for the other types.
 */
#ifndef FLEET_OFFERING_H
#define FLEET_OFFERING_H

#include "base/status.h"
#include "base/text.h"

#include <stdbool.h>

#define OFFERING_TYPE_MAX 64

enum offering {
    OFFER_NEWEST_TO_ALL, /* "newest": whoever asks gets the newest image, unless a rollout says otherwise */
    OFFER_PUBLISHED,     /* "published": only what an operator has published */
};

struct offerings;
struct offerings *offerings_new(enum offering fallback);
void offerings_free(struct offerings *offerings);
/* One line of [offer]. *why as in assignments_add_line. */
enum status offerings_add_line(struct offerings *offerings, struct slice type, struct slice word, const char **why);
bool offering_from_word(struct slice word, enum offering *offering);
const char *offering_word(enum offering offering);

/* For the types that have no line. */
void offerings_set_fallback(struct offerings *offerings, enum offering fallback);

/* The lines, in the order in which they were added. */
typedef void (*offering_fn)(void *owner, const char *type, enum offering offering);
void offerings_each(const struct offerings *offerings, offering_fn on_offering, void *owner);

enum offering offerings_of(const struct offerings *offerings, struct slice type);

#endif
