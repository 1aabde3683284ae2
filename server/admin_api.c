/* The door. Every refusal has a code, a message and a remedy, in JSON. */
#include "server/admin_parts.h"

#include "base/log.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define JSON_DEPTH_MAX 8

/* --- answers ------------------------------------------------------------------------------------------------------ */

void admin_answer(struct http_answer *answer, unsigned status, json_t *json)
{
    answer->status = status;
    answer->content_type = "application/json";
    answer->body = json_dumps(json, JSON_COMPACT | JSON_REAL_PRECISION(6));
    json_decref(json);
    assert(answer->body != NULL); /* out of memory, or a text that is no UTF-8: admin_text sees to that */
    answer->body_bytes = strlen(answer->body);
}

void admin_refuse(struct http_answer *answer, unsigned status, const char *code, const char *remedy, const char *format,
                  ...)
{
    char message[600];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    json_t *error = json_object();
    json_object_set_new(error, "code", json_string(code));
    json_object_set_new(error, "message", admin_sentence(message));
    json_object_set_new(error, "remedy", admin_sentence(remedy));
    json_t *json = json_object();
    json_object_set_new(json, "error", error);
    admin_answer(answer, status, json);
}

void admin_refuse_image(struct http_answer *answer, const struct image_verdict *verdict)
{
    const char *fault = image_fault_word(verdict->fault);
    json_t *error = json_pack("{s:s, s:s, s:o, s:o}", "code", "rejected", "fault", fault, "message",
                              admin_sentence(verdict->detail), "remedy", admin_sentence(verdict->remedy));
    admin_answer(answer, 422, json_pack("{s:o}", "error", error));
}

/* JSON of `text` as `escape` writes it, where it cannot go as it is. */
static json_t *text_json(const char *text, size_t (*escape)(struct slice bytes, char *to, size_t size))
{
    json_t *json = text_is_clean_utf8(slice_of(text)) ? json_string(text) : NULL;
    if (json != NULL) {
        return json;
    }
    size_t size = 4 * strlen(text) + 1;
    char *escaped = malloc(size);
    assert(escaped != NULL);
    escape(slice_of(text), escaped, size);
    json = json_string(escaped);
    free(escaped);
    return json;
}

json_t *admin_text(const char *text)
{
    return text_json(text, text_escape);
}

json_t *admin_sentence(const char *text)
{
    return text_json(text, text_show);
}

struct admin_shown admin_show(const char *name)
{
    struct admin_shown shown;
    bool as_is = text_is_clean_utf8(slice_of(name)) && strpbrk(name, "\"\\") == NULL;
    (as_is ? text_show : text_escape)(slice_of(name), shown.text, sizeof shown.text);
    return shown;
}

json_t *admin_hex(const uint8_t *bytes, size_t n)
{
    char hex[65];
    assert(n <= 32);
    hex_encode(bytes, n, hex);
    return json_string(hex);
}

json_t *admin_time(time_t seconds)
{
    struct tm utc;
    char text[32];
    gmtime_r(&seconds, &utc);
    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &utc);
    return json_string(text);
}

static void count_answer(struct admin_api *api, const struct http_answer *answer)
{
    if (answer->later == NULL && answer->status != HTTP_SEND_BODY) {
        metrics_count(api->metrics, METRIC_ADMIN,
                      answer->status < 400   ? METRIC_STATUS_2XX
                      : answer->status < 500 ? METRIC_STATUS_4XX
                                             : METRIC_STATUS_5XX);
    }
}

void admin_answer_later(struct admin_api *api, struct http_later *later, struct http_answer *answer)
{
    count_answer(api, answer);
    admin_act_answered(api, later, answer);
    http_later_answer(later, answer);
}

/* --- what is sent to us ------------------------------------------------------------------------------------------- */

static bool take_parameter(struct admin_call *call, const struct admin_parameter *parameter, const char *value)
{
    bool good = true;
    switch (parameter->kind) {
    case ADMIN_TEXT:
        snprintf(parameter->to, HTTP_PARAMETER_MAX + 1, "%s", value);
        break;
    case ADMIN_NUMBER:
        good = number_parse(slice_of(value), parameter->max, parameter->to);
        break;
    case ADMIN_YES_NO:
        *(bool *)parameter->to = strcmp(value, "yes") == 0;
        good = strcmp(value, "yes") == 0 || strcmp(value, "no") == 0;
        break;
    }
    if (!good) {
        char remedy[80];
        snprintf(remedy, sizeof remedy, "give a number from 0 to %llu", (unsigned long long)parameter->max);
        admin_refuse(call->answer, 400, "bad-request", parameter->kind == ADMIN_NUMBER ? remedy : "give yes or no",
                     "%s=%s cannot be read", parameter->name, admin_show(value).text);
    } else if (parameter->given != NULL) {
        *parameter->given = true;
    }
    return good;
}

/* Two names are the same parameter only where their rows are. */
static size_t find_parameter(const struct admin_parameter *parameters, size_t count, const char *name)
{
    size_t i = 0;
    while (i < count && strcmp(parameters[i].name, name) != 0) {
        i++;
    }
    return i;
}

bool admin_read_query(struct admin_call *call, const struct admin_parameter *parameters, size_t count)
{
    struct slice query = call->request->query;
    struct http_parameter parameter;
    uint64_t seen = 0;
    bool good;
    assert(count <= 64);
    while (http_query_next(&query, &parameter, &good)) {
        size_t i = find_parameter(parameters, count, parameter.name);
        if (i == count || (seen & 1ull << i) != 0) {
            admin_refuse(call->answer, 400, "bad-request", "docs/openapi.json lists what this address takes",
                         i == count ? "parameter \"%s\" is not known here" : "parameter \"%s\" is there twice",
                         admin_show(parameter.name).text);
            return false;
        }
        seen |= 1ull << i;
        if (!take_parameter(call, &parameters[i], parameter.value)) {
            return false;
        }
    }
    if (!good) {
        admin_refuse(call->answer, 400, "bad-request", "percent-encode it; 256 bytes a parameter",
                     "the query cannot be read");
    }
    return good;
}

static const char *json_kind(const json_t *json)
{
    static const char *const kinds[] = {
        [JSON_OBJECT] = "an object", [JSON_ARRAY] = "an array", [JSON_STRING] = "a string", [JSON_INTEGER] = "a number",
        [JSON_REAL] = "a number",    [JSON_TRUE] = "true",      [JSON_FALSE] = "false",     [JSON_NULL] = "null",
    };
    return kinds[json_typeof(json)];
}

static json_t *read_object(struct admin_call *call)
{
    struct slice body = call->request->body;
    json_error_t error = { .text = "" };
    if (body.at != NULL && json_is_deeper(body, JSON_DEPTH_MAX)) {
        admin_refuse(call->answer, 400, "bad-request", "docs/openapi.json shows what this address takes",
                     "the body nests deeper than %d", JSON_DEPTH_MAX);
        return NULL;
    }
    json_t *json =
        body.at == NULL ? NULL : json_loadb(body.at, body.len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &error);
    if (json_is_object(json)) {
        return json;
    }
    admin_refuse(call->answer, 400, "bad-request", "send one JSON object, with Content-Length",
                 "the body is no JSON object: %s%s", json != NULL ? "it is " : "",
                 json != NULL      ? json_kind(json)
                 : body.at == NULL ? "there is none"
                                   : error.text);
    json_decref(json);
    return NULL;
}

json_t *admin_read_body(struct admin_call *call, const char *const *members, size_t count)
{
    json_t *json = read_object(call);
    if (json == NULL) {
        return NULL;
    }
    const char *key;
    json_t *value;
    json_object_foreach(json, key, value)
    {
        size_t i = 0;
        while (i < count && strcmp(members[i], key) != 0) {
            i++;
        }
        if (i == count) {
            admin_refuse(call->answer, 400, "bad-request", "docs/openapi.json lists what this address takes",
                         "member \"%s\" is not known here", admin_show(key).text);
            json_decref(json);
            return NULL;
        }
    }
    return json;
}

/* --- the door ----------------------------------------------------------------------------------------------------- */

/* Whether the body may come, or has; else with the refusal, or with HTTP_SEND_BODY. */
static bool has_body(struct admin_call *call, const struct admin_route *route)
{
    const struct http_request *request = call->request;
    if (!request->has_body || request->body.at != NULL) {
        return true;
    }
    if (request->chunked) {
        admin_refuse(call->answer, 411, "length-required", "send the body with a Content-Length",
                     "a body in chunks is not taken");
    } else if (request->body_bytes > route->body_max) {
        admin_refuse(call->answer, 413, "too-large", "send less", "at most %zu bytes are taken here, not %llu",
                     route->body_max, (unsigned long long)request->body_bytes);
    } else {
        call->answer->status = HTTP_SEND_BODY;
    }
    return false;
}

/* Whether who asks may do that; else with the refusal. */
static bool may(struct admin_call *call, const struct admin_route *route)
{
    if (call->who.role >= route->role) {
        return true;
    }
    char remedy[120];
    snprintf(remedy, sizeof remedy, "use a token that may: `updraft token new NAME --role %s` makes one",
             role_word(route->role));
    admin_refuse(call->answer, 403, "forbidden", remedy, "the token \"%s\" has the role %s, and this needs %s",
                 call->who.token, role_word(call->who.role), role_word(route->role));
    return false;
}

static void log_request(const struct admin_call *call, struct stream *stream)
{
    char peer[64];
    struct log_line line;
    stream->ops->peer(stream, peer, sizeof peer);
    log_begin(&line, LOG_DEBUG, "admin_request");
    log_slice(&line, "method", call->request->method);
    log_slice(&line, "path", call->request->path);
    if (call->answer->later == NULL) {
        log_number(&line, "status", call->answer->status);
    }
    log_text(&line, "peer", peer);
    log_end(&line);
}

static void enter(struct admin_call *call, const struct admin_route *route)
{
    if (!may(call, route)) {
        admin_note_refusal(call, route);
        return;
    }
    if ((route->asked || admin_read_query(call, NULL, 0)) && has_body(call, route)) {
        call->rest = admin_route_rest(route, call->request->path);
        route->handle(call);
    }
    if (route->act != NULL && !call->only_asks) {
        admin_note_act(call, route);
    }
}

static void handle(void *owner, const struct http_request *request, struct stream *stream, struct http_answer *answer)
{
    struct admin_door *door = owner;
    struct admin_call call = { .api = door->api, .request = request, .answer = answer };
    const struct admin_route *route;
    bool known = admin_identify(&call, door, stream);
    if (!known) {
        admin_note_refusal(&call, NULL);
    } else if ((route = admin_find_route(&call)) != NULL) {
        enter(&call, route);
    }
    if (log_enabled(LOG_DEBUG) && answer->status != HTTP_SEND_BODY) {
        log_request(&call, stream);
    }
    count_answer(door->api, answer);
    if (!known) {
        admin_hold_refusal(&call);
    }
}

/* What the connection itself refuses: malformed, too long, too late. */
static void refused(void *owner, unsigned status, const char *why, struct http_answer *answer)
{
    static const struct {
        unsigned status;
        const char *code;
    } codes[] = {
        { 413, "too-large" }, { 414, "too-large" }, { 431, "too-large" }, { 408, "timeout" }, { 503, "busy" }
    };
    const char *code = "bad-request";
    struct admin_door *door = owner;
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        code = codes[i].status == status ? codes[i].code : code;
    }
    admin_refuse(answer, status, code, "see docs/openapi.json", "%s", why);
    count_answer(door->api, answer);
}

static void begun(void *owner, struct delivery *delivery)
{
    (void)owner;
    (void)delivery;
    assert(!"no image goes out here");
}

static void delivered(void *owner, struct delivery *delivery, const struct delivery_outcome *outcome)
{
    (void)owner;
    (void)delivery;
    (void)outcome;
    assert(!"no image goes out here");
}

static void unavailable(void *owner, const struct image *image, const struct delivery *delivery, enum status status,
                        struct http_answer *answer)
{
    (void)owner;
    (void)image;
    (void)delivery;
    (void)status;
    (void)answer;
    assert(!"no image goes out here");
}

const struct http_handlers admin_handlers = { handle, begun, delivered, unavailable, refused };

bool admin_store_is_failing(struct admin_call *call)
{
    const struct store_view *view = call->api->store != NULL ? store_queue_view(call->api->store) : NULL;
    if (view == NULL || view->health != STORE_FAILING) {
        return false;
    }
    admin_refuse(call->answer, 503, "store-failing",
                 "mend that; what stops updates (pause, abort, block) works meanwhile",
                 "orders cannot be written down now: %s", admin_show(view->why).text);
    return true;
}
