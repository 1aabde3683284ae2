/* Telling callers what became of their commands. What makes it hard: they may send again from within, and thousands may
 * be decided at once while devices wait to be served. */
#include "mqtt/publisher_answers.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define AT_ONCE_MAX 1000 /* in one turn of the loop, which has devices to serve */

const char *publish_result_word(enum publish_result result)
{
    static const char *const words[] = {
#define X(name, word) word,
        PUBLISH_RESULT_LIST(X)
#undef X
    };
    assert((size_t)result < PUBLISH_RESULT_COUNT);
    return words[result];
}

static void on_turn(uv_idle_t *turn)
{
    struct answers *answers = (struct answers *)((char *)turn - offsetof(struct answers, turn));
    for (size_t i = 0; i < AT_ONCE_MAX && answers->first != NULL; i++) {
        struct command *command = answers->first;
        answers->first = command->next_answer;
        if (answers->first == NULL) {
            answers->end = &answers->first;
        }
        answers->count--;
        command->on_done(command->owner, command->order, command->result, command->why != NULL ? command->why : "");
        free(command->why);
        free(command);
    }
    if (answers->first == NULL) {
        uv_idle_stop(turn);
        if (answers->closing) {
            uv_close((uv_handle_t *)turn, answers->on_closed);
        }
    }
}

void answers_init(struct answers *answers, uv_loop_t *loop, void *owner)
{
    memset(answers, 0, sizeof *answers);
    answers->end = &answers->first;
    uv_idle_init(loop, &answers->turn);
    answers->turn.data = owner;
}

void answers_add(struct answers *answers, struct command *command, enum publish_result result, const char *why)
{
    command->result = result;
    if (why[0] != '\0') {
        command->why = strdup(why);
        assert(command->why != NULL);
    }
    command->next_answer = NULL;
    *answers->end = command;
    answers->end = &command->next_answer;
    answers->count++;
    uv_idle_start(&answers->turn, on_turn);
}

void answers_close(struct answers *answers, uv_close_cb on_closed)
{
    answers->closing = true;
    answers->on_closed = on_closed;
    uv_idle_start(&answers->turn, on_turn);
}
