/* An epoll set within the loop's. What makes it hard: within a batch one may leave for another, and be gone. */
#include "server/send_room.h"

#include <assert.h>
#include <unistd.h>

static void on_readable(uv_poll_t *poll, int status, int events)
{
    struct send_room *room = poll->data;
    (void)status;
    (void)events;
    room->batch_count = epoll_wait(room->fd, room->batch, SEND_ROOM_BATCH, 0);
    for (int i = 0; i < room->batch_count; i++) {
        struct send_wait *wait = room->batch[i].data.ptr;
        if (wait != NULL) {
            wait->on_room(wait);
        }
    }
    room->batch_count = 0;
}

void send_room_init(struct send_room *room, uv_loop_t *loop)
{
    room->batch_count = 0;
    room->fd = epoll_create1(EPOLL_CLOEXEC);
    assert(room->fd >= 0);
    int error = uv_poll_init(loop, &room->poll, room->fd);
    room->poll.data = room;
    error = error != 0 ? error : uv_poll_start(&room->poll, UV_READABLE, on_readable);
    assert(error == 0);
    (void)error;
    uv_unref((uv_handle_t *)&room->poll);
}

bool send_room_join(struct send_room *room, struct send_wait *wait, int fd)
{
    struct epoll_event event = { .events = EPOLLOUT, .data.ptr = wait };
    wait->waits = wait->waits || epoll_ctl(room->fd, EPOLL_CTL_ADD, fd, &event) == 0;
    return wait->waits;
}

void send_room_leave(struct send_room *room, struct send_wait *wait, int fd)
{
    if (!wait->waits) {
        return;
    }
    wait->waits = false;
    (void)epoll_ctl(room->fd, EPOLL_CTL_DEL, fd, NULL);
    for (int i = 0; i < room->batch_count; i++) {
        if (room->batch[i].data.ptr == wait) {
            room->batch[i].data.ptr = NULL;
        }
    }
}

static void on_poll_closed(uv_handle_t *handle)
{
    struct send_room *room = handle->data;
    close(room->fd);
    room->on_closed(room);
}

void send_room_close(struct send_room *room, void (*on_closed)(struct send_room *room))
{
    room->on_closed = on_closed;
    uv_close((uv_handle_t *)&room->poll, on_poll_closed);
}
