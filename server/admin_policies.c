/* An operator's word on one device goes: what was read of it (server/device_word), that it may try again, that it is
 * forgotten.
 *
 * It goes at once, and is answered when it is written down. What makes it hard is a disk that fails: then the word is
 * taken back and refused, but for what stops updates, which goes anyway, with a warning.
 */
#include "server/admin_parts.h"
#include "server/device_word.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What goes all the same is written when there is room. */
static const char no_room[] = "the store's backlog is full";

static void refuse_for_room(struct admin_call *call)
{
    admin_refuse(call->answer, 503, "store-failing", "mend the store, and say it again",
                 "nothing was changed, for it cannot be written down: %s", no_room);
}

/* --- written, and answered ---------------------------------------------------------------------------------------- */

/* A word that goes and waits for the disk. */
struct said_call {
    struct admin_api *api;
    struct http_later *later;
    struct device_word word; /* .call is gone; .entry is what was said, its words held */
    struct policy_entry before;
    word_id held[3 + POLICY_GROUPS_MAX]; /* of `before` */
    size_t held_count;
    bool goes_anyway;
};

static void hold_before(struct said_call *said)
{
    const struct policy_entry *before = &said->before;
    struct words *words = said->api->fleet->words;
    word_id ids[3 + POLICY_GROUPS_MAX] = { before->type, before->label, before->pin };
    memcpy(ids + 3, before->groups, before->group_count * sizeof ids[0]);
    for (size_t i = 0; i < 3u + before->group_count; i++) {
        said->held[said->held_count++] = words_take(words, slice_of(words_text(words, ids[i])));
    }
}

static void free_said(struct said_call *said)
{
    struct words *words = said->api->fleet->words;
    for (size_t i = 0; i < said->held_count; i++) {
        words_drop(words, said->held[i]);
    }
    for (size_t i = 0; i < said->word.taken_count; i++) {
        words_drop(words, said->word.taken[i]);
    }
    free(said);
}

static bool says_the_same(const struct policy_entry *a, const struct policy_entry *b)
{
    return a->blocked == b->blocked && a->approved == b->approved && a->type == b->type && a->label == b->label &&
           a->pin == b->pin && a->group_count == b->group_count &&
           memcmp(a->groups, b->groups, a->group_count * sizeof a->groups[0]) == 0 && strcmp(a->note, b->note) == 0;
}

/* As it was before, unless somebody has said something else since. */
static void take_back(struct said_call *said, const struct moment *now)
{
    static const struct policy_entry nothing;
    const struct policy_entry *entry = policies_find(said->api->fleet->policies, &said->before.mac);
    uint64_t ticket;
    if (says_the_same(entry != NULL ? entry : &nothing, &said->word.entry)) {
        (void)fleet_set_policy(said->api->fleet, &said->before, now, &ticket);
    }
}

/* What it is to run is not there: it may come later, or be a slip of the pen. */
static void warn_of_missing(const struct said_call *said, json_t *json)
{
    const struct policy_entry *now = &said->word.entry, *before = &said->before;
    const struct device *device = devices_find(said->api->fleet->devices, &now->mac);
    struct slice asked = slice_of(device != NULL ? words_text(said->api->fleet->words, device->type->name) : "");
    struct direction to;
    struct offer offer = { NULL, NULL };
    enum reason missing;
    char warning[400];
    fleet_direct(said->api->fleet, &now->mac, asked, false, NULL, &to);
    bool is_said = now->pin != before->pin || now->type != before->type || now->label != before->label;
    const char *wanted = to.policy.wanted[0] != '\0' ? to.policy.wanted : NULL;
    struct catalog_query query = { .type = to.type, .kind = OFFER_SKETCH, .wanted = wanted };
    catalog_offer(said->api->catalog, &query, &offer, &missing);
    bool is_missing = to.type.len > 0 && offer.plain == NULL && offer.gzip == NULL;
    if (is_said && is_missing && (now->pin | now->type | now->label) != 0) {
        snprintf(warning, sizeof warning, "there is no sketch%s%s of type %.*s: it gets nothing until there is",
                 wanted != NULL ? " " : "", to.policy.wanted, (int)to.type.len, to.type.at);
        json_object_set_new(json, "warning", admin_sentence(warning));
    }
}

static void answer_said(struct said_call *said, struct http_answer *answer, enum status status, const char *why)
{
    struct admin_api *api = said->api;
    struct moment now = clock_moment(api->loop);
    char warning[500];
    if (status != STATUS_OK && !said->goes_anyway) {
        take_back(said, &now);
        admin_refuse(answer, 503, "store-failing", "mend that, and say it again",
                     "nothing was changed, for it cannot be written down: %s", why);
        return;
    }
    for (size_t i = 0; i < said->word.said_count; i++) {
        journal_event(api->fleet->journal, &said->before.mac, &now, said->word.said[i].word, "%s",
                      said->word.said[i].text);
    }
    json_t *json = admin_device_json(api, &said->before.mac);
    warn_of_missing(said, json);
    if (status != STATUS_OK) {
        snprintf(warning, sizeof warning, "not written down yet, a restart would forget it: %s", why);
        json_object_set_new(json, "warning", admin_sentence(warning));
    }
    admin_answer(answer, 200, json);
}

static void on_said_written(void *owner, enum status status, const char *why)
{
    struct said_call *said = owner;
    struct http_answer answer = { .status = 200 };
    answer_said(said, &answer, status, why);
    admin_answer_later(said->api, said->later, &answer);
    free_said(said);
}

static bool is_failing(const struct admin_api *api)
{
    return api->store != NULL && store_queue_view(api->store)->health == STORE_FAILING;
}

/* The word goes; then the disk is waited for, where there is one that works. */
static void act(struct admin_call *call, struct said_call *said)
{
    struct admin_api *api = call->api;
    struct moment now = clock_moment(api->loop);
    uint64_t ticket;
    enum status status = fleet_set_policy(api->fleet, &said->word.entry, &now, &ticket);
    if (status == STATUS_BUSY) {
        refuse_for_room(call);
        free_said(said);
    } else if (status != STATUS_OK) {
        admin_refuse(call->answer, 409, "limit", "say less of devices that are gone (`updraft devices forget MAC`)",
                     "something was said of %d devices already, which is the most", POLICIES_MAX);
        free_said(said);
    } else if (ticket == 0 || ticket == JOURNAL_REFUSED || is_failing(api)) {
        bool failed = ticket != 0;
        answer_said(said, call->answer, failed ? STATUS_LIMIT : STATUS_OK,
                    ticket == JOURNAL_REFUSED ? no_room
                    : failed                  ? store_queue_view(api->store)->why
                                              : "");
        free_said(said);
    } else {
        said->later = call->answer->later = http_later_new();
        store_queue_when(api->store, ticket, ADMIN_STORE_WAIT_MS, on_said_written, said);
    }
}

void admin_change_device(struct admin_call *call)
{
    const char *members[DEVICE_WORD_MEMBERS_MAX];
    struct mac mac;
    size_t count = device_word_members(members);
    json_t *body = admin_read_mac(call, &mac) ? admin_read_body(call, members, count) : NULL;
    if (body == NULL) {
        return;
    }
    struct said_call *said = calloc(1, sizeof *said);
    assert(said != NULL);
    const struct policy_entry *before = policies_find(call->api->fleet->policies, &mac);
    said->api = call->api;
    said->before = before != NULL ? *before : (struct policy_entry){ .mac = mac };
    said->word.call = call;
    said->word.entry = said->before;
    hold_before(said);
    bool good = device_word_read(&said->word, body);
    said->goes_anyway = said->word.stops && !said->word.starts;
    said->word.call = NULL;
    json_decref(body);
    if (good && (said->goes_anyway || !admin_store_is_failing(call))) {
        act(call, said);
    } else {
        free_said(said);
    }
}

/* --- to try again, and to be forgotten ---------------------------------------------------------------------------- */

/* What has gone already, and is told when it is written down, or cannot be. */
struct told_call {
    struct admin_api *api;
    struct http_later *later;
    json_t *json;
};

static json_t *with_warning(json_t *json, const char *why)
{
    char warning[500];
    snprintf(warning, sizeof warning, "not written down yet, a restart would bring it back: %s", why);
    json_object_set_new(json, "warning", admin_sentence(warning));
    return json;
}

static void on_told_written(void *owner, enum status status, const char *why)
{
    struct told_call *told = owner;
    struct http_answer answer = { .status = 200 };
    admin_answer(&answer, 200, status == STATUS_OK ? told->json : with_warning(told->json, why));
    admin_answer_later(told->api, told->later, &answer);
    free(told);
}

static void answer_when_written(struct admin_call *call, uint64_t ticket, json_t *json)
{
    struct admin_api *api = call->api;
    if (ticket == 0) {
        admin_answer(call->answer, 200, json);
    } else if (ticket == JOURNAL_REFUSED || is_failing(api)) {
        const char *why = ticket == JOURNAL_REFUSED ? no_room : store_queue_view(api->store)->why;
        admin_answer(call->answer, 200, with_warning(json, why));
    } else {
        struct told_call *told = calloc(1, sizeof *told);
        assert(told != NULL);
        told->api = api;
        told->json = json;
        told->later = call->answer->later = http_later_new();
        store_queue_when(api->store, ticket, ADMIN_STORE_WAIT_MS, on_told_written, told);
    }
}

void admin_retry_device(struct admin_call *call)
{
    struct fleet *fleet = call->api->fleet;
    struct moment now = clock_moment(call->api->loop);
    struct mac mac;
    char text[MAC_TEXT_SIZE];
    json_t *body = admin_read_mac(call, &mac) ? admin_read_body(call, NULL, 0) : NULL;
    if (body == NULL) {
        return;
    }
    json_decref(body);
    if (!admin_knows_device(call, &mac)) {
        return;
    }
    mac_print(&mac, text);
    size_t forgotten = fleet_retry(fleet, &mac, &now);
    const struct device *device = devices_find(fleet->devices, &mac);
    answer_when_written(call, device != NULL ? journal_device(fleet->journal, device) : 0,
                        json_pack("{s:s, s:I}", "mac", text, "forgotten", (json_int_t)forgotten));
}

/* What a broker keeps, nobody here can forget for it. `0` makes nobody known. */
static json_t *forgetting_notes(const struct admin_api *api, const struct mac *mac)
{
    const struct device *device = devices_find(api->fleet->devices, mac);
    json_t *notes = json_array();
    if (api->session != NULL && device != NULL && device->said_online && device->online) {
        json_array_append_new(
            notes, json_string("it said over MQTT that it is there; where the broker keeps that message (retained), it "
                               "tells it again at each connect, and the device is known anew: clear it there first "
                               "(docs/mqtt.md, \"Devices that are gone\")"));
    }
    return notes;
}

void admin_forget_device(struct admin_call *call)
{
    struct moment now = clock_moment(call->api->loop);
    struct mac mac;
    char text[MAC_TEXT_SIZE];
    uint64_t ticket;
    if (!admin_read_mac(call, &mac) || !admin_knows_device(call, &mac) || admin_store_is_failing(call)) {
        return;
    }
    mac_print(&mac, text);
    json_t *notes = forgetting_notes(call->api, &mac);
    if (fleet_forget(call->api->fleet, &mac, &now, &ticket) == STATUS_BUSY) {
        json_decref(notes);
        refuse_for_room(call);
        return;
    }
    answer_when_written(call, ticket, json_pack("{s:s, s:o}", "removed", text, "notes", notes));
}
