/* From an operator's order to commands on the broker: finds the image, checks that it can be fetched, writes the
 * messages. server/survey looks at the devices that are meant, server/dispatch hands the commands to the publisher, and
 * fleet/rollout follows what becomes of them.
 *
 * This is the one place where the catalog, the fleet and the broker meet. The loop's.
 */
#ifndef SERVER_TRIGGER_H
#define SERVER_TRIGGER_H

#include "fleet/fleet.h"
#include "mqtt/publisher.h"
#include "mqtt/session.h"
#include "proto/announce.h"
#include "proto/template.h"
#include "repo/blob.h"
#include "repo/catalog.h"
#include "server/metrics.h"
#include "server/public_url.h"
#include "server/turns.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#define TRIGGER_DEVICES_MAX 10000 /* named in one order */

struct trigger_order {
    struct slice type;
    const char *version; /* NULL = the newest */
    bool fs;
    size_t device_count; /* 0 = all of the type */
    const struct mac *devices;
    const char *group;     /* NULL = none: only its members */
    unsigned percent;      /* 1..100 */
    unsigned canary;       /* 0 = none */
    unsigned in_flight;    /* 0 = adaptive */
    unsigned max_failures; /* percent */
    uint32_t window_s;
    uint64_t timeout_ms;
};

/* An order that outlives the call: with texts and devices of its own, these in order. */
struct kept_order {
    struct trigger_order order;
    char type[TYPE_TEXT_MAX + 1];
    char version[VERSION_TEXT_MAX + 1];
    char group[WORD_TEXT_MAX + 1];
    struct mac *devices;
};
void kept_order_make(struct kept_order *kept, const struct trigger_order *order);
void kept_order_drop(struct kept_order *kept);

/*    name             status  word */
#define TRIGGER_REFUSAL_LIST(X)                                                                                        \
    X(NONE, 200, "ok")                                                                                                 \
    X(UNKNOWN_TYPE, 404, "unknown-type")                                                                               \
    X(UNKNOWN_VERSION, 404, "unknown-version")                                                                         \
    X(NO_IMAGE, 404, "no-image")                                                                                       \
    X(REJECTED, 409, "rejected")                                                                                       \
    X(NOT_YET, 409, "not-yet")                                                                                         \
    X(NO_PUBLIC_URL, 409, "no-public-url")                                                                             \
    X(NO_GROUP, 404, "unknown-group")                                                                                  \
    X(TOO_LONG, 409, "too-long")                                                                                       \
    X(BUSY, 503, "busy")                                                                                               \
    X(STORE, 503, "store-failing")

enum trigger_refusal {
#define X(name, status, word) TRIGGER_##name,
    TRIGGER_REFUSAL_LIST(X)
#undef X
};

struct trigger_problem {
    enum trigger_refusal refusal;
    char message[300];
    char remedy[400];
};

const char *trigger_refusal_word(enum trigger_refusal refusal);
unsigned trigger_refusal_status(enum trigger_refusal refusal);

/* What an order comes to; what it finds in the fleet is the survey's. */
struct trigger_plan {
    struct offer offer;  /* of the catalog's, like the image */
    struct image *image; /* the file that commands name: uncompressed where there is one */
    struct rollout_target target;
    struct public_url public_url;
    char url[PUBLIC_URL_MAX + 300]; /* the type and the escaped version behind it */
    bool is_slots;                  /* of the native SDK: the image is the first of two */
    bool is_several;                /* slots, or a file system for several flash sizes: no command names a digest */
    bool type_topic, device_topic;  /* what devices can be told by; neither: they get it when they ask */
};

/* What this server is told about; set once. */
struct trigger {
    uv_loop_t *loop;
    const struct catalog *catalog; /* the newest */
    struct fleet *fleet;
    struct publisher *publisher; /* NULL = no broker */
    struct blob_store *blobs;
    struct metrics *metrics;
    struct announce announce; /* preset and configuration in one */
    bool retain;
    uint64_t expires_ms;
    uint64_t reboot_ms;      /* a device that took an image must be back within it */
    unsigned site_in_flight; /* of one site at once; 0 = no cap */
    void (*find_public_url)(void *owner, struct public_url *url);
    void *owner;
    /* the rooms' own: commands under way, and what takes longer than a turn of the loop may */
    struct dispatch *dispatches;
    struct turns turns;
    uint64_t told_ms;      /* of the loop: when commands were last handed over within trigger_tell, */
    unsigned told_at_once; /* and how many */
    bool lacks_room;       /* for what the broker is to keep; looked for by the next dispatch_tick */
    bool awaits_images;    /* the catalog is one for now */
    bool stopping;         /* trigger_stop */
};

static inline struct turns *trigger_turns(struct trigger *trigger)
{
    trigger->turns.loop = trigger->loop;
    return &trigger->turns;
}

/* Looks an order over. Returns false with the problem. */
bool trigger_plan(struct trigger *trigger, const struct trigger_order *order, struct trigger_plan *plan,
                  struct trigger_problem *problem);

/* Where devices reach this server may show after a plan was made, as where it started before its network. Puts the
 * address of now into the plan. Returns whether it is another; where nobody can tell now, or a message would become too
 * long, the plan stays. */
bool trigger_plan_renew(struct trigger *trigger, const struct trigger_order *order, struct trigger_plan *plan);

/* What its rollout would be told. Its devices are the order's. */
struct rollout_order trigger_rollout_order(const struct trigger *trigger, const struct trigger_order *order,
                                           const struct trigger_plan *plan);

/* One message of a plan: `device` NULL = to the type. `payload` "" where it is the image itself. `id` is of the
 * command. Returns false where it does not fit. */
struct trigger_message {
    char topic[SESSION_TOPIC_MAX + 1];
    char payload[TEMPLATE_FILLED_MAX + 1];
    bool is_image;
};
bool trigger_message(const struct trigger *trigger, const struct trigger_order *order, const struct trigger_plan *plan,
                     const char *id, const struct mac *device, size_t part, struct trigger_message *message);

/* Does it: NULL with the problem, or the rollout that began; *ticket is the journal's, to wait for before the operator
 * is told (0 = nothing is written down; never JOURNAL_REFUSED). Its devices, notes and commands follow within the call
 * where they are few, else in the turns after it, PLANNED meanwhile. */
struct rollout *trigger_begin(struct trigger *trigger, const struct trigger_order *order, uint64_t *ticket,
                              struct trigger_problem *problem);

/* Rollouts whose image the repository no longer has are halted: to be called with each new catalog. */
void trigger_look_for_images(struct trigger *trigger);

/* The same with a catalog for now, which is followed by one to look at: nobody is halted, and who lacks its image tells
 * nobody and skips nobody until then. */
void trigger_await_images(struct trigger *trigger);

/* Goes on with the rollouts that a restart interrupted, as far as it can: to be called once the first catalog and the
 * publisher are there. */
void trigger_restore(struct trigger *trigger);

/* To be called once a second: a rollout whose devices are still being gathered, or its image loaded, after so long is
 * ABORTED. */
#define TRIGGER_BEGIN_MS 600000
void trigger_give_up_late(struct trigger *trigger, const struct moment *now);
/* Once a second from then on: the same, since a drive or a network may come later; and what dispatch_tick does. */
void trigger_tick(struct trigger *trigger);

/* The fleet's rollouts act by these (fleet/rollout.h). */
void trigger_tell(struct trigger *trigger, struct rollout *rollout, const struct mac *device, unsigned attempt);
void trigger_withdraw(struct trigger *trigger, struct rollout *rollout);

/* The notes of a rollout under way, for the operator: NULL behind the last. */
const char *trigger_note(const struct trigger *trigger, const char *id, size_t i);

/* The server ends: what was begun is finished, and retained commands are taken back, since nobody will know of them
 * afterwards. From now on no command is sent, and rollouts hear of none: those that nobody had heard go out after the
 * restart, as after a crash. */
void trigger_stop(struct trigger *trigger);

/* Forgets what is under way, once the publisher has closed. */
void trigger_close(struct trigger *trigger);

#endif
