/* Devices alike share a sentence, or 10,000 MACs would make as many. */
#include "server/survey.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAC_SHOWN_SIZE 18

void survey_begin(struct survey *survey, struct trigger *trigger, const struct trigger_order *order,
                  const struct trigger_plan *plan)
{
    const struct build *builds[] = { plan->offer.plain, plan->offer.gzip };
    *survey = (struct survey){ .trigger = trigger, .order = order, .plan = plan };
    for (size_t i = 0; i < sizeof builds / sizeof builds[0]; i++) {
        if (builds[i] != NULL) {
            survey->images[i] = image_of_build(builds[i]);
            image_ref(survey->images[i]);
        }
    }
    fleet_walk_begin(trigger->fleet, &survey->walk, order->device_count == 0 ? order->type : slice_of(""));
}

void survey_end(struct survey *survey)
{
    fleet_walk_end(&survey->walk);
    for (size_t i = 0; i < sizeof survey->images / sizeof survey->images[0]; i++) {
        if (survey->images[i] != NULL) {
            image_unref(survey->images[i]);
        }
    }
}

/* --- finding ------------------------------------------------------------------------------------------------------ */

/* Who says that it is there is waited for, and who says nothing of that but asked us once; who said that it is gone
 * counts when it comes. */
static bool is_expected(const struct device *device)
{
    return device->said_online ? device->online : device->seen_ms != 0;
}

/* Whether its own record says already that it cannot take the image: decided as if it asked now, and as if it wanted it
 * in any case. Where the record is silent, nothing speaks against it. */
static bool is_refused(const struct survey *survey, const struct device *device, struct decision *decision)
{
    struct device_request request;
    struct decision_input input = {
        .request = &request,
        .offer = survey->plan->offer,
        .running_flash_mode = FLASH_MODE_UNKNOWN,
        .unconditional = true,
        .fs_gzip = true, /* nobody told us that it is not so */
    };
    if (!device_recall(device, &request)) {
        return false;
    }
    request.mode = survey->order->fs ? DEVICE_MODE_FS : DEVICE_MODE_SKETCH;
    const struct image *running = device->has_md5
                                      ? catalog_find_md5(survey->trigger->catalog, device->md5,
                                                         slice_of(device->type->name), &input.running_flash_mode)
                                      : NULL;
    input.running = running != NULL ? &running->build : NULL;
    decision_make(&input, decision);
    return !decision_serves(decision);
}

static enum survey_finding find_against(const struct survey *survey, const struct device *device,
                                        struct decision *decision)
{
    if (device == NULL) {
        return SURVEY_NEVER_SEEN;
    }
    if (!slice_is(survey->order->type, device->type->name)) {
        return SURVEY_OTHER_TYPE;
    }
    return is_refused(survey, device, decision) ? SURVEY_REFUSED : SURVEY_NOTHING;
}

/* Where it belongs; NULL where there is no place left: a dozen other types and reasons have been found. */
static struct survey_found *find_place(struct survey *survey, enum survey_finding finding, enum reason reason,
                                       const char *type)
{
    for (size_t i = 0; i < survey->found_count; i++) {
        struct survey_found *found = &survey->found[i];
        bool same_text = finding != SURVEY_OTHER_TYPE || strcmp(found->text, type) == 0;
        if (found->finding == finding && found->reason == reason && same_text) {
            return found;
        }
    }
    if (survey->found_count == SURVEY_FINDINGS_MAX) {
        return NULL;
    }
    struct survey_found *found = &survey->found[survey->found_count++];
    *found = (struct survey_found){ .finding = finding, .reason = reason };
    return found;
}

static void note(struct survey *survey, const struct mac *mac, const struct device *device)
{
    struct decision decision = { .reason = REASON_COUNT };
    enum survey_finding finding = find_against(survey, device, &decision);
    const char *text = finding == SURVEY_OTHER_TYPE ? device->type->name
                       : finding == SURVEY_REFUSED  ? decision.detail
                                                    : "";
    if (finding == SURVEY_NOTHING) {
        return;
    }
    struct survey_found *found =
        find_place(survey, finding, finding == SURVEY_REFUSED ? decision.reason : REASON_COUNT, text);
    if (found == NULL) {
        return;
    }
    if (found->count == 0) {
        snprintf(found->text, sizeof found->text, "%s", text);
    }
    if (found->count < SURVEY_NAMED) {
        found->first[found->count] = *mac;
    }
    found->count++;
}

static enum survey_step next_device(struct survey *survey, struct mac *mac, const struct device **device)
{
    const struct trigger_order *order = survey->order;
    if (order->device_count == 0) {
        *device = fleet_walk_next(&survey->walk);
        if (*device != NULL) {
            *mac = (*device)->mac;
        }
        return *device == NULL ? SURVEY_DONE : is_expected(*device) ? SURVEY_MET : SURVEY_PASSED;
    }
    if (survey->next == order->device_count) {
        return SURVEY_DONE;
    }
    *mac = order->devices[survey->next++];
    *device = fleet_find(survey->trigger->fleet, mac);
    return SURVEY_MET;
}

enum survey_step survey_next(struct survey *survey, struct mac *mac, const struct device **device)
{
    enum survey_step step = next_device(survey, mac, device);
    if (step != SURVEY_MET) {
        return step;
    }
    bool runs_it = *device != NULL && (*device)->has_md5 && rollout_target_runs(&survey->plan->target, (*device)->md5);
    survey->known += *device != NULL;
    survey->current += runs_it;
    if (!runs_it) {
        note(survey, mac, *device);
    }
    return SURVEY_MET;
}

/* --- saying ------------------------------------------------------------------------------------------------------- */

/* As devices and their labels have it: 5C:CF:7F:00:00:01. */
static void print_mac(const struct mac *mac, char text[MAC_SHOWN_SIZE])
{
    const uint8_t *b = mac->bytes;
    snprintf(text, MAC_SHOWN_SIZE, "%02X:%02X:%02X:%02X:%02X:%02X", b[0], b[1], b[2], b[3], b[4], b[5]);
}

/* "A", "A and B", "A, B, C and 7 others". */
static void print_who(const struct survey_found *found, char *to, size_t size)
{
    size_t named = found->count < SURVEY_NAMED ? found->count : SURVEY_NAMED;
    size_t others = found->count - named, used = 0;
    for (size_t i = 0; i < named; i++) {
        char mac[MAC_SHOWN_SIZE];
        const char *before = i == 0 ? "" : i + 1 == named && others == 0 ? " and " : ", ";
        print_mac(&found->first[i], mac);
        used += (size_t)snprintf(to + used, size - used, "%s%s", before, mac);
    }
    if (others > 0) {
        snprintf(to + used, size - used, " and %zu %s", others, others == 1 ? "other" : "others");
    }
}

static void print_sentence(const struct survey *survey, const struct survey_found *found, char *to, size_t size)
{
    const char *type = survey->plan->target.type;
    bool one = found->count == 1;
    char who[SURVEY_NAMED * (MAC_SHOWN_SIZE + 4) + 40];
    struct trigger_message message;
    print_who(found, who, sizeof who);
    switch (found->finding) {
    case SURVEY_OTHER_TYPE:
        snprintf(to, size, "%s %s as %s, not %s: check the MAC, or publish to %s", who, one ? "asks" : "ask",
                 found->text, type, found->text);
        break;
    case SURVEY_NEVER_SEEN:
        (void)trigger_message(survey->trigger, survey->order, survey->plan, "", &found->first[0], 0, &message);
        snprintf(to, size,
                 "%s %s never seen here since the server started: %s hears the command only if its topic is %s%s", who,
                 one ? "was" : "were", one ? "it" : "each", one ? "" : "like ", message.topic);
        break;
    default:
        snprintf(to, size, "%s would be refused, %s: %s%s", who, reason_word(found->reason), found->text,
                 one ? "" : " (the first of them)");
        break;
    }
}

void survey_say(const struct survey *survey, void (*say)(void *owner, const char *sentence), void *owner)
{
    char sentence[700];
    for (size_t i = 0; i < survey->found_count; i++) {
        print_sentence(survey, &survey->found[i], sentence, sizeof sentence);
        say(owner, sentence);
    }
}

/* --- the whole of it ---------------------------------------------------------------------------------------------- */

struct survey_job {
    struct turn_job job;
    struct survey survey;
    struct kept_order kept;
    struct trigger_plan plan;
    surveyed_fn on_done;
    void *owner;
};

static bool on_turn(void *owner, struct turn_budget *budget)
{
    struct survey_job *job = owner;
    struct mac mac;
    const struct device *device;
    do {
        if (survey_next(&job->survey, &mac, &device) == SURVEY_DONE) {
            job->on_done(job->owner, &job->survey);
            survey_end(&job->survey);
            kept_order_drop(&job->kept);
            free(job);
            return false;
        }
    } while (!turn_is_spent(budget));
    return true;
}

void survey_run(struct trigger *trigger, const struct trigger_order *order, const struct trigger_plan *plan,
                surveyed_fn on_done, void *owner)
{
    struct survey_job *job = calloc(1, sizeof *job);
    assert(job != NULL);
    job->job = (struct turn_job){ .step = on_turn, .owner = job };
    job->plan = *plan;
    job->on_done = on_done;
    job->owner = owner;
    kept_order_make(&job->kept, order);
    survey_begin(&job->survey, trigger, &job->kept.order, &job->plan);
    turns_add(trigger_turns(trigger), &job->job);
    turns_run(trigger_turns(trigger));
}
