/* Who waits for room in the system's send buffers: a set of descriptors beside the loop's own.
 *
 * Slow radios come in thousands, and each of their turns moves a few kilobytes. A set of their own gives a turn of the
 * loop only so many of them, so that whoever asks meanwhile is answered at once; and waiting costs no call but the one
 * that begins it and the one that ends it. All calls are the loop's.
 */
#ifndef SERVER_SEND_ROOM_H
#define SERVER_SEND_ROOM_H

#include <stdbool.h>
#include <sys/epoll.h>
#include <uv.h>

#define SEND_ROOM_BATCH 32 /* of a turn of the loop */

/* One who waits; embedded in its owner, which outlives its waiting. */
struct send_wait {
    void (*on_room)(struct send_wait *wait); /* there is room, or the connection is broken: trying to send tells */
    bool waits;
};

struct send_room {
    int fd; /* of epoll */
    uv_poll_t poll;
    struct epoll_event batch[SEND_ROOM_BATCH]; /* being told */
    int batch_count;
    void (*on_closed)(struct send_room *room);
};

/* Does not keep the loop alive. */
void send_room_init(struct send_room *room, uv_loop_t *loop);

/* From now on on_room is called, a turn after the other, as long as there is room: until it leaves. Returns false
 * without memory. */
bool send_room_join(struct send_room *room, struct send_wait *wait, int fd);

/* Nothing where it does not wait. Before the descriptor is closed, and allowed within any on_room. */
void send_room_leave(struct send_room *room, struct send_wait *wait, int fd);

/* Nobody waits any more. Free after on_closed. */
void send_room_close(struct send_room *room, void (*on_closed)(struct send_room *room));

#endif
