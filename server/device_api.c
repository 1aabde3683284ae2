/* From a request to an answer, and to those who hear of it. */
#include "server/device_api.h"

#include "base/log.h"
#include "server/check.h"

#include <arpa/inet.h>
#include <assert.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A request under way: the check, and everything else that its answer and its log line need. */
struct visit {
    struct check check;
    struct device_api *api;
    const struct http_request *request;
    struct stream *stream;
    char peer[64]; /* "" until it is asked for */
};

struct delivery {
    bool has_mac, fs, updater, full; /* full: not a part only */
    struct loop_guard_key key;
    uint8_t run_md5[16];
    uint8_t file_md5[16];
    unsigned served_max;
    enum reason reason;
    char type[TYPE_TEXT_MAX + 1];
    char from[VERSION_TEXT_MAX + 1]; /* escaped */
    char to[VERSION_TEXT_MAX + 1];
    char peer[64];
};

static bool is_fs(const struct device_request *device)
{
    return device->mode == DEVICE_MODE_FS;
}

/* --- who hears of it ---------------------------------------------------------------------------------------------- */

#define USED_ADDRESS_LOOK_MS 200

/* The digest says which build it is, its header another version: the label inside the sketch was forgotten. Once an
 * image. */
static void warn_of_wrong_label(const struct visit *visit)
{
    const struct device_request *device = &visit->check.device;
    struct image *image = visit->check.running;
    if (image == NULL || image->label_doubted || is_fs(device) || device->version.text[0] == '\0' ||
        image->build.version.text[0] == '\0' || version_compare(&device->version, &image->build.version) == 0) {
        return;
    }
    image->label_doubted = true;
    LOG_EVENT(LOG_WARN, "label_wrong", "file", image->path, "says", device->version.text, "remedy",
              "its devices are known by their digest all the same; build the next one with the version of its name");
}

static bool is_installed(const struct check *check)
{
    return check->decision.reason == REASON_SAME_DIGEST || check->decision.reason == REASON_UP_TO_DATE;
}

static bool is_loopback(const struct sockaddr_storage *address)
{
    if (address->ss_family == AF_INET6) {
        const struct in6_addr *in6 = &((const struct sockaddr_in6 *)address)->sin6_addr;
        return IN6_IS_ADDR_LOOPBACK(in6) || (IN6_IS_ADDR_V4MAPPED(in6) && in6->s6_addr[12] == 127);
    }
    return ntohl(((const struct sockaddr_in *)address)->sin_addr.s_addr) >> 24 == 127;
}

static void hear_of_address(struct visit *visit)
{
    struct device_api *api = visit->api;
    uint64_t now_ms = uv_now(api->sources.loop);
    struct sockaddr_storage address;
    memset(&address, 0, sizeof address);
    if (visit->stream == NULL || now_ms - api->used_ms < USED_ADDRESS_LOOK_MS) {
        return;
    }
    api->used_ms = now_ms;
    if (!visit->stream->ops->local(visit->stream, &address) || address.ss_family == AF_UNIX || is_loopback(&address)) {
        return;
    }
    for (size_t i = 0; i < DEVICE_API_ADDRESSES_MAX; i++) {
        struct used_address *used = &api->used[i];
        if (used->checks == 0 || memcmp(&used->address, &address, sizeof address) == 0) {
            used->address = address;
            used->checks++;
            return;
        }
    }
}

const struct sockaddr_storage *device_api_used_address(const struct device_api *api)
{
    const struct used_address *most = &api->used[0];
    for (size_t i = 1; i < DEVICE_API_ADDRESSES_MAX; i++) {
        most = api->used[i].checks > most->checks ? &api->used[i] : most;
    }
    return most->checks > 0 ? &most->address : NULL;
}

/* A device that says who it is was here: what it runs is a fact, whatever it is answered. */
static void hear_of_check(struct visit *visit)
{
    struct device_api *api = visit->api;
    const struct check *check = &visit->check;
    const struct device_request *device = &check->device;
    uint64_t now_ms = uv_now(api->sources.loop);
    warn_of_wrong_label(visit);
    if (!device->has_mac || device->client == CLIENT_PLAIN) {
        return;
    }
    if (is_installed(check)) {
        struct loop_guard_key key = check_guard_key(check);
        loop_guard_forget(api->sources.guard, &key);
    }
    const uint8_t *md5 = device->has_md5 ? device->sketch_md5 : NULL;
    char refused[sizeof check->decision.detail + 40];
    snprintf(refused, sizeof refused, "%s%s%s", reason_word(check->decision.reason),
             check->decision.detail[0] != '\0' ? ": " : "", check->decision.detail);
    struct rollout_sighting sighting = {
        .mac = device->mac,
        .type = check->type,
        .fs = is_fs(device),
        .md5 = md5,
        .up_to_date = is_installed(check),
        .offered_md5 = check->decision.build != NULL ? check->decision.build->facts.md5 : NULL,
        .refused = decision_serves(&check->decision) || is_installed(check) ? NULL : refused,
    };
    if (check->type.len > 0 && check->decision.reason != REASON_UNKNOWN_TYPE) {
        struct device *seen = fleet_saw(api->fleet, &device->mac, check->type, md5, now_ms);
        if (seen != NULL) {
            device_learn(seen, device);
        }
    }
    rollouts_saw(api->rollouts, &sighting, now_ms);
    hear_of_address(visit);
}

/* --- telling ------------------------------------------------------------------------------------------------------ */

static const char *check_peer(struct visit *visit)
{
    if (visit->peer[0] == '\0' && visit->stream != NULL) {
        visit->stream->ops->peer(visit->stream, visit->peer, sizeof visit->peer);
    }
    return visit->peer;
}

static void log_check(struct visit *visit, const struct http_answer *answer)
{
    const struct device_request *device = &visit->check.device;
    enum log_level level = reason_is_routine(visit->check.decision.reason) ? LOG_DEBUG : LOG_INFO;
    struct log_line line;
    char mac[MAC_TEXT_SIZE], digest[65];
    if (!log_enabled(level)) {
        return;
    }
    log_begin(&line, level, "check");
    log_text(&line, "reason", reason_word(visit->check.decision.reason));
    log_number(&line, "status", answer->status);
    if (device->has_mac) {
        mac_print(&device->mac, mac);
        log_text(&line, "device", mac);
    }
    log_text(&line, "client", device_client_text(device->client));
    if (device->client == CLIENT_PLAIN || visit->check.type.len == 0) {
        log_slice(&line, "path", visit->request->path);
    }
    if (visit->check.type.len > 0) {
        log_slice(&line, "type", visit->check.type);
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
    if (visit->check.running != NULL) {
        log_text(&line, "runs", visit->check.running->path);
    }
    if (visit->check.decision.build != NULL) {
        log_text(&line, "to", build_name(visit->check.decision.build));
        log_text(&line, "image", image_of_build(visit->check.decision.build)->path);
        hex_encode(visit->check.decision.build->facts.md5, 16, digest);
        log_text(&line, "image_md5", digest);
    }
    if (visit->check.decision.detail[0] != '\0') {
        log_text(&line, "why", visit->check.decision.detail);
    } else if (visit->check.decision.build == NULL && visit->check.input.assigned != NULL) {
        log_text(&line, "assigned", visit->check.input.assigned);
    }
    log_text(&line, "peer", check_peer(visit));
    log_end(&line);
}

static struct delivery *delivery_new(struct visit *visit, const struct http_answer *answer)
{
    const struct build *build = visit->check.decision.build;
    struct delivery *delivery = calloc(1, sizeof *delivery);
    assert(delivery != NULL && build != NULL);
    delivery->has_mac = visit->check.device.has_mac;
    delivery->fs = is_fs(&visit->check.device);
    delivery->updater = visit->check.device.client != CLIENT_PLAIN;
    delivery->full = answer->status == 200;
    delivery->key = check_guard_key(&visit->check);
    delivery->served_max = check_served_max(&visit->check);
    memcpy(delivery->run_md5, build->facts.run_md5[0], 16);
    memcpy(delivery->file_md5, build->facts.md5, 16);
    (void)slice_copy(visit->check.type, delivery->type, sizeof delivery->type);
    text_escape(visit->check.device.label, delivery->from, sizeof delivery->from);
    snprintf(delivery->to, sizeof delivery->to, "%s", build_name(build));
    snprintf(delivery->peer, sizeof delivery->peer, "%s", check_peer(visit));
    delivery->reason = visit->check.decision.reason;
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

void device_api_begun(struct device_api *api, struct delivery *delivery)
{
    metrics_count(api->metrics, METRIC_CHECKS, delivery->reason);
    rollouts_transfer_begins(api->rollouts, delivery->has_mac ? &delivery->key.mac : NULL, delivery->file_md5,
                             uv_now(api->sources.loop));
}

const uint8_t *device_api_delivery_md5(const struct delivery *delivery)
{
    return delivery->file_md5;
}

void device_api_unavailable(struct device_api *api, const struct delivery *delivery, const struct image *image,
                            enum status status, struct http_answer *answer)
{
    struct log_line line;
    answer->has_reason = true;
    answer->reason = REASON_NOT_YET;
    metrics_count(api->metrics, METRIC_CHECKS, REASON_NOT_YET);
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

static void hear_of_delivery(struct device_api *api, const struct delivery *delivery,
                             const struct delivery_outcome *outcome)
{
    enum metric_transfer result = !outcome->begun  ? METRIC_TRANSFER_NOT_LOADED
                                  : outcome->whole ? METRIC_TRANSFER_WHOLE
                                                   : METRIC_TRANSFER_CUT;
    metrics_count(api->metrics, METRIC_TRANSFERS, result);
    api->metrics->counters[METRIC_COUNT_IMAGE_BYTES] += outcome->bytes;
    if (outcome->whole) {
        metrics_observe(api->metrics, METRIC_HISTOGRAM_TRANSFER_SECONDS, (double)outcome->ms / 1000.0);
    }
    if (!outcome->begun) {
        return;
    }
    rollouts_transfer_ended(api->rollouts, delivery->has_mac ? &delivery->key.mac : NULL, delivery->file_md5,
                            outcome->whole, outcome->bytes, uv_now(api->sources.loop));
}

void device_api_delivered(struct device_api *api, struct delivery *delivery, const struct delivery_outcome *outcome)
{
    struct log_line line;
    hear_of_delivery(api, delivery, outcome);
    if (!outcome->begun) {
        free(delivery); /* device_api_unavailable has told */
        return;
    }
    if (outcome->whole && delivery->full && delivery->has_mac) {
        loop_guard_sent(api->sources.guard, &delivery->key, delivery->run_md5, delivery->served_max,
                        uv_now(api->sources.loop));
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
static void tell_reason(struct visit *visit, enum reason reason, struct http_answer *answer)
{
    visit->check.decision.reason = reason;
    answer->has_reason = true;
    answer->reason = reason;
    if (answer->delivery == NULL) { /* else it may yet be not to be had: device_api_begun counts, or _unavailable */
        metrics_count(visit->api->metrics, METRIC_CHECKS, reason);
    }
    log_check(visit, answer);
}

/* What is missing, in words for whoever reads the body. */
static void say_missing(const struct visit *visit, struct http_answer *answer, unsigned status)
{
    char type[3 * TYPE_TEXT_MAX];
    text_escape(visit->check.type, type, sizeof type);
    const char *word = reason_word(visit->check.decision.reason);
    const char *kind = is_fs(&visit->check.device) ? "file system image" : "image";
    switch (visit->check.decision.reason) {
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
        if (visit->check.input.assigned != NULL) {
            http_answer_text(answer, status, "%s: no %s \"%s\" is in the repository\n", word, kind,
                             visit->check.input.assigned);
        } else {
            http_answer_text(answer, status, "%s: no %s of type \"%s\" is in the repository\n", word, kind, type);
        }
    }
}

/* A device that compares texts must find its own version in its own spelling: `0.4.9` for a file named `0_4_9`. */
static void answer_version(const struct visit *visit, struct http_answer *answer)
{
    const struct version *own = &visit->check.device.version;
    const struct version *offered = &visit->check.decision.build->version;
    bool same = own->text[0] != '\0' && offered->text[0] != '\0' && version_compare(own, offered) == 0;
    const char *name = same ? own->text : build_name(visit->check.decision.build);
    snprintf(answer->version, sizeof answer->version, "%s", name);
    http_answer_text(answer, 200, "%s\n", name);
}

/* Turns the decision into the answer, and says it in the log. */
static void tell(struct visit *visit, struct http_answer *answer)
{
    const struct decision *decision = &visit->check.decision;
    unsigned status = reason_http_status(decision->reason);
    bool updater = visit->check.device.client != CLIENT_PLAIN;
    if (visit->check.device.mode == DEVICE_MODE_VERSION && decision->build != NULL) {
        answer_version(visit, answer);
    } else if (decision_serves(decision)) {
        http_answer_image(answer, image_of_build(decision->build), visit->request);
        if (answer->status == 304) {
            visit->check.decision.reason = REASON_NOT_MODIFIED;
        } else if (answer->status != 416 && !visit->request->head_only) {
            answer->delivery = delivery_new(visit, answer);
        }
    } else if (status == 304 && updater) {
        answer->status = 304;
    } else if (status == 304) {
        answer->retry_after_s = 1;
        http_answer_text(answer, 503, "%s: come again\n", reason_word(decision->reason));
    } else {
        say_missing(visit, answer, status);
    }
    tell_reason(visit, visit->check.decision.reason, answer);
}

/* --- /update/<type>, /update -------------------------------------------------------------------------------------- */

/* An updater must say who it is. Returns false with the refusal. */
static bool read_updater(struct visit *visit, struct http_answer *answer)
{
    static const enum reason reasons[] = {
        [DEVICE_REQUEST_NOT_AN_UPDATER] = REASON_NOT_AN_UPDATER,
        [DEVICE_REQUEST_MISSING_HEADER] = REASON_MISSING_HEADER,
        [DEVICE_REQUEST_BAD_HEADER] = REASON_BAD_HEADER,
    };
    const char *header = "User-Agent";
    enum device_request_result result =
        device_request_read(visit->request->headers, visit->request->header_count, &visit->check.device, &header);
    if (result == DEVICE_REQUEST_OK) {
        return true;
    }
    const char *word = reason_word(reasons[result]);
    snprintf(visit->check.decision.detail, sizeof visit->check.decision.detail, "header %s", header);
    if (result == DEVICE_REQUEST_NOT_AN_UPDATER) {
        http_answer_text(answer, 403, "%s: the User-Agent header must be ESP8266-http-Update or ESP32-http-Update\n",
                         word);
    } else if (result == DEVICE_REQUEST_MISSING_HEADER) {
        http_answer_text(answer, 403, "%s: the header %s is missing\n", word, header);
    } else {
        http_answer_text(answer, 403, "%s: the header %s cannot be read, or came twice\n", word, header);
    }
    tell_reason(visit, reasons[result], answer);
    return false;
}

static struct visit visit_begin(struct device_api *api, const struct http_request *request, struct stream *stream)
{
    struct visit visit = { .api = api, .request = request, .stream = stream };
    check_init(&visit.check, &api->sources);
    return visit;
}

/* `?version=0.4.9`: exactly this one, as a command that goes back asks for it. Returns NULL where there is none. */
static const char *wanted_version(const struct http_request *request, struct http_parameter *parameter)
{
    struct slice query = request->query;
    bool good;
    while (http_query_next(&query, parameter, &good)) {
        if (strcmp(parameter->name, "version") == 0 && parameter->value[0] != '\0') {
            return parameter->value;
        }
    }
    return NULL;
}

void device_api_update(struct device_api *api, const struct http_request *request, struct slice rest,
                       struct stream *stream, struct http_answer *answer)
{
    struct visit visit = visit_begin(api, request, stream);
    bool by_type = slice_starts_with(request->path, "/update/");
    if (by_type) {
        visit.check.type = rest;
    }
    if (!read_updater(&visit, answer)) {
        return;
    }
    struct http_parameter parameter;
    check_update(&visit.check, by_type, wanted_version(request, &parameter));
    hear_of_check(&visit);
    tell(&visit, answer);
}

/* --- /latest/<type>.bin ------------------------------------------------------------------------------------------- */

/* Reads what the client says of itself, if it does; nothing is required. */
static void read_any(struct visit *visit)
{
    const char *header;
    (void)device_request_read(visit->request->headers, visit->request->header_count, &visit->check.device, &header);
    visit->check.input.unconditional = true;
}

void device_api_latest(struct device_api *api, const struct http_request *request, struct slice rest,
                       struct stream *stream, struct http_answer *answer)
{
    struct visit visit = visit_begin(api, request, stream);
    visit.check.input.missing = REASON_UNKNOWN_FILE;
    read_any(&visit);
    if (slice_ends_with(rest, ".bin")) {
        visit.check.type = (struct slice){ rest.at, rest.len - strlen(".bin") };
        check_find_offer(&visit.check, NULL);
    }
    check_find_running(&visit.check);
    check_decide(&visit.check);
    hear_of_check(&visit);
    tell(&visit, answer);
}

/* --- /firmware/<file>[.md5|.sha256] ------------------------------------------------------------------------------- */

/* "<file>.md5" and "<file>.sha256". Returns false where the path is neither of an image that is there. */
static bool answer_digest(struct visit *visit, struct slice path, struct http_answer *answer)
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
        const struct image *image =
            catalog_find_path(visit->api->sources.catalog, (struct slice){ path.at, path.len - n });
        if (image != NULL) {
            char hex[65];
            const struct image_facts *facts = &image->build.facts;
            hex_encode(digests[i].bytes == 16 ? facts->md5 : facts->sha256, digests[i].bytes, hex);
            http_answer_text(answer, 200, "%s\n", hex);
            tell_reason(visit, REASON_FILE, answer);
            return true;
        }
    }
    return false;
}

static void refuse_file(struct visit *visit, struct slice path, struct http_answer *answer)
{
    const struct rejection *rejection = catalog_find_rejection(visit->api->sources.catalog, path);
    if (rejection != NULL) {
        snprintf(visit->check.decision.detail, sizeof visit->check.decision.detail, "%s", rejection->verdict.detail);
        http_answer_text(answer, 404, "rejected: %s: %s; %s\n", image_fault_word(rejection->verdict.fault),
                         rejection->verdict.detail, rejection->verdict.remedy);
    } else {
        http_answer_text(answer, 404, "unknown-file: the repository has no such file\n");
    }
    tell_reason(visit, rejection != NULL ? REASON_REJECTED : REASON_UNKNOWN_FILE, answer);
}

/* An image that goes by its label is for the devices it is assigned to; who names no device, names the file. */
static bool may_have_label(const struct visit *visit, const struct image *image)
{
    if (image->role != FILENAME_LABEL || !visit->check.device.has_mac) {
        return true;
    }
    const struct assignment *assignment = assignments_find(visit->api->sources.assignments, &visit->check.device.mac);
    return assignment != NULL && strcmp(assignment->label, image->build.label) == 0;
}

void device_api_firmware(struct device_api *api, const struct http_request *request, struct slice rest,
                         struct stream *stream, struct http_answer *answer)
{
    struct visit visit = visit_begin(api, request, stream);
    struct image *image = catalog_find_path(api->sources.catalog, rest);
    read_any(&visit);
    if (image == NULL) {
        if (!answer_digest(&visit, rest, answer)) {
            refuse_file(&visit, rest, answer);
        }
        return;
    }
    visit.check.type = slice_of(image->type);
    if (!may_have_label(&visit, image)) {
        /* No 304: this is not "nothing newer", and Tasmota would take it for success and restart. */
        http_answer_text(answer, 403, "unassigned: this image goes by its label; assign it to this device\n");
        tell_reason(&visit, REASON_UNASSIGNED, answer);
        return;
    }
    *(image->build.facts.gzip ? &visit.check.input.offer.gzip : &visit.check.input.offer.plain) = &image->build;
    check_find_running(&visit.check);
    check_decide(&visit.check);
    hear_of_check(&visit);
    if (visit.check.decision.reason == REASON_LATEST) {
        visit.check.decision.reason = REASON_FILE;
    }
    tell(&visit, answer);
}

/* --- /native/<type>/version, user1.bin, user2.bin ----------------------------------------------------------------- */

void device_api_native(struct device_api *api, const struct http_request *request, struct slice rest,
                       struct stream *stream, struct http_answer *answer)
{
    struct visit visit = visit_begin(api, request, stream);
    struct image *slots[2] = { NULL, NULL };
    const char *slash = rest.len > 0 ? memchr(rest.at, '/', rest.len) : NULL;
    struct slice file = { "", 0 };
    visit.check.device.chip = CHIP_ESP8266;
    visit.check.input.missing = REASON_UNKNOWN_FILE;
    if (slash != NULL) {
        visit.check.type = (struct slice){ rest.at, (size_t)(slash - rest.at) };
        file = (struct slice){ slash + 1, rest.len - visit.check.type.len - 1 };
    }
    bool wants_version = slice_is(file, "version");
    int slot = slice_is(file, "user1.bin") ? 0 : slice_is(file, "user2.bin") ? 1 : -1;
    bool found = (wants_version || slot >= 0) &&
                 catalog_slots(api->sources.catalog, visit.check.type, slots, &visit.check.input.missing);
    if (found) {
        visit.check.input.unconditional = true;
        visit.check.input.offer.plain = &slots[slot > 0 ? slot : 0]->build;
    }
    check_decide(&visit.check);
    hear_of_check(&visit);
    if (found && wants_version) {
        /* Exactly the version, no line end: these clients compare the body as it stands. */
        http_answer_text(answer, 200, "%s", build_name(visit.check.decision.build));
        tell_reason(&visit, visit.check.decision.reason, answer);
        return;
    }
    tell(&visit, answer);
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
