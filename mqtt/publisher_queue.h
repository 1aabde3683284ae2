/* Whose turn it is: commands in the order of their acceptance, one message of a topic at a time, and which expires
 * first. Private to mqtt/.
 *
 * Nothing is sent or answered here; the publisher moves commands through and tells after each change.
 */
#ifndef MQTT_PUBLISHER_QUEUE_H
#define MQTT_PUBLISHER_QUEUE_H

#include "mqtt/publisher.h"
#include "mqtt/publisher_content.h"
#include "mqtt/publisher_heap.h"

#include <uthash.h>

enum upkeep { UPKEEP_NONE, UPKEEP_RESEND, UPKEEP_CLEAR };

struct command {
    struct heap_entry heaps; /* first */
    uint64_t order;          /* of acceptance; a caller's command has it as ticket */
    enum upkeep upkeep;      /* NONE: a caller's */
    struct lane *lane;
    struct content *content;
    size_t part; /* the next to go, or on its way */
    bool started;
    bool in_flight;
    bool again;     /* this part was sent before */
    bool abandoned; /* what is on its way is the last of it */
    bool keeps;     /* once acknowledged, it is one more that is retained */
    published_fn on_done;
    void *owner;
    enum publish_result result;
    char *why; /* NULL = "" */
    struct command *next_answer;
    struct command *prev, *next; /* in the lane, while it waits */
    UT_hash_handle hh;           /* by order: callers' that are not decided */
    UT_hash_handle about_hh;     /* by what it is about, while it waits */
};

/* Everything of one topic (a command's first). */
struct lane {
    struct command *current; /* started */
    struct command *upkeep;  /* not started */
    struct command *waiting; /* not started, oldest first */
    struct content *retained;
    uint64_t retained_order;
    UT_hash_handle hh;
    char key[];
};

struct queue {
    struct lane *lanes;
    struct command *waiting; /* of all lanes: one for each thing that commands are about */
    struct heap ready;       /* the next command of each lane, by order */
    struct heap expiry;      /* by deadline */
    size_t retained;         /* lanes that have one */
};

void queue_init(struct queue *queue);
void queue_close(struct queue *queue); /* when all commands have left */

struct lane *lane_find(const struct queue *queue, const char *key); /* NULL = nothing of this key */
struct lane *lane_get(struct queue *queue, const char *key);

/* After any change of a lane: the one whose turn it is stands among the ready, alone. Frees a lane that holds nothing.
 */
void lane_refresh(struct queue *queue, struct lane *lane);

/* What the broker keeps of this topic; NULL = nothing. Counts it. */
void lane_retain(struct queue *queue, struct lane *lane, struct content *content, uint64_t order);

/* The one that waits and is about this; NULL = none. */
struct command *queue_find(const struct queue *queue, const char *about);

/* Takes over a count of the content. The caller puts it into its place in the lane. */
struct command *command_new(struct queue *queue, struct lane *lane, struct content *content, uint64_t order);

/* Behind those that wait in its lane. None about the same may stay. */
void command_wait(struct queue *queue, struct command *command);

/* It goes out: it is its lane's current one. */
void command_start(struct queue *queue, struct command *command);

/* Out of its lane and of both heaps; the lane may be freed. */
void command_leave(struct queue *queue, struct command *command);

#endif
