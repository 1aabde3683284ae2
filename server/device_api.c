/* From a request to an answer: the routes, and how a decision is said to each kind of client. What was seen on the way
 * is told in device_facts. */
#include "server/device_parts.h"

#include "server/check.h"
#include "server/device_gate.h"

#include <stdio.h>
#include <string.h>

static bool is_fs(const struct device_request *device)
{
    return device->mode == DEVICE_MODE_FS;
}

/* --- answering ---------------------------------------------------------------------------------------------------- */

void device_tell_reason(struct visit *visit, enum reason reason, struct http_answer *answer)
{
    visit->check.decision.reason = reason;
    answer->has_reason = true;
    answer->reason = reason;
    if (answer->delivery == NULL) { /* else it may yet be not to be had: device_api_begun counts, or _unavailable */
        device_answered(visit->api, reason);
    }
    device_log_check(visit, answer->status);
    if (answer->delivery != NULL) {
        answer->delivery->is_left_out = visit->is_left_out;
    }
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
            answer->delivery = delivery_new(visit, answer->status);
        }
    } else if (status == 304 && updater) {
        answer->status = 304;
    } else if (status == 304) {
        answer->retry_after_s = 1;
        http_answer_text(answer, 503, "%s: come again\n", reason_word(decision->reason));
    } else {
        say_missing(visit, answer, status);
    }
    device_tell_reason(visit, visit->check.decision.reason, answer);
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
    device_tell_reason(visit, reasons[result], answer);
    return false;
}

/* Returns true with the refusal, where a certificate says that it is another. */
static bool refuse_certificate(struct visit *visit, struct http_answer *answer)
{
    if (device_shows_own_certificate(visit)) {
        return false;
    }
    http_answer_text(answer, 403, "%s: %s; give the device its own (see docs/reasons.md)\n",
                     reason_word(REASON_WRONG_CERTIFICATE), visit->check.decision.detail);
    device_tell_reason(visit, REASON_WRONG_CERTIFICATE, answer);
    return true;
}

/* Returns false with the refusal of who may have nothing here, whatever it asks. */
static bool let_in(struct visit *visit, struct http_answer *answer)
{
    const struct device_request *device = &visit->check.device;
    if (device_gate_opens(visit->api, device->has_mac ? &device->mac : NULL, visit_client(visit),
                          &visit->check.decision)) {
        return !refuse_certificate(visit, answer);
    }
    enum reason reason = visit->check.decision.reason;
    http_answer_text(answer, 403, "%s: %s\n", reason_word(reason),
                     reason == REASON_BLOCKED ? "this device, or its network, is not served here"
                                              : reason_text(reason));
    device_tell_reason(visit, reason, answer);
    return false;
}

/* Whose site it is, and what its record says of where it is. */
static void take_address(struct visit *visit)
{
    const struct client_address *client = visit_client(visit);
    memcpy(visit->check.address, client->bytes, sizeof visit->check.address);
    visit->check.via_proxy = client->forwarded;
}

/* Member by member: most of a visit is room for texts, and would be zeroed twice. */
static void visit_begin(struct visit *visit, struct device_api *api, const struct http_request *request,
                        struct stream *stream)
{
    check_init(&visit->check, &api->sources);
    visit->api = api;
    visit->request = request;
    visit->stream = stream;
    visit->only_asks = visit->is_left_out = visit->has_client = false;
    visit->client = (struct client_address){ .forwarded = false };
    visit->peer[0] = visit->user[0] = '\0';
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
    struct visit visit;
    visit_begin(&visit, api, request, stream);
    bool by_type = slice_starts_with(request->path, "/update/");
    if (by_type) {
        visit.check.type = rest;
    }
    if (!read_updater(&visit, answer) || !let_in(&visit, answer)) {
        return;
    }
    take_address(&visit);
    struct http_parameter parameter;
    check_update(&visit.check, by_type, wanted_version(request, &parameter));
    if (device_admitted(&visit, by_type ? rest : slice_of(""), answer)) {
        device_checked(&visit);
        tell(&visit, answer);
    }
}

/* --- /latest/<type>.bin ------------------------------------------------------------------------------------------- */

/* Reads what the client says of itself, if it does; nothing is required. Policy and rollouts hold here, too; what it
 * runs, and what it proved, does not matter. */
static void read_any(struct visit *visit)
{
    const char *header;
    (void)device_request_read(visit->request->headers, visit->request->header_count, &visit->check.device, &header);
    visit->check.input.unconditional = true;
    visit->check.ignores_record = true;
}

/* Once the offer stands. */
static void decide_by_name(struct visit *visit)
{
    take_address(visit);
    visit->check.by_name = true;
    check_direct(&visit->check, NULL);
    check_find_running(&visit->check);
    check_permit(&visit->check);
    check_decide(&visit->check);
}

void device_api_latest(struct device_api *api, const struct http_request *request, struct slice rest,
                       struct stream *stream, struct http_answer *answer)
{
    struct visit visit;
    visit_begin(&visit, api, request, stream);
    visit.check.input.missing = REASON_UNKNOWN_FILE;
    read_any(&visit);
    if (!let_in(&visit, answer)) {
        return;
    }
    take_address(&visit);
    struct slice type = slice_of("");
    if (slice_ends_with(rest,
                        ".bin")) { /* the newest that it is to have: of what is pinned or published, not another */
        visit.check.type = type = (struct slice){ rest.at, rest.len - strlen(".bin") };
        check_update(&visit.check, true, NULL);
    } else {
        check_decide(&visit.check);
    }
    if (device_admitted(&visit, type, answer)) {
        device_checked(&visit);
        tell(&visit, answer);
    }
}

/* --- /firmware/<file>[.md5|.sha256] ------------------------------------------------------------------------------- */

/* Whether it may have a file, or its digest. Which files there are, and what is wrong with one, is for those with any
 * password. */
static bool may_have_file(struct visit *visit, const struct image *image, struct http_answer *answer)
{
    bool has_type = image != NULL && image->type[0] != '\0';
    return device_admitted(visit, has_type ? slice_of(image->type) : (struct slice){ NULL, 0 }, answer);
}

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
        if (image != NULL && !may_have_file(visit, image, answer)) {
            return true;
        }
        if (image != NULL) {
            char hex[65];
            const struct image_facts *facts = &image->build.facts;
            hex_encode(digests[i].bytes == 16 ? facts->md5 : facts->sha256, digests[i].bytes, hex);
            http_answer_text(answer, 200, "%s\n", hex);
            device_tell_reason(visit, REASON_FILE, answer);
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
    device_tell_reason(visit, rejection != NULL ? REASON_REJECTED : REASON_UNKNOWN_FILE, answer);
}

/* An image that goes by its label is for the devices it is assigned to; who names no device, names the file. */
static bool may_have_label(const struct visit *visit, const struct image *image)
{
    if (image->role != FILENAME_LABEL || !visit->check.device.has_mac) {
        return true;
    }
    struct direction direction;
    fleet_direct(visit->api->sources.fleet, &visit->check.device.mac, slice_of(""), false, NULL, &direction);
    return direction.wanted != NULL && strcmp(direction.wanted, image->build.label) == 0;
}

void device_api_firmware(struct device_api *api, const struct http_request *request, struct slice rest,
                         struct stream *stream, struct http_answer *answer)
{
    struct visit visit;
    visit_begin(&visit, api, request, stream);
    struct image *image = catalog_find_path(api->sources.catalog, rest);
    read_any(&visit);
    if (!let_in(&visit, answer)) {
        return;
    }
    if (image == NULL) {
        if (!answer_digest(&visit, rest, answer) && may_have_file(&visit, NULL, answer)) {
            refuse_file(&visit, rest, answer);
        }
        return;
    }
    visit.check.type = slice_of(image->type);
    if (!may_have_file(&visit, image, answer)) {
        return;
    }
    if (!may_have_label(&visit, image)) {
        /* No 304: this is not "nothing newer", and Tasmota would take it for success and restart. */
        http_answer_text(answer, 403, "unassigned: this image goes by its label; assign it to this device\n");
        device_tell_reason(&visit, REASON_UNASSIGNED, answer);
        return;
    }
    *(image->build.facts.gzip ? &visit.check.input.offer.gzip : &visit.check.input.offer.plain) = &image->build;
    decide_by_name(&visit);
    device_checked(&visit);
    if (visit.check.decision.reason == REASON_LATEST) {
        visit.check.decision.reason = REASON_FILE;
    }
    tell(&visit, answer);
}

/* --- /native/<type>/version, user1.bin, user2.bin ----------------------------------------------------------------- */

/* The application writes the request, and may name itself by the headers of the cores' updaters, whatever its
 * User-Agent: then the version that it asks with judges its last update. Who does not is counted, and nobody. */
static void read_native(struct visit *visit)
{
    struct device_request *device = &visit->check.device;
    const char *header;
    if (device_request_read_as(CLIENT_ESP8266, visit->request->headers, visit->request->header_count, device,
                               &header) != DEVICE_REQUEST_OK) {
        *device = (struct device_request){ .client = CLIENT_PLAIN, .chip = CHIP_ESP8266 };
    }
    check_native(&visit->check);
}

/* Exactly the version, no line end: these clients compare the body as it stands. Who would not get it now hears its
 * own, or it would ask for the slot in vain; who says none hears "not now". Returns false where there is none to say.
 */
static bool answer_native_version(struct visit *visit, struct http_answer *answer)
{
    const struct decision *decision = &visit->check.decision;
    const char *own = visit->check.device.version.text;
    bool serves = decision_serves(decision);
    if (!serves && (own[0] == '\0' || reason_http_status(decision->reason) != 304)) {
        return false;
    }
    http_answer_text(answer, 200, "%s", serves ? build_name(decision->build) : own);
    device_tell_reason(visit, decision->reason, answer);
    return true;
}

void device_api_native(struct device_api *api, const struct http_request *request, struct slice rest,
                       struct stream *stream, struct http_answer *answer)
{
    struct visit visit;
    visit_begin(&visit, api, request, stream);
    const char *slash = rest.len > 0 ? memchr(rest.at, '/', rest.len) : NULL;
    struct slice file = { "", 0 };
    visit.check.input.missing = REASON_UNKNOWN_FILE;
    if (slash != NULL) {
        visit.check.type = (struct slice){ rest.at, (size_t)(slash - rest.at) };
        file = (struct slice){ slash + 1, rest.len - visit.check.type.len - 1 };
    }
    struct slice type = visit.check.type;
    bool wants_version = slice_is(file, "version");
    bool is_place = wants_version || slice_is(file, "user1.bin") || slice_is(file, "user2.bin");
    visit.check.slot = slice_is(file, "user2.bin") ? 2 : 1;
    visit.only_asks = wants_version;
    read_native(&visit);
    if (!let_in(&visit, answer)) {
        return;
    }
    take_address(&visit);
    if (is_place) {
        check_update(&visit.check, true, NULL);
    } else {
        check_decide(&visit.check);
    }
    if (!device_admitted(&visit, type, answer)) {
        return;
    }
    device_checked(&visit);
    if (!wants_version || !answer_native_version(&visit, answer)) {
        tell(&visit, answer);
    }
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

void device_api_front(struct device_api *api, const struct http_request *request, struct slice rest,
                      struct stream *stream, struct http_answer *answer)
{
    (void)api;
    (void)request;
    (void)rest;
    (void)stream;
    http_answer_text(answer, 200, "%s",
                     "Updraft " UPDRAFT_VERSION ", an update server for ESP8266 and ESP32.\n\n"
                     "Devices ask here:\n"
                     "  /update/<type>          updaters of the Arduino cores\n"
                     "  /update                 the same, by assignment\n"
                     "  /latest/<type>.bin      the newest image\n"
                     "  /firmware/<file>        a file; with .md5 or .sha256 its digest\n"
                     "  /native/<type>/version  native SDK; user1.bin, user2.bin\n"
                     "  /healthz                is the server alive?\n\n"
                     "Operators: `updraft status`, on the server's machine.\n");
}
