/* From a request to an answer, in the order of the house: device_request, catalog, assignment, guard, decision. */
#include "server/device_api.h"

#include "base/log.h"
#include "proto/decision.h"
#include "proto/device_request.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A check under way: everything that one answer and its log line need. */
struct check {
    struct device_api *api;
    const struct http_request *request;
    struct stream *stream;
    struct device_request device;
    struct slice type; /* "" where none is known */
    const struct assignment *assignment;
    struct decision_input input;
    struct decision decision;
    char peer[64];         /* "" until it is asked for */
    struct image *running; /* by digest */
};

struct delivery {
    bool has_mac, fs, updater, full; /* full: not a part only */
    struct loop_guard_key key;
    uint8_t run_md5[16];
    unsigned served_max;
    char type[TYPE_TEXT_MAX + 1];
    char from[VERSION_TEXT_MAX + 1]; /* escaped */
    char to[VERSION_TEXT_MAX + 1];
    char peer[64];
};

static bool is_fs(const struct device_request *device)
{
    return device->mode == DEVICE_MODE_FS;
}

static const char *build_name(const struct build *build)
{
    return build->version.text[0] != '\0' ? build->version.text : build->label;
}

/* --- asking ------------------------------------------------------------------------------------------------------- */

/* Who runs this digest? A file system check carries the sketch's, which says nothing of the file system. */
static void find_running(struct check *check)
{
    const struct device_request *device = &check->device;
    uint8_t mode = FLASH_MODE_UNKNOWN;
    if (device->has_md5) {
        check->running = catalog_find_md5(check->api->catalog, device->sketch_md5, check->type, &mode);
    }
    if (check->running == NULL && device->has_sha256) {
        check->running = catalog_find_sha256(check->api->catalog, device->sketch_sha256, check->type);
    }
    check->input.running = check->running != NULL ? &check->running->build : NULL;
    check->input.running_flash_mode = mode;
}

static void find_offer(struct check *check, const char *wanted)
{
    struct catalog_query query = {
        .type = check->type,
        .kind = is_fs(&check->device) ? OFFER_FS : OFFER_SKETCH,
        .wanted = wanted,
        .flash_bytes = check->device.flash_bytes,
    };
    catalog_offer(check->api->catalog, &query, &check->input.offer, &check->input.missing);
    check->input.assigned = wanted;
}

/* A file system check without a version can never be told "up to date": one whole transfer has to do. */
static unsigned served_max(const struct check *check)
{
    bool blind = is_fs(&check->device) && check->device.version.text[0] == '\0';
    return blind ? 1 : check->api->loop_guard_max;
}

static struct loop_guard_key guard_key(const struct check *check)
{
    return (struct loop_guard_key){ .mac = check->device.mac, .fs = is_fs(&check->device) };
}

static void ask_guard(struct check *check)
{
    const struct build *forms[] = { check->input.offer.plain, check->input.offer.gzip };
    struct loop_guard_key key = guard_key(check);
    uint64_t wait_ms;
    for (size_t i = 0; check->device.has_mac && i < sizeof forms / sizeof forms[0]; i++) {
        check->input.guarded =
            check->input.guarded ||
            (forms[i] != NULL && loop_guard_holds(check->api->guard, &key, forms[i]->facts.run_md5[0],
                                                  served_max(check), uv_now(check->api->loop), &wait_ms));
    }
}

/* The digest says which build it is, its header another version: the label inside the sketch was forgotten. Once an
 * image. */
static void warn_of_wrong_label(const struct check *check)
{
    const struct device_request *device = &check->device;
    struct image *image = check->running;
    if (image == NULL || image->label_doubted || is_fs(device) || device->version.text[0] == '\0' ||
        image->build.version.text[0] == '\0' || version_compare(&device->version, &image->build.version) == 0) {
        return;
    }
    image->label_doubted = true;
    LOG_EVENT(LOG_WARN, "label_wrong", "file", image->path, "says", device->version.text, "remedy",
              "its devices are known by their digest all the same; build the next one with the version of its name");
}

static void decide(struct check *check)
{
    check->input.request = &check->device;
    check->input.fs_gzip = check->api->fs_gzip;
    decision_make(&check->input, &check->decision);
    if (check->decision.reason == REASON_LOOP_GUARD) {
        snprintf(check->decision.detail, sizeof check->decision.detail,
                 "sent whole %u times and asked for again; the device must be failing to start it", served_max(check));
    }
    warn_of_wrong_label(check);
    bool installed = check->decision.reason == REASON_SAME_DIGEST || check->decision.reason == REASON_UP_TO_DATE;
    if (installed && check->device.has_mac) {
        struct loop_guard_key key = guard_key(check);
        loop_guard_forget(check->api->guard, &key);
    }
}

/* --- telling ------------------------------------------------------------------------------------------------------ */

static const char *check_peer(struct check *check)
{
    if (check->peer[0] == '\0' && check->stream != NULL) {
        check->stream->ops->peer(check->stream, check->peer, sizeof check->peer);
    }
    return check->peer;
}

static void log_check(struct check *check, const struct http_answer *answer)
{
    const struct device_request *device = &check->device;
    enum log_level level = reason_is_routine(check->decision.reason) ? LOG_DEBUG : LOG_INFO;
    struct log_line line;
    char mac[MAC_TEXT_SIZE], digest[65];
    if (!log_enabled(level)) {
        return;
    }
    log_begin(&line, level, "check");
    log_text(&line, "reason", reason_word(check->decision.reason));
    log_number(&line, "status", answer->status);
    if (device->has_mac) {
        mac_print(&device->mac, mac);
        log_text(&line, "device", mac);
    }
    log_text(&line, "client", device_client_text(device->client));
    if (device->client == CLIENT_PLAIN || check->type.len == 0) {
        log_slice(&line, "path", check->request->path);
    }
    if (check->type.len > 0) {
        log_slice(&line, "type", check->type);
    }
    if (device->client != CLIENT_PLAIN) {
        log_text(&line, "mode", device_mode_text(device->mode));
    }
    log_slice(&line, "from", device->label);
    if (device->has_md5) {
        hex_encode(device->sketch_md5, 16, digest);
        log_text(&line, "md5", digest);
    }
    if (device->has_sha256) {
        hex_encode(device->sketch_sha256, 32, digest);
        log_text(&line, "sha256", digest);
    }
    if (check->running != NULL) {
        log_text(&line, "runs", check->running->path);
    }
    if (check->decision.build != NULL) {
        log_text(&line, "to", build_name(check->decision.build));
        log_text(&line, "image", image_of_build(check->decision.build)->path);
        hex_encode(check->decision.build->facts.md5, 16, digest);
        log_text(&line, "image_md5", digest);
    }
    if (check->decision.detail[0] != '\0') {
        log_text(&line, "why", check->decision.detail);
    } else if (check->decision.build == NULL && check->input.assigned != NULL) {
        log_text(&line, "assigned", check->input.assigned);
    }
    log_text(&line, "peer", check_peer(check));
    log_end(&line);
}

static struct delivery *delivery_new(struct check *check, const struct http_answer *answer)
{
    const struct build *build = check->decision.build;
    struct delivery *delivery = calloc(1, sizeof *delivery);
    assert(delivery != NULL && build != NULL);
    delivery->has_mac = check->device.has_mac;
    delivery->fs = is_fs(&check->device);
    delivery->updater = check->device.client != CLIENT_PLAIN;
    delivery->full = answer->status == 200;
    delivery->key = guard_key(check);
    delivery->served_max = served_max(check);
    memcpy(delivery->run_md5, build->facts.run_md5[0], 16);
    (void)slice_copy(check->type, delivery->type, sizeof delivery->type);
    text_escape(check->device.label, delivery->from, sizeof delivery->from);
    snprintf(delivery->to, sizeof delivery->to, "%s", build_name(build));
    snprintf(delivery->peer, sizeof delivery->peer, "%s", check_peer(check));
    return delivery;
}

static void log_who(struct log_line *line, const struct delivery *delivery)
{
    char mac[MAC_TEXT_SIZE];
    if (delivery->has_mac) {
        mac_print(&delivery->key.mac, mac);
        log_text(line, "device", mac);
    }
    log_text(line, "type", delivery->type);
    log_text(line, "mode", delivery->fs ? "fs" : "sketch");
    log_text(line, "from", delivery->from);
    log_text(line, "to", delivery->to);
}

void device_api_unavailable(const struct delivery *delivery, const struct image *image, enum status status,
                            struct http_answer *answer)
{
    struct log_line line;
    answer->has_reason = true;
    answer->reason = REASON_NOT_YET;
    if (delivery->updater) {
        answer->status = 304;
    } else {
        answer->retry_after_s = 1;
        http_answer_text(answer, 503, "%s: come again\n", reason_word(REASON_NOT_YET));
    }
    bool replaced = status == STATUS_CHANGED || status == STATUS_NOT_FOUND;
    log_begin(&line, replaced ? LOG_INFO : LOG_WARN, "check");
    log_text(&line, "reason", reason_word(REASON_NOT_YET));
    log_number(&line, "status", answer->status);
    log_who(&line, delivery);
    log_text(&line, "image", image->path);
    log_text(&line, "why",
             replaced                 ? "its file is being replaced, or was deleted"
             : status == STATUS_LIMIT ? "image-memory is in use by other images: raise it"
                                      : status_text(status));
    log_text(&line, "peer", delivery->peer);
    log_end(&line);
}

void device_api_delivered(struct device_api *api, struct delivery *delivery, const struct delivery_outcome *outcome)
{
    struct log_line line;
    if (!outcome->begun) {
        free(delivery); /* device_api_unavailable has told */
        return;
    }
    if (outcome->whole && delivery->full && delivery->has_mac) {
        loop_guard_sent(api->guard, &delivery->key, delivery->run_md5, delivery->served_max, uv_now(api->loop));
    }
    log_begin(&line, LOG_INFO, outcome->whole ? "update_sent" : "update_cut");
    log_who(&line, delivery);
    log_number(&line, "bytes", (int64_t)outcome->bytes);
    if (!outcome->whole) {
        log_number(&line, "of", (int64_t)outcome->wanted);
        log_text(&line, "why", outcome->why);
    }
    log_number(&line, "ms", (int64_t)outcome->ms);
    log_text(&line, "peer", delivery->peer);
    log_end(&line);
    free(delivery);
}

/* For an answer whose text stands already: its reason, and the line in the log. */
static void tell_reason(struct check *check, enum reason reason, struct http_answer *answer)
{
    check->decision.reason = reason;
    answer->has_reason = true;
    answer->reason = reason;
    log_check(check, answer);
}

/* What is missing, in words for whoever reads the body. */
static void say_missing(const struct check *check, struct http_answer *answer, unsigned status)
{
    char type[3 * TYPE_TEXT_MAX];
    text_escape(check->type, type, sizeof type);
    const char *word = reason_word(check->decision.reason);
    const char *kind = is_fs(&check->device) ? "file system image" : "image";
    switch (check->decision.reason) {
    case REASON_UNKNOWN_TYPE:
        http_answer_text(answer, status, "%s: no file in the repository is for type \"%s\"\n", word, type);
        break;
    case REASON_REJECTED:
        http_answer_text(answer, status, "%s: every %s of type \"%s\" failed its checks; the log says why\n", word,
                         kind, type);
        break;
    case REASON_UNKNOWN_FILE:
        http_answer_text(answer, status,
                         "%s: there are /latest/<type>.bin and /native/<type>/version, user1.bin, user2.bin\n", word);
        break;
    default:
        if (check->input.assigned != NULL) {
            http_answer_text(answer, status, "%s: no %s \"%s\" is in the repository\n", word, kind,
                             check->input.assigned);
        } else {
            http_answer_text(answer, status, "%s: no %s of type \"%s\" is in the repository\n", word, kind, type);
        }
    }
}

/* A device that compares texts must find its own version in its own spelling: `0.4.9` for a file named `0_4_9`. */
static void answer_version(const struct check *check, struct http_answer *answer)
{
    const struct version *own = &check->device.version;
    const struct version *offered = &check->decision.build->version;
    bool same = own->text[0] != '\0' && offered->text[0] != '\0' && version_compare(own, offered) == 0;
    const char *name = same ? own->text : build_name(check->decision.build);
    snprintf(answer->version, sizeof answer->version, "%s", name);
    http_answer_text(answer, 200, "%s\n", name);
}

/* Turns the decision into the answer, and says it in the log. */
static void tell(struct check *check, struct http_answer *answer)
{
    const struct decision *decision = &check->decision;
    unsigned status = reason_http_status(decision->reason);
    bool updater = check->device.client != CLIENT_PLAIN;
    if (check->device.mode == DEVICE_MODE_VERSION && decision->build != NULL) {
        answer_version(check, answer);
    } else if (decision_serves(decision)) {
        http_answer_image(answer, image_of_build(decision->build), check->request);
        if (answer->status == 304) {
            check->decision.reason = REASON_NOT_MODIFIED;
        } else if (answer->status != 416 && !check->request->head_only) {
            answer->delivery = delivery_new(check, answer);
        }
    } else if (status == 304 && updater) {
        answer->status = 304;
    } else if (status == 304) {
        answer->retry_after_s = 1;
        http_answer_text(answer, 503, "%s: come again\n", reason_word(decision->reason));
    } else {
        say_missing(check, answer, status);
    }
    tell_reason(check, check->decision.reason, answer);
}

/* --- /update/<type>, /update -------------------------------------------------------------------------------------- */

/* An updater must say who it is. Returns false with the refusal. */
static bool read_updater(struct check *check, struct http_answer *answer)
{
    static const enum reason reasons[] = {
        [DEVICE_REQUEST_NOT_AN_UPDATER] = REASON_NOT_AN_UPDATER,
        [DEVICE_REQUEST_MISSING_HEADER] = REASON_MISSING_HEADER,
        [DEVICE_REQUEST_BAD_HEADER] = REASON_BAD_HEADER,
    };
    const char *header = "User-Agent";
    enum device_request_result result =
        device_request_read(check->request->headers, check->request->header_count, &check->device, &header);
    if (result == DEVICE_REQUEST_OK) {
        return true;
    }
    const char *word = reason_word(reasons[result]);
    snprintf(check->decision.detail, sizeof check->decision.detail, "header %s", header);
    if (result == DEVICE_REQUEST_NOT_AN_UPDATER) {
        http_answer_text(answer, 403, "%s: the User-Agent header must be ESP8266-http-Update or ESP32-http-Update\n",
                         word);
    } else if (result == DEVICE_REQUEST_MISSING_HEADER) {
        http_answer_text(answer, 403, "%s: the header %s is missing\n", word, header);
    } else {
        http_answer_text(answer, 403, "%s: the header %s cannot be read, or came twice\n", word, header);
    }
    tell_reason(check, reasons[result], answer);
    return false;
}

static struct check check_begin(struct device_api *api, const struct http_request *request, struct stream *stream)
{
    struct check check = { .api = api, .request = request, .stream = stream, .type = { "", 0 } };
    check.input.running_flash_mode = FLASH_MODE_UNKNOWN;
    return check;
}

/* The assignment that speaks for this check: on /update any, on /update/<type> one that does not name another type. */
static void find_assignment(struct check *check, bool by_type)
{
    const struct assignment *found = assignments_find(check->api->assignments, &check->device.mac);
    if (found != NULL && by_type && found->type[0] != '\0' && !slice_is(check->type, found->type)) {
        found = NULL;
    }
    check->assignment = found;
    if (found != NULL && found->type[0] != '\0') {
        check->type = slice_of(found->type);
    }
}

void device_api_update(struct device_api *api, const struct http_request *request, struct slice rest,
                       struct stream *stream, struct http_answer *answer)
{
    struct check check = check_begin(api, request, stream);
    bool by_type = slice_starts_with(request->path, "/update/");
    if (by_type) {
        check.type = rest;
    }
    if (!read_updater(&check, answer)) {
        return;
    }
    find_assignment(&check, by_type);
    if (!by_type && check.assignment == NULL) {
        check.input.missing = REASON_UNASSIGNED;
    } else {
        const char *label = check.assignment != NULL ? check.assignment->label : "";
        find_offer(&check, label[0] != '\0' ? label : NULL);
    }
    find_running(&check);
    ask_guard(&check);
    decide(&check);
    tell(&check, answer);
}

/* --- /latest/<type>.bin ------------------------------------------------------------------------------------------- */

/* Reads what the client says of itself, if it does; nothing is required. */
static void read_any(struct check *check)
{
    const char *header;
    (void)device_request_read(check->request->headers, check->request->header_count, &check->device, &header);
    check->input.unconditional = true;
}

void device_api_latest(struct device_api *api, const struct http_request *request, struct slice rest,
                       struct stream *stream, struct http_answer *answer)
{
    struct check check = check_begin(api, request, stream);
    check.input.missing = REASON_UNKNOWN_FILE;
    read_any(&check);
    if (slice_ends_with(rest, ".bin")) {
        check.type = (struct slice){ rest.at, rest.len - strlen(".bin") };
        find_offer(&check, NULL);
    }
    find_running(&check);
    decide(&check);
    tell(&check, answer);
}

/* --- /firmware/<file>[.md5|.sha256] ------------------------------------------------------------------------------- */

/* "<file>.md5" and "<file>.sha256". Returns false where the path is neither of an image that is there. */
static bool answer_digest(struct check *check, struct slice path, struct http_answer *answer)
{
    static const struct {
        const char *suffix;
        size_t bytes;
    } digests[] = { { ".md5", 16 }, { ".sha256", 32 } };
    for (size_t i = 0; i < sizeof digests / sizeof digests[0]; i++) {
        size_t n = strlen(digests[i].suffix);
        if (!slice_ends_with(path, digests[i].suffix)) {
            continue;
        }
        const struct image *image = catalog_find_path(check->api->catalog, (struct slice){ path.at, path.len - n });
        if (image != NULL) {
            char hex[65];
            const struct image_facts *facts = &image->build.facts;
            hex_encode(digests[i].bytes == 16 ? facts->md5 : facts->sha256, digests[i].bytes, hex);
            http_answer_text(answer, 200, "%s\n", hex);
            tell_reason(check, REASON_FILE, answer);
            return true;
        }
    }
    return false;
}

static void refuse_file(struct check *check, struct slice path, struct http_answer *answer)
{
    const struct rejection *rejection = catalog_find_rejection(check->api->catalog, path);
    if (rejection != NULL) {
        snprintf(check->decision.detail, sizeof check->decision.detail, "%s", rejection->verdict.detail);
        http_answer_text(answer, 404, "rejected: %s: %s; %s\n", image_fault_word(rejection->verdict.fault),
                         rejection->verdict.detail, rejection->verdict.remedy);
    } else {
        http_answer_text(answer, 404, "unknown-file: the repository has no such file\n");
    }
    tell_reason(check, rejection != NULL ? REASON_REJECTED : REASON_UNKNOWN_FILE, answer);
}

/* An image that goes by its label is for the devices it is assigned to; who names no device, names the file. */
static bool may_have_label(const struct check *check, const struct image *image)
{
    if (image->role != FILENAME_LABEL || !check->device.has_mac) {
        return true;
    }
    const struct assignment *assignment = assignments_find(check->api->assignments, &check->device.mac);
    return assignment != NULL && strcmp(assignment->label, image->build.label) == 0;
}

void device_api_firmware(struct device_api *api, const struct http_request *request, struct slice rest,
                         struct stream *stream, struct http_answer *answer)
{
    struct check check = check_begin(api, request, stream);
    struct image *image = catalog_find_path(api->catalog, rest);
    read_any(&check);
    if (image == NULL) {
        if (!answer_digest(&check, rest, answer)) {
            refuse_file(&check, rest, answer);
        }
        return;
    }
    check.type = slice_of(image->type);
    if (!may_have_label(&check, image)) {
        /* No 304: this is not "nothing newer", and Tasmota would take it for success and restart. */
        http_answer_text(answer, 403, "unassigned: this image goes by its label; assign it to this device\n");
        tell_reason(&check, REASON_UNASSIGNED, answer);
        return;
    }
    *(image->build.facts.gzip ? &check.input.offer.gzip : &check.input.offer.plain) = &image->build;
    find_running(&check);
    decide(&check);
    if (check.decision.reason == REASON_LATEST) {
        check.decision.reason = REASON_FILE;
    }
    tell(&check, answer);
}

/* --- /native/<type>/version, user1.bin, user2.bin ----------------------------------------------------------------- */

void device_api_native(struct device_api *api, const struct http_request *request, struct slice rest,
                       struct stream *stream, struct http_answer *answer)
{
    struct check check = check_begin(api, request, stream);
    struct image *slots[2] = { NULL, NULL };
    const char *slash = rest.len > 0 ? memchr(rest.at, '/', rest.len) : NULL;
    struct slice file = { "", 0 };
    check.device.chip = CHIP_ESP8266;
    check.input.missing = REASON_UNKNOWN_FILE;
    if (slash != NULL) {
        check.type = (struct slice){ rest.at, (size_t)(slash - rest.at) };
        file = (struct slice){ slash + 1, rest.len - check.type.len - 1 };
    }
    bool wants_version = slice_is(file, "version");
    int slot = slice_is(file, "user1.bin") ? 0 : slice_is(file, "user2.bin") ? 1 : -1;
    bool found = (wants_version || slot >= 0) && catalog_slots(api->catalog, check.type, slots, &check.input.missing);
    if (found) {
        check.input.unconditional = true;
        check.input.offer.plain = &slots[slot > 0 ? slot : 0]->build;
    }
    decide(&check);
    if (found && wants_version) {
        /* Exactly the version, no line end: these clients compare the body as it stands. */
        http_answer_text(answer, 200, "%s", build_name(check.decision.build));
        tell_reason(&check, check.decision.reason, answer);
        return;
    }
    tell(&check, answer);
}

void device_api_healthz(struct device_api *api, const struct http_request *request, struct slice rest,
                        struct stream *stream, struct http_answer *answer)
{
    (void)api;
    (void)request;
    (void)rest;
    (void)stream;
    http_answer_text(answer, 200, "ok\n");
}
