/* The devices that an order means, one after the other: those named, or all of the type that are expected to hear of
 * it. On the way it counts, and notes what speaks against one of them, in sentences for the operator.
 *
 * A fleet may have hundreds of thousands, so it is looked through in steps (server/turns.h), while devices come, ask
 * change and are forgotten, and the catalog changes too.
 */
#ifndef SERVER_SURVEY_H
#define SERVER_SURVEY_H

#include "server/trigger.h"

#define SURVEY_FINDINGS_MAX 12
#define SURVEY_NAMED        3 /* devices named in one sentence */
#define SURVEY_FIRST        20

enum survey_finding {
    SURVEY_NOTHING,
    SURVEY_OTHER_TYPE, /* of the device's own */
    SURVEY_NEVER_SEEN,
    SURVEY_POLICY,  /* an operator's word on it goes before */
    SURVEY_RECORD,  /* it proved something with this build: LOOP_GUARD, NEVER_AGAIN */
    SURVEY_REFUSED, /* by what it said of itself when it last asked */
    SURVEY_FINDINGS
};

/* What was found of several devices alike. */
struct survey_found {
    enum survey_finding finding;
    enum reason reason;
    char text[200]; /* the type that they ask as; the build that they are kept on; the figures of the first refused */
    size_t count;
    struct mac first[SURVEY_NAMED];
};

struct survey_site;
struct survey {
    struct trigger *trigger;
    const struct trigger_order *order; /* borrowed, like the plan, until survey_end */
    const struct trigger_plan *plan;
    const struct rollout *rollout; /* whose percentage counts; NULL = none yet: all are counted */
    struct image *images[2];       /* of the offer, counted */
    uint64_t next;                 /* of those named; of all, by number; of the group: after whom */
    size_t known, current, met, skipped;
    size_t away;                    /* not skipped, and not there */
    struct survey_site *sites;      /* of those that are to get it; only where sites are capped */
    size_t site_most;               /* the most that share one, once there are more than the window has room for: so
                                       many or more */
    struct mac first[SURVEY_FIRST]; /* of those that are to get it: met, not skipped */
    size_t found_count;
    struct survey_found found[SURVEY_FINDINGS_MAX];
};

void survey_begin(struct survey *survey, struct trigger *trigger, const struct trigger_order *order,
                  const struct trigger_plan *plan);

/* One step: met = `joiner` is meant, .skip_why where it is left out, and `away` where it said that it is gone. Passed =
 * it was of one that is not meant. */
enum survey_step { SURVEY_MET, SURVEY_PASSED, SURVEY_DONE };
struct surveyed {
    struct rollout_joiner joiner;
    char why[200];
};
enum survey_step survey_next(struct survey *survey, struct surveyed *surveyed);

/* Once all were met: whether one command to the type's topic would tell them, where there is one. */
bool survey_suits_type(const struct survey *survey);

/* Says each note, once all were met. */
void survey_say(const struct survey *survey, void (*say)(void *owner, const char *sentence), void *owner);

void survey_end(struct survey *survey); /* also before the last */

/* The whole of it, for a plan: on_done within the call where the fleet is small, else later; exactly once. Order and
 * plan are copied. */
typedef void (*surveyed_fn)(void *owner, const struct survey *survey);
void survey_run(struct trigger *trigger, const struct trigger_order *order, const struct trigger_plan *plan,
                surveyed_fn on_done, void *owner);

#endif
