/* Whether a device showed the password that its type needs (`device-passwords`): asked when it is known what it would
 * get, and before anyone hears that it was here. */
#include "server/device_parts.h"

#include "server/password_checks.h"

#include <openssl/crypto.h>
#include <stdio.h>
#include <string.h>

#define CHALLENGE "Basic realm=\"Updraft\""

/* The types that an answer would be of: as asked, as assigned, and the images' own. */
struct wanted_types {
    bool any; /* of no type: whoever has a password may have it */
    size_t count;
    struct slice types[4];
};

static void add_type(struct wanted_types *wanted, const struct device_users *users, struct slice type)
{
    if (device_users_cover(users, type)) {
        wanted->types[wanted->count++] = type;
    }
}

/* The offer, and not what was decided of it: a refusal, too, says what there is. */
static struct wanted_types find_types(const struct visit *visit, const struct device_users *users, struct slice asked)
{
    struct wanted_types wanted = { .any = asked.at == NULL };
    const struct offer *offer = &visit->check.input.offer;
    const struct build *forms[] = { offer->plain, offer->gzip };
    if (asked.at != NULL) {
        add_type(&wanted, users, asked);
    }
    if (visit->check.type.len > 0) {
        add_type(&wanted, users, visit->check.type);
    }
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
        const char *type = forms[i] != NULL ? image_of_build(forms[i])->type : NULL;
        wanted.any = wanted.any || (type != NULL && type[0] == '\0');
        if (type != NULL && type[0] != '\0') {
            add_type(&wanted, users, slice_of(type));
        }
    }
    return wanted;
}

static bool is_for_all(const struct device_user *user, const struct wanted_types *wanted)
{
    bool good = true;
    for (size_t i = 0; i < wanted->count; i++) {
        good = good && device_user_is_for(user, wanted->types[i]);
    }
    return good;
}

/* The same words whatever is wrong: who guesses learns nothing. The log says more. */
static void refuse(struct visit *visit, enum reason reason, const char *why, struct http_answer *answer)
{
    const char *word = reason_word(reason);
    visit->check.running = NULL;
    memset(&visit->check.decision, 0, sizeof visit->check.decision);
    snprintf(visit->check.decision.detail, sizeof visit->check.decision.detail, "%s", why);
    if (reason == REASON_NOT_YET && visit->check.device.client != CLIENT_PLAIN) {
        answer->status = 304;
    } else if (reason == REASON_NOT_YET) {
        answer->retry_after_s = 10;
        http_answer_text(answer, 503, "%s: come again\n", word);
    } else {
        answer->challenge = CHALLENGE;
        http_answer_text(answer, 401, "%s: %s\n", word,
                         reason == REASON_NO_PASSWORD ? "a user and a password are needed here, as HTTP Basic"
                                                      : "this user and this password do not open this");
    }
    device_tell_reason(visit, reason, answer);
}

static void ask(struct visit *visit, const struct basic_auth *auth, const struct wanted_types *wanted,
                struct http_answer *answer, bool *admitted)
{
    struct password_checks *checks = visit->api->passwords;
    const struct device_user *user = NULL;
    const char *why = "";
    (void)slice_copy(basic_auth_user(auth), visit->user, sizeof visit->user);
    switch (password_checks_ask(checks, auth, visit_client(visit), &user, &why, &answer->later)) {
    case PASSWORD_RIGHT:
        *admitted = is_for_all(user, wanted);
        if (*admitted) {
            visit->user[0] = '\0';
        } else {
            refuse(visit, REASON_WRONG_PASSWORD, "the user is not for this type", answer);
        }
        break;
    case PASSWORD_WRONG:
        refuse(visit, REASON_WRONG_PASSWORD, "", answer);
        break;
    case PASSWORD_LATER:
        answer->again = true;
        break;
    case PASSWORD_NOT_NOW:
        refuse(visit, REASON_NOT_YET, why, answer);
        break;
    }
}

bool device_admitted(struct visit *visit, struct slice asked, struct http_answer *answer)
{
    const struct device_users *users = password_checks_users(visit->api->passwords);
    if (users == NULL) {
        return true;
    }
    struct wanted_types wanted = find_types(visit, users, asked);
    if (wanted.count == 0 && !wanted.any) {
        return true;
    }
    struct basic_auth auth;
    bool admitted = false;
    switch (basic_auth_read(visit->request->headers, visit->request->header_count, &auth)) {
    case BASIC_AUTH_GIVEN:
        ask(visit, &auth, &wanted, answer, &admitted);
        break;
    case BASIC_AUTH_NONE:
        refuse(visit, REASON_NO_PASSWORD, "", answer);
        break;
    case BASIC_AUTH_UNREADABLE:
        refuse(visit, REASON_NO_PASSWORD, "its Authorization is not Basic, cannot be read, or came twice", answer);
        break;
    case BASIC_AUTH_TOO_LONG:
        refuse(visit, REASON_WRONG_PASSWORD, "longer than any that is known", answer);
        break;
    }
    OPENSSL_cleanse(&auth, sizeof auth);
    return admitted;
}
