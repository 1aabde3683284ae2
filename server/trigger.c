/* Looking over and doing are apart: trigger_plan answers `--plan` and is what trigger_begin acts on. */
#include "server/trigger.h"

#include "server/dispatch.h"
#include "server/known_types.h"
#include "server/trigger_target.h"

#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

static const struct {
    unsigned status;
    const char *word;
} refusals[] = {
#define X(name, status, word) { status, word },
    TRIGGER_REFUSAL_LIST(X)
#undef X
};

const char *trigger_refusal_word(enum trigger_refusal refusal)
{
    return refusals[refusal].word;
}

unsigned trigger_refusal_status(enum trigger_refusal refusal)
{
    return refusals[refusal].status;
}

void kept_order_make(struct kept_order *kept, const struct trigger_order *order)
{
    memset(kept, 0, sizeof *kept);
    kept->order = *order;
    (void)slice_copy(order->type, kept->type, sizeof kept->type);
    kept->order.type = slice_of(kept->type);
    if (order->version != NULL) {
        snprintf(kept->version, sizeof kept->version, "%s", order->version);
        kept->order.version = kept->version;
    }
    if (order->group != NULL) {
        snprintf(kept->group, sizeof kept->group, "%s", order->group);
        kept->order.group = kept->group;
    }
    kept->devices = calloc(order->device_count + 1, sizeof *kept->devices);
    assert(kept->devices != NULL);
    for (size_t i = 0; i < order->device_count; i++) {
        kept->devices[i] = order->devices[i];
    }
    qsort(kept->devices, order->device_count, sizeof *kept->devices, mac_compare);
    kept->order.devices = kept->devices;
}

void kept_order_drop(struct kept_order *kept)
{
    free(kept->devices);
}

/* --- refusing ----------------------------------------------------------------------------------------------------- */

static bool refuse(struct trigger_problem *problem, enum trigger_refusal refusal, const char *remedy,
                   const char *format, ...) __attribute__((format(printf, 4, 5)));

static bool refuse(struct trigger_problem *problem, enum trigger_refusal refusal, const char *remedy,
                   const char *format, ...)
{
    va_list args;
    problem->refusal = refusal;
    va_start(args, format);
    vsnprintf(problem->message, sizeof problem->message, format, args);
    va_end(args);
    snprintf(problem->remedy, sizeof problem->remedy, "%s", remedy);
    return false;
}

/* "0_4_10, 0_4_9": the versions that the type has of this kind. */
static void list_versions(const struct catalog *catalog, const struct trigger_order *of, char *to, size_t size)
{
    const char *before = "";
    size_t used = 0;
    to[0] = '\0';
    for (size_t i = 0; i < catalog_image_count(catalog) && used + VERSION_TEXT_MAX + 8 < size; i++) {
        const struct image *image = catalog_image_at(catalog, i);
        bool is_fs = image->role == FILENAME_FS || image->role == FILENAME_SHARED_FS;
        bool is_sketch = image->role == FILENAME_SKETCH || image->role == FILENAME_USER1;
        const char *name = image->build.version.text;
        bool meant = (of->fs ? is_fs : is_sketch) && (image->type[0] == '\0' || slice_is(of->type, image->type));
        if (meant && strcmp(name, before) != 0) {
            used += (size_t)snprintf(to + used, size - used, "%s%s", used > 0 ? ", " : "", name);
            before = name;
        }
    }
}

/* The file of this version that failed its checks; NULL = there is none. */
static const struct rejection *find_rejected(const struct catalog *catalog, const struct trigger_order *order)
{
    struct filename name;
    struct filename_refusal ignored;
    for (size_t i = 0; i < catalog_rejection_count(catalog); i++) {
        const struct rejection *rejection = catalog_rejection_at(catalog, i);
        bool is_fs = rejection->role == FILENAME_FS || rejection->role == FILENAME_SHARED_FS;
        bool meant = is_fs == order->fs && (is_fs || rejection->role == FILENAME_SKETCH) &&
                     (rejection->type[0] == '\0' || slice_is(order->type, rejection->type));
        if (meant && filename_parse(slice_of(rejection->path), &name, &ignored) == FILENAME_OK &&
            version_same_text(slice_of(name.version.text), slice_of(order->version))) {
            return rejection;
        }
    }
    return NULL;
}

static bool refuse_missing(const struct trigger *trigger, const struct trigger_order *order, enum reason missing,
                           struct trigger_problem *problem)
{
    char type[3 * TYPE_TEXT_MAX], names[300], remedy[400];
    const char *kind = order->fs ? "file system image" : "sketch";
    text_escape(order->type, type, sizeof type);
    switch (missing) {
    case REASON_UNKNOWN_TYPE:
        known_types_remedy(trigger->catalog, order->type, remedy, sizeof remedy);
        return refuse(problem, TRIGGER_UNKNOWN_TYPE, remedy, "no file in the repository is for type \"%s\"", type);
    case REASON_REJECTED:
        return refuse(problem, TRIGGER_REJECTED, "`updraft firmware rejected` says why, and what to do",
                      "every %s of type \"%s\" failed its checks", kind, type);
    case REASON_NOT_YET:
        return refuse(problem, TRIGGER_NOT_YET, "wait until the copy has ended, then say it again",
                      "the %s of type \"%s\" is still being copied in", kind, type);
    default:
        break;
    }
    const struct rejection *rejected = order->version != NULL ? find_rejected(trigger->catalog, order) : NULL;
    if (rejected != NULL) {
        char path[160];
        text_escape(slice_of(rejected->path), path, sizeof path);
        return refuse(problem, TRIGGER_REJECTED, rejected->verdict.remedy, "%s failed its checks: %s: %.100s", path,
                      image_fault_word(rejected->verdict.fault), rejected->verdict.detail);
    }
    if (order->version != NULL) {
        char version[3 * VERSION_TEXT_MAX];
        text_escape(slice_of(order->version), version, sizeof version);
        list_versions(trigger->catalog, order, names, sizeof names);
        snprintf(remedy, sizeof remedy, "%s%s", names[0] != '\0' ? "there are: " : "there is none: add it", names);
        return refuse(problem, TRIGGER_UNKNOWN_VERSION, remedy, "type \"%s\" has no %s of version \"%s\"", type, kind,
                      version);
    }
    return refuse(problem, TRIGGER_NO_IMAGE, "add one with `updraft firmware add`, or copy it into the repository",
                  "type \"%s\" has no %s", type, kind);
}

/* --- looking over ------------------------------------------------------------------------------------------------- */

/* Appends with all but the unreserved characters of RFC 3986 escaped. */
static void append_encoded(char *to, size_t size, const char *text)
{
    static const char digits[] = "0123456789ABCDEF";
    size_t used = strlen(to);
    for (; *text != '\0' && used + 4 < size; text++) {
        unsigned char c = (unsigned char)*text;
        bool plain =
            (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || memchr("-._~", c, 4) != NULL;
        if (plain) {
            to[used++] = (char)c;
        } else {
            to[used++] = '%';
            to[used++] = digits[c >> 4];
            to[used++] = digits[c & 15];
        }
    }
    to[used] = '\0';
}

/* Where to fetch it: the address that decides, so that no device is sent what it runs or cannot take. Another version
 * than the newest is named in it. */
static void make_url(const struct trigger_order *order, struct trigger_plan *plan)
{
    if (plan->is_slots) { /* which of them is its own, the device alone knows */
        snprintf(plan->url, sizeof plan->url, "%s/native/%s/version", plan->public_url.url, plan->target.type);
        return;
    }
    int n = snprintf(plan->url, sizeof plan->url, "%s/update/%s%s", plan->public_url.url, plan->target.type,
                     order->version != NULL ? "?version=" : "");
    assert(n > 0 && (size_t)n < sizeof plan->url);
    if (order->version != NULL) {
        append_encoded(plan->url, sizeof plan->url, plan->target.version);
    }
}

static bool has_label(const struct offer *offer)
{
    return (offer->plain != NULL && offer->plain->label[0] != '\0') ||
           (offer->gzip != NULL && offer->gzip->label[0] != '\0');
}

static bool check_ways(struct trigger *trigger, struct trigger_plan *plan, struct trigger_problem *problem)
{
    if (trigger->publisher == NULL) {
        return true;
    }
    bool no_words = plan->is_several && trigger->announce.parts[0].payload == NULL; /* the image itself, and which? */
    plan->type_topic = trigger->announce.parts[0].type_topic != NULL && !no_words;
    plan->device_topic = trigger->announce.parts[0].device_topic != NULL && !no_words;
    trigger->find_public_url(trigger->owner, &plan->public_url);
    if (plan->public_url.url[0] == '\0') {
        return refuse(
            problem, TRIGGER_NO_PUBLIC_URL,
            "set --public-url (UPDRAFT_PUBLIC_URL) to what devices can reach, such as http://192.168.1.10:8080",
            "nobody can tell at which address devices reach this server: %s", plan->public_url.warning);
    }
    return true;
}

/* Commands to the type, and to a device, written once on trial: with the longer window, where the rollout may choose
 * one of its own. */
static bool check_messages(struct trigger *trigger, const struct trigger_order *order, const struct trigger_plan *plan,
                           struct trigger_problem *problem)
{
    static const struct mac some = { { 0x5c, 0xcf, 0x7f, 0xb1, 0xe0, 0x42 } };
    struct trigger_message message;
    struct trigger_order longest = *order;
    longest.window_s = order->window_s > 0 ? order->window_s : ROLLOUT_UNKNOWN_WINDOW_S;
    for (size_t part = 0; trigger->publisher != NULL && part < trigger->announce.part_count; part++) {
        bool fits =
            (!plan->type_topic || trigger_message(trigger, &longest, plan, "0000000000000000", NULL, part, &message)) &&
            (!plan->device_topic ||
             trigger_message(trigger, &longest, plan, "0000000000000000", &some, part, &message));
        if (!fits) {
            return refuse(problem, TRIGGER_TOO_LONG, "shorten the template or the public URL",
                          "the command's topic or payload becomes too long");
        }
    }
    return true;
}

bool trigger_plan(struct trigger *trigger, const struct trigger_order *order, struct trigger_plan *plan,
                  struct trigger_problem *problem)
{
    struct offer offer = { NULL, NULL };
    enum reason missing = REASON_NO_IMAGE;
    memset(plan, 0, sizeof *plan);
    memset(problem, 0, sizeof *problem);
    if (!trigger_find_offer(trigger->catalog, order, order->version, &offer, &missing)) {
        return refuse_missing(trigger, order, missing, problem);
    }
    if (has_label(&offer)) { /* devices that are assigned to it get it, nobody else would */
        return refuse_missing(trigger, order, REASON_NO_IMAGE, problem);
    }
    if (order->group != NULL && policies_group_count(trigger->fleet->policies,
                                                     words_find(trigger->fleet->words, slice_of(order->group))) == 0) {
        char group[4 * WORD_TEXT_MAX];
        text_escape(slice_of(order->group), group, sizeof group);
        return refuse(problem, TRIGGER_NO_GROUP,
                      "`updraft devices groups` lists them; `updraft devices group MAC +NAME`",
                      "no device is in a group \"%s\"", group);
    }
    trigger_make_target(trigger->catalog, order, &offer, plan);
    if (!check_ways(trigger, plan, problem)) {
        return false;
    }
    make_url(order, plan);
    return check_messages(trigger, order, plan, problem);
}

bool trigger_plan_renew(struct trigger *trigger, const struct trigger_order *order, struct trigger_plan *plan)
{
    struct trigger_problem ignored;
    struct public_url now = { .kind = PUBLIC_URL_UNKNOWN };
    trigger->find_public_url(trigger->owner, &now);
    if (now.url[0] == '\0' || strcmp(now.url, plan->public_url.url) == 0) {
        return false;
    }
    struct trigger_plan renewed = *plan;
    renewed.public_url = now;
    make_url(order, &renewed);
    if (!check_messages(trigger, order, &renewed, &ignored)) {
        return false;
    }
    *plan = renewed;
    return true;
}

/* --- writing messages --------------------------------------------------------------------------------------------- */

struct spelled {
    char mac[MAC_TEXT_SIZE], tail[7], md5[33], size[24], window[16];
};

static void spell(const struct trigger_order *order, const struct trigger_plan *plan, const char *id,
                  const struct mac *device, struct spelled *spelled, struct template_values *values)
{
    const struct image_facts *facts = &plan->image->build.facts;
    hex_encode(facts->md5, plan->is_several ? 0 : 16, spelled->md5);
    snprintf(spelled->size, sizeof spelled->size, "%" PRIu64, plan->is_several ? 0 : facts->file_bytes);
    snprintf(spelled->window, sizeof spelled->window, "%" PRIu32, order->window_s);
    *values = (struct template_values){ {
        [TEMPLATE_TYPE] = plan->target.type,
        [TEMPLATE_VERSION] = plan->target.version,
        [TEMPLATE_URL] = plan->url,
        [TEMPLATE_MD5] = spelled->md5,
        [TEMPLATE_SIZE] = spelled->size,
        [TEMPLATE_MODE] = order->fs ? "fs" : "sketch",
        [TEMPLATE_ID] = id,
        [TEMPLATE_WINDOW] = spelled->window,
    } };
    if (device != NULL) {
        mac_print(device, spelled->mac);
        for (size_t i = 0; i < 7; i++) { /* the last six digits and the NUL, in capitals */
            char c = spelled->mac[6 + i];
            spelled->tail[i] = (char)(c >= 'a' && c <= 'f' ? c - 'a' + 'A' : c);
        }
        values->texts[TEMPLATE_MAC] = spelled->mac;
        values->texts[TEMPLATE_MAC_TAIL] = spelled->tail;
    }
}

bool trigger_message(const struct trigger *trigger, const struct trigger_order *order, const struct trigger_plan *plan,
                     const char *id, const struct mac *device, size_t part, struct trigger_message *message)
{
    const struct announce_part *row = &trigger->announce.parts[part];
    struct template_values values;
    struct spelled spelled;
    spell(order, plan, id, device, &spelled, &values);
    message->is_image = row->payload == NULL;
    message->payload[0] = '\0';
    bool good =
        device != NULL
            ? template_expand(row->device_topic, TEMPLATE_TOPIC_DEVICE, &values, message->topic, sizeof message->topic)
            : template_expand(row->type_topic, TEMPLATE_TOPIC_TYPE, &values, message->topic, sizeof message->topic);
    if (device == NULL) { /* to all of a type, a payload can name no device */
        values.texts[TEMPLATE_MAC] = values.texts[TEMPLATE_MAC_TAIL] = "";
    }
    return good && (message->is_image || template_expand(row->payload, TEMPLATE_PAYLOAD, &values, message->payload,
                                                         sizeof message->payload));
}

/* --- doing -------------------------------------------------------------------------------------------------------- */

struct rollout_order trigger_rollout_order(const struct trigger *trigger, const struct trigger_order *order,
                                           const struct trigger_plan *plan)
{
    struct rollout_order of = { .target = plan->target,
                                .named = order->device_count > 0,
                                .device_count = order->device_count,
                                .devices = (struct mac *)(uintptr_t)order->devices, /* copied, not written */
                                .percent = order->percent,
                                .canary = order->canary,
                                .in_flight = order->in_flight,
                                .max_failures = order->max_failures,
                                .site_in_flight = trigger->site_in_flight,
                                .window_s = order->window_s,
                                .timeout_ms = order->timeout_ms,
                                .reboot_ms = trigger->reboot_ms,
                                .broker_ms = order->timeout_ms };
    snprintf(of.group, sizeof of.group, "%s", order->group != NULL ? order->group : "");
    return of;
}

static void refuse_unwritten(struct trigger_problem *problem)
{
    (void)refuse(problem, TRIGGER_STORE, "mend the store, and give the order again",
                 "the order was not taken, for it cannot be written down: the store's backlog is full");
}

struct rollout *trigger_begin(struct trigger *trigger, const struct trigger_order *order, uint64_t *ticket,
                              struct trigger_problem *problem)
{
    struct trigger_plan plan;
    uint8_t random[8];
    char id[ANNOUNCE_ID_SIZE];
    struct moment now = clock_moment(trigger->loop);
    struct journal *journal = trigger->fleet->journal;
    if (!trigger_plan(trigger, order, &plan, problem)) {
        return NULL;
    }
    if (journal_queue(journal) != NULL && store_queue_room(journal_queue(journal)) == 0) {
        refuse_unwritten(problem); /* before others give way to it */
        return NULL;
    }
    ssize_t got = getrandom(random, sizeof random, 0);
    assert(got == (ssize_t)sizeof random);
    (void)got;
    hex_encode(random, sizeof random, id);
    struct rollout_order of = trigger_rollout_order(trigger, order, &plan);
    struct rollout *rollout = rollouts_begin(trigger->fleet->rollouts, id, &of, &now);
    if (rollout == NULL) {
        bool room = rollouts_have_word_for(trigger->fleet->rollouts, &of);
        (void)refuse(problem, TRIGGER_BUSY,
                     room ? "wait until one of them has ended, or abort one"
                          : "order a rollout to all devices of a type that has had some: it takes their place",
                     room ? "%d rollouts are under way" : "the last words of %d rollouts stand, and there is no room",
                     room ? ROLLOUTS_MAX : ROLLOUT_WORDS_MAX);
        return NULL;
    }
    *ticket = journal_rollout(journal, rollout, true);
    if (*ticket == JOURNAL_REFUSED) {
        rollout_call_off(rollout, "it could not be written down", &now);
        refuse_unwritten(problem);
        return NULL;
    }
    dispatch_begin(trigger, order, &plan, rollout);
    return rollouts_find(trigger->fleet->rollouts, slice_of(id));
}
