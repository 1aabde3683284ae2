/* Commands that are decided, until their callers have been told: in later turns of the loop, so that nobody is called
 * back from within his own call, and not too many in one. Private to mqtt/.
 */
#ifndef MQTT_PUBLISHER_ANSWERS_H
#define MQTT_PUBLISHER_ANSWERS_H

#include "mqtt/publisher_queue.h"

struct answers {
    struct command *first, **end;
    size_t count;
    uv_idle_t turn; /* runs while there are any */
    bool closing;
    uv_close_cb on_closed;
};

/* `owner` is the data of the handle. */
void answers_init(struct answers *answers, uv_loop_t *loop, void *owner);

/* Takes the command over: it is told, and freed. */
void answers_add(struct answers *answers, struct command *command, enum publish_result result, const char *why);

/* Tells all that are there first. */
void answers_close(struct answers *answers, uv_close_cb on_closed);

#endif
