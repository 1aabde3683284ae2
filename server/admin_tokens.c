/* Bearer tokens for the TCP side: shown once, kept as hashes. */
#include "server/admin_parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define EXPIRES_S_MAX (100ll * 366 * 86400)

struct token_call {
    struct admin_api *api;
    struct http_later *later;
    char name[TOKEN_NAME_MAX + 1];
    enum role role;
    int64_t expires_s;
    bool removal;
};

/* A time, or null for never. */
static json_t *time_json(int64_t seconds)
{
    return seconds == 0 ? json_null() : admin_time((time_t)seconds);
}

void admin_get_tokens(struct admin_call *call)
{
    struct token_view view;
    json_t *list = json_array();
    for (size_t i = 0; tokens_at(call->api->tokens, i, &view); i++) {
        bool expired = view.expires_s != 0 && view.expires_s <= (int64_t)time(NULL);
        json_array_append_new(list, json_pack("{s:s, s:s, s:o, s:o, s:b, s:b, s:o}", "name", view.name, "role",
                                              role_word(view.role), "created", time_json(view.created_s), "expires",
                                              time_json(view.expires_s), "expired", expired, "revoked", view.revoked,
                                              "last_used", time_json(view.used_s)));
    }
    admin_answer(call->answer, 200, json_pack("{s:o}", "tokens", list));
}

static void on_done(void *owner, enum status status, const char *text)
{
    struct token_call *call = owner;
    struct http_answer answer = { .status = 0 };
    if (status != STATUS_OK) {
        admin_refuse(&answer, 500, "not-written", "the server's user must be able to write to its --state folder",
                     "%sthe tokens cannot be written: %s",
                     call->removal ? "it is refused from now on, but may come back with a restart: " : "",
                     status_text(status));
    } else if (call->removal) {
        admin_answer(&answer, 200, json_pack("{s:s}", "removed", call->name));
    } else {
        admin_answer(&answer, 201,
                     json_pack("{s:s, s:s, s:o, s:s}", "name", call->name, "role", role_word(call->role), "expires",
                               time_json(call->expires_s), "token", text));
    }
    admin_answer_later(call->api, call->later, &answer);
    free(call);
}

static bool has_token(const struct tokens *tokens, const char *name)
{
    struct token_view view;
    for (size_t i = 0; tokens_at(tokens, i, &view); i++) {
        if (strcmp(view.name, name) == 0) {
            return true;
        }
    }
    return false;
}

static void refuse_busy(const struct admin_call *call, const char *name, bool removal)
{
    struct http_answer *answer = call->answer;
    char remedy[TOKEN_NAME_MAX + 100];
    if (removal) {
        admin_refuse(answer, 503, "busy", "`updraft token ls` lists it until it is out of the file",
                     "\"%s\" is refused from now on, and leaves the file behind another change that is being written",
                     admin_show(name).text);
    } else if (has_token(call->api->tokens, name)) {
        snprintf(remedy, sizeof remedy, "choose another name, or end that one first: `updraft token revoke %.*s`",
                 TOKEN_NAME_MAX, name);
        admin_refuse(answer, 409, "exists", remedy, "there is a token \"%s\" already", admin_show(name).text);
    } else {
        admin_refuse(answer, 503, "busy", "come again in a moment",
                     "another change than that of \"%s\" is being written", admin_show(name).text);
    }
}

static void refuse_token(const struct admin_call *call, enum status status, const char *name, bool removal)
{
    struct http_answer *answer = call->answer;
    switch (status) {
    case STATUS_INVALID:
    case STATUS_TOO_LONG:
        admin_refuse(answer, 400, "bad-name", "1 to 64 letters, digits, `.`, `_` and `-`", "\"%s\" cannot name a token",
                     admin_show(name).text);
        break;
    case STATUS_NOT_FOUND:
        admin_refuse(answer, 404, "unknown-token", "`updraft token ls` lists them", "there is no token \"%s\"",
                     admin_show(name).text);
        break;
    case STATUS_BUSY:
        refuse_busy(call, name, removal);
        break;
    case STATUS_LIMIT:
        admin_refuse(answer, 503, "busy", "remove tokens that nobody needs", "there are %d tokens already", TOKENS_MAX);
        break;
    default:
        admin_refuse(answer, 503, "busy", "come again in a moment", "%s", status_text(status));
    }
}

/* Begins a change; the answer comes when it is on disk. */
static void change(struct admin_call *call, const struct token_order *order, bool removal)
{
    struct admin_api *api = call->api;
    struct token_call *later = calloc(1, sizeof *later);
    enum status status = STATUS_NO_MEMORY;
    char name[HTTP_PARAMETER_MAX] = "";
    (void)slice_copy(order->name, name, sizeof name);
    if (later != NULL) {
        *later = (struct token_call){ .api = api, .role = order->role, .expires_s = order->expires_s };
        later->removal = removal;
        snprintf(later->name, sizeof later->name, "%s", name);
        status = removal ? tokens_remove(api->tokens, api->loop, order->name, on_done, later)
                         : tokens_make(api->tokens, api->loop, order, (int64_t)time(NULL), on_done, later);
    }
    if (status != STATUS_OK) {
        free(later);
        refuse_token(call, status, name, removal);
        return;
    }
    later->later = call->answer->later = http_later_new();
}

/* What a new token may, and until when. False with the refusal. */
static bool read_rights(struct admin_call *call, const json_t *body, struct token_order *order)
{
    const json_t *role = json_object_get(body, "role"), *expires = json_object_get(body, "expires_in_s");
    if (role != NULL && (!json_is_string(role) || !role_parse(slice_of(json_string_value(role)), &order->role))) {
        admin_refuse(call->answer, 400, "bad-request", "give read, operate or admin", "member \"role\" cannot be read");
        return false;
    }
    if (expires != NULL &&
        (!json_is_integer(expires) || json_integer_value(expires) < 1 || json_integer_value(expires) > EXPIRES_S_MAX)) {
        admin_refuse(call->answer, 400, "bad-request", "give a number of seconds from 1 to a hundred years",
                     "member \"expires_in_s\" cannot be read");
        return false;
    }
    order->expires_s = expires != NULL ? (int64_t)time(NULL) + json_integer_value(expires) : 0;
    return true;
}

/* Who says no role gets one that sees: what leaks or is forgotten somewhere can change nothing. */
void admin_make_token(struct admin_call *call)
{
    static const char *const members[] = { "name", "role", "expires_in_s" };
    json_t *body = admin_read_body(call, members, sizeof members / sizeof members[0]);
    if (body == NULL) {
        return;
    }
    const char *name = json_string_value(json_object_get(body, "name"));
    struct token_order order = { .name = slice_of(name != NULL ? name : ""), .role = ROLE_READ };
    if (read_rights(call, body, &order)) {
        change(call, &order, false);
    }
    json_decref(body);
}

void admin_remove_token(struct admin_call *call)
{
    if (call->rest.len >= HTTP_PARAMETER_MAX) {
        refuse_token(call, STATUS_NOT_FOUND, "", true);
        return;
    }
    change(call, &(struct token_order){ .name = call->rest }, true);
}
