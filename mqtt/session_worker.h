/* The session's thread: connects, serves, pauses, for ever. Private to mqtt/.
 *
 * It and the loop share nothing but letters: what the loop hands over is copied into a job, which comes back answered.
 * So a thread that hangs can be left behind with all it holds.
 */
#ifndef MQTT_SESSION_WORKER_H
#define MQTT_SESSION_WORKER_H

#include "base/mailbox.h"
#include "mqtt/session_settings.h"

#include <stdatomic.h>

enum letter_kind {
    LETTER_JOB,     /* to the thread: publish; to the loop: this became of it */
    LETTER_STOP,    /* to the thread */
    LETTER_ACK,     /* to the thread, from the library */
    LETTER_LOST,    /* to the thread, from the library */
    LETTER_STATE,   /* to the loop */
    LETTER_MESSAGE, /* to the loop */
    LETTER_ENDED,   /* to the loop: nothing follows */
    LETTER_KINDS
};

/* One block of memory each, freed by who reads it. */
struct letter {
    struct mail mail; /* first */
    enum letter_kind kind;
};

struct job {
    struct letter letter;       /* first */
    struct ledger_entry *entry; /* the loop's, the thread does not look; NULL: the thread's own job */
    /* what to do */
    uint64_t connection; /* the one it is meant for */
    size_t payload_bytes;
    bool retain;
    uint32_t expiry_s;
    /* what became of it */
    int token;
    enum status status;
    char why[120];
    const void *payload;
    char topic[SESSION_TOPIC_MAX + 1];
    unsigned char bytes[]; /* the payload */
};

struct job *job_new(const char *topic, const void *payload, size_t payload_bytes);

struct state_letter {
    struct letter letter; /* first */
    enum session_state state;
    enum session_version version;
    uint64_t connection; /* to be named in jobs for it */
    unsigned receive_maximum;
    uint64_t packet_bytes_max;
    bool was_connected; /* a link broke; otherwise an attempt failed */
    char error[sizeof((struct session_view *)0)->error];
};

struct message_letter {
    struct letter letter; /* first */
    bool retained;
    size_t payload_bytes;
    unsigned char *payload;
    char topic[]; /* and behind its NUL the payload */
};

struct worker;

/* Takes the settings over. Letters go to `to_loop`. */
struct worker *worker_start(struct session_settings *settings, struct mailbox *to_loop);

/* From the loop. The job is the thread's until it comes back; that it does, as long as the worker is not abandoned. */
void worker_publish(struct worker *worker, struct job *job);

/* The loop has taken a LETTER_MESSAGE: one more may come. */
void worker_message_taken(struct worker *worker);

uint64_t worker_dropped(const struct worker *worker);

/* Asks it to end; LETTER_ENDED follows unless it hangs. */
void worker_stop(struct worker *worker);

/* After LETTER_ENDED: waits for the thread, which is as good as gone, and frees everything. */
void worker_join(struct worker *worker);

/* Instead: from the return on no letter is posted, and the thread frees everything should it ever come back. */
void worker_abandon(struct worker *worker);

#endif
