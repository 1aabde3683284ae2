/* A locked list and a wake-up. What makes it hard: a wake-up may come late, early or for many messages at once, so it
 * means "look", never "one has come". The owner is woken when the lock is let go: woken before, it often takes the
 * poster's CPU at once, only to wait for the lock, which costs more than the message. So the last poster may still be
 * about to wake when its message is taken and the box closed: mailbox_close waits for it. */
#include "base/mailbox.h"

#include <assert.h>
#include <sched.h>

#define WAIT_NS_MAX 3600000000000u /* a longer wait is several: libuv adds it to the clock, which may overflow */

void mail_list_clear(struct mail_list *list)
{
    list->first = NULL;
    list->end = &list->first;
    list->count = 0;
}

void mail_list_append(struct mail_list *list, struct mail *mail)
{
    mail->next = NULL;
    *list->end = mail;
    list->end = &mail->next;
    list->count++;
}

static void open_box(struct mailbox *box, size_t max)
{
    assert(max > 0);
    box->closed = box->hurried = false;
    box->enough = 1;
    atomic_init(&box->wakers, 0);
    box->first = NULL;
    box->end = &box->first;
    box->count = 0;
    box->max = max;
    box->on_mail = NULL;
    box->owner = NULL;
    box->on_closed = NULL;
    int error = uv_mutex_init(&box->mutex);
    assert(error == 0);
}

static void on_async(uv_async_t *async)
{
    struct mailbox *box = async->data;
    box->on_mail(box, box->owner);
}

void mailbox_open_loop(struct mailbox *box, size_t max, uv_loop_t *loop, mailbox_fn on_mail, void *owner)
{
    open_box(box, max);
    box->of_loop = true;
    box->on_mail = on_mail;
    box->owner = owner;
    int error = uv_async_init(loop, &box->async, on_async);
    assert(error == 0); /* no descriptor is left for the loop's own wake-up: nothing could run */
    box->async.data = box;
}

void mailbox_open_thread(struct mailbox *box, size_t max)
{
    open_box(box, max);
    box->of_loop = false;
    int error = uv_cond_init(&box->filled);
    assert(error == 0);
}

static void wake_owner(struct mailbox *box)
{
    if (box->of_loop) {
        int error = uv_async_send(&box->async);
        assert(error == 0);
    } else {
        uv_cond_signal(&box->filled);
    }
}

static bool post(struct mailbox *box, struct mail_list *list, bool hurried)
{
    if (list->count == 0) {
        return true;
    }
    uv_mutex_lock(&box->mutex);
    bool taken = !box->closed && list->count <= box->max - box->count;
    bool wakes = false;
    if (taken) {
        /* Who takes, takes everything: later ones need no wake-up of their own. */
        size_t now = box->count + list->count;
        wakes = (box->count < box->enough && now >= box->enough) || (hurried && box->enough > 1);
        *box->end = list->first;
        box->end = list->end;
        box->count = now;
        box->hurried = box->hurried || hurried;
    }
    if (wakes) {
        atomic_fetch_add(&box->wakers, 1);
    }
    uv_mutex_unlock(&box->mutex);
    if (wakes) {
        wake_owner(box);
        atomic_fetch_sub(&box->wakers, 1); /* from here on it may be gone */
    }
    if (taken) {
        mail_list_clear(list);
    }
    return taken;
}

bool mailbox_post(struct mailbox *box, struct mail *mail)
{
    struct mail_list list;
    mail_list_clear(&list);
    mail_list_append(&list, mail);
    return post(box, &list, false);
}

bool mailbox_post_hurried(struct mailbox *box, struct mail *mail)
{
    struct mail_list list;
    assert(!box->of_loop);
    mail_list_clear(&list);
    mail_list_append(&list, mail);
    return post(box, &list, true);
}

bool mailbox_post_list(struct mailbox *box, struct mail_list *list)
{
    return post(box, list, false);
}

static struct mail *take_locked(struct mailbox *box)
{
    struct mail *first = box->first;
    box->first = NULL;
    box->end = &box->first;
    box->count = 0;
    box->hurried = false;
    return first;
}

struct mail *mailbox_take(struct mailbox *box)
{
    uv_mutex_lock(&box->mutex);
    struct mail *first = take_locked(box);
    uv_mutex_unlock(&box->mutex);
    return first;
}

/* Until `enough` messages wait, or nothing is to be waited for any more. The box is locked. */
static void sleep_until(struct mailbox *box, size_t enough, uint64_t timeout_ms)
{
    uint64_t start_ns = uv_hrtime();
    uint64_t timeout_ns = timeout_ms > UINT64_MAX / 1000000 ? UINT64_MAX : timeout_ms * 1000000;
    box->enough = enough;
    while (box->count < enough && !box->closed && !box->hurried) {
        uint64_t waited_ns = uv_hrtime() - start_ns; /* a condition may wake without a reason */
        if (waited_ns >= timeout_ns) {
            break;
        }
        uint64_t left_ns = timeout_ns - waited_ns;
        (void)uv_cond_timedwait(&box->filled, &box->mutex, left_ns < WAIT_NS_MAX ? left_ns : WAIT_NS_MAX);
    }
    box->enough = 1;
}

struct mail *mailbox_wait(struct mailbox *box, uint64_t timeout_ms)
{
    assert(!box->of_loop);
    uv_mutex_lock(&box->mutex);
    sleep_until(box, 1, timeout_ms);
    struct mail *first = take_locked(box);
    uv_mutex_unlock(&box->mutex);
    return first;
}

void mailbox_rest(struct mailbox *box, size_t enough, uint64_t timeout_ms)
{
    assert(!box->of_loop && enough > 0);
    uv_mutex_lock(&box->mutex);
    sleep_until(box, enough, timeout_ms);
    uv_mutex_unlock(&box->mutex);
}

void mailbox_shut(struct mailbox *box)
{
    uv_mutex_lock(&box->mutex);
    box->closed = true;
    if (!box->of_loop) {
        uv_cond_signal(&box->filled);
    }
    uv_mutex_unlock(&box->mutex);
}

bool mailbox_is_shut(struct mailbox *box)
{
    uv_mutex_lock(&box->mutex);
    bool closed = box->closed;
    uv_mutex_unlock(&box->mutex);
    return closed;
}

static void on_async_closed(uv_handle_t *handle)
{
    struct mailbox *box = handle->data;
    uv_mutex_destroy(&box->mutex);
    if (box->on_closed != NULL) {
        box->on_closed(box->owner);
    }
}

void mailbox_close(struct mailbox *box, void (*on_closed)(void *owner))
{
    assert(box->closed && box->first == NULL);
    while (atomic_load(&box->wakers) > 0) {
        sched_yield();
    }
    box->on_closed = on_closed;
    if (box->of_loop) {
        uv_close((uv_handle_t *)&box->async, on_async_closed);
        return;
    }
    assert(on_closed == NULL);
    uv_cond_destroy(&box->filled);
    uv_mutex_destroy(&box->mutex);
}
