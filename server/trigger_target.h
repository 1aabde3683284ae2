/* Which build an order means: of a sketch or a file system in all its forms, or of the native SDK's two slots. */
#ifndef SERVER_TRIGGER_TARGET_H
#define SERVER_TRIGGER_TARGET_H

#include "server/trigger.h"

/* What the type has of `version`, or the newest (NULL); of slots the first, where it has no sketch. Returns false, with
 * catalog_offer's reason in *missing, where there is nothing. */
bool trigger_find_offer(const struct catalog *catalog, const struct trigger_order *order, const char *version,
                        struct offer *offer, enum reason *missing);

/* All that lies there of the target's version, ordered or not. */
size_t trigger_find_forms(const struct catalog *catalog, const struct rollout_target *target,
                          struct image *forms[ROLLOUT_FORMS_MAX]);

/* plan->offer, ->image, ->is_slots, ->is_several and ->target. */
void trigger_make_target(const struct catalog *catalog, const struct trigger_order *order, const struct offer *offer,
                         struct trigger_plan *plan);

#endif
