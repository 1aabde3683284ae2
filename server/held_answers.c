#include "server/held_answers.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

struct held_answer {
    struct held_answer *next;
    uint64_t due_ms;
    struct client_address network;
    struct http_later *later;
    struct http_answer answer;
};

void held_answers_init(struct held_answers *held, uv_loop_t *loop, size_t max, size_t max_of_one)
{
    *held = (struct held_answers){ .loop = loop, .max = max, .max_of_one = max_of_one };
    uv_timer_init(loop, &held->timer);
    uv_unref((uv_handle_t *)&held->timer);
    held->timer.data = held;
}

static void send_first(struct held_answers *held)
{
    struct held_answer *one = held->first;
    held->first = one->next;
    held->count--;
    http_later_answer(one->later, &one->answer); /* frees the body; may bring a new one here, which goes last */
    free(one);
}

static void on_due(uv_timer_t *timer)
{
    struct held_answers *held = timer->data;
    while (held->first != NULL && held->first->due_ms <= uv_now(held->loop)) {
        send_first(held);
    }
    if (held->first != NULL) {
        uv_timer_start(timer, on_due, held->first->due_ms - uv_now(held->loop), 0);
    }
}

static size_t count_of(const struct held_answers *held, const struct client_address *network)
{
    size_t count = 0;
    for (const struct held_answer *one = held->first; one != NULL; one = one->next) {
        count += memcmp(one->network.bytes, network->bytes, sizeof network->bytes) == 0;
    }
    return count;
}

bool held_answers_hold(struct held_answers *held, const struct client_address *who, struct http_answer *answer,
                       uint64_t ms)
{
    assert(answer->later == NULL && answer->image == NULL);
    struct client_address network = client_address_network(who);
    if (ms == 0 || held->ending || held->count == held->max || count_of(held, &network) >= held->max_of_one) {
        return false;
    }
    struct held_answer *one = malloc(sizeof *one);
    if (one == NULL) {
        return false;
    }
    *one = (struct held_answer){ .due_ms = uv_now(held->loop) + ms, .network = network, .answer = *answer };
    one->later = http_later_new();
    struct held_answer **at = &held->first;
    while (*at != NULL && (*at)->due_ms <= one->due_ms) {
        at = &(*at)->next;
    }
    one->next = *at;
    *at = one;
    held->count++;
    answer->later = one->later;
    answer->body = NULL;
    uv_timer_start(&held->timer, on_due, held->first->due_ms - uv_now(held->loop), 0);
    return true;
}

void held_answers_release(struct held_answers *held)
{
    held->ending = true;
    while (held->first != NULL) {
        send_first(held);
    }
}

void held_answers_close(struct held_answers *held)
{
    assert(held->ending && held->first == NULL);
    uv_close((uv_handle_t *)&held->timer, NULL);
}
