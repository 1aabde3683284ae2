/* Bearer tokens for the TCP side: shown once, kept as hashes. */
#include "server/admin_parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct token_call {
    struct admin_api *api;
    struct http_later *later;
    char name[TOKEN_NAME_MAX + 1];
    bool removal;
};

void admin_get_tokens(struct admin_call *call)
{
    struct token_view view;
    if (!admin_read_query(call, NULL, 0)) {
        return;
    }
    json_t *list = json_array();
    for (size_t i = 0; tokens_at(call->api->tokens, i, &view); i++) {
        json_array_append_new(
            list, json_pack("{s:s, s:o}", "name", view.name, "created", admin_time((time_t)view.created_s)));
    }
    admin_answer(call->answer, 200, json_pack("{s:o}", "tokens", list));
}

static void on_done(void *owner, enum status status, const char *text)
{
    struct token_call *call = owner;
    struct http_answer answer = { .status = 0 };
    if (status != STATUS_OK) {
        admin_refuse(&answer, 500, "not-written", "the server's user must be able to write to its --state folder",
                     "the tokens cannot be written: %s", status_text(status));
    } else if (call->removal) {
        admin_answer(&answer, 200, json_pack("{s:s}", "removed", call->name));
    } else {
        admin_answer(&answer, 201, json_pack("{s:s, s:s}", "name", call->name, "token", text));
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

static void refuse_token(const struct admin_call *call, enum status status, const char *name, bool removal)
{
    struct http_answer *answer = call->answer;
    bool exists = !removal && has_token(call->api->tokens, name);
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
        admin_refuse(answer, exists ? 409 : 503, exists ? "exists" : "busy",
                     exists ? "choose another name, or remove that one first" : "come again in a moment",
                     exists ? "there is a token \"%s\" already" : "another change than that of \"%s\" is being written",
                     admin_show(name).text);
        break;
    default:
        admin_refuse(answer, 503, "busy", "remove tokens that nobody needs", "there are %d tokens already", TOKENS_MAX);
    }
}

/* Begins a change; the answer comes when it is on disk. */
static void change(struct admin_call *call, const char *name, bool removal)
{
    struct admin_api *api = call->api;
    struct token_call *later = calloc(1, sizeof *later);
    enum status status = STATUS_NO_MEMORY;
    if (later != NULL) {
        later->api = api;
        later->removal = removal;
        snprintf(later->name, sizeof later->name, "%s", name);
        status = removal ? tokens_remove(api->tokens, api->loop, slice_of(name), on_done, later)
                         : tokens_make(api->tokens, api->loop, slice_of(name), (int64_t)time(NULL), on_done, later);
    }
    if (status != STATUS_OK) {
        free(later);
        refuse_token(call, status, name, removal);
        return;
    }
    later->later = call->answer->later = http_later_new();
}

void admin_make_token(struct admin_call *call)
{
    static const char *const members[] = { "name" };
    json_t *body = admin_read_body(call, members, 1);
    if (body == NULL) {
        return;
    }
    const char *name = json_string_value(json_object_get(body, "name"));
    change(call, name != NULL ? name : "", false);
    json_decref(body);
}

void admin_remove_token(struct admin_call *call)
{
    char name[HTTP_PARAMETER_MAX];
    if (!slice_copy(call->rest, name, sizeof name)) {
        refuse_token(call, STATUS_NOT_FOUND, "", true);
        return;
    }
    change(call, name, true);
}
