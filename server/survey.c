/* Devices alike share a sentence, or 10,000 MACs would make as many. */
#include "server/survey.h"

#include "server/trigger_target.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

#define STALE_S 3600 /* not heard of for so long: others first */

/* --- together or one by one --------------------------------------------------------------------------------------- */

struct survey_site {
    uint64_t site;
    size_t count;
    UT_hash_handle hh;
};

static size_t window_of(const struct survey *survey)
{
    struct window window;
    window_init(&window, survey->order->in_flight);
    return window_size(&window);
}

/* Counted as long as it may matter, so that a million sites take no memory. */
static void count_site(struct survey *survey, uint64_t at)
{
    struct survey_site *site;
    if (survey->trigger->site_in_flight == 0 || survey->met > window_of(survey)) {
        return;
    }
    HASH_FIND(hh, survey->sites, &at, sizeof at, site);
    if (site == NULL) {
        site = calloc(1, sizeof *site);
        assert(site != NULL);
        site->site = at;
        HASH_ADD(hh, survey->sites, site, sizeof site->site, site);
    }
    site->count++;
    survey->site_most = site->count > survey->site_most ? site->count : survey->site_most;
}

bool survey_suits_type(const struct survey *survey)
{
    struct rollout_order of = trigger_rollout_order(survey->trigger, survey->order, survey->plan);
    struct rollout_crowd crowd = { .members = survey->met,
                                   .skipped = survey->skipped,
                                   .waiting = survey->met - survey->skipped - survey->away,
                                   .window = window_of(survey),
                                   .site_most = survey->site_most };
    return rollout_suits_type(&of, &crowd);
}

/* --- life -----------------------------------------------------------------------------------------------------------
 */

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
}

void survey_end(struct survey *survey)
{
    struct survey_site *site, *tmp;
    HASH_ITER(hh, survey->sites, site, tmp)
    {
        HASH_DEL(survey->sites, site);
        free(site);
    }
    for (size_t i = 0; i < sizeof survey->images / sizeof survey->images[0]; i++) {
        if (survey->images[i] != NULL) {
            image_unref(survey->images[i]);
        }
    }
}

/* --- finding ------------------------------------------------------------------------------------------------------ */

/* A shared file system is there in several flash sizes: the one for this device, where it says its own. */
static struct offer offer_for(const struct survey *survey, const struct device_request *request)
{
    const struct trigger_plan *plan = survey->plan;
    struct catalog_query query = { .type = survey->order->type,
                                   .kind = OFFER_FS,
                                   .wanted = plan->target.version,
                                   .flash_bytes = request->flash_bytes };
    struct offer offer = { NULL, NULL };
    enum reason missing;
    if (plan->image->role == FILENAME_SHARED_FS && request->flash_bytes != 0) {
        catalog_offer(survey->trigger->catalog, &query, &offer, &missing);
    }
    return offer.plain != NULL || offer.gzip != NULL ? offer : plan->offer;
}

/* Whether its own record says already that it cannot take the image: decided as if it asked now, and as if it wanted it
 * in any case. Where the record is silent, nothing speaks against it. */
static bool is_refused(const struct survey *survey, const struct device *device, struct decision *decision)
{
    struct device_request request;
    struct decision_input input = {
        .request = &request,
        .running_flash_mode = FLASH_MODE_UNKNOWN,
        .unconditional = true,
        .fs_gzip = true, /* nobody told us that it is not so */
    };
    if (device->client == CLIENT_PLAIN) {
        return false;
    }
    device_ask_again(survey->trigger->fleet->devices, device, survey->order->fs ? DEVICE_MODE_FS : DEVICE_MODE_SKETCH,
                     &request);
    input.offer = offer_for(survey, &request);
    const char *type = words_text(survey->trigger->fleet->words, device->type->name);
    const struct image *running = device->has_md5 ? catalog_find_md5(survey->trigger->catalog, device->md5,
                                                                     slice_of(type), &input.running_flash_mode)
                                                  : NULL;
    input.running = running != NULL ? &running->build : NULL;
    decision_make(&input, decision);
    return !decision_serves(decision);
}

static bool runs_it(const struct survey *survey, const struct device *device)
{
    const struct rollout_target *target = &survey->plan->target;
    const struct words *words = survey->trigger->fleet->words;
    if (target->fs) {
        return version_same_text(slice_of(words_text(words, device->fs_version)), slice_of(target->version));
    }
    if (survey->plan->is_slots) {
        return version_same_text(slice_of(words_text(words, device->version)), slice_of(target->version));
    }
    for (size_t i = 0; device->has_md5 && i < target->run_md5_count; i++) {
        if (memcmp(device->md5, target->run_md5[i], 16) == 0) {
            return true;
        }
    }
    return false;
}

/* A pin, a block, an assignment to another build. */
static bool is_withheld(const struct survey *survey, const struct mac *mac, struct decision *decision)
{
    const struct fleet *fleet = survey->trigger->fleet;
    const struct rollout_target *target = &survey->plan->target;
    struct direction direction;
    fleet_direct(fleet, mac, survey->order->type, survey->order->fs, NULL, &direction);
    const struct policy *policy = &direction.policy;
    bool other = policy->wanted[0] != '\0' && !version_same_text(slice_of(policy->wanted), slice_of(target->version));
    enum reason refusal = policy_refusal(policy);
    decision->reason = refusal != REASON_COUNT ? refusal : other ? direction.source : REASON_COUNT;
    snprintf(decision->detail, sizeof decision->detail, "%s", other ? policy->wanted : "");
    return decision->reason != REASON_COUNT;
}

/* What it proved with this build: it would be refused it if it asked now. */
static bool is_held(const struct survey *survey, const struct mac *mac, const struct device *device,
                    struct decision *decision)
{
    const struct trigger *trigger = survey->trigger;
    const struct rollout_target *target = &survey->plan->target;
    struct moment now = clock_moment(trigger->loop);
    struct permission permission = { .reason = REASON_COUNT };
    bool is_blind = target->fs && device != NULL && words_text(trigger->fleet->words, device->fs_version)[0] == '\0';
    struct candidate candidate = {
        .type = survey->order->type,
        .fs = target->fs,
        .run_md5 = target->run_md5[0],
        .served_max = is_blind ? 1 : trigger->fleet->settings.loop_guard_max,
        .is_blind = is_blind,
    };
    if (fleet_record_permits(trigger->fleet, mac, &candidate, &now, &permission)) {
        return false;
    }
    decision->reason = permission.reason;
    snprintf(decision->detail, sizeof decision->detail, "%s", permission.detail);
    return true;
}

static enum survey_finding find_against(const struct survey *survey, const struct mac *mac, const struct device *device,
                                        struct decision *decision)
{
    if (is_withheld(survey, mac, decision)) {
        return SURVEY_POLICY;
    }
    if (is_held(survey, mac, device, decision)) {
        return SURVEY_RECORD;
    }
    if (device == NULL) {
        return SURVEY_NEVER_SEEN;
    }
    if (!slice_is(survey->order->type, words_text(survey->trigger->fleet->words, device->type->name))) {
        return SURVEY_OTHER_TYPE;
    }
    return is_refused(survey, device, decision) ? SURVEY_REFUSED : SURVEY_NOTHING;
}

/* Where it belongs: those alike; where there is no place left for a further kind, those of the same reason. NULL = a
 * dozen other types and reasons have been found. */
static struct survey_found *find_place(struct survey *survey, enum survey_finding finding, enum reason reason,
                                       const char *text)
{
    bool by_text = finding == SURVEY_OTHER_TYPE || finding == SURVEY_POLICY;
    struct survey_found *akin = NULL;
    for (size_t i = 0; i < survey->found_count; i++) {
        struct survey_found *found = &survey->found[i];
        bool is_akin = found->finding == finding && found->reason == reason;
        if (is_akin && (!by_text || strcmp(found->text, text) == 0)) {
            return found;
        }
        akin = is_akin ? found : akin;
    }
    if (survey->found_count == SURVEY_FINDINGS_MAX) {
        return finding == SURVEY_POLICY ? akin : NULL;
    }
    struct survey_found *found = &survey->found[survey->found_count++];
    *found = (struct survey_found){ .finding = finding, .reason = reason };
    return found;
}

static void count(struct survey *survey, const struct mac *mac, enum survey_finding finding, enum reason reason,
                  const char *text)
{
    struct survey_found *found = find_place(survey, finding, reason, text);
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

/* Writes what keeps the device out of it, or "". */
static void note(struct survey *survey, const struct mac *mac, const struct device *device, char *why, size_t size)
{
    struct decision decision = { .reason = REASON_COUNT };
    enum survey_finding finding = find_against(survey, mac, device, &decision);
    const char *type = device != NULL ? words_text(survey->trigger->fleet->words, device->type->name) : "";
    bool decided = finding == SURVEY_REFUSED || finding == SURVEY_POLICY || finding == SURVEY_RECORD;
    why[0] = '\0';
    if (finding == SURVEY_NOTHING) {
        return;
    }
    count(survey, mac, finding, decided ? decision.reason : REASON_COUNT, decided ? decision.detail : type);
    if (decided) {
        snprintf(why, size, "%s%s%s", reason_word(decision.reason), decision.detail[0] != '\0' ? ": " : "",
                 decision.detail);
    } else if (finding == SURVEY_OTHER_TYPE) {
        snprintf(why, size, "it asks as %s", type);
    }
}

/* The next MAC that the order may mean: MET; PASSED where there is nobody any more. */
static enum survey_step next_mac(struct survey *survey, struct mac *mac)
{
    const struct trigger_order *order = survey->order;
    const struct fleet *fleet = survey->trigger->fleet;
    if (order->device_count > 0) {
        if (survey->next == order->device_count) {
            return SURVEY_DONE;
        }
        *mac = order->devices[survey->next++];
        return SURVEY_MET;
    }
    if (order->group != NULL) {
        word_id group = words_find(fleet->words, slice_of(order->group));
        return policies_group_next(fleet->policies, group, &survey->next, mac) ? SURVEY_MET : SURVEY_DONE;
    }
    struct device *device = NULL;
    if (!devices_walk(fleet->devices, &survey->next, &device)) {
        return SURVEY_DONE;
    }
    *mac = device != NULL ? device->mac : *mac;
    return device != NULL ? SURVEY_MET : SURVEY_PASSED;
}

/* Of a group, who asks as another type is meant for another order; whoever is named is meant, and told about. */
static bool is_meant(const struct survey *survey, const struct mac *mac, const struct device *device)
{
    bool other =
        device != NULL && !slice_is(survey->order->type, words_text(survey->trigger->fleet->words, device->type->name));
    bool chosen = survey->rollout == NULL || rollout_selects(survey->trigger->fleet->rollouts, survey->rollout, mac);
    return chosen && (survey->order->device_count > 0 || !other);
}

enum survey_step survey_next(struct survey *survey, struct surveyed *surveyed)
{
    struct rollout_joiner *joiner = &surveyed->joiner;
    *surveyed = (struct surveyed){ .joiner = { .skip_why = NULL } };
    enum survey_step step = next_mac(survey, &joiner->mac);
    if (step != SURVEY_MET) {
        return step;
    }
    const struct device *device = devices_find(survey->trigger->fleet->devices, &joiner->mac);
    if (!is_meant(survey, &joiner->mac, device)) {
        return SURVEY_PASSED;
    }
    survey->met++;
    survey->known += device != NULL;
    if (device != NULL) {
        joiner->site = fleet_site(device->address);
        joiner->came_back = device->came_back;
        joiner->away = device->said_online && !device->online;
        joiner->stale = !device->online && device->seen_s + STALE_S < clock_moment(survey->trigger->loop).unix_s;
    }
    if (device != NULL && runs_it(survey, device)) {
        survey->current++;
        snprintf(surveyed->why, sizeof surveyed->why, "runs it already");
    } else {
        note(survey, &joiner->mac, device, surveyed->why, sizeof surveyed->why);
    }
    joiner->skip_why = surveyed->why[0] != '\0' ? surveyed->why : NULL;
    if (joiner->skip_why != NULL) {
        survey->skipped++;
    } else {
        count_site(survey, joiner->site);
        if (survey->met - survey->skipped <= SURVEY_FIRST) {
            survey->first[survey->met - survey->skipped - 1] = joiner->mac;
        }
    }
    survey->away += joiner->skip_why == NULL && joiner->away;
    return SURVEY_MET;
}

/* --- saying ------------------------------------------------------------------------------------------------------- */

/* "A", "A and B", "A, B, C and 7 others". */
static void print_who(const struct survey_found *found, char *to, size_t size)
{
    size_t named = found->count < SURVEY_NAMED ? found->count : SURVEY_NAMED;
    size_t others = found->count - named, used = 0;
    for (size_t i = 0; i < named; i++) {
        char mac[MAC_TEXT_SIZE];
        const char *before = i == 0 ? "" : i + 1 == named && others == 0 ? " and " : ", ";
        mac_print(&found->first[i], mac);
        used += (size_t)snprintf(to + used, size - used, "%s%s", before, mac);
    }
    if (others > 0) {
        snprintf(to + used, size - used, " and %zu %s", others, others == 1 ? "other" : "others");
    }
}

static bool is_there(const struct survey *survey, const char *version)
{
    struct offer offer = { NULL, NULL };
    enum reason missing;
    return trigger_find_offer(survey->trigger->catalog, survey->order, version, &offer, &missing);
}

/* "A and B are left out, pinned to 1.0.0", and what is wrong with that. */
static void print_policy(const struct survey *survey, const struct survey_found *found, const char *who, char *to,
                         size_t size)
{
    bool kept = found->text[0] != '\0';
    snprintf(to, size, "%s %s left out, %s%s%s%s", who, found->count == 1 ? "is" : "are", reason_word(found->reason),
             kept ? " to " : "", found->text,
             kept && !is_there(survey, found->text) ? ", which is not in the repository: add it, or unpin" : "");
}

static void print_sentence(const struct survey *survey, const struct survey_found *found, char *to, size_t size)
{
    const char *type = survey->plan->target.type;
    bool one = found->count == 1;
    char who[SURVEY_NAMED * (MAC_TEXT_SIZE + 4) + 40];
    struct trigger_message message;
    print_who(found, who, sizeof who);
    switch (found->finding) {
    case SURVEY_OTHER_TYPE:
        snprintf(to, size, "%s %s as %s, not %s: check the MAC, or publish to %s", who, one ? "asks" : "ask",
                 found->text, type, found->text);
        break;
    case SURVEY_NEVER_SEEN:
        if (!survey->plan->device_topic) {
            snprintf(to, size, "%s %s never seen here: %s when %s", who, one ? "was" : "were",
                     one ? "it gets the update" : "they get the update", one ? "it asks" : "they ask");
            break;
        }
        (void)trigger_message(survey->trigger, survey->order, survey->plan, "", &found->first[0], 0, &message);
        snprintf(to, size, "%s %s never seen here: %s hears the command only if its topic is %s%s", who,
                 one ? "was" : "were", one ? "it" : "each", one ? "" : "like ", message.topic);
        break;
    case SURVEY_POLICY:
        print_policy(survey, found, who, to, size);
        break;
    case SURVEY_RECORD:
        snprintf(to, size, "%s %s left out, %s: %s%s; `updraft devices retry MAC` lets %s try again", who,
                 one ? "is" : "are", reason_word(found->reason), found->text, one ? "" : " (the first of them)",
                 one ? "it" : "each");
        break;
    default:
        snprintf(to, size, "%s would be refused, %s: %s%s", who, reason_word(found->reason), found->text,
                 one ? "" : " (the first of them)");
        break;
    }
}

/* Devices of the type that the order does not mean. */
static size_t others(const struct survey *survey)
{
    const struct device_type *type = devices_find_type(survey->trigger->fleet->devices, survey->order->type);
    size_t all = type != NULL ? type->device_count : 0;
    size_t meant = survey->rollout != NULL ? survey->known : (survey->known * survey->order->percent + 50) / 100;
    return all > meant ? all - meant : 0;
}

/* What a part is held to ends with the rollout, where whoever asks is offered the newest. */
static void say_others(const struct survey *survey, void (*say)(void *owner, const char *sentence), void *owner)
{
    char sentence[400];
    const struct trigger_order *order = survey->order;
    const struct rollout_target *target = &survey->plan->target;
    bool is_part = order->device_count == 0 && (order->group != NULL || order->percent < 100);
    bool is_newest = target->passed_over[0] == '\0' &&
                     offerings_of(survey->trigger->fleet->settings.offerings, order->type) == OFFER_NEWEST_TO_ALL;
    size_t count = others(survey);
    if (is_part && is_newest && count > 0) {
        snprintf(sentence, sizeof sentence,
                 "when it is done, the other %zu device%s of %s get%s %s when they ask, at once and without canaries, "
                 "as the type is offered the newest: to stop there, set offer = published, or [offer] %s = published",
                 count, count == 1 ? "" : "s", target->type, count == 1 ? "s" : "", target->version, target->type);
        say(owner, sentence);
    }
}

void survey_say(const struct survey *survey, void (*say)(void *owner, const char *sentence), void *owner)
{
    char sentence[700];
    say_others(survey, say, owner);
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
    struct surveyed surveyed;
    do {
        if (survey_next(&job->survey, &surveyed) == SURVEY_DONE) {
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
