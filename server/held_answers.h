/* Answers that are ready and go out later, so that who was refused comes again slowly. Nothing blocks, and what is held
 * is bounded, in all and of one address: each holds a connection, of which others need one too. */
#ifndef SERVER_HELD_ANSWERS_H
#define SERVER_HELD_ANSWERS_H

#include "server/client_address.h"
#include "server/http_conn.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

struct held_answer;

/* The loop's; the owner's memory until on_closed. */
struct held_answers {
    uv_loop_t *loop;
    uv_timer_t timer;
    size_t count, max, max_of_one;
    bool ending;               /* nothing is held any more */
    struct held_answer *first; /* by when they are due */
};

void held_answers_init(struct held_answers *held, uv_loop_t *loop, size_t max, size_t max_of_one);

/* From within a handler: takes the answer, which has no image, over, and makes it one that comes `ms` later. Returns
 * false where too many are held, or ms is 0: then it is as it was. */
bool held_answers_hold(struct held_answers *held, const struct client_address *who, struct http_answer *answer,
                       uint64_t ms);

/* Sends all of them now, and holds none from now on. Not from within a handler. */
void held_answers_release(struct held_answers *held);

/* After that. */
void held_answers_close(struct held_answers *held);

#endif
