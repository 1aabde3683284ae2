/* `updraft explain`: what the server would say to a device, and why. What the operator does not say of the device is
 * taken from what it said itself when it last asked.
 *
 * What makes it hard: a digest, a version and a size describe the build that runs. So where the operator names one of
 * them, they ask of another build than the one that is remembered, and none of these three is taken from memory.
 */
#include "server/admin_parts.h"

#include "server/check.h"
#include "server/device_gate.h"
#include "server/known_types.h"
#include "server/password_checks.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* --- what is said of the device ----------------------------------------------------------------------------------- */

enum said { SAID_MAC, SAID_VERSION, SAID_MD5, SAID_SHA256, SAID_MODE, SAID_FLASH, SAID_FREE, SAID_SIZE, SAID_COUNT };

/* What may be said of a device, and the header that says it, behind the client's part of its name. */
static const struct {
    const char *parameter;
    const char *header;
    const char *fallback;
} said[SAID_COUNT] = {
    [SAID_MAC] = { "mac", "STA-MAC", "02:00:00:00:00:00" },
    [SAID_VERSION] = { "version", "version", NULL },
    [SAID_MD5] = { "md5", "sketch-md5", NULL },
    [SAID_SHA256] = { "sha256", "sketch-sha256", NULL },
    [SAID_MODE] = { "mode", "mode", NULL },
    [SAID_FLASH] = { "flash", "chip-size", NULL },
    [SAID_FREE] = { "free", "free-space", NULL },
    [SAID_SIZE] = { "size", "sketch-size", NULL },
};

struct explain {
    char type[HTTP_PARAMETER_MAX + 1];
    char client[HTTP_PARAMETER_MAX + 1];
    char values[SAID_COUNT][HTTP_PARAMETER_MAX + 1];
    bool has_type, has_client, given[SAID_COUNT]; /* by the operator */
    const struct device *device;                  /* as it was when it last asked, if it did; NULL = not known */
    bool recalled_type, recalled_client, recalled[SAID_COUNT];
    char names[SAID_COUNT][40];
    struct header headers[SAID_COUNT + 1];
    size_t header_count;
};

static bool read_question(struct admin_call *call, struct explain *explain)
{
    struct admin_parameter parameters[SAID_COUNT + 2] = {
        { "type", ADMIN_TEXT, explain->type, 0, &explain->has_type },
        { "client", ADMIN_TEXT, explain->client, 0, &explain->has_client },
    };
    for (size_t i = 0; i < SAID_COUNT; i++) {
        parameters[i + 2] =
            (struct admin_parameter){ said[i].parameter, ADMIN_TEXT, explain->values[i], 0, &explain->given[i] };
    }
    if (!admin_read_query(call, parameters, SAID_COUNT + 2)) {
        return false;
    }
    explain->has_client = explain->client[0] != '\0';
    bool is_known = strcmp(explain->client, "esp32") == 0 || strcmp(explain->client, "esp8266") == 0 ||
                    strcmp(explain->client, "native") == 0;
    if (explain->has_client && !is_known) {
        admin_refuse(call->answer, 400, "bad-request", "give esp8266, esp32 or native", "client=%s is not known",
                     explain->client);
        return false;
    }
    return true;
}

/* The device that the operator means, where it is known: it asked, or spoke over MQTT. */
static const struct device *find_device(const struct admin_api *api, const struct explain *explain)
{
    struct mac mac;
    bool named = explain->given[SAID_MAC] && mac_parse(slice_of(explain->values[SAID_MAC]), &mac);
    return named ? devices_find(api->fleet->devices, &mac) : NULL;
}

static void recall_text(struct explain *explain, enum said i, const char *text)
{
    if (!explain->given[i] && text[0] != '\0') {
        snprintf(explain->values[i], sizeof explain->values[i], "%s", text);
        explain->recalled[i] = true;
    }
}

static void recall_number(struct explain *explain, enum said i, uint32_t number)
{
    char digits[16] = "";
    if (number != 0) {
        snprintf(digits, sizeof digits, "%" PRIu32, number);
    }
    recall_text(explain, i, digits);
}

/* What the device said of itself, where the operator does not. */
static void recall(struct explain *explain, const struct fleet *fleet)
{
    const struct device *device = explain->device;
    struct direction direction;
    fleet_direct(fleet, &device->mac, slice_of(""), strcmp(explain->values[SAID_MODE], "fs") == 0, NULL, &direction);
    bool other_build = explain->given[SAID_MD5] || explain->given[SAID_SHA256] || explain->given[SAID_VERSION];
    bool asks_fs = strcmp(explain->values[SAID_MODE], "fs") == 0;
    if (!explain->has_type && direction.policy.type[0] == '\0') {
        snprintf(explain->type, sizeof explain->type, "%s", words_text(fleet->words, device->type->name));
        explain->has_type = explain->recalled_type = true;
    }
    if (!explain->has_client && device->client != CLIENT_PLAIN) {
        snprintf(explain->client, sizeof explain->client, "%s", device->client == CLIENT_ESP32 ? "esp32" : "esp8266");
        explain->recalled_client = true;
    }
    if (!other_build) {
        char md5[33] = "";
        if (device->has_md5) {
            hex_encode(device->md5, sizeof device->md5, md5);
        }
        recall_text(explain, SAID_MD5, md5);
        recall_text(explain, SAID_VERSION, words_text(fleet->words, asks_fs ? device->fs_version : device->version));
        recall_number(explain, SAID_SIZE, device->sketch_bytes);
    }
    recall_number(explain, SAID_FLASH, device->flash_bytes);
    recall_number(explain, SAID_FREE, device->free_bytes);
}

/* As the device itself would say it, so that the same code reads it. */
static void make_headers(struct explain *explain)
{
    bool is_esp32 = strcmp(explain->client, "esp32") == 0;
    explain->headers[explain->header_count++] =
        (struct header){ slice_of("User-Agent"), slice_of(is_esp32 ? "ESP32-http-Update" : "ESP8266-http-Update") };
    for (size_t i = 0; i < SAID_COUNT; i++) {
        const char *value = explain->given[i] || explain->recalled[i] ? explain->values[i] : said[i].fallback;
        if (i == SAID_MODE && value != NULL && strcmp(value, "fs") == 0) {
            value = "spiffs"; /* as the cores spell it */
        }
        if (value != NULL) {
            snprintf(explain->names[i], sizeof explain->names[i], "x-%s-%s", is_esp32 ? "ESP32" : "ESP8266",
                     said[i].header);
            explain->headers[explain->header_count++] = (struct header){ slice_of(explain->names[i]), slice_of(value) };
        }
    }
}

/* --- a device of the native SDK ----------------------------------------------------------------------------------- */

/* As the operator says; else what asks for a type that has slots alone. */
static bool is_native(const struct explain *explain, struct check *check)
{
    struct image *slots[2];
    struct offer sketch;
    enum reason missing;
    if (explain->has_client || strcmp(explain->client, "esp32") == 0 || check->device.mode == DEVICE_MODE_FS) {
        return strcmp(explain->client, "native") == 0;
    }
    check_direct(check, NULL); /* it may be assigned to a type */
    struct catalog_query query = { .type = check->direction.type, .kind = OFFER_SKETCH };
    catalog_offer(check->sources->catalog, &query, &sketch, &missing);
    return sketch.plain == NULL && sketch.gzip == NULL &&
           catalog_slots(check->sources->catalog, query.type, NULL, slots, &missing);
}

static void ask_natively(const struct explain *explain, struct check *check)
{
    if (!explain->given[SAID_MAC]) { /* it names itself only where its application does so */
        check->device = (struct device_request){ .client = CLIENT_PLAIN, .chip = CHIP_ESP8266 };
    }
    check->slot = 1;
    check_native(check);
}

/* What both of its addresses would answer. */
static void add_native_text(const struct check *check, char *text, size_t size)
{
    char type[TYPE_TEXT_MAX * 4 + 1];
    size_t used = strlen(text);
    const char *own = check->device.version.text;
    text_escape(check->type, type, sizeof type);
    if (decision_serves(&check->decision)) {
        snprintf(text + used, size - used, "; /native/%s/version says %s, and the slot that it asks for is sent", type,
                 build_name(check->decision.build));
    } else if (own[0] != '\0' && reason_http_status(check->decision.reason) == 304) {
        snprintf(text + used, size - used, "; /native/%s/version says %s, its own, and no slot is sent", type, own);
    }
}

/* What the server lets pass as "not said" in a device's header is a mistake in an operator's question. */
static bool check_said(struct admin_call *call, const struct explain *explain, const struct device_request *device)
{
    const struct {
        enum said said;
        bool understood;
        const char *remedy;
    } rows[] = {
        { SAID_VERSION, device->label.at != NULL, "give the text of the sketch's version" },
        { SAID_MD5, device->has_md5, "give 32 hexadecimal digits" },
        { SAID_SHA256, device->has_sha256, "give 64 hexadecimal digits; ESP32 devices alone report it (client=esp32)" },
        { SAID_FLASH, device->flash_bytes != 0, "give a number of bytes, such as 4194304" },
        { SAID_FREE, device->free_bytes != 0, "give a number of bytes" },
        { SAID_SIZE, device->sketch_bytes != 0, "give a number of bytes" },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (explain->given[rows[i].said] && !rows[i].understood) {
            admin_refuse(call->answer, 400, "bad-request", rows[i].remedy, "%s=%s cannot be read",
                         said[rows[i].said].parameter, explain->values[rows[i].said]);
            return false;
        }
    }
    return true;
}

/* --- the answer --------------------------------------------------------------------------------------------------- */

static json_t *build_json(const struct build *build)
{
    if (build == NULL) {
        return json_null();
    }
    return json_pack("{s:o, s:o, s:I, s:o, s:s}", "file", admin_text(image_of_build(build)->path), "version",
                     admin_text(build_name(build)), "bytes", (json_int_t)build->facts.file_bytes, "md5",
                     admin_hex(build->facts.md5, 16), "chip", chip_text(build->facts.chip));
}

static json_t *running_json(const struct check *check)
{
    if (check->running == NULL) {
        return json_null();
    }
    return json_pack("{s:o, s:o, s:s}", "file", admin_text(check->running->path), "version",
                     admin_text(build_name(&check->running->build)), "flash_mode",
                     flash_mode_text(check->input.running_flash_mode));
}

static json_t *check_json(const struct check *check)
{
    char text[800], type[TYPE_TEXT_MAX * 4 + 1];
    enum reason reason = check->decision.reason;
    unsigned status = reason_http_status(reason);
    text_escape(check->type, type, sizeof type);
    check_explain(check, text, 400);
    if (check->slot != 0) {
        add_native_text(check, text, sizeof text);
        status = status == 304 && check->device.client == CLIENT_PLAIN ? 503 : status;
    }
    const struct policy *policy = &check->direction.policy;
    bool asked = policy->type != NULL; /* of nobody, where the type was empty */
    json_t *assignment =
        !asked || (policy->type[0] == '\0' && policy->wanted[0] == '\0')
            ? json_null()
            : json_pack("{s:o, s:o, s:s, s:b}", "type", admin_text(policy->type), "label", admin_text(policy->wanted),
                        "source", policy->by_operator ? "operator" : "configuration", "pinned", policy->pinned);
    return json_pack("{s:s, s:i, s:b, s:o, s:o, s:o, s:o, s:o, s:o}", "reason", reason_word(reason), "status",
                     (int)status, "serves", decision_serves(&check->decision), "text", admin_text(text), "detail",
                     admin_text(check->decision.detail), "type", admin_text(type), "assignment", assignment, "running",
                     running_json(check), "image", build_json(check->decision.build));
}

/* --- what was remembered ------------------------------------------------------------------------------------------ */

static void add_fact(json_t *facts, char *text, size_t size, const char *name, const char *value)
{
    char escaped[3 * HTTP_PARAMETER_MAX];
    size_t used = strlen(text);
    text_escape(slice_of(value), escaped, sizeof escaped);
    snprintf(text + used, size - used, "%s%s %s", used > 0 ? ", " : "", name, escaped);
    json_array_append_new(facts, json_pack("{s:s, s:s}", "name", name, "value", escaped));
}

/* Null where nothing was: the device never asked, or the operator said everything. */
static json_t *remembered_json(const struct explain *explain)
{
    char text[1500] = "";
    json_t *facts = json_array();
    if (explain->recalled_type) {
        add_fact(facts, text, sizeof text, "type", explain->type);
    }
    if (explain->recalled_client) {
        add_fact(facts, text, sizeof text, "client", explain->client);
    }
    for (size_t i = 0; i < SAID_COUNT; i++) {
        if (explain->recalled[i]) {
            add_fact(facts, text, sizeof text, said[i].parameter, explain->values[i]);
        }
    }
    if (json_array_size(facts) == 0) {
        json_decref(facts);
        return json_null();
    }
    bool asked = explain->device->seen_s > 0;
    json_t *seen = asked ? admin_time(explain->device->seen_s) : json_null();
    size_t used = strlen(text);
    snprintf(text + used, sizeof text - used, "; as it said %s%s", asked ? "when it last asked, " : "over MQTT",
             asked ? json_string_value(seen) : "");
    return json_pack("{s:o, s:o, s:s}", "seen", seen, "facts", facts, "text", text);
}

/* --- a type that stays on an older version ------------------------------------------------------------------------ */

void admin_kept_text(const struct check *check, char *text, size_t size)
{
    const struct direction *direction = &check->direction;
    const struct rollout *rollout = direction->rollout;
    text[0] = '\0';
    if (rollout != NULL && direction->unless_above != NULL && direction->unless_above[0] != '\0') {
        snprintf(text, size,
                 "%s is newer; the type is kept on %s by rollout %s until there is a version above %s; "
                 "`publish-update %s` ends it",
                 direction->unless_above, rollout->order.target.version, rollout->id, direction->unless_above,
                 rollout->order.target.type);
    }
}

/* --- what to do next ---------------------------------------------------------------------------------------------- */

#define SAY_MORE                                                                                                       \
    "give what the device reports, and the answer is the one that it will get: --version V, and --md5 MD5 (of an "     \
    "ESP32: --client esp32 --sha256 SHA256)"

#define SAY_VERSION                                                                                                    \
    "give what its application sends, and the answer is the one that it will get: --mac MAC and --version V; who "     \
    "sends no MAC is nobody, and no device's pin or turn holds for it"

/* The rollout that keeps the image, where it stands or ended badly; NULL = none. */
static const struct rollout *keeper_of(const struct admin_api *api, const struct check *check)
{
    const struct build *build = check->decision.build;
    const struct rollout *rollout = NULL;
    while (build != NULL && (rollout = rollouts_next(api->fleet->rollouts, rollout)) != NULL) {
        const struct rollout_target *target = &rollout->order.target;
        for (size_t form = 0; form < target->image_count; form++) {
            if (memcmp(target->md5[form], build->facts.md5, sizeof target->md5[form]) == 0) {
                return rollout;
            }
        }
    }
    return NULL;
}

/* Of what no unblocking of the device opens: the detail is the key. */
static bool is_by_key(const char *detail)
{
    static const char *const keys[] = { "block-network", "allow-network", "block-mac", "allow-mac" };
    bool is_key = false;
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        is_key = is_key || strcmp(detail, keys[i]) == 0;
    }
    return is_key;
}

/* The reason's own step, with the names that belong into its commands where they are known. */
static json_t *reason_step(const struct admin_api *api, const struct explain *explain, const struct check *check)
{
    char line[600], type[TYPE_TEXT_MAX * 4 + 1];
    enum reason reason = check->decision.reason;
    const struct rollout *keeper = keeper_of(api, check);
    text_escape(check->type, type, sizeof type);
    if (reason == REASON_HELD_BACK && keeper != NULL && keeper->state == ROLLOUT_HALTED) {
        snprintf(line, sizeof line,
                 "rollout %s is halted: `updraft rollouts resume %s` goes on, `updraft rollouts abort %s` ends it, "
                 "`publish-update %s --version OLD` goes back",
                 keeper->id, keeper->id, keeper->id, type);
    } else if (reason == REASON_HELD_BACK && keeper != NULL && keeper->state == ROLLOUT_ABORTED) {
        snprintf(line, sizeof line,
                 "rollout %s of it was aborted, and it is kept back since: `publish-update %s --version %s` publishes "
                 "it again",
                 keeper->id, type, keeper->order.target.version);
    } else if (reason == REASON_LOOP_GUARD && explain->given[SAID_MAC]) {
        snprintf(line, sizeof line,
                 "look at the device: does it start, or does it roll back? A new build is sent at once, this one again "
                 "after `updraft devices retry %s`",
                 admin_show(explain->values[SAID_MAC]).text);
    } else if (reason == REASON_BLOCKED && is_by_key(check->decision.detail)) {
        snprintf(line, sizeof line, "%s of the configuration keeps it out: change that line, and send SIGHUP",
                 check->decision.detail);
    } else if (reason == REASON_UNPUBLISHED && check->type.len > 0) {
        snprintf(line, sizeof line, "`publish-update %s` publishes an image to its type", type);
    } else {
        snprintf(line, sizeof line, "%s", reason_next(reason));
    }
    return admin_text(line);
}

/* As server/device_auth asks: for its type, and for what is of no type. */
static bool needs_password(const struct admin_api *api, const struct check *check)
{
    const struct device_users *users = password_checks_users(api->device_api->passwords);
    const struct offer *offer = &check->input.offer;
    const struct build *build = offer->plain != NULL ? offer->plain : offer->gzip;
    bool is_nobodys = build != NULL && image_of_build(build)->type[0] == '\0';
    return users != NULL && (is_nobodys || device_users_cover(users, check->type));
}

/* The reason's own step last: what the question lacks, or what else is odd, comes first. */
static json_t *next_json(const struct admin_api *api, const struct explain *explain, const struct check *check)
{
    char line[600];
    json_t *next = json_array();
    bool says_build = check->device.has_md5 || check->device.has_sha256 || check->device.label.at != NULL;
    if (explain->given[SAID_MAC] && explain->device == NULL && !says_build) {
        json_array_append_new(next, json_string("no device with this MAC has ever asked, so "
                                                "nothing is remembered of it"));
    } else if (explain->given[SAID_MAC] && explain->device != NULL && explain->device->seen_s == 0 && !says_build) {
        json_array_append_new(next, json_string("it is known over MQTT and has not asked yet, so nobody knows what it "
                                                "runs: `publish-update TYPE --to MAC` makes it ask"));
    }
    if (!says_build && check->decision.build != NULL) {
        json_array_append_new(next, json_string(check->slot != 0 ? SAY_VERSION : SAY_MORE));
    }
    const char *type = explain->device != NULL ? words_text(api->fleet->words, explain->device->type->name) : "";
    if (explain->device != NULL && !slice_is(check->type, type)) {
        snprintf(line, sizeof line, "when it last asked, the device's type was %s: `updraft explain %s` is of that",
                 type, type);
        json_array_append_new(next, admin_text(line));
    }
    if (check->decision.reason == REASON_UNKNOWN_TYPE) {
        known_types_remedy(api->catalog, check->type, line, sizeof line);
        json_array_append_new(next, admin_text(line));
    }
    admin_kept_text(check, line, sizeof line);
    if (line[0] != '\0') {
        json_array_append_new(next, admin_text(line));
    }
    if (needs_password(api, check)) {
        json_array_append_new(next,
                              json_string("what it asks for needs a user and a password (device-passwords): without "
                                          "right ones it hears 401 instead, and gets nothing"));
    }
    json_array_append_new(next, reason_step(api, explain, check));
    return next;
}

/* --- the question ------------------------------------------------------------------------------------------------- */

void admin_get_explain(struct admin_call *call)
{
    struct admin_api *api = call->api;
    struct explain explain;
    struct check check;
    const char *header = "";
    memset(&explain, 0, sizeof explain);
    if (!read_question(call, &explain)) {
        return;
    }
    explain.device = find_device(api, &explain);
    if (explain.device != NULL) {
        recall(&explain, api->fleet);
    }
    make_headers(&explain);
    check_init(&check, &api->device_api->sources);
    if (device_request_read(explain.headers, explain.header_count, &check.device, &header) != DEVICE_REQUEST_OK) {
        admin_refuse(call->answer, 400, "bad-request",
                     "a MAC has 12 hexadecimal digits, a mode is sketch, fs or version", "%s cannot be read",
                     strstr(header, "MAC") != NULL ? "mac" : "mode");
        return;
    }
    if (!check_said(call, &explain, &check.device)) {
        return;
    }
    if (explain.device != NULL) { /* its site may be full */
        memcpy(check.address, explain.device->address, sizeof check.address);
    }
    check.type = slice_of(explain.has_type ? explain.type : "");
    if (is_native(&explain, &check)) {
        ask_natively(&explain, &check);
    }
    check_update(&check, explain.has_type, NULL);
    struct client_address client = { .forwarded = check.via_proxy };
    memcpy(client.bytes, check.address, sizeof client.bytes);
    bool is_let_in =
        device_gate_opens(api->device_api, &check.device.mac, explain.device != NULL ? &client : NULL, &check.decision);
    json_t *json = check_json(&check);
    if (!is_let_in) {
        json_object_set_new(json, "status", json_integer(403));
    }
    json_object_set_new(json, "remembered", remembered_json(&explain));
    json_object_set_new(json, "next", next_json(api, &explain, &check));
    admin_answer(call->answer, 200, json);
}
