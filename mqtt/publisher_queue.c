/* Commands of one topic stand in a lane: one that is on its way, those that wait behind it, and one of upkeep (a
 * retained one to be sent again, or to be cleared). What makes it hard: of a lane only the command whose turn it is may
 * stand among those that are ready, so each change ends in lane_refresh. */
#include "mqtt/publisher_queue.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

_Static_assert(offsetof(struct command, heaps) == 0, "an entry of a heap is its command");

static void *need(void *memory)
{
    assert(memory != NULL);
    return memory;
}

void queue_init(struct queue *queue)
{
    memset(queue, 0, sizeof *queue);
    heap_init(&queue->ready, HEAP_READY);
    heap_init(&queue->expiry, HEAP_EXPIRY);
}

void queue_close(struct queue *queue)
{
    heap_close(&queue->ready);
    heap_close(&queue->expiry);
}

/* --- lanes -------------------------------------------------------------------------------------------------------- */

struct lane *lane_find(const struct queue *queue, const char *key)
{
    struct lane *lane;
    HASH_FIND_STR(queue->lanes, key, lane);
    return lane;
}

struct lane *lane_get(struct queue *queue, const char *key)
{
    struct lane *lane = lane_find(queue, key);
    if (lane == NULL) {
        size_t n = strlen(key) + 1;
        lane = need(calloc(1, sizeof *lane + n));
        memcpy(lane->key, key, n);
        HASH_ADD_KEYPTR(hh, queue->lanes, lane->key, n - 1, lane);
    }
    return lane;
}

/* Whose turn it is; NULL while a message is on its way. A started command goes on before anything else: two of several
 * parts must not mix (the address of one, the trigger of the other). */
static struct command *lane_next(const struct lane *lane)
{
    if (lane->current != NULL) {
        return lane->current->in_flight ? NULL : lane->current;
    }
    if (lane->upkeep == NULL || lane->waiting == NULL) {
        return lane->upkeep != NULL ? lane->upkeep : lane->waiting;
    }
    return lane->upkeep->order < lane->waiting->order ? lane->upkeep : lane->waiting;
}

/* Of those that wait only the first can have been next before. */
void lane_refresh(struct queue *queue, struct lane *lane)
{
    struct command *const members[] = { lane->current, lane->upkeep, lane->waiting };
    struct command *next = lane_next(lane);
    bool empty = lane->retained == NULL;
    for (size_t i = 0; i < sizeof members / sizeof members[0]; i++) {
        if (members[i] != NULL && members[i] != next) {
            heap_remove(&queue->ready, &members[i]->heaps);
        }
        empty = empty && members[i] == NULL;
    }
    if (next != NULL && next->heaps.place[HEAP_READY] == 0) {
        heap_push(&queue->ready, &next->heaps, next->order);
    }
    if (empty) {
        HASH_DEL(queue->lanes, lane);
        free(lane);
    }
}

void lane_retain(struct queue *queue, struct lane *lane, struct content *content, uint64_t order)
{
    if (content != NULL) {
        content_ref(content);
        queue->retained++;
    }
    if (lane->retained != NULL) {
        content_unref(lane->retained);
        queue->retained--;
    }
    lane->retained = content;
    lane->retained_order = order;
}

/* --- commands ----------------------------------------------------------------------------------------------------- */

struct command *command_new(struct queue *queue, struct lane *lane, struct content *content, uint64_t order)
{
    struct command *command = need(calloc(1, sizeof *command));
    command->order = order;
    command->lane = lane;
    command->content = content;
    if (content->deadline_ms != UINT64_MAX) {
        heap_push(&queue->expiry, &command->heaps, content->deadline_ms);
    }
    return command;
}

struct command *queue_find(const struct queue *queue, const char *about)
{
    struct command *command;
    HASH_FIND(about_hh, queue->waiting, about, strlen(about), command);
    return command;
}

void command_wait(struct queue *queue, struct command *command)
{
    const char *about = command->content->about;
    DL_APPEND(command->lane->waiting, command);
    HASH_ADD_KEYPTR(about_hh, queue->waiting, about, strlen(about), command);
    lane_refresh(queue, command->lane);
}

/* Of one that is not started. */
static void leave_place(struct queue *queue, struct command *command)
{
    struct lane *lane = command->lane;
    if (lane->upkeep == command) {
        lane->upkeep = NULL;
    } else if (command->upkeep == UPKEEP_NONE) {
        DL_DELETE(lane->waiting, command);
        HASH_DELETE(about_hh, queue->waiting, command);
    }
}

void command_start(struct queue *queue, struct command *command)
{
    if (!command->started) {
        leave_place(queue, command);
    }
    command->started = true;
    command->in_flight = true;
    command->lane->current = command;
    lane_refresh(queue, command->lane);
}

void command_leave(struct queue *queue, struct command *command)
{
    struct lane *lane = command->lane;
    if (lane->current == command) {
        lane->current = NULL;
    } else {
        leave_place(queue, command);
    }
    heap_remove(&queue->ready, &command->heaps);
    heap_remove(&queue->expiry, &command->heaps);
    command->lane = NULL;
    lane_refresh(queue, lane);
}
