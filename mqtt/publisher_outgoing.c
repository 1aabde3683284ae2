/* Messages made from commands, and used again. What makes it hard: a session that is left behind may still read a
 * payload when its command was answered long ago, so each counts what it carries. */
#include "mqtt/publisher_outgoing.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* What is left of the time that the command is good for, in seconds, rounded up. */
static uint32_t seconds_left(const struct content *content, uint64_t now_ms)
{
    if (content->deadline_ms == UINT64_MAX) {
        return 0;
    }
    uint64_t left_ms = content->deadline_ms - now_ms;
    uint64_t seconds = left_ms / 1000 + (left_ms % 1000 != 0);
    return seconds < UINT32_MAX ? (uint32_t)seconds : UINT32_MAX;
}

struct outgoing *outgoing_new(struct outgoing_pool *pool, struct command *command, uint64_t connects, uint64_t now_ms)
{
    struct content *content = command->content;
    struct outgoing *outgoing = pool->first;
    if (outgoing != NULL) {
        pool->first = outgoing->next_free;
    } else {
        outgoing = malloc(sizeof *outgoing);
        assert(outgoing != NULL);
    }
    memset(outgoing, 0, sizeof *outgoing);
    outgoing->command = command;
    outgoing->content = content_ref(content);
    outgoing->connects = connects;

    struct session_message *message = &outgoing->message;
    bool fits = slice_copy(slice_of(content->parts[command->part].topic), message->topic, sizeof message->topic);
    assert(fits); /* publisher_send */
    message->owner = outgoing;
    message->payload = content->parts[command->part].payload;
    message->payload_bytes = content->parts[command->part].payload_bytes;
    message->retain = content->retain;
    message->expiry_s = seconds_left(content, now_ms);
    return outgoing;
}

void outgoing_free(struct outgoing_pool *pool, struct outgoing *outgoing)
{
    content_unref(outgoing->content);
    outgoing->content = NULL;
    outgoing->next_free = pool->first;
    pool->first = outgoing;
}

void outgoing_pool_close(struct outgoing_pool *pool)
{
    while (pool->first != NULL) {
        struct outgoing *outgoing = pool->first;
        pool->first = outgoing->next_free;
        free(outgoing);
    }
}
