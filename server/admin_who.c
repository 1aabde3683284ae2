/* Who asks: over the Unix socket whoever its mode lets open it, who may all; over TCP whoever has a token.
 *
 * What makes it hard is to slow who guesses and nobody else. A right token is answered at once, whatever others did at
 * its address; who was wrong too often waits for the refusal, as long as there is room to hold it, and is sent away at
 * once else. Either way it says the same whether a token was removed, never was, or is none.
 */
#include "server/admin_parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static const char make_one[] =
    "`updraft token new NAME` on the server makes one; give it in UPDRAFT_TOKEN, --token, or "
    "as Authorization: Bearer TOKEN";

static bool identify_local(struct admin_call *call, struct stream *stream)
{
    call->who.role = ROLE_ADMIN;
    call->who.has_ids = stream->ops->credentials(stream, &call->who.uid, &call->who.gid);
    return true;
}

static void refuse_stranger(struct admin_call *call, bool given)
{
    struct admin_api *api = call->api;
    admin_refuse(call->answer, 401, "unauthorized", make_one,
                 given ? "this token is not known here: it was revoked, or mistyped" : "a token is needed here");
    if (!given) { /* many clients ask so first; it is no guess */
        return;
    }
    api->metrics->counters[METRIC_COUNT_ADMIN_LOGINS_FAILED]++;
    if (api->failed_logins != NULL) {
        call->who.hold_ms = attempts_failed(api->failed_logins, &call->who.address, uv_now(api->loop));
    }
}

/* To its holder alone is said that it was one. */
static void refuse_expired(struct admin_call *call, const struct token_view *view)
{
    char when[32];
    struct tm utc;
    time_t expires_s = (time_t)view->expires_s;
    gmtime_r(&expires_s, &utc);
    strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", &utc);
    admin_refuse(call->answer, 401, "expired", make_one, "the token \"%s\" expired at %s", view->name, when);
}

/* The token that a request shows; absent where it shows another thing, or two: whoever stands between us may have
 * looked at the other one. `*given`: it shows anything. */
static struct slice find_token(const struct http_request *request, bool *given)
{
    struct slice value = { NULL, 0 };
    unsigned count = 0;
    for (size_t i = 0; i < request->header_count; i++) {
        if (slice_is_nocase(request->headers[i].name, "Authorization")) {
            value = request->headers[i].value;
            count++;
        }
    }
    *given = count > 0;
    struct slice scheme = count == 1 ? slice_next_word(&value) : value;
    return count == 1 && slice_is_nocase(scheme, "Bearer") ? slice_trim(value) : (struct slice){ NULL, 0 };
}

static bool identify_remote(struct admin_call *call, struct stream *stream)
{
    const struct http_request *request = call->request;
    bool given;
    struct slice token = find_token(request, &given);
    struct token_view view;
    call->who.address = client_address_find(&call->api->device_api->proxies, stream->ops->remote(stream),
                                            request->headers, request->header_count);
    enum tokens_found found = tokens_admit(call->api->tokens, token, (int64_t)time(NULL), &view);
    if (found != TOKENS_UNKNOWN) {
        call->who.role = view.role;
        snprintf(call->who.token, sizeof call->who.token, "%s", view.name);
    }
    if (found == TOKENS_GOOD) {
        return true;
    }
    if (found == TOKENS_EXPIRED) {
        refuse_expired(call, &view);
    } else {
        refuse_stranger(call, given);
    }
    call->answer->challenge = "Bearer";
    call->answer->close = true;
    return false;
}

bool admin_identify(struct admin_call *call, const struct admin_door *door, struct stream *stream)
{
    return door->needs_token ? identify_remote(call, stream) : identify_local(call, stream);
}

void admin_hold_refusal(struct admin_call *call)
{
    struct held_answers *held = call->api->held;
    if (call->who.hold_ms == 0 || held == NULL ||
        held_answers_hold(held, &call->who.address, call->answer, call->who.hold_ms)) {
        return;
    }
    free(call->answer->body);
    call->answer->body = NULL;
    admin_refuse(call->answer, 429, "slow-down", "see what sends wrong tokens from that address",
                 "too many tokens that are not known came from this address");
    call->answer->challenge = NULL;
    call->answer->retry_after_s = (unsigned)(call->who.hold_ms / 1000 + 1);
}
