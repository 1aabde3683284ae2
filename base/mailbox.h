/* Messages between threads, whole and in order: any thread posts, one owner takes. The owner is the loop, which is
 * woken by uv_async, or a thread, which waits.
 *
 * Wake-ups merge (100,000 uv_async_send made two callbacks), so the owner always takes everything. Ownership: a posted
 * message belongs to the box until it is taken; a refused one stays with the poster.
 */
#ifndef BASE_MAILBOX_H
#define BASE_MAILBOX_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

/* The first member of every message. */
struct mail {
    struct mail *next;
};

/* Messages in order, to be posted together: one lock and one wake-up for all. */
struct mail_list {
    struct mail *first, **end;
    size_t count;
};

void mail_list_clear(struct mail_list *list);
void mail_list_append(struct mail_list *list, struct mail *mail);

struct mailbox;

/* Called on the loop when something may have come: take it with mailbox_take. Posting from within is allowed. */
typedef void (*mailbox_fn)(struct mailbox *box, void *owner);

struct mailbox {
    uv_mutex_t mutex;
    uv_cond_t filled; /* a thread's */
    uv_async_t async; /* a loop's */
    bool of_loop;
    atomic_uint wakers; /* posters that are about to wake the owner, outside of the lock */
    bool closed;
    bool hurried;  /* one of those that wait */
    size_t enough; /* so many messages wake the owner: 1, or what it rests for */
    struct mail *first;
    struct mail **end;
    size_t count, max;
    mailbox_fn on_mail;
    void *owner;
    void (*on_closed)(void *owner);
};

/* A box of at most `max` waiting messages, whose owner is the loop. Called on the loop. */
void mailbox_open_loop(struct mailbox *box, size_t max, uv_loop_t *loop, mailbox_fn on_mail, void *owner);

/* The same, whose owner is the thread that calls mailbox_wait. */
void mailbox_open_thread(struct mailbox *box, size_t max);

/* From any thread. Returns false, and the message stays the caller's, where the box is full or shut. */
bool mailbox_post(struct mailbox *box, struct mail *mail);

/* The same, and the owner, a thread, is not to rest over it. */
bool mailbox_post_hurried(struct mailbox *box, struct mail *mail);

/* As mailbox_post, for all of a list, which is empty then, or for none of it. */
bool mailbox_post_list(struct mailbox *box, struct mail_list *list);

/* Everything that waits, oldest first, linked by `next`; NULL = nothing. */
struct mail *mailbox_take(struct mailbox *box);

/* The same for a thread: waits until something is there, or until `timeout_ms` have passed (then NULL). */
struct mail *mailbox_wait(struct mailbox *box, uint64_t timeout_ms);

/* For a thread that has something and would like more: sleeps until `enough` messages wait, or one that hurries, the
 * box is shut, or `timeout_ms` have passed. Nothing is taken, and what is posted meanwhile costs no wake-up. */
void mailbox_rest(struct mailbox *box, size_t enough, uint64_t timeout_ms);

/* Refuses what is posted from now on; wakes a waiting thread. What waits can still be taken. */
void mailbox_shut(struct mailbox *box);

/* Whether it is. What was posted before can still be taken, once. */
bool mailbox_is_shut(struct mailbox *box);

/* After mailbox_shut, when nobody posts any more and all is taken (asserted): a loop's box calls on_closed, later, and
 * its memory is the owner's again then; a thread's is closed on return, on_closed is NULL. */
void mailbox_close(struct mailbox *box, void (*on_closed)(void *owner));

#endif
