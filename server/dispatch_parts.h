/* What the rooms of a dispatch share, and nobody else: its life (dispatch.c), and its commands one by one
 * (dispatch_commands.c).
 */
#ifndef SERVER_DISPATCH_PARTS_H
#define SERVER_DISPATCH_PARTS_H

#include "server/dispatch.h"
#include "server/survey.h"

#define DISPATCH_NOTES_MAX 16

enum told_place {
    TOLD_WAITS,  /* for its turn to be handed over, or for room in the publisher's queue */
    TOLD_SENT,   /* the publisher has it, and has not answered */
    TOLD_FAILED, /* it will not be sent, and the rollout has not heard yet: `why` */
    TOLD_KEPT,   /* acknowledged and retained: to be cleared when the rollout is over, or others need the room */
    TOLD_PLACES
};

/* One command. */
struct told {
    struct dispatch *dispatch;
    struct mac mac;
    bool to_type, again; /* again: taken back to be written with another URL */
    uint8_t place;
    unsigned attempt, looked; /* the dispatch's look, or sweep (TOLD_KEPT), that it was last part of */
    unsigned url;             /* the dispatch's that it names */
    unsigned round;           /* the dispatch's in which nothing more could be kept for it; 0 = none */
    uint64_t ticket, began_ms;
    const char *why;
    struct told *prev, *next;
};

enum dispatch_stage {
    DISPATCH_GATHERS, /* devices that are meant */
    DISPATCH_LOADS,   /* the image, where it is the payload */
    DISPATCH_RUNS,
    DISPATCH_RESTS, /* the rollout is over: only its notes are left, as long as it is remembered */
};

struct dispatch {
    struct blob_wait wait; /* first */
    struct turn_job job;
    struct trigger *trigger;
    struct dispatch *next;
    char id[ANNOUNCE_ID_SIZE];
    struct kept_order kept;
    struct trigger_plan plan; /* its image is counted */
    struct survey survey;
    struct shared_bytes *image_bytes;
    const char *unsendable; /* why none can be sent; NULL = they can */
    enum dispatch_stage stage;
    uint64_t began_ms;
    bool loading;
    struct told *tolds[TOLD_PLACES]; /* lists, in the order of their telling */
    unsigned url, url_looked;        /* counts those that the plan has had; at which was looked for commands to renew */
    uint64_t url_ms;                 /* of the loop: when it was last asked for */
    unsigned look;                   /* counts looks for what is to be taken back */
    bool looks;                      /* one is under way */
    size_t on_their_way;             /* found by it */
    unsigned sweep;                  /* counts those for what need not be kept any more */
    bool sweeps;                     /* one is under way */
    unsigned round;                  /* counts, from 1, when those that wait may try again to be kept */
    bool full;                       /* the publisher's queue: those that wait go on when it has answered one */
    char *notes[DISPATCH_NOTES_MAX];
    size_t note_count;
};

/* --- dispatch.c ----------------------------------------------------------------------------------------------------
 */

struct rollout *dispatch_rollout(const struct dispatch *dispatch); /* NULL = forgotten */
bool dispatch_is_over(const struct dispatch *dispatch);
void dispatch_go_on(struct dispatch *dispatch); /* in turns */

/* --- dispatch_commands.c -------------------------------------------------------------------------------------------
 */

/* The next step with its commands: telling the rollout what failed, clearing, taking back, handing over. Returns
 * whether there was any. */
bool commands_tend(struct dispatch *dispatch);
bool commands_are_gone(const struct dispatch *dispatch);
void commands_drop(struct dispatch *dispatch);
void commands_forget_retained(struct dispatch *dispatch); /* what the broker keeps, or may come to keep */

#endif
