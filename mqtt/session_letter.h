/* What the session's thread and the loop, and the library's threads, say to each other. Private to mqtt/.
 *
 * They share nothing but letters: what the loop hands over is copied into a job, which comes back answered. So a thread
 * that hangs can be left behind with all it holds.
 */
#ifndef MQTT_SESSION_LETTER_H
#define MQTT_SESSION_LETTER_H

#include "base/mailbox.h"
#include "mqtt/session_settings.h"

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

/* `size` bytes of zeros that begin with a letter, and behind them `room` bytes. */
void *letter_new(enum letter_kind kind, size_t size, size_t room);

void letters_free(struct mail_list *letters);

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
    char why[SESSION_WHY_SIZE];
    const void *payload;
    char topic[SESSION_TOPIC_MAX + 1];
    unsigned char bytes[]; /* the payload */
};

struct job *job_new(const char *topic, const void *payload, size_t payload_bytes);

/* Takes the job with this token out of a list of jobs; NULL = there is none. */
struct job *job_take(struct mail_list *jobs, int token);

struct state_letter {
    struct letter letter; /* first */
    enum session_state state;
    enum session_version version;
    uint64_t connection; /* to be named in jobs for it */
    unsigned receive_maximum;
    uint64_t packet_bytes_max;
    bool was_connected; /* a link broke; otherwise an attempt failed */
    size_t left_behind;
    char error[sizeof((struct session_view *)0)->error];
};

struct message_letter {
    struct letter letter; /* first */
    bool retained;
    size_t payload_bytes;
    unsigned char *payload;
    char topic[]; /* and behind its NUL the payload */
};

#endif
