/* Looking over and doing are apart: trigger_plan answers `--plan` and is what trigger_begin acts on. What makes it hard
 * is the time between: a command may wait for the broker while catalogs come and go, so what was dispatched keeps its
 * own copy of the order and counts its image. */
#include "server/trigger.h"

#include "base/log.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

/* One command on its way; the publisher's callback carries it. */
struct dispatched {
    struct dispatch *dispatch;
    uint64_t ticket;
    bool open;
};

/* The commands of one rollout. */
struct dispatch {
    struct blob_wait wait; /* first: for the image, where it is the payload */
    struct trigger *trigger;
    struct dispatch *next;
    char id[ANNOUNCE_ID_SIZE];
    struct trigger_order order; /* its texts and devices are copies below */
    char type[TYPE_TEXT_MAX + 1];
    char version[VERSION_TEXT_MAX + 1];
    struct mac *devices;
    struct trigger_plan plan; /* its image is counted */
    struct shared_bytes *image_bytes;
    struct blob *blob;
    uint64_t started_ms;
    size_t open;
    unsigned holds; /* calls that still need it */
    bool loading, over;
    struct dispatched *commands;
};

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

/* "d1_mini, porch, …": what there is, each name once; `of` NULL = the types, else the versions of that type. */
static void list_names(const struct catalog *catalog, const struct trigger_order *of, char *to, size_t size)
{
    const char *before = "";
    size_t used = 0;
    to[0] = '\0';
    for (size_t i = 0; i < catalog_image_count(catalog) && used + VERSION_TEXT_MAX + 8 < size; i++) {
        const struct image *image = catalog_image_at(catalog, i);
        bool is_fs = image->role == FILENAME_FS || image->role == FILENAME_SHARED_FS;
        bool is_sketch = image->role == FILENAME_SKETCH;
        const char *name = of == NULL ? image->type : image->build.version.text;
        bool meant = of == NULL
                         ? image->type[0] != '\0'
                         : (of->fs ? is_fs : is_sketch) && (image->type[0] == '\0' || slice_is(of->type, image->type));
        if (meant && strcmp(name, before) != 0) {
            used += (size_t)snprintf(to + used, size - used, "%s%s", used > 0 ? ", " : "", name);
            before = name;
        }
    }
}

static bool refuse_missing(const struct trigger *trigger, const struct trigger_order *order, enum reason missing,
                           struct trigger_problem *problem)
{
    char type[3 * TYPE_TEXT_MAX], names[300], remedy[400];
    const char *kind = order->fs ? "file system image" : "sketch";
    text_escape(order->type, type, sizeof type);
    list_names(trigger->catalog, missing == REASON_UNKNOWN_TYPE ? NULL : order, names, sizeof names);
    switch (missing) {
    case REASON_UNKNOWN_TYPE:
        snprintf(remedy, sizeof remedy, "%s%s",
                 names[0] != '\0' ? "types there are: " : "the repository has none yet: add an image", names);
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
    if (order->version != NULL) {
        char version[3 * VERSION_TEXT_MAX];
        text_escape(slice_of(order->version), version, sizeof version);
        snprintf(remedy, sizeof remedy, "%s%s", names[0] != '\0' ? "there are: " : "there is none: add it", names);
        return refuse(problem, TRIGGER_UNKNOWN_VERSION, remedy, "type \"%s\" has no %s of version \"%s\"", type, kind,
                      version);
    }
    return refuse(problem, TRIGGER_NO_IMAGE, "add one with `updraft firmware add`, or copy it into the repository",
                  "type \"%s\" has no %s", type, kind);
}

/* --- looking over ------------------------------------------------------------------------------------------------- */

static void add_run_digests(struct rollout_target *target, const struct build *build)
{
    if (build == NULL) {
        return;
    }
    memcpy(target->md5[target->image_count++], build->facts.md5, 16);
    for (size_t mode = 0; mode < IMAGE_FLASH_MODES; mode++) {
        bool is_new = true;
        for (size_t i = 0; i < target->run_md5_count; i++) {
            is_new = is_new && memcmp(target->run_md5[i], build->facts.run_md5[mode], 16) != 0;
        }
        if (is_new) {
            memcpy(target->run_md5[target->run_md5_count++], build->facts.run_md5[mode], 16);
        }
    }
}

static void make_target(const struct trigger_order *order, const struct offer *offer, struct trigger_plan *plan)
{
    const struct build *build = offer->plain != NULL ? offer->plain : offer->gzip;
    plan->image = image_of_build(build);
    plan->target = (struct rollout_target){ .fs = order->fs, .bytes = build->facts.file_bytes };
    snprintf(plan->target.file, sizeof plan->target.file, "%s", plan->image->path);
    (void)slice_copy(order->type, plan->target.type, sizeof plan->target.type);
    snprintf(plan->target.version, sizeof plan->target.version, "%s", build->version.text);
    add_run_digests(&plan->target, offer->plain);
    add_run_digests(&plan->target, offer->gzip);
}

static bool runs_target(const struct trigger_plan *plan, const struct device *device)
{
    for (size_t i = 0; !plan->target.fs && device->has_md5 && i < plan->target.run_md5_count; i++) {
        if (memcmp(plan->target.run_md5[i], device->md5, 16) == 0) {
            return true;
        }
    }
    return false;
}

/* Who says that it is there is waited for, and who says nothing of that but asked us once; who said that it is gone
 * counts when it comes. */
static bool is_expected(const struct device *device)
{
    return device->said_online ? device->online : device->seen_ms != 0;
}

static void count_devices(const struct trigger *trigger, const struct trigger_order *order, struct trigger_plan *plan)
{
    const struct fleet_type *type = fleet_find_type(trigger->fleet, order->type);
    const struct device *device = type != NULL && order->device_count == 0 ? type->first : NULL;
    for (; device != NULL; device = device->next_of_type) {
        plan->known += is_expected(device);
        plan->current += is_expected(device) && runs_target(plan, device);
    }
    for (size_t i = 0; i < order->device_count; i++) {
        device = fleet_find(trigger->fleet, &order->devices[i]);
        plan->known += device != NULL;
        plan->current += device != NULL && runs_target(plan, device);
    }
}

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

static bool check_ways(struct trigger *trigger, const struct trigger_order *order, struct trigger_plan *plan,
                       struct trigger_problem *problem)
{
    if (trigger->publisher == NULL) {
        return refuse(problem, TRIGGER_NO_BROKER, "start updraftd with --mqtt mqtt://host",
                      "no MQTT broker is configured, so no device can be told");
    }
    trigger->find_public_url(trigger->owner, &plan->public_url);
    if (plan->public_url.url[0] == '\0') {
        return refuse(
            problem, TRIGGER_NO_PUBLIC_URL,
            "set --public-url (UPDRAFT_PUBLIC_URL) to what devices can reach, such as http://192.168.1.10:8080",
            "nobody can tell at which address devices reach this server: %s", plan->public_url.warning);
    }
    if (order->device_count == 0 && trigger->announce.parts[0].type_topic == NULL) {
        return refuse(problem, TRIGGER_NO_TYPE_TOPIC, "name the devices: --to MAC,MAC",
                      "the firmware \"%s\" has no topic for all devices of a type", trigger->announce.name);
    }
    return true;
}

bool trigger_plan(struct trigger *trigger, const struct trigger_order *order, struct trigger_plan *plan,
                  struct trigger_problem *problem)
{
    struct offer offer = { NULL, NULL };
    enum reason missing = REASON_NO_IMAGE;
    struct trigger_message message;
    struct catalog_query query = {
        .type = order->type,
        .kind = order->fs ? OFFER_FS : OFFER_SKETCH,
        .wanted = order->version,
    };
    memset(plan, 0, sizeof *plan);
    memset(problem, 0, sizeof *problem);
    catalog_offer(trigger->catalog, &query, &offer, &missing);
    if (offer.plain == NULL && offer.gzip == NULL) {
        return refuse_missing(trigger, order, missing, problem);
    }
    if (has_label(&offer)) { /* devices that are assigned to it get it, nobody else would */
        return refuse_missing(trigger, order, REASON_NO_IMAGE, problem);
    }
    make_target(order, &offer, plan);
    plan->commands = order->device_count > 0 ? order->device_count : 1;
    count_devices(trigger, order, plan);
    if (!check_ways(trigger, order, plan, problem)) {
        return false;
    }
    make_url(order, plan);
    for (size_t part = 0; part < trigger->announce.part_count; part++) {
        const struct mac *device = order->device_count > 0 ? &order->devices[0] : NULL;
        if (!trigger_message(trigger, order, plan, "0000000000000000", device, part, &message)) {
            return refuse(problem, TRIGGER_TOO_LONG, "shorten the template or the public URL",
                          "the command's topic or payload becomes too long");
        }
    }
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
    hex_encode(facts->md5, 16, spelled->md5);
    snprintf(spelled->size, sizeof spelled->size, "%" PRIu64, facts->file_bytes);
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

static void dispatch_free(struct dispatch *dispatch)
{
    struct dispatch **at = &dispatch->trigger->dispatches;
    while (*at != dispatch) {
        at = &(*at)->next;
    }
    *at = dispatch->next;
    if (dispatch->image_bytes != NULL) {
        shared_bytes_unref(dispatch->image_bytes);
    }
    image_unref(dispatch->plan.image);
    free(dispatch->devices);
    free(dispatch->commands);
    free(dispatch);
}

/* Ends a hold. Goes when nothing is on its way any more, and nothing retained has to be taken back. */
static void dispatch_release(struct dispatch *dispatch)
{
    dispatch->holds--;
    bool done = dispatch->open == 0 && !dispatch->loading && (dispatch->over || !dispatch->trigger->retain);
    if (dispatch->holds == 0 && done) {
        dispatch_free(dispatch);
    }
}

/* The rollout's state may change within, and come back here through trigger_rollout_changed: hold the dispatch. */
static void command_ended(struct dispatched *command, bool acknowledged, const char *why)
{
    struct dispatch *dispatch = command->dispatch;
    struct trigger *trigger = dispatch->trigger;
    uint64_t now_ms = uv_now(trigger->loop);
    assert(command->open && dispatch->open > 0);
    command->open = false;
    dispatch->open--;
    struct rollout *rollout = rollouts_find(trigger->rollouts, slice_of(dispatch->id));
    if (acknowledged) {
        metrics_observe(trigger->metrics, METRIC_HISTOGRAM_COMMAND_SECONDS,
                        (double)(now_ms - dispatch->started_ms) / 1000.0);
    }
    if (rollout != NULL && !acknowledged && dispatch->order.device_count > 0) {
        rollout_not_told(rollout, &dispatch->devices[command - dispatch->commands], why, now_ms);
    }
    if (rollout != NULL) {
        rollout_command_ended(trigger->rollouts, rollout, acknowledged, why, now_ms);
    }
}

static void on_published(void *owner, uint64_t ticket, enum publish_result result, const char *why)
{
    struct dispatched *command = owner;
    struct dispatch *dispatch = command->dispatch;
    char text[160];
    (void)ticket;
    snprintf(text, sizeof text, "%s%s%s", publish_result_word(result), why[0] != '\0' ? ": " : "", why);
    dispatch->holds++;
    command_ended(command, result == PUBLISH_ACKNOWLEDGED, text);
    dispatch_release(dispatch);
}

/* The messages of the i-th command, as the publisher wants them. */
static void fill_command(struct dispatch *dispatch, size_t i, struct trigger_message *messages,
                         struct publisher_command *command)
{
    struct trigger *trigger = dispatch->trigger;
    const struct mac *device = dispatch->order.device_count > 0 ? &dispatch->devices[i] : NULL;
    *command = (struct publisher_command){
        .part_count = trigger->announce.part_count,
        .retain = trigger->retain,
        .expires_ms = trigger->expires_ms,
    };
    for (size_t part = 0; part < command->part_count; part++) {
        bool good =
            trigger_message(trigger, &dispatch->order, &dispatch->plan, dispatch->id, device, part, &messages[part]);
        assert(good); /* trigger_plan tried one just like it */
        (void)good;
        command->parts[part] = (struct publisher_part){
            .topic = messages[part].topic,
            .payload = messages[part].is_image ? NULL : messages[part].payload,
            .image = messages[part].is_image ? dispatch->image_bytes : NULL,
        };
    }
}

static void dispatch_send(struct dispatch *dispatch)
{
    struct trigger *trigger = dispatch->trigger;
    struct trigger_message messages[ANNOUNCE_PARTS_MAX];
    struct publisher_command command;
    for (size_t i = 0; i < dispatch->plan.commands; i++) {
        struct dispatched *one = &dispatch->commands[i];
        fill_command(dispatch, i, messages, &command);
        enum status status = publisher_send(trigger->publisher, &command, on_published, one, &one->ticket);
        if (status != STATUS_OK) {
            command_ended(one, false, status == STATUS_LIMIT ? "the queue of commands is full" : status_text(status));
        }
    }
}

static void fail_all(struct dispatch *dispatch, const char *why)
{
    for (size_t i = 0; i < dispatch->plan.commands; i++) {
        command_ended(&dispatch->commands[i], false, why);
    }
}

static void on_blob(struct blob_wait *wait, enum status status, struct blob *blob)
{
    struct dispatch *dispatch = (struct dispatch *)wait; /* its first member */
    dispatch->loading = false;
    dispatch->holds++;
    /* Meanwhile the rollout may have ended, or the server may be ending. */
    bool wanted = !dispatch->over && dispatch->trigger->publisher != NULL;
    if (status == STATUS_OK) {
        dispatch->image_bytes = wanted ? shared_bytes_new(blob->size) : NULL;
        if (dispatch->image_bytes != NULL) {
            memcpy(dispatch->image_bytes->bytes, blob->bytes, blob->size);
        }
        blob_release(blob);
    }
    if (dispatch->image_bytes != NULL) {
        dispatch_send(dispatch);
    } else {
        fail_all(dispatch, !wanted               ? "no longer wanted"
                           : status == STATUS_OK ? "out of memory"
                                                 : "the image cannot be loaded");
    }
    dispatch_release(dispatch);
}

static bool sends_image(const struct trigger *trigger)
{
    bool found = false;
    for (size_t part = 0; part < trigger->announce.part_count; part++) {
        found = found || trigger->announce.parts[part].payload == NULL;
    }
    return found;
}

static struct dispatch *dispatch_new(struct trigger *trigger, const struct trigger_order *order,
                                     const struct trigger_plan *plan, const char *id)
{
    struct dispatch *dispatch = calloc(1, sizeof *dispatch);
    assert(dispatch != NULL);
    dispatch->trigger = trigger;
    dispatch->plan = *plan;
    image_ref(plan->image);
    dispatch->order = *order;
    (void)slice_copy(order->type, dispatch->type, sizeof dispatch->type);
    dispatch->order.type = slice_of(dispatch->type);
    if (order->version != NULL) {
        snprintf(dispatch->version, sizeof dispatch->version, "%s", order->version);
        dispatch->order.version = dispatch->version;
    }
    dispatch->commands = calloc(plan->commands, sizeof *dispatch->commands);
    dispatch->devices = calloc(plan->commands, sizeof *dispatch->devices);
    assert(dispatch->commands != NULL && dispatch->devices != NULL);
    for (size_t i = 0; i < order->device_count; i++) {
        dispatch->devices[i] = order->devices[i];
    }
    dispatch->order.devices = dispatch->devices;
    for (size_t i = 0; i < plan->commands; i++) {
        dispatch->commands[i] = (struct dispatched){ .dispatch = dispatch, .open = true };
    }
    dispatch->open = plan->commands;
    dispatch->started_ms = uv_now(trigger->loop);
    snprintf(dispatch->id, sizeof dispatch->id, "%s", id);
    dispatch->next = trigger->dispatches;
    trigger->dispatches = dispatch;
    return dispatch;
}

static void expect_devices(struct trigger *trigger, const struct trigger_order *order, struct rollout *rollout)
{
    const struct fleet_type *type = fleet_find_type(trigger->fleet, order->type);
    const struct device *device = type != NULL && order->device_count == 0 ? type->first : NULL;
    for (; device != NULL; device = device->next_of_type) {
        if (is_expected(device)) {
            rollout_expect(rollout, &device->mac, device->has_md5 ? device->md5 : NULL);
        }
    }
    for (size_t i = 0; i < order->device_count; i++) {
        device = fleet_find(trigger->fleet, &order->devices[i]);
        rollout_expect(rollout, &order->devices[i], device != NULL && device->has_md5 ? device->md5 : NULL);
    }
}

static void log_begun(const struct rollout *rollout, const struct trigger_plan *plan)
{
    struct log_line line;
    log_begin(&line, LOG_INFO, "rollout_begun");
    log_text(&line, "id", rollout->id);
    log_text(&line, "type", plan->target.type);
    log_text(&line, "to", plan->target.version);
    log_text(&line, "mode", plan->target.fs ? "fs" : "sketch");
    log_text(&line, "image", plan->image->path);
    log_text(&line, "url", plan->url);
    log_number(&line, "commands", (int64_t)plan->commands);
    log_number(&line, "devices", (int64_t)rollout->expected);
    log_end(&line);
}

struct rollout *trigger_begin(struct trigger *trigger, const struct trigger_order *order,
                              struct trigger_problem *problem)
{
    struct trigger_plan plan;
    uint8_t random[8];
    char id[ANNOUNCE_ID_SIZE];
    if (!trigger_plan(trigger, order, &plan, problem)) {
        return NULL;
    }
    ssize_t got = getrandom(random, sizeof random, 0);
    assert(got == (ssize_t)sizeof random);
    (void)got;
    hex_encode(random, sizeof random, id);
    struct rollout_order followed = { .target = plan.target,
                                      .whole_type = order->device_count == 0,
                                      .window_s = order->window_s,
                                      .timeout_ms = order->timeout_ms };
    struct rollout *rollout = rollouts_begin(trigger->rollouts, id, &followed, uv_now(trigger->loop));
    if (rollout == NULL) {
        (void)refuse(problem, TRIGGER_BUSY, "wait until one of them has ended", "%d rollouts are under way",
                     ROLLOUTS_MAX);
        return NULL;
    }
    expect_devices(trigger, order, rollout);
    rollout_commands(trigger->rollouts, rollout, plan.commands);
    log_begun(rollout, &plan);
    struct dispatch *dispatch = dispatch_new(trigger, order, &plan, id);
    if (!sends_image(trigger)) {
        dispatch->holds++;
        dispatch_send(dispatch);
        dispatch_release(dispatch);
    } else {
        dispatch->loading = true;
        dispatch->wait.ready = on_blob;
        blob_get(trigger->blobs, plan.image, &dispatch->wait);
    }
    return rollouts_find(trigger->rollouts, slice_of(id));
}

/* --- the rollout goes on ------------------------------------------------------------------------------------------ */

static void forget_retained(struct dispatch *dispatch)
{
    struct trigger_message messages[ANNOUNCE_PARTS_MAX];
    struct publisher_command command;
    for (size_t i = 0; i < dispatch->plan.commands; i++) {
        fill_command(dispatch, i, messages, &command);
        publisher_forget(dispatch->trigger->publisher, &command);
    }
}

static void log_changed(const struct rollout *rollout, uint64_t now_ms)
{
    struct log_line line;
    if (rollout->state == ROLLOUT_PUBLISHING) {
        return;
    }
    log_begin(&line, rollout->state == ROLLOUT_FAILED ? LOG_WARN : LOG_INFO,
              rollout->state == ROLLOUT_RUNNING ? "rollout_published" : "rollout_ended");
    log_text(&line, "id", rollout->id);
    log_text(&line, "type", rollout->order.target.type);
    log_text(&line, "state", rollout_state_word(rollout->state));
    if (rollout->why[0] != '\0') {
        log_text(&line, "why", rollout->why);
    }
    if (rollout_is_over(rollout)) {
        for (int state = 0; state < ROLLOUT_DEVICE_STATES; state++) {
            log_number(&line, rollout_device_word((enum rollout_device_state)state), (int64_t)rollout->devices[state]);
        }
        log_number(&line, "bytes", (int64_t)rollout->bytes);
    }
    log_number(&line, "ms", (int64_t)(now_ms - rollout->created_ms));
    log_end(&line);
}

/* Takes back what is not acknowledged yet; on_published follows for each. Returns how many are on their way. */
static size_t abandon(struct dispatch *dispatch)
{
    size_t under_way = 0;
    for (size_t i = 0; i < dispatch->plan.commands; i++) {
        if (dispatch->commands[i].open && !dispatch->loading && dispatch->trigger->publisher != NULL) {
            under_way += !publisher_abandon(dispatch->trigger->publisher, dispatch->commands[i].ticket);
        }
    }
    return under_way;
}

void trigger_rollout_changed(struct trigger *trigger, struct rollout *rollout)
{
    struct dispatch *dispatch = trigger->dispatches;
    while (dispatch != NULL && strcmp(dispatch->id, rollout->id) != 0) {
        dispatch = dispatch->next;
    }
    if (dispatch == NULL || !rollout_is_over(rollout)) {
        log_changed(rollout, uv_now(trigger->loop));
        return;
    }
    dispatch->holds++;
    size_t under_way = abandon(dispatch);
    if (under_way > 0 && rollout->state == ROLLOUT_FAILED) {
        size_t used = strlen(rollout->why);
        snprintf(rollout->why + used, sizeof rollout->why - used, "; %zu on their way may still arrive", under_way);
    }
    log_changed(rollout, uv_now(trigger->loop));
    if (trigger->retain && !dispatch->over && !dispatch->loading && trigger->publisher != NULL) {
        forget_retained(dispatch);
    }
    dispatch->over = true;
    dispatch_release(dispatch);
}

void trigger_stop(struct trigger *trigger)
{
    for (struct dispatch *dispatch = trigger->dispatches; dispatch != NULL; dispatch = dispatch->next) {
        if (trigger->retain && trigger->publisher != NULL && !dispatch->over && !dispatch->loading) {
            forget_retained(dispatch);
        }
    }
}

void trigger_close(struct trigger *trigger)
{
    while (trigger->dispatches != NULL) {
        if (trigger->dispatches->loading) {
            blob_cancel(&trigger->dispatches->wait);
        }
        dispatch_free(trigger->dispatches);
    }
}
