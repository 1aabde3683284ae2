/* Commands to devices: in order, bounded in flight, kept while the broker is away, and each answered to its caller
 * exactly once, by the broker's acknowledgement and not by the hand-over.
 *
 * A command has one message or several; the next goes out when the one before is acknowledged. Commands with the same
 * first topic never overtake each other: a later one waits for those before it. One that waits is replaced by a later
 * one about the same thing. All calls and callbacks are the loop's.
 */
#ifndef MQTT_PUBLISHER_H
#define MQTT_PUBLISHER_H

#include "base/status.h"
#include "mqtt/session.h"
#include "proto/announce.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#define PUBLISHER_COMMANDS_MAX 200000 /* upper bound of config.commands_max */

/*    name               word, as the operator reads it */
#define PUBLISH_RESULT_LIST(X)                                                                                         \
    X(ACKNOWLEDGED, "acknowledged")                                                                                    \
    X(REPLACED, "replaced")   /* by a newer command about the same, before it was sent */                              \
    X(EXPIRED, "expired")     /* the broker was away for longer than the command is good for */                        \
    X(WITHDRAWN, "withdrawn") /* by its caller */                                                                      \
    X(REFUSED, "refused")     /* by the broker; `why` says more */                                                     \
    X(STOPPED, "stopped")     /* the server ends */

enum publish_result {
#define X(name, word) PUBLISH_##name,
    PUBLISH_RESULT_LIST(X)
#undef X
        PUBLISH_RESULT_COUNT
};

const char *publish_result_word(enum publish_result result);

/* Bytes that several commands share (an image as payload): counted, on the loop. */
struct shared_bytes {
    unsigned refs;
    size_t size;
    uint8_t bytes[];
};
struct shared_bytes *shared_bytes_new(size_t size); /* one count; NULL without memory */
void shared_bytes_ref(struct shared_bytes *shared);
void shared_bytes_unref(struct shared_bytes *shared);

struct publisher_part {
    const char *topic;          /* copied */
    const char *payload;        /* copied; NULL = `image` */
    struct shared_bytes *image; /* counted while needed */
};

struct publisher_command {
    const char *about; /* copied; what it is for, as people read it: "d1_mini (sketch)". NULL = its first topic */
    size_t part_count;
    struct publisher_part parts[ANNOUNCE_PARTS_MAX];
    bool retain;         /* sent again after each connect until publisher_forget */
    uint64_t expires_ms; /* good for so long from now; 0 = without end. MQTT 5 carries what is left of it, rounded up to
                            a second */
};

/* `why` is a text for the operator; "" where the result says all. Never called from within publisher_send. */
typedef void (*published_fn)(void *owner, uint64_t ticket, enum publish_result result, const char *why);

struct publisher_config {
    unsigned in_flight_max; /* messages; never more than the broker's Receive Maximum */
    size_t commands_max;    /* that wait or are on their way */
    size_t bytes_max;       /* of payloads on their way, but for a single one that is larger */
};

struct publisher_counts { /* gauges but for `results` and `retried` */
    size_t waiting, in_flight;
    uint64_t results[PUBLISH_RESULT_COUNT];
    uint64_t retried; /* messages sent again because the link broke before their acknowledgement */
};

struct publisher;

/* How it reaches the broker: session_publish and a session, or a test's own. */
struct publisher_link {
    void (*publish)(void *link, struct session_message *message);
    void *link;
};

struct publisher *publisher_new(uv_loop_t *loop, const struct publisher_config *config);
void publisher_connect(struct publisher *publisher, const struct publisher_link *link); /* once, before any on_state */

/* STATUS_OK: taken, *ticket names it, on_done follows exactly once. STATUS_BUSY: commands_max are there already; there
 * is room again when one of them is answered. STATUS_LIMIT: so many retained ones are kept already, or about to be; or
 * it is closing. STATUS_TOO_LONG: a topic. */
enum status publisher_send(struct publisher *publisher, const struct publisher_command *command, published_fn on_done,
                           void *owner, uint64_t *ticket);

/* Takes back a command that is not on its way: on_done(WITHDRAWN) follows. Returns false where (a part of) it has been
 * handed to the broker: then it ends as it ends. */
bool publisher_withdraw(struct publisher *publisher, uint64_t ticket);

/* The same for a caller who has given up: what is on its way is not sent again, nor its next message. It ends
 * ACKNOWLEDGED where the broker acknowledges its last message after all, else WITHDRAWN. Returns false where it is on
 * its way: it may still arrive. */
bool publisher_abandon(struct publisher *publisher, uint64_t ticket);

/* No longer send the retained command of these topics again, and clear it at the broker; not where one about something
 * else has taken its place there. */
void publisher_forget(struct publisher *publisher, const struct publisher_command *command);

/* From the session. */
void publisher_on_state(struct publisher *publisher, const struct session_view *view);
void publisher_on_published(struct publisher *publisher, struct session_message *message);

const struct publisher_counts *publisher_counts(const struct publisher *publisher);

/* Answers all that is left with STOPPED. After the session has stopped (nothing is on its way). on_closed, later: it is
 * freed. */
void publisher_close(struct publisher *publisher, void (*on_closed)(void *owner), void *owner);

#endif
