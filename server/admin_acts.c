/* What goes into the audit log. What makes it hard is that many acts are answered later, by rooms that do not know who
 * asked: those wait here until their answer goes out, whose words then say what came of them.
 */
#include "server/admin_parts.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ANSWER_READ_MAX (256u << 10) /* of an answer, to find its words */
#define HOUR_MS         3600000
#define REFUSALS_HOUR   60 /* lines of what tokens may not, also one that is over: weeks of acts are to stay */
#define ORDER_DEPTH_MAX 8
#define TEXT_TOLD       64 /* of an order that is long: bytes of a text … */
#define LIST_TOLD       4  /* … and members of a list */

struct admin_act {
    struct admin_act *next;
    struct http_later *later;
    struct audit_act audit;
};

static void copy_text(char *to, size_t size, const char *from)
{
    snprintf(to, size, "%s", from != NULL ? from : "");
}

static void copy_slice(char *to, size_t size, struct slice from)
{
    size_t n = from.len < size ? from.len : size - 1;
    memcpy(to, from.len > 0 ? from.at : "", n);
    to[n] = '\0';
}

/* The answer's words: why it was refused, or the id of what was made. */
static void read_answer(struct audit_act *act, const struct http_answer *answer)
{
    bool is_read = answer->body != NULL && answer->body_bytes <= ANSWER_READ_MAX;
    json_t *json = is_read ? json_loadb(answer->body, answer->body_bytes, 0, NULL) : NULL;
    const json_t *error = json_object_get(json, "error");
    copy_text(act->code, sizeof act->code, json_string_value(json_object_get(error, "code")));
    copy_text(act->why, sizeof act->why, json_string_value(json_object_get(error, "message")));
    if (act->object[0] == '\0') {
        copy_text(act->object, sizeof act->object, json_string_value(json_object_get(json, "id")));
    }
    act->status = answer->status;
    json_decref(json);
}

/* Whoever has the next line tells of the refusals that had none. */
static struct audit_act act_of(const struct admin_call *call)
{
    const struct admin_who *who = &call->who;
    struct audit_act act = {
        .has_ids = who->has_ids, .uid = who->uid, .gid = who->gid, .role = who->role, .from = "socket"
    };
    act.unsaid = call->api->refusals.unsaid;
    call->api->refusals.unsaid = 0;
    copy_text(act.token, sizeof act.token, who->token);
    if (who->token[0] != '\0') {
        client_address_print(&who->address, act.from, sizeof act.from);
    }
    return act;
}

/* A new reference, in which what is long is cut. */
static json_t *shorten(json_t *value)
{
    const char *text = json_string_value(value), *key;
    json_t *shorter, *member;
    size_t n = TEXT_TOLD, i;
    if (text != NULL && strlen(text) > n) {
        while (((unsigned char)text[n] & 0xc0) == 0x80) {
            n--;
        }
        return json_sprintf("%.*s…", (int)n, text);
    }
    if (json_is_array(value) && json_array_size(value) > LIST_TOLD) {
        shorter = json_array();
        for (i = 0; i < LIST_TOLD; i++) {
            json_array_append_new(shorter, shorten(json_array_get(value, i)));
        }
        json_array_append_new(shorter, json_sprintf("… of %zu", json_array_size(value)));
        return shorter;
    }
    if (!json_is_object(value)) {
        return json_incref(value);
    }
    shorter = json_object();
    json_object_foreach(value, key, member)
    {
        json_object_set_new(shorter, key, shorten(member));
    }
    return shorter;
}

/* Every member of the order, without the blanks between: what stands far behind, or behind much, is what somebody may
 * want nobody to see. What is no JSON does nothing. */
static void say_order(struct audit_act *act, struct slice body)
{
    bool is_read = body.len > 0 && !json_is_deeper(body, ORDER_DEPTH_MAX);
    json_t *json = is_read ? json_loadb(body.at, body.len, JSON_REJECT_DUPLICATES, NULL) : NULL;
    char *text = json != NULL ? json_dumps(json, JSON_COMPACT) : NULL;
    if (text != NULL && strlen(text) >= sizeof act->order) {
        json_t *shorter = shorten(json);
        free(text);
        text = json_dumps(shorter, JSON_COMPACT);
        json_decref(shorter);
    }
    copy_slice(act->order, sizeof act->order, text != NULL ? slice_of(text) : body);
    free(text);
    json_decref(json);
}

/* Path, query and order as far as they say what is meant; an upload's bytes do not. */
static void say_what(struct audit_act *act, const struct admin_call *call, const struct admin_route *route)
{
    struct slice query = call->request->query;
    struct http_parameter parameter;
    size_t size = sizeof act->object;
    bool good;
    act->act = route->act;
    copy_slice(act->object, size, admin_route_rest(route, call->request->path));
    size_t used = strlen(act->object);
    for (char sign = '?'; used < size && http_query_next(&query, &parameter, &good); sign = '&') {
        used += (size_t)snprintf(act->object + used, size - used, "%c%s=%s", sign, parameter.name, parameter.value);
    }
    if (route->tells) {
        say_order(act, call->request->body);
    }
}

void admin_note_act(struct admin_call *call, const struct admin_route *route)
{
    struct admin_api *api = call->api;
    if (api->audit == NULL || call->answer->status == HTTP_SEND_BODY) {
        return;
    }
    struct audit_act act = act_of(call);
    say_what(&act, call, route);
    if (call->answer->later == NULL) {
        read_answer(&act, call->answer);
        audit_add(api->audit, &act);
        return;
    }
    struct admin_act *waiting = malloc(sizeof *waiting);
    assert(waiting != NULL);
    *waiting = (struct admin_act){ .next = api->acts, .later = call->answer->later, .audit = act };
    api->acts = waiting;
}

void admin_act_answered(struct admin_api *api, const struct http_later *later, const struct http_answer *answer)
{
    for (struct admin_act **at = &api->acts; *at != NULL; at = &(*at)->next) {
        struct admin_act *act = *at;
        if (act->later == later) {
            *at = act->next;
            read_answer(&act->audit, answer);
            audit_add(api->audit, &act->audit);
            free(act);
            return;
        }
    }
}

void admin_note_refusal(struct admin_call *call, const struct admin_route *route)
{
    struct admin_api *api = call->api;
    uint64_t now_ms = uv_now(api->loop);
    if (api->audit == NULL || call->who.token[0] == '\0') {
        return;
    }
    if (api->refusals.count == 0 || now_ms - api->refusals.since_ms >= HOUR_MS) {
        api->refusals.since_ms = now_ms;
        api->refusals.count = 0;
    }
    if (++api->refusals.count > REFUSALS_HOUR) {
        api->refusals.unsaid++;
        return;
    }
    struct audit_act act = act_of(call);
    act.act = route == NULL ? "login" : route->act != NULL ? route->act : "see";
    copy_slice(act.object, sizeof act.object, call->request->path);
    read_answer(&act, call->answer);
    audit_add(api->audit, &act);
}
