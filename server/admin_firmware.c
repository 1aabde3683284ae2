/* Changes of the repository over the API: add, remove. What makes it hard: adding is done when devices can have the
 * image, so the answer waits for the worker that checks and writes, and then for the catalog that has it.
 */
#include "server/admin_parts.h"

#include "base/log.h"
#include "repo/place.h"
#include "server/reliance.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHANGE_WAIT_MS 30000 /* for the catalog to follow a change */

/* A change under way: on the worker, then waiting for the catalog. */
struct firmware_change {
    struct firmware_change *next;
    struct admin_api *api;
    struct http_later *later;
    uv_work_t work;
    bool removal, written;
    uint64_t written_ms;
    struct place_order order;
    struct signature_keys *keys; /* lent to the worker */
    struct place_outcome outcome;
    struct reliance reliance; /* of a removal */
    char given[200];          /* by which rollout, of a removal */
    char root[CONFIG_TEXT_MAX];
    char path[4096]; /* of a removal, or order.path */
};

/* --- a change's end ----------------------------------------------------------------------------------------------- */

static void change_end(struct firmware_change *change, struct http_answer *answer)
{
    struct firmware_change **at = &change->api->changes;
    while (*at != change) {
        at = &(*at)->next;
    }
    *at = change->next;
    admin_answer_later(change->api, change->later, answer);
    signature_keys_unref(change->keys);
    free(change);
}

/* The code of a change that was not done; also its word in the log. */
static const char *change_word(const struct firmware_change *change)
{
    return change->removal ? "not-removed" : place_result_word(change->outcome.result);
}

static void refuse_change(const struct firmware_change *change, struct http_answer *answer)
{
    const struct place_outcome *outcome = &change->outcome;
    const char *word = change_word(change);
    switch (outcome->result) {
    case PLACE_REJECTED:
        admin_refuse_image(answer, &outcome->verdict);
        break;
    case PLACE_EXISTS:
        admin_refuse(answer, 409, word, outcome->remedy, "%s", outcome->message);
        break;
    case PLACE_FAILED:
        admin_refuse(answer, 500, word, outcome->remedy, "%s", outcome->message);
        break;
    default:
        admin_refuse(answer, 422, word, outcome->remedy, "%s", outcome->message);
    }
}

/* The catalog has the image that was added: these very bytes. */
static bool is_served(const struct firmware_change *change, const struct image **image)
{
    *image = catalog_find_path(change->api->catalog, slice_of(change->path));
    return *image != NULL && memcmp((*image)->build.facts.sha256, change->outcome.facts.sha256, 32) == 0;
}

/* Whoever relied on it is named now: it may be what the operator did not know. */
static json_t *removed_json(const struct firmware_change *change)
{
    char devices[400], warning[sizeof devices + sizeof change->given + 4];
    json_t *json = json_pack("{s:o}", "removed", admin_text(change->path));
    reliance_text(&change->reliance, devices, sizeof devices);
    if (devices[0] != '\0' || change->given[0] != '\0') {
        bool both = devices[0] != '\0' && change->given[0] != '\0';
        snprintf(warning, sizeof warning, "%s%s%s", devices, both ? "; " : "", change->given);
        json_object_set_new(json, "warning", admin_sentence(warning));
    }
    return json;
}

/* Looks whether the catalog has followed. Ends the change where it has, or will not. */
static void change_look(struct firmware_change *change, bool too_late)
{
    struct admin_api *api = change->api;
    struct http_answer answer = { .status = 0 };
    const struct image *image = NULL;
    const struct rejection *rejection = catalog_find_rejection(api->catalog, slice_of(change->path));
    if (change->removal) {
        if (catalog_find_path(api->catalog, slice_of(change->path)) == NULL && rejection == NULL) {
            admin_answer(&answer, 200, removed_json(change));
        }
    } else if (is_served(change, &image)) {
        admin_answer(&answer, 201, admin_image_json(api->catalog, image));
    } else if (rejection != NULL && file_identity_equal(&rejection->identity, &change->outcome.identity)) {
        admin_refuse_image(&answer, &rejection->verdict);
    }
    if (answer.status == 0 && too_late) {
        admin_refuse(&answer, 503, "busy", "`updraft firmware ls` shows when it is",
                     "%s is %s, but the catalog has not followed yet", change->path,
                     change->removal ? "removed" : "written");
    }
    if (answer.status != 0) {
        change_end(change, &answer);
    }
}

void admin_api_catalog_changed(struct admin_api *api)
{
    struct firmware_change *next;
    for (struct firmware_change *change = api->changes; change != NULL; change = next) {
        next = change->next;
        if (change->written) {
            change_look(change, false);
        }
    }
}

void admin_api_tick(struct admin_api *api)
{
    struct firmware_change *next;
    uint64_t now_ms = uv_now(api->loop);
    for (struct firmware_change *change = api->changes; change != NULL; change = next) {
        next = change->next;
        if (change->written) {
            change_look(change, now_ms - change->written_ms > CHANGE_WAIT_MS || api->closing);
        }
    }
}

void admin_api_close(struct admin_api *api)
{
    api->closing = true;
    admin_api_tick(api);
}

/* --- on the worker, and back -------------------------------------------------------------------------------------- */

static void on_work(uv_work_t *work)
{
    struct firmware_change *change = work->data;
    if (change->removal) {
        place_remove(change->root, change->path, &change->outcome);
    } else {
        place_image(&change->order, &change->outcome);
    }
}

static void log_change(const struct firmware_change *change)
{
    const struct place_outcome *outcome = &change->outcome;
    struct log_line line;
    log_begin(&line, outcome->result == PLACE_FAILED ? LOG_WARN : LOG_INFO,
              change->removal ? "firmware_removed" : "firmware_added");
    log_text(&line, "file", change->path);
    if (outcome->result != PLACE_DONE) {
        log_text(&line, "refused", change_word(change));
    }
    if (outcome->result == PLACE_FAILED) {
        log_text(&line, "why", outcome->message);
        log_text(&line, "remedy", outcome->remedy);
    }
    log_end(&line);
}

static void on_worked(uv_work_t *work, int error)
{
    struct firmware_change *change = work->data;
    struct http_answer answer = { .status = 0 };
    assert(error == 0);
    (void)error;
    log_change(change);
    if (change->outcome.result != PLACE_DONE) {
        refuse_change(change, &answer);
        change_end(change, &answer);
        return;
    }
    change->written = true;
    change->written_ms = uv_now(change->api->loop);
    change->api->rescan(change->api->owner);
    change_look(change, change->api->closing);
}

/* One at a time: who comes second for the same file is told so, who comes for another may come again. */
static struct firmware_change *change_begin(struct admin_call *call, struct slice path)
{
    struct admin_api *api = call->api;
    const struct firmware_change *other = api->changes;
    if (other != NULL && slice_is(path, other->path)) {
        admin_refuse(call->answer, 409, "under-way", "wait until that is done: `updraft firmware ls` shows it",
                     "%s is being %s at this moment", other->path, other->removal ? "removed" : "added");
        return NULL;
    }
    struct firmware_change *change = api->closing || other != NULL ? NULL : calloc(1, sizeof *change);
    if (change == NULL) {
        admin_refuse(call->answer, 503, "busy", "come again in a moment",
                     "another change of the repository is under way");
        return NULL;
    }
    change->api = api;
    change->work.data = change;
    snprintf(change->root, sizeof change->root, "%s", api->config->repo);
    (void)slice_copy(path, change->path, sizeof change->path); /* the catalog's, or an order's: none is so long */
    return change;
}

static void change_work(void *owner)
{
    struct firmware_change *change = owner;
    int error = uv_queue_work(change->api->loop, &change->work, on_work, on_worked);
    assert(error == 0);
    (void)error;
}

static void change_wait(struct admin_call *call, struct firmware_change *change)
{
    change->next = call->api->changes;
    call->api->changes = change;
    change->later = call->answer->later = http_later_new();
}

/* --- adding ------------------------------------------------------------------------------------------------------- */

/* The chip of the type's other images; CHIP_UNKNOWN where it has none. */
static enum chip chip_of_type(const struct catalog *catalog, const char *type, const char *but_path)
{
    for (size_t i = 0; i < catalog_image_count(catalog); i++) {
        const struct image *image = catalog_image_at(catalog, i);
        if (strcmp(image->type, type) == 0 && image->build.facts.chip != CHIP_UNKNOWN &&
            strcmp(image->path, but_path) != 0) {
            return image->build.facts.chip;
        }
    }
    return CHIP_UNKNOWN;
}

/* Another file that is the same version of the type in the same form, wherever it lies. */
static const struct image *find_same(const struct catalog *catalog, const struct place_order *order)
{
    for (size_t i = 0; i < catalog_image_count(catalog); i++) {
        const struct image *image = catalog_image_at(catalog, i);
        if (image->role == order->name.role && strcmp(image->type, order->name.type) == 0 &&
            image->build.facts.gzip == order->name.gzip &&
            version_compare(&image->build.version, &order->name.version) == 0) {
            return image;
        }
    }
    return NULL;
}

struct add_words {
    char type[HTTP_PARAMETER_MAX + 1], version[HTTP_PARAMETER_MAX + 1], kind[HTTP_PARAMETER_MAX + 1];
    bool gzip, gzip_given, replace;
    uint64_t signature; /* how many of the body's last bytes are the detached signature */
};

static bool read_add(struct admin_call *call, struct add_words *words, enum filename_role *role)
{
    static const enum filename_role roles[] = { FILENAME_SKETCH, FILENAME_FS, FILENAME_USER1, FILENAME_USER2 };
    const struct admin_parameter parameters[] = {
        { "type", ADMIN_TEXT, words->type, 0, NULL },
        { "version", ADMIN_TEXT, words->version, 0, NULL },
        { "kind", ADMIN_TEXT, words->kind, 0, NULL },
        { "gzip", ADMIN_YES_NO, &words->gzip, 0, &words->gzip_given },
        { "replace", ADMIN_YES_NO, &words->replace, 0, NULL },
        { "signature", ADMIN_NUMBER, &words->signature, SIGNATURE_BYTES_MAX, NULL },
    };
    snprintf(words->kind, sizeof words->kind, "sketch");
    if (!admin_read_query(call, parameters, sizeof parameters / sizeof parameters[0])) {
        return false;
    }
    for (size_t i = 0; i < sizeof roles / sizeof roles[0]; i++) {
        if (strcmp(admin_kinds[roles[i]], words->kind) == 0) {
            *role = roles[i];
            return true;
        }
    }
    admin_refuse(call->answer, 400, "bad-request", "there are sketch, fs, user1 and user2", "kind=%s is not known",
                 words->kind);
    return false;
}

/* A name as one word of a shell. */
static void shell_word(const char *name, char *to, size_t size)
{
    static const char quote[] = "'\\''"; /* inside quotes: out of them, a quote, and in again */
    size_t n = 0;
    bool plain = name[strspn(name, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ._-+/")] == '\0';
    n += (size_t)snprintf(to, size, "%s%s", name[0] == '-' ? "-- " : "", plain ? "" : "'");
    for (; *name != '\0' && n + sizeof quote + 1 < size; name++) {
        n += (size_t)snprintf(to + n, size - n, "%.*s", *name == '\'' ? 4 : 1, *name == '\'' ? quote : name);
    }
    snprintf(to + n, size - n, "%s", plain ? "" : "'");
}

static void refuse_same(struct admin_call *call, const struct place_order *order, const struct image *same)
{
    char word[4200], remedy[4400], more[PLACE_PATH_MAX + 80] = "";
    if (strcmp(same->path, order->path) == 0) {
        admin_refuse(call->answer, 409, "exists", "give the build a version of its own, or --replace",
                     "%s is version %s of type \"%s\" already", same->path, same->build.version.text, same->type);
        return;
    }
    shell_word(same->path, word, sizeof word);
    snprintf(remedy, sizeof remedy,
             "`updraft firmware rm %s`, then add this one; or give the build a version of its own", word);
    if (order->replace) {
        snprintf(more, sizeof more, " (--replace replaces a file of the same name alone, %s)", order->path);
    }
    admin_refuse(call->answer, 409, "exists", remedy, "type \"%s\" has version %s already, under another name: %s%s",
                 order->name.type, order->name.version.text, same->path, more);
}

/* The order, or the refusal of its name. */
static bool make_order(struct admin_call *call, const struct add_words *words, enum filename_role role,
                       struct place_order *order)
{
    struct slice body = call->request->body;
    struct place_name_fault fault;
    bool looks_gzip = body.len > 1 && (uint8_t)body.at[0] == 0x1f && (uint8_t)body.at[1] == 0x8b;
    memset(order, 0, sizeof *order);
    if (!place_path(slice_of(words->type), slice_of(words->version), role, words->gzip_given ? words->gzip : looks_gzip,
                    order, &fault)) {
        admin_refuse(call->answer, 400, fault.bad_type ? "bad-type" : "bad-version", fault.remedy,
                     "\"%s\" cannot be a %s: %s", fault.bad_type ? words->type : words->version,
                     fault.bad_type ? "type" : "version", fault.reason);
        return false;
    }
    order->bytes = (const uint8_t *)body.at;
    order->size = body.len - words->signature;
    order->detached = words->signature > 0 ? order->bytes + order->size : NULL;
    order->detached_size = words->signature;
    order->replace = words->replace;
    order->chip = chip_of_type(call->api->catalog, order->name.type, order->path);
    const struct image *same = find_same(call->api->catalog, order);
    if (same != NULL && (!words->replace || strcmp(same->path, order->path) != 0)) {
        refuse_same(call, order, same);
        return false;
    }
    return true;
}

void admin_add_firmware(struct admin_call *call)
{
    struct add_words words = { .gzip = false };
    struct place_order order;
    enum filename_role role = FILENAME_SKETCH;
    if (!read_add(call, &words, &role)) {
        return;
    }
    if (call->request->body.at == NULL || words.signature > call->request->body.len) {
        admin_refuse(call->answer, 400, "bad-request", "send the image's bytes, and right behind them the signature's",
                     "the body has %zu bytes", call->request->body.len);
        return;
    }
    if (!make_order(call, &words, role, &order)) {
        return;
    }
    struct firmware_change *change = change_begin(call, slice_of(order.path));
    if (change != NULL) {
        change->order = order;
        change->order.root = change->root;
        change->keys = signature_keys_ref(call->api->signing_keys);
        change->order.keys = change->keys;
        change_wait(call, change);
        change_work(change);
    }
}

/* --- removing ----------------------------------------------------------------------------------------------------- */

/* The rollout that gives it: one that stands, or one that is done and keeps its type on it. NULL = none. */
static const struct rollout *rollout_of(const struct admin_api *api, const struct image *image)
{
    struct admin_keeping keeping;
    const struct rollout *rollout = NULL;
    while ((rollout = rollouts_next(api->fleet->rollouts, rollout)) != NULL) {
        const struct rollout_target *target = &rollout->order.target;
        for (size_t k = 0; k < target->image_count; k++) {
            if (memcmp(target->md5[k], image->build.facts.md5, 16) == 0 &&
                (!rollout_is_over(rollout) || admin_keeps(api, rollout, &keeping))) {
                return rollout;
            }
        }
    }
    return NULL;
}

static void say_given(struct firmware_change *change, const struct rollout *rollout)
{
    const char *type = rollout->order.target.type;
    if (rollout_is_over(rollout)) {
        snprintf(change->given, sizeof change->given,
                 "rollout %s keeps the type on it: `publish-update %s` gives it another", rollout->id, type);
    } else {
        snprintf(change->given, sizeof change->given,
                 "rollout %s gives it, and can no longer: `updraft rollouts abort %s` ends it", rollout->id,
                 rollout->id);
    }
}

static void remove_image(struct firmware_change *change, const struct image *image, const struct rollout *rollout)
{
    struct admin_api *api = change->api;
    change->reliance = (struct reliance){ .fleet = api->fleet,
                                          .catalog = &api->catalog,
                                          .fs = image->role == FILENAME_FS || image->role == FILENAME_SHARED_FS,
                                          .turns = trigger_turns(api->trigger),
                                          .on_done = change_work,
                                          .owner = change };
    snprintf(change->reliance.path, sizeof change->reliance.path, "%s", image->path);
    if (rollout != NULL) {
        say_given(change, rollout);
    }
    reliance_count(&change->reliance);
}

void admin_remove_firmware(struct admin_call *call)
{
    struct admin_api *api = call->api;
    bool force = false;
    const struct admin_parameter parameters[] = { { "force", ADMIN_YES_NO, &force, 0, NULL } };
    if (!admin_read_query(call, parameters, 1)) {
        return;
    }
    const struct image *image = catalog_find_path(api->catalog, call->rest);
    if (image == NULL && catalog_find_rejection(api->catalog, call->rest) == NULL) {
        admin_refuse(call->answer, 404, "unknown-file",
                     "`updraft firmware ls` and `updraft firmware rejected` list them",
                     "the repository has no such file");
        return;
    }
    const struct rollout *rollout = image != NULL ? rollout_of(api, image) : NULL;
    if (rollout != NULL && !rollout_is_over(rollout) && !force) {
        admin_refuse(call->answer, 409, "in-rollout", "wait until it has ended, or --force",
                     "rollout %s is sending this image to devices", rollout->id);
        return;
    }
    struct firmware_change *change = change_begin(call, call->rest);
    if (change == NULL) {
        return;
    }
    change->removal = true;
    change_wait(call, change);
    if (image != NULL) {
        remove_image(change, image, rollout);
    } else {
        change_work(change);
    }
}

/* --- the start ---------------------------------------------------------------------------------------------------- */

struct sweep {
    uv_work_t work;
    char root[CONFIG_TEXT_MAX];
    size_t removed;
};

static void on_sweep(uv_work_t *work)
{
    struct sweep *sweep = work->data;
    sweep->removed = place_sweep(sweep->root);
}

static void on_swept(uv_work_t *work, int error)
{
    struct sweep *sweep = work->data;
    (void)error;
    if (sweep->removed > 0) {
        struct log_line line;
        log_begin(&line, LOG_INFO, "uploads_swept");
        log_number(&line, "files", (int64_t)sweep->removed);
        log_end(&line);
    }
    free(sweep);
}

void admin_api_start(struct admin_api *api)
{
    struct sweep *sweep = calloc(1, sizeof *sweep);
    assert(sweep != NULL);
    sweep->work.data = sweep;
    snprintf(sweep->root, sizeof sweep->root, "%s", api->config->repo);
    int error = uv_queue_work(api->loop, &sweep->work, on_sweep, on_swept);
    assert(error == 0);
    (void)error;
}
