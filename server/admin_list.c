/* What makes it hard is a million devices, or images that each take a search to judge. Each member is written as text
 * in its step: a tree of a thousand would take milliseconds to write, and as much memory again as the text.
 */
#include "server/admin_list.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define BYTES_MAX ((size_t)64 << 20) /* far more than a thousand members can fill */

static void add_text(struct admin_list *list, const char *text)
{
    bool added = buf_add(&list->text, text, strlen(text));
    assert(added);
    (void)added;
}

/* Its reference is taken over. */
static void add_json(struct admin_list *list, json_t *json, size_t skipped)
{
    char *text = json_dumps(json, JSON_COMPACT);
    assert(text != NULL); /* out of memory, or a text that is no UTF-8: admin_text sees to that */
    add_text(list, text + skipped);
    free(text);
    json_decref(json);
}

static void answer(struct admin_list *list)
{
    struct http_answer answer = { .status = 200, .content_type = "application/json" };
    add_text(list, "],");
    add_json(list, list->kind->end(list), strlen("{"));
    answer.body = list->text.bytes; /* it is the answer's now */
    answer.body_bytes = list->text.used;
    if (list->answer != NULL) {
        *list->answer = answer;
        list->done = true;
        return;
    }
    admin_answer_later(list->api, list->later, &answer);
    free(list);
}

static bool on_turn(void *owner, struct turn_budget *budget)
{
    struct admin_list *list = owner;
    bool spent;
    if (list->later != NULL && !http_later_is_awaited(list->later)) {
        answer(list); /* to nobody: who asks and leaves has no work done */
        return false;
    }
    list->now = clock_moment(list->api->loop);
    do {
        enum admin_list_look look = list->kind->look(list);
        if (look == ADMIN_LIST_END) {
            answer(list);
            return false;
        }
        bool counts = look == ADMIN_LIST_COUNTS;
        bool shows = counts && list->matched >= list->offset && list->shown < list->limit;
        if (shows) {
            add_text(list, list->shown++ > 0 ? "," : "");
            add_json(list, list->kind->show(list), 0);
        }
        list->matched += counts;
        spent = shows ? uv_hrtime() >= budget->end_ns
                      : turn_is_spent(budget); /* writing one takes as long as looking at a thousand */
    } while (!spent);
    return true;
}

void admin_list_answer(struct admin_call *call, struct admin_list *list)
{
    struct turns *turns = trigger_turns(call->api->trigger);
    list->api = call->api;
    list->answer = call->answer;
    list->job = (struct turn_job){ .step = on_turn, .owner = list };
    buf_init(&list->text, BYTES_MAX);
    add_text(list, "{\"");
    add_text(list, list->kind->name);
    add_text(list, "\":[");
    turns_add(turns, &list->job);
    turns_run(turns);
    list->answer = NULL;
    if (list->done) {
        free(list);
    } else {
        list->later = call->answer->later = http_later_new();
    }
}
